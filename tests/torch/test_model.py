"""The decoder of chapter 6 against Llama, its cached form, its file, and what it refuses."""

import json
import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import LlamaConfig, LlamaForCausalLM

from genopt_core.one_model import POSITIONS, ModelConfig
from genopt_core.torch.attention import sink
from genopt_core.torch.kvcache.layer import taken_from
from genopt_core.torch.model import Decoder, load_model, save_model, serving, token_nats
from genopt_core.torch.model.decoder import dense_attention
from genopt_core.torch.model.serving import ModelCache, generate

torch.set_num_threads(1)
STORED = Path(__file__).with_name("model_debug_state.json")
VARIANTS = {
    "plain": {},
    "positions": {"positions": "rope+harmonic", "slopes": 8.0, "learned": True},
    "blocks": {"density": 0.5, "block": 2},
    "both": {"positions": "rope+harmonic", "learned": True, "density": 0.5, "block": 2},
    "multi-query": {"key_heads": 1, "positions": "alibi"},
}


def small(**changes):
    return ModelConfig(**{"vocabulary": 31, "width": 32, "hidden": 48, **changes})


def decoder(seed=0, **changes):
    return Decoder(small(**changes), torch.Generator().manual_seed(seed)).eval()


def ids(rows=2, tokens=40, seed=1):
    return torch.randint(31, (rows, tokens), generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------ what it computes


@pytest.mark.parametrize("key_heads", [1, 2, 4])
def test_with_rope_and_dense_attention_it_is_llama(key_heads):
    ours = decoder(key_heads=key_heads)
    config = LlamaConfig(
        vocab_size=31,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=key_heads,
        tie_word_embeddings=True,
        rms_norm_eps=1e-6,
    )
    llama = LlamaForCausalLM(config).eval()
    names = {
        "norm_1": "input_layernorm",
        "norm_2": "post_attention_layernorm",
        **{name: f"self_attn.{name[0]}_proj" for name in ("key", "query", "value", "out")},
        **{name: f"mlp.{name}_proj" for name in ("gate", "up", "down")},
    }
    theirs = dict(llama.model.named_parameters())
    with torch.no_grad():
        theirs["embed_tokens.weight"].copy_(ours.embedding)
        for i, layer in enumerate(ours.layers):
            for name, other in names.items():
                weight = getattr(layer, name)
                weight = weight.weight if name.startswith("norm") else weight
                theirs[f"layers.{i}.{other}.weight"].copy_(weight)
    with torch.no_grad():
        torch.testing.assert_close(ours(ids()), llama(ids()).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("pieces", [(1,) * 40, (17, 1, 22), (40,)])
def test_token_by_token_over_a_full_cache_gives_the_same(positions, pieces):
    model = decoder(positions=positions)
    cache, outs = ModelCache(model.config), []
    with torch.no_grad():
        for part in ids().split(pieces, 1):
            outs.append(model(part, cache))
        torch.testing.assert_close(torch.cat(outs, 1), model(ids()), atol=1e-5, rtol=1e-5)
    assert cache.tokens == 40
    assert cache.nbytes() == 2 * ModelCache.full_bytes(model.config, 40)  # two texts


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("ladder", [(16, 8), (16, 4, 2), ((16, 1), (16,))])
def test_over_a_staircase_it_attends_to_what_is_held_with_its_bias(positions, ladder, monkeypatch):
    """Layer by layer over the same codes: those of two caches differ where a rounding is a tie."""
    views = []

    def noted(keys):
        views.append(taken_from(keys))
        return views[-1]

    class Compared(ModelCache):
        def attend(self, layer, query, key, value, bias):
            packed = super().attend(layer, query, key, value, bias)
            restored = dense_attention(query, *views[-1].restore(), bias)
            torch.testing.assert_close(packed, restored, atol=2e-6, rtol=1e-4)
            return packed

    monkeypatch.setattr(serving, "taken_from", noted)
    model, text = decoder(positions=positions), ids(tokens=120)
    cache = Compared(model.config, ladder, chunk=16, sink=2)
    parts = text.split([50, 1, 1, 30, 38], 1)
    with torch.no_grad():
        for part in parts:
            packed = model(part, cache)
        assert len(views) == len(parts) * model.config.layers
        assert any(view.segments for view in views)
        assert not torch.allclose(packed, model(text)[:, -38:], atol=1e-4)  # bits were lost
    assert cache.nbytes() < 2 * ModelCache.full_bytes(model.config, 120)


def test_all_blocks_are_dense_attention_and_drawn_ones_are_repeatable():
    dense, every = decoder().train(), decoder(density=1.0, block=4).train()
    torch.testing.assert_close(every(ids()), dense(ids()), atol=1e-5, rtol=1e-5)
    half, again = (decoder(density=0.4, block=2).train() for _ in range(2))
    first, second = half(ids()), half(ids())
    assert (first - second).abs().max() > 1e-3  # another draw
    assert torch.equal(again(ids()), first)
    assert torch.equal(half.eval()(ids()), dense.eval()(ids()))  # on average nothing is left out


@pytest.mark.parametrize("changes", [{"learned": True, "slopes": 8.0}, {"positions": "alibi"}])
def test_a_bias_is_the_same_over_blocks_and_dense(changes):
    """Two ways to compute it: channels over drawn blocks, a table in dense attention."""
    changes = {"positions": "rope+harmonic", **changes}
    dense, blocks = decoder(**changes).train(), decoder(**changes, density=0.5, block=2).train()
    for layer in blocks.layers:
        layer.blocks.design = sink(40)  # all of them, on the path of drawn ones
    outs = [model(ids()) for model in (dense, blocks)]
    torch.testing.assert_close(*outs, atol=1e-5, rtol=1e-5)
    for out in outs:
        out.square().mean().backward()
    for a, b in zip(dense.parameters(), blocks.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-3)


def test_a_token_depends_on_those_before_it_alone():
    for changes in VARIANTS.values():
        model, changed = decoder(**changes), ids()
        changed[:, 20:] = (changed[:, 20:] + 1) % 31
        a, b = model(ids()), model(changed)
        assert torch.equal(a[:, :20], b[:, :20])
        assert not torch.equal(a[:, 20:], b[:, 20:])


def test_seeds_and_switches():
    """The same seed is the same start whatever the switches are, and PyTorch's own is untouched."""
    state = torch.get_rng_state()
    base = dict(decoder(3).named_parameters())
    assert torch.equal(torch.get_rng_state(), state)
    for changes in VARIANTS.values():
        if "key_heads" in changes:
            continue
        for name, weight in decoder(3, **changes).named_parameters():
            assert "bias" in name or torch.equal(weight, base[name]), name
    assert not torch.equal(decoder(4).embedding, base["embedding"])


# ------------------------------------------------------------------ debug state


def debug_state(changes):
    model = decoder(**changes).train()
    loss = token_nats(model, ids(tokens=41)).mean()
    loss.backward()
    norms = {name: p.grad.norm().item() for name, p in model.named_parameters()}
    logits = model.eval()(ids())[0, [0, -1], :4].flatten().tolist()
    return {"loss": loss.item(), "logits": logits, "gradient norms": norms}


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_and_gradients_are_those_that_are_stored(name):
    """Store again, when they are meant to change, by running this file."""
    stored, found = json.loads(STORED.read_text())[name], debug_state(VARIANTS[name])
    assert found["gradient norms"].keys() == stored["gradient norms"].keys()
    assert min(stored["gradient norms"].values()) > 0  # every weight learns
    for key in ("loss", "logits"):
        np.testing.assert_allclose(found[key], stored[key], rtol=1e-4, atol=1e-5)
    for weight, norm in stored["gradient norms"].items():
        assert found["gradient norms"][weight] == pytest.approx(norm, rel=1e-3), weight


# ------------------------------------------------------------------ its file


@pytest.mark.parametrize("name", VARIANTS)
def test_saved_and_loaded(tmp_path, name):
    model = decoder(**VARIANTS[name])
    save_model(tmp_path / "model.safetensors", model, "ab" * 32)
    back = load_model(tmp_path / "model.safetensors", "ab" * 32)
    assert back.config == model.config
    assert torch.equal(back(ids()), model(ids()))
    save_model(tmp_path / "half.safetensors", model, dtype=torch.float16)
    half = load_model(tmp_path / "half.safetensors")
    assert half.embedding.dtype == torch.float32
    assert 0 < (half(ids()) - model(ids())).abs().max() < 0.02
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["half.safetensors", "model.safetensors"]


def test_a_file_of_another_tokenizer_format_or_shape_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(FileNotFoundError, match="there is no file at"):
        load_model(path)
    save_model(path, decoder(), "ab" * 32)
    with pytest.raises(ValueError, match=r"must be the one .* of digest abab.*, got cdcd"):
        load_model(path, "cd" * 32)
    with pytest.raises(ValueError, match="tokenizer must be a SHA-256"):
        load_model(path, "my tokenizer")
    content = path.read_bytes()
    path.write_bytes(content[:-10])
    with pytest.raises(ValueError, match="is torn"):
        load_model(path)
    path.write_bytes(content.replace(b"genopt-model-1", b"genopt-model-9"))
    with pytest.raises(ValueError, match="must have the format genopt-model-1, got"):
        load_model(path)
    path.write_bytes(content.replace(rb"\"hidden\": 48", rb"\"hidden\": 44"))
    with pytest.raises(ValueError, match=r"must have layers.0.gate of shape \(44, 32\), got"):
        load_model(path)
    save_model(path, decoder())
    with pytest.raises(ValueError, match="of digest none, got abab"):
        load_model(path, "ab" * 32)


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    save_model(path, decoder(1))
    before = path.read_bytes()

    def torn(file):
        os.ftruncate(file, 10)
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", torn)
    with pytest.raises(OSError, match="no space"):
        save_model(path, decoder(2))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_plain_safetensors(tmp_path):
    save_model(tmp_path / "m.safetensors", decoder())
    with safe_open(tmp_path / "m.safetensors", framework="np") as file:
        assert file.get_tensor("embedding").shape == (31, 32)
        assert json.loads(file.metadata()["content"])["config"]["heads"] == 4


# ------------------------------------------------------------------ what it says and refuses


def test_generation_is_repeatable_and_the_same_over_a_nearly_exact_cache():
    model = decoder(positions="rope+harmonic")
    start = ids(tokens=30)
    a, b = (
        generate(model, start, 12, generator=torch.Generator().manual_seed(5)) for _ in range(2)
    )
    assert a.shape == (2, 42)
    assert torch.equal(a, b)
    assert torch.equal(a[:, :30], start)
    likely = generate(model, start, 6, temperature=0)
    cache = ModelCache(model.config, (16, 8), chunk=8, sink=2)
    assert torch.equal(generate(model, start, 6, temperature=0, cache=cache), likely)
    with pytest.raises(ValueError, match="temperature must be at least 0, got -1"):
        generate(model, start, 1, temperature=-1)
    with pytest.raises(ValueError, match="model must be in evaluation"):
        generate(model.train(), start, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 4, "key_heads": 3}, "key_heads must divide 4, the number of heads, got 3"),
        ({"width": 30}, "width must be a multiple of 4, the number of heads, got 30"),
        ({"width": 36}, "width must give heads an even number of channels to rotate, got 36 / 4"),
        ({"positions": "learned"}, "positions must be one of 'nope', 'rope'"),
        ({"learned": True}, "learned must be False with positions 'rope', got True"),
        ({"slopes": 1.0}, "slopes must be positive, and None with positions without a distance"),
        ({"positions": "alibi", "slopes": 0.0}, "slopes must be positive"),
        ({"density": 0.0}, r"density must be in \(0, 1\], got 0.0"),
        ({"layers": 0}, "layers must be at least 1, got 0"),
        ({"theta": 1.0}, "theta must be above 1, got 1.0"),
    ],
)
def test_wrong_shapes_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_without_rotation_heads_may_be_odd():
    assert decoder(width=36, positions="alibi")(ids()).shape == (2, 40, 31)


@pytest.mark.parametrize(
    ("ladder", "options", "message"),
    [
        ((16, 5), {}, r"ladder must have the widths .* with codec 'rotated', got \(16, 5\)"),
        ((16, 9), {}, "ladder"),
        ((8, 4), {}, "ladder"),
        ([(16,)] * 3, {}, "ladder must be one ladder or 2, one a layer, got 3"),
        ((16, 4), {"chunk": 0}, "chunk must be at least 1, got 0"),
    ],
)
def test_wrong_ladders_are_refused_by_name(ladder, options, message):
    with pytest.raises(ValueError, match=message):
        ModelCache(small(), ladder, **options)


def test_configurations_go_through_json():
    for positions, density in product(POSITIONS, (None, 0.5)):
        config = small(positions=positions, density=density)
        assert ModelConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    with pytest.raises(ValueError, match=r"content must have fields among .*, got \['depth'\]"):
        ModelConfig.from_json({"vocabulary": 3, "depth": 1})


if __name__ == "__main__":
    content = {name: debug_state(changes) for name, changes in VARIANTS.items()}
    STORED.write_text(json.dumps(content, indent=1) + "\n")
