"""What measuring once got wrong: kinds of attention and of models, and arguments."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from oracles.models import alternating, tiny
from torch import nn
from transformers import (
    AttentionInterface,
    BloomConfig,
    BloomForCausalLM,
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    FalconConfig,
    FalconForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GptOssConfig,
    GptOssForCausalLM,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, eager_mask
from transformers.models.gemma2 import modeling_gemma2
from transformers.models.gpt_oss import modeling_gpt_oss

from genopt_core import kvcache as kv
from genopt_core.integrations import attention as blocks
from genopt_core.integrations import positions
from genopt_core.torch.attention import near
from genopt_core.torch.kvcache import (
    Balance,
    Calibration,
    StaircaseCache,
    cache_divergence,
    cached_channels,
    calibrate_ladders,
    calibration,
    choose_ladders,
    divergence,
    layer_costs,
    measure_balance,
    recall_probe,
)
from genopt_core.torch.kvcache.balance import counted
from genopt_core.torch.positions import DistanceBias, Encoding, encoding

torch.set_num_threads(1)

SMALL = {"chunk": 16, "sink": 2}
RUN = {"decoded": 24, "progress": False, **SMALL}
SIZES = {
    "vocab_size": 97, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
WINDOWS = {
    "intermediate_size": 64, "num_key_value_heads": 2, "head_dim": 16, "sliding_window": 24,
    "layer_types": ["sliding_attention", "full_attention"], "initializer_range": 0.3,
}  # fmt: skip


def text(rows=1, tokens=120):
    return torch.randint(3, 97, (rows, tokens), generator=torch.Generator().manual_seed(3))


def made(model, config):
    torch.manual_seed(0)
    return model(config).eval().requires_grad_(False)


def gemma2():
    """Whose cap on scores changes them much."""
    return made(Gemma2ForCausalLM, Gemma2Config(**SIZES, **WINDOWS, attn_logit_softcapping=1.0))


def gpt_oss(sinks=2.0):
    config = GptOssConfig(**SIZES, **WINDOWS, num_local_experts=2, num_experts_per_tok=1)
    model = made(GptOssForCausalLM, config)
    for layer in model.model.layers:
        layer.self_attn.sinks.fill_(sinks)
        layer.self_attn.sinks[0] = -1.0
    return model


# ------------------------------------------------------------------ kinds of attention


def balance_of(q, k, v, p, chunk, sink):
    """Maps of keys and of values by all weights at once, ``(batch, heads, tokens, tokens)``."""
    heads, tokens = k.shape[1:3]
    coded = slice(sink, sink + (tokens - sink) // chunk * chunk)
    at = np.arange(tokens)
    w = (p**2 * (at[:, None] - at >= chunk))[..., coded]
    w, q = (x.reshape(len(x), heads, -1, *x.shape[2:]) for x in (w, q))
    by_chunk = k[:, :, coded].reshape(*k.shape[:2], -1, chunk, k.shape[-1])
    centered = (by_chunk - by_chunk.mean(3, keepdims=True)).reshape(k[:, :, coded].shape)
    keys = np.einsum("bhgtj,bhji,bhjl->hil", w, centered, centered)
    queries = np.einsum("bhgtj,bhgti,bhgtl->hil", w, q, q)
    values = np.einsum("bhgtj,bhji,bhjl->hil", w, v[:, :, coded], v[:, :, coded])
    even = np.broadcast_to(np.eye(v.shape[-1]), values.shape)
    pairs = ((keys, queries), (values, even))
    return [kv.balanced_map(*(kv.ridged(x) for x in pair)) for pair in pairs]


def assert_same(found, place, expected):
    for pairs, other in zip((found.keys, found.values), expected, strict=True):
        for a, b in zip(pairs[place], other, strict=True):
            np.testing.assert_allclose(a.numpy(), b, rtol=5e-3, atol=1e-3 * np.abs(b).max())


@torch.no_grad()
def seen_by(model, ids, own, mask):
    """Queries, keys, values and what attention gives, of all layers of full attention."""
    seen = []

    def watch(module, query, key, value, attention_mask, **given):
        out = own(module, query, key, value, attention_mask, **given)
        if given.get("sliding_window") is None:
            states = [x.double().numpy() for x in (query, key, value)]
            seen.append((*states, out[1], given))
        return out

    before = model.config._attn_implementation
    AttentionInterface.register("test_watch", watch)
    AttentionMaskInterface.register("test_watch", mask)
    model.set_attn_implementation("test_watch")
    model(ids, use_cache=False)
    model.set_attn_implementation(before)
    return seen


@pytest.mark.parametrize(("make", "file"), [(gemma2, modeling_gemma2), (gpt_oss, modeling_gpt_oss)])
def test_moments_have_the_weights_of_the_model_s_own_attention(make, file):
    """Oracle: the weights that transformers gives with "eager", with soft caps and with sinks."""
    model, ids = make(), text(rows=2)
    ((q, k, v, p, _),) = seen_by(model, ids, file.eager_attention_forward, eager_mask)
    found = measure_balance(model, ids, recall=False, **SMALL)
    assert_same(found, 0, balance_of(q, k, v, p.double().numpy(), **SMALL))
    assert model.config._attn_implementation == "eager"


@pytest.mark.parametrize("learned", [False, True])
def test_moments_have_the_bias_of_the_model(learned, monkeypatch):
    """Oracle: weights by the slopes of ALiBi, that of each head."""
    model, ids = tiny(), text(rows=2)
    positions.use(model, encoding("alibi", 4, learned=learned))
    monkeypatch.setattr(positions, "ADDERS", {"test_watch"}, raising=False)
    own, mask = positions.positioned_attention, AttentionMaskInterface()[positions.NAME]
    q, k, v, _, given = seen_by(model, ids, own, mask)[1]
    scores = q @ np.repeat(k, 2, 1).swapaxes(-1, -2) * given["scaling"]
    at = np.arange(120)
    far = at[:, None] - at
    slopes = 2.0 ** -np.arange(2, 10, 2)
    scores -= slopes[:, None, None] * far
    scores[..., far < 0] = -np.inf
    p = np.exp(scores - scores.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    found = measure_balance(model, ids, recall=False, **SMALL)
    assert_same(found, 1, balance_of(q, k, v, p, **SMALL))
    assert model.config._attn_implementation == positions.NAME


def test_what_moves_predictions_moves_the_balance():
    ids, digests = text(), []
    for one in (encoding("alibi", 4), Encoding(0.0)):
        model = tiny()
        positions.use(model, one)
        digests.append(measure_balance(model, ids, **SMALL).digest)
    model = tiny()
    bias = DistanceBias([1.0] * 4, windows=[8, 9, 10, 200])
    positions.use(model, [Encoding(), Encoding(1.0, bias), Encoding()])
    digests.append(measure_balance(model, ids, **SMALL).digest)
    digests += [measure_balance(gpt_oss(sinks), ids, **SMALL).digest for sinks in (0.0, 5.0)]
    assert len(set(digests)) == 5


@pytest.mark.parametrize("make", [gemma2, gpt_oss])
def test_a_balance_of_capped_scores_or_sinks_is_taken_by_a_cache(make):
    model, ids = make(), text(tokens=200)
    cost = []
    for balance in (None, measure_balance(model, ids, **SMALL)):
        cache = StaircaseCache(model.config, "16/2", balance=balance, **SMALL)
        cost.append(cache_divergence(model, ids, cache, decoded=24))
    assert cost[0] != cost[1]


def test_attention_that_weighs_in_another_way_is_refused():
    def other(module, query, key, value, mask, **given):
        return sdpa_attention_forward(module, query * 3, key, value, mask, **given)

    def near_alone(module, query, key, value, mask, **given):
        q, far = torch.arange(query.shape[2])[:, None], torch.arange(key.shape[2])
        return sdpa_attention_forward(
            module, query, key, value, (far <= q) & (far > q - 20), **given
        )

    for name, function in (("test_other", other), ("test_near", near_alone)):
        AttentionInterface.register(name, function)
        model = alternating(kinds=("full", "sliding"))
        model.set_attn_implementation(name)
        with pytest.raises(ValueError, match=f"model must weigh keys .* attention '{name}' .* 0$"):
            measure_balance(model, text(), **SMALL)
        assert model.config._attn_implementation == name
    model = tiny()
    with (
        blocks.use(model, near(1), block=16),
        pytest.raises(ValueError, match=r"model must weigh keys .* 'genopt_blocks'"),
    ):
        measure_balance(model, text(), **SMALL)
    model = tiny()
    model.model.layers[1].self_attn.genopt_bias = DistanceBias([1.0] * 4)
    with pytest.raises(ValueError, match=r"model must weigh keys .* 'sdpa' .* 1$"):  # left out
        measure_balance(model, text(), **SMALL)


@pytest.mark.parametrize("name", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_each_dtype_and_attention_of_transformers_is_measured(dtype, name):
    exact = measure_balance(tiny(), text(), **SMALL)
    model = tiny(dtype=dtype)
    model.set_attn_implementation(name)
    found = measure_balance(model, text(), **SMALL)
    limit = 1e-4 if dtype == torch.float32 else 0.2
    for a, b in zip(found.values, exact.values, strict=True):
        assert (a[0] - b[0]).norm() < limit * b[0].norm()
    assert model.config._attn_implementation == name


def test_an_attention_without_a_mask_function_gets_no_mask():
    masks = []

    def unmasked(module, query, key, value, mask, **given):
        masks.append(mask)
        return sdpa_attention_forward(module, query, key, value, mask, **given)

    AttentionInterface.register("test_unmasked", unmasked)
    model = tiny()
    model.set_attn_implementation("test_unmasked")
    measure_balance(model, text(), **SMALL)
    assert masks == [None] * 3


@pytest.fixture
def compiler():
    """That forgets all it has compiled: beyond some number it would compile no more."""
    yield torch._dynamo.reset
    torch._dynamo.reset()


def test_a_compiled_model_is_measured_and_runs_on_as_before(compiler):
    model, ids = tiny(), text()
    expected, digest = model(ids).logits, measure_balance(model, ids, **SMALL).digest
    for first in (False, True):
        compiler()
        compiled = torch.compile(model, backend="eager")
        if first:
            compiled(ids)
        for _ in range(2):
            assert measure_balance(compiled, ids, **SMALL).digest == digest
            assert torch.equal(compiled(ids).logits, expected)


def test_latents_have_no_balance():
    config = DeepseekV3Config(
        **SIZES, intermediate_size=32, kv_lora_rank=32, qk_rope_head_dim=16, qk_nope_head_dim=16,
        v_head_dim=16, q_lora_rank=16, first_k_dense_replace=4, n_routed_experts=2,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"model must cache keys and values .* latents"):
        measure_balance(made(DeepseekV3ForCausalLM, config), text(), **SMALL)


# ------------------------------------------------------------------ kinds of models


@pytest.mark.parametrize(
    ("model", "config"),
    [
        (GPT2LMHeadModel, GPT2Config(**SIZES, initializer_range=0.2)),
        (FalconForCausalLM, FalconConfig(**SIZES, initializer_range=0.2)),
        (FalconForCausalLM, FalconConfig(**SIZES, initializer_range=0.2, alibi=True)),
        (BloomForCausalLM, BloomConfig(**SIZES, initializer_range=0.2)),
    ],
)
def test_costs_of_models_that_call_their_layers_otherwise(model, config):
    """Oracle: the cache itself in the model."""
    model, ids, ladders = made(model, config), text(rows=2), [(16, 4, 1), (16, 8)]
    costs = list(layer_costs(model, ids, ladders, decoded=24, **SMALL))
    assert np.shape(costs) == (2, 2, 2)

    def run(keys, values):
        cache = StaircaseCache(model.config, keys, values, **SMALL)
        model(ids[:, :-24], past_key_values=cache)
        return model(ids[:, -24:], past_key_values=cache).logits.log_softmax(-1)

    exact = run([(16,)] * 2, [(16,)] * 2)
    for layer in range(2):
        for side in range(2):
            sides = [[(16,)] * 2, [(16,)] * 2]
            sides[side][layer] = ladders[0]
            whole = divergence(exact, run(*sides)).mean().item()
            assert costs[layer][side, 0] == pytest.approx(whole, rel=1e-3)
    keys, values = calibrate_ladders(model, ids, 6.0, ladders, **RUN)
    assert StaircaseCache(model.config, keys, values, **SMALL).limit_bits() <= 6


def test_layers_are_found_beside_lists_of_other_things():
    model = tiny()
    decoder = model.get_decoder()
    layers = decoder.layers
    decoder.more = nn.ModuleList(nn.Linear(2, 2) for _ in layers)
    decoder._modules = {"more": decoder.more, **decoder._modules}
    assert calibration._decoder_layers(model) is layers
    model.get_decoder = lambda: nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"model must have its 3 decoder layers .* in Linear"):
        layer_costs(model, text(), [(16, 4)], decoded=24, **SMALL)


# ------------------------------------------------------------------ ladders as text


def test_ladders_may_be_text_wherever_they_are_chosen_from(tmp_path):
    model, ids, path = tiny(), text(), tmp_path / "costs.json"
    words, widths = ["16/4", "16/8"], ((16, 4), (16, 8))
    found = calibrate_ladders(model, ids, 7.0, words, store=path, **RUN)
    assert found.measured.ladders == widths
    assert {*found[0], *found[1]} <= set(widths)
    assert calibrate_ladders(model, ids, 7.0, widths, store=path, **RUN) == found
    assert Calibration.load(path) == found
    costs = [list(layer_costs(model, ids, x, decoded=24, **SMALL)) for x in (words, widths)]
    np.testing.assert_array_equal(*costs)
    for length in (None, 64):
        chosen = [
            choose_ladders(model.config, costs[0], 12.0, x, length=length, **SMALL)
            for x in (words, np.array(widths), [list(x) for x in widths])
        ]
        assert chosen[0] == chosen[1] == chosen[2]


@pytest.mark.parametrize(
    ("ladders", "error", "message"),
    [
        ("16/4", TypeError, "ladders must be a sequence of ladders, got '16/4'"),
        (16, TypeError, "ladders must be a sequence of ladders, got 16"),
        ((), ValueError, "ladders must not be empty, got none"),
        ((16, 4), ValueError, "each of ladders must start at 16 .* got 16$"),
        (["16/x"], ValueError, "each of ladders must start at 16 .* got '16/x'"),
        ([(8, 4)], ValueError, r"each of ladders must start at 16 .* got \(8, 4\)"),
    ],
)
def test_what_is_no_ladder_is_refused_by_all(ladders, error, message):
    model, ids = tiny(), text()
    for call in (
        lambda: layer_costs(model, ids, ladders, decoded=24, **SMALL),
        lambda: calibrate_ladders(model, ids, 9.0, ladders, **RUN),
        lambda: choose_ladders(model.config, np.zeros((3, 2, 1)), 9.0, ladders),
    ):
        with pytest.raises(error, match=message):
            call()


# ------------------------------------------------------------------ stored costs


def test_a_default_that_is_spelled_out_is_the_same_measurement(tmp_path, monkeypatch):
    model, ids, path = tiny(), text(), tmp_path / "costs.json"
    run = {"decoded": 24, "progress": False, "ladders": ["16/4", "16/8"], "chunk": 16}
    found = calibrate_ladders(model, ids, 7.0, store=path, **run)
    held = json.loads(path.read_text())["about"]["options"]
    assert held == {
        "balance": "None", "chunk": "16", "codec": "rotated", "decoded": "24",
        "full_dtype": "None", "group_size": "32", "seed": "0", "sink": "4",
    }  # fmt: skip
    monkeypatch.setattr(calibration, "_prompt", lambda *args: pytest.fail("measured again"))
    for more in ({"sink": 4}, {"codec": "rotated", "seed": 0}, {"balance": None}):
        assert calibrate_ladders(model, ids, 7.0, store=path, **run, **more) == found
    for more, words in (
        ({"sink": 8}, r"sink \(4, not 8\)"),
        ({"seed": 1, "chunk": 8}, r"chunk \(16, not 8\), seed \(0, not 1\)"),
        ({"decoded": 25}, r"decoded \(24, not 25\)"),
    ):
        with pytest.raises(ValueError, match=f"costs.json with another {words}$"):
            calibrate_ladders(model, ids, 7.0, store=path, recall=True, **(run | more))


def test_a_file_that_tells_only_the_options_that_were_given_is_read(tmp_path, monkeypatch):
    """As those of before are."""
    model, ids, path = tiny(), text(), tmp_path / "costs.json"
    run = {"ladders": ["16/4", "16/8"], "store": path, **RUN}
    found = calibrate_ladders(model, ids, 7.0, **run)
    content = json.loads(path.read_text())
    content["about"]["options"] = {"chunk": "16", "decoded": "24", "sink": "2"}
    path.write_text(json.dumps(content))
    old = Calibration.load(path)
    assert old == found
    assert old.measured.about["options"] == content["about"]["options"]
    monkeypatch.setattr(calibration, "_prompt", lambda *args: pytest.fail("measured again"))
    assert calibrate_ladders(model, ids, 7.0, **run) == found
    assert len(json.loads(path.read_text())["about"]["options"]) == 8
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"another codec \(rotated, not grid\), group_size \(32,"):
        calibrate_ladders(model, ids, 7.0, codec="grid", group_size=16, **run)


def test_a_store_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "_prompt", lambda *args: pytest.fail("measured"))
    for path, error in (
        (tmp_path / "nodir" / "x.json", FileNotFoundError),
        (tmp_path, IsADirectoryError),
    ):
        with pytest.raises(error) as told:
            calibrate_ladders(tiny(), text(), 7.0, ["16/4"], store=path, **RUN)
        assert told.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ arguments


@pytest.mark.parametrize("layers", [[3], [0, 3], [-1], [1.0], ["0"], 1])
def test_layers_that_are_none_of_the_model_s_are_named(layers):
    with pytest.raises(ValueError, match="layers must be a sequence of numbers from 0 to 2, got"):
        layer_costs(tiny(), text(), ["16/4"], layers=layers, decoded=24, **SMALL)


def test_layers_are_measured_in_the_order_that_is_asked_for():
    model, every = tiny(), {"decoded": 24, **SMALL}
    whole = list(layer_costs(model, text(), ["16/4"], **every))
    for layers in ([2, 0], range(1, 3), np.array([2]), []):
        some = layer_costs(model, text(), ["16/4"], layers=layers, **every)
        np.testing.assert_array_equal(list(some), [whole[i] for i in layers])


def measuring(model, ids):
    """All that measure something on a text."""
    cache = StaircaseCache(tiny().config, "16/4", **SMALL)
    return (
        lambda: measure_balance(model, ids, **SMALL),
        lambda: layer_costs(model, ids, ["16/4"], decoded=24, **SMALL),
        lambda: calibrate_ladders(model, ids, 9.0, ["16/4"], **RUN),
        lambda: calibrate_ladders(model, ids, 9.0, ["16/4"], recall=False, **RUN),
        lambda: cache_divergence(model, ids, cache, decoded=24),
    )


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        (text().float(), TypeError, r"ids must be of torch.int64 or torch.int32, got torch.float"),
        (text() > 50, TypeError, r"ids must be of torch.int64 or torch.int32, got torch.bool"),
        (text()[:, :0], ValueError, r"ids must hold tokens, got none in the shape \(1, 0\)"),
        (text()[:0], ValueError, r"ids must hold tokens, got none in the shape \(0, 120\)"),
        (text() + 80, ValueError, r"ids must be 0 to 127, the model's vocabulary, got 1\d\d$"),
        (text().clamp(max=9) - 5, ValueError, r"ids must be 0 to 127, .* got -2$"),
    ],
)
def test_ids_that_are_no_tokens_are_named(ids, error, message):
    for call in measuring(tiny(), ids):
        with pytest.raises(error, match=message):
            call()
    if "vocabulary" not in message and "127" not in message:
        with pytest.raises(error, match=message):
            recall_probe(ids)


def test_ids_at_both_ends_of_the_vocabulary_are_taken():
    ids = text()
    ids[0, 5], ids[0, 9] = 0, 127
    for given in (ids, ids.int()):
        measure_balance(tiny(), given, **SMALL)
        assert recall_probe(given).dtype == given.dtype
    with pytest.raises(ValueError, match="ids must be 0 or more, got -1"):
        recall_probe(ids - 1)


def test_what_is_no_model_is_named():
    config = tiny().config
    for model, missing in (
        (nn.Linear(2, 2).eval(), "Linear without config and device"),
        (SimpleNamespace(config=config, training=False), "SimpleNamespace without device"),
        (config, "LlamaConfig without config and device and training"),
    ):
        calls = (*measuring(model, text()), lambda model=model: cached_channels(model))
        for call in calls:
            with pytest.raises(TypeError, match=f"model must be a model .* got {missing}$"):
                call()
    for call in measuring(tiny().train(), text()):
        with pytest.raises(ValueError, match="model must be in evaluation mode"):
            call()


# ------------------------------------------------------------------ words


def test_one_of_a_kind_has_no_plural():
    assert [counted(n, "layer") for n in (0, 1, 2)] == ["0 layers", "1 layer", "2 layers"]
    for kinds, words in (
        (("sliding", "full"), "1 layer and 1 window, 16/4, 1 token,"),
        (("sliding", "full", "sliding"), "1 layer and 2 windows, 16/4, 1 token,"),
        (("full", "full"), "2 layers, 16/4, 1 token,"),
    ):
        model = alternating(kinds=kinds)
        cache = StaircaseCache(model.config, "16/4", **SMALL)
        assert repr(cache).startswith(f"StaircaseCache({words[: words.index('1 token')]}0 tokens")
        model(text()[:, :1], past_key_values=cache)
        assert repr(cache).startswith(f"StaircaseCache({words}")
    for heads, dim, words in (
        (1, 1, "1 layer, 1 head of 1 channel"),
        (2, 4, "1 layer, 2 heads of 4 channels"),
    ):
        one = torch.eye(dim).expand(heads, dim, dim)
        assert repr(Balance(((one, one),), ((one, one),))) == f"Balance({words})"
