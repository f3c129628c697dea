"""Encodings of positions in models of transformers: limits, caches, padding, learning, refusals."""

import copy
import subprocess
import sys

import pytest
import torch
from oracles.models import smollm, tiny
from transformers import (
    AutoModelForCausalLM,
    DynamicCache,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    StaticCache,
)

from genopt_core.integrations import positions
from genopt_core.integrations.positions import NAME, ROPE_TYPE, register, use, use_saved
from genopt_core.positions import bias, inverse_frequencies, slopes
from genopt_core.torch.kvcache import StaircaseCache
from genopt_core.torch.positions import (
    DistanceBias,
    Encoding,
    LearnedSlopes,
    attention,
    encoding,
)

torch.set_num_threads(1)
register()
ENCODINGS = {
    "rope": {},
    "nope": {},
    "alibi": {},
    "rope+alibi": {},
    "rope+harmonic": {"total": 4.0},
    "rope+harmonic, half free": {"free": 2},
    "rope+harmonic distance": {"distance": "harmonic"},
    "kerple-log": {},
    "rope+windows": {"windows": (5, 9), "free": 2},
    "windows": {},
    "half rope+alibi": {"rotated": 0.5},
}
BIASED = [name for name in ENCODINGS if name not in ("rope", "nope")]


def of(name):
    """An encoding of the four heads of `tiny`, by its name in `ENCODINGS`."""
    plain = name.removeprefix("half ").split(",")[0].removesuffix(" distance")
    return encoding(plain, 4, **ENCODINGS[name])


def model_with(name, kv_heads=2):
    model = tiny(kv_heads)
    use(model, of(name))
    return model


def ids(rows=2, tokens=23, seed=1):
    return torch.randint(3, 128, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def padded():
    x = ids()
    mask = torch.ones_like(x)
    mask[0, :6] = 0
    return x.masked_fill(mask == 0, 0), mask


@pytest.fixture(params=[256, 5], ids=["one block", "blocks of 5"])
def _rows(request, monkeypatch):
    monkeypatch.setattr(attention, "ROWS", request.param)


# ------------------------------------------------------------------ what it computes


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.usefixtures("_rows")
def test_a_model_is_the_stock_one_with_a_dense_bias(name, kv_heads):
    stock, one = tiny(kv_heads), of(name)
    omega = inverse_frequencies(16, rotated=one.rotated)
    stock.model.rotary_emb.inv_freq.copy_(torch.from_numpy(omega))
    x = ids()
    m = slopes(4, "geometric") if "alibi" in name else slopes(4, "harmonic")
    table = {
        "rope+harmonic": lambda: bias(slopes(4, "harmonic", total=4.0), 23),
        "rope+harmonic, half free": lambda: bias([1, 0.5, 0, 0], 23),
        "rope+harmonic distance": lambda: bias(m, 23, "harmonic"),
        "kerple-log": lambda: bias(m, 23, "log"),
        "rope+windows": lambda: bias([0] * 4, 23, windows=[5, 9, 0, 0]),
        "windows": lambda: bias([0] * 4, 23, windows=[2, 4, 8, 16]),
        "rope": lambda: bias([0] * 4, 23),
        "nope": lambda: bias([0] * 4, 23),
    }.get(name, lambda: bias(m, 23))()
    square = torch.from_numpy(table.copy()).float()[None].expand(2, -1, -1, -1)
    expected = stock(x, attention_mask=square).logits
    torch.testing.assert_close(model_with(name, kv_heads)(x).logits, expected, atol=1e-5, rtol=0)


def test_rope_is_the_stock_model_to_the_bit_and_comes_back():
    model, x = tiny(), ids()
    expected, names = model(x).logits, list(model.state_dict())
    use(model, encoding("alibi", 4))
    assert (model(x).logits - expected).abs().max() > 1e-3
    for again in (encoding("rope", 4), None):
        use(model, encoding("nope", 4))
        use(model, again)
        assert torch.equal(model(x).logits, expected)
        assert model.config._attn_implementation == "sdpa"
        assert model.config.rope_parameters["rope_type"] == "default"
    assert list(model.state_dict()) == names


def test_layers_without_a_bias_among_others():
    model, stock, x = tiny(), tiny(), ids()
    plain, windows = Encoding(), Encoding(1.0, DistanceBias([0.0] * 4, windows=[1000] * 4))
    use(model, [plain, windows, plain])
    torch.testing.assert_close(model(x).logits, stock(x).logits, atol=1e-5, rtol=0)
    y, mask = padded()
    ours, theirs = (m(y, attention_mask=mask).logits for m in (model, stock))
    torch.testing.assert_close(ours[mask == 1], theirs[mask == 1], atol=1e-5, rtol=0)
    cache = DynamicCache(config=model.config)
    pieces = [model(part, past_key_values=cache).logits for part in x.split([9, 13, 1], 1)]
    torch.testing.assert_close(torch.cat(pieces, 1), stock(x).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("bias", [None, DistanceBias([0.5, 0.2, 0.1, 0.0])], ids=["free", "biased"])
def test_layers_that_do_not_rotate_among_others(bias):
    """RoPE in three of four layers: what the others do with angles of 0, written out."""
    model, stock, x = tiny(layers=4), tiny(layers=4), ids()
    expected = stock(x).logits
    turning, still = Encoding(1.0, bias), Encoding(0.0, bias)

    def without(layer, args, kwargs):
        cos, sin = kwargs["position_embeddings"]
        return args, kwargs | {"position_embeddings": (cos * 0 + 1, sin * 0)}

    use(stock, turning)
    stock.model.layers[3].self_attn.register_forward_pre_hook(without, with_kwargs=True)
    for _ in range(2):  # asking twice is asking once
        use(model, [turning, turning, turning, still])
        assert torch.equal(model(x).logits, stock(x).logits)
        assert (model(x).logits - expected).abs().max() > 1e-3
    cache = DynamicCache(config=model.config)
    pieces = [model(part, past_key_values=cache).logits for part in x.split([9, 13, 1], 1)]
    torch.testing.assert_close(torch.cat(pieces, 1), stock(x).logits, atol=1e-5, rtol=0)
    y, mask = padded()
    single = model(y[:1, 6:]).logits
    row = model(y, attention_mask=mask).logits[:1, 6:]
    torch.testing.assert_close(row, single, atol=1e-5, rtol=0)
    use(model, None)
    assert torch.equal(model(x).logits, expected)


def test_all_layers_still_is_no_rotation():
    model, other, x = tiny(), tiny(), ids()
    use(model, [Encoding(0.0)] * 3)
    use(other, encoding("nope", 4))
    assert torch.equal(model(x).logits, other(x).logits)


def test_a_sliding_window_of_the_model_stays():
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 128}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 7}
    model = MistralForCausalLM(MistralConfig(**sizes, **heads, eos_token_id=None)).eval()
    x = ids()
    with torch.no_grad():
        use(model, Encoding(1.0, DistanceBias([1.0, 0.5, 0.0, 0.1])))
        whole = model(x).logits
        use(model, Encoding(1.0, DistanceBias([1.0, 0.5, 0.0, 0.1], windows=[7] * 4)))
        torch.testing.assert_close(model(x).logits, whole, atol=1e-5, rtol=0)
        use(model, Encoding(1.0, DistanceBias([1.0, 0.5, 0.0, 0.1])))
        cache = DynamicCache(config=model.config)
        steps = [model(x[:, i : i + 1], past_key_values=cache).logits for i in range(23)]
    torch.testing.assert_close(torch.cat(steps, 1), whole, atol=1e-5, rtol=0)


# ------------------------------------------------------------------ caches and padding


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.usefixtures("_rows")
def test_pieces_of_any_size_with_a_cache_are_the_whole(name):
    model, x = model_with(name), ids(tokens=40)
    whole = model(x).logits
    for sizes in ([40], [1] * 40, [13, 1, 20, 6], [39, 1]):
        cache, parts = DynamicCache(config=model.config), []
        for part in x.split(sizes, 1):
            parts.append(model(part, past_key_values=cache).logits)
        torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=0)


HOW = {
    "greedy": {},
    "beams": {"num_beams": 3},
    "prefill in chunks": {"prefill_chunk_size": 7},
    "prompt look-up (crop)": {"prompt_lookup_num_tokens": 3},
}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", BIASED)
def test_generation_with_and_without_a_cache_is_the_same(name, how):
    model, (x, mask) = model_with(name), padded()
    if "crop" in how:
        x, mask = x[1:], mask[1:]
    options = {"attention_mask": mask, "max_new_tokens": 14, "do_sample": False}
    beams = {"num_beams": HOW[how].get("num_beams", 1)}
    without = model.generate(x, use_cache=False, **options, **beams)
    assert torch.equal(model.generate(x, **options, **HOW[how]), without)


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.usefixtures("_rows")
def test_left_padding_is_the_single_row(name):
    model, (x, mask) = model_with(name), padded()
    logits = model(x, attention_mask=mask).logits
    assert logits.isfinite().all()
    alone = model(x[:1, 6:]).logits
    torch.testing.assert_close(logits[:1, 6:], alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(logits[1:], model(x[1:]).logits, atol=1e-5, rtol=0)
    options = {"max_new_tokens": 10, "do_sample": False}
    both = model.generate(x, attention_mask=mask, **options)
    assert torch.equal(both[:1, 6:], model.generate(x[:1, 6:], **options))
    assert torch.equal(both[1:], model.generate(x[1:], **options))


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", ["rope+harmonic", "kerple-log", "rope+windows"])
def test_a_lossless_staircase_generates_the_same(name, how):
    model, (x, mask) = model_with(name), padded()
    if "crop" in how:
        x, mask = x[1:], mask[1:]
    options = {"attention_mask": mask, "max_new_tokens": 30, "do_sample": False, **HOW[how]}
    expected = model.generate(x, past_key_values=DynamicCache(config=model.config), **options)
    for settings in ({"ladder": (16,)}, {"ladder": (16, 16), "chunk": 8}):
        cache = StaircaseCache(model.config, **settings)
        assert torch.equal(model.generate(x, past_key_values=cache, **options), expected)


@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("name", ["rope+harmonic", "alibi", "windows"])
def test_a_packed_staircase_is_read_as_it_would_be_restored(name, padding, monkeypatch):
    read, attend_view = [], positions.attend_view
    monkeypatch.setattr(positions, "attend_view", lambda *a: read.append(1) or attend_view(*a))
    monkeypatch.setattr(positions, "QUERIES", 3)
    model, (x, mask) = model_with(name), padded()
    x = torch.cat([x, ids(tokens=8, seed=2)], 1)
    mask = torch.cat([mask, torch.ones(2, 8, dtype=torch.long)], 1)
    assert StaircaseCache(model.config).settings.reads_packed
    outputs = []
    for readers in ({NAME}, set()):
        monkeypatch.setattr("genopt_core.torch.kvcache.settings.READERS", readers)
        cache = StaircaseCache(model.config, (16, 8, 4), chunk=4, sink=2)
        for first, last in ((0, 23), (23, 30), (30, 31)):
            given = {"attention_mask": mask[:, :last]} if padding else {}
            out = model(x[:, first:last], past_key_values=cache, **given)
            outputs.append(out.logits)
        assert cache.stairs()[1].bits < 16
        assert len(read) == 3 * (3 + 1)  # in three layers, seven queries by threes and then one
    torch.testing.assert_close(outputs[:3], outputs[3:], atol=2e-5, rtol=0)


# ------------------------------------------------------------------ learning


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", ["rope+harmonic", "kerple-log"])
def test_learned_slopes_train_with_the_model(name, checkpointing):
    model = tiny().requires_grad_(True).train()
    each = [encoding(name, 4, learned=True) for _ in range(3)]
    use(model, each)
    learned = [p for one in each for p in one.parameters()]
    held = {id(p) for p in model.parameters()}
    assert all(id(p) in held for p in learned)
    if checkpointing:
        model.gradient_checkpointing_enable()  # `activation_…` from transformers 5.23 on
    x, optimizer = ids(), torch.optim.Adam(learned, lr=0.1)
    losses = []
    for _ in range(5):
        loss = model(x, labels=x).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in learned)


def test_one_encoding_for_all_layers_is_shared():
    model, one = tiny(), Encoding(1.0, DistanceBias(LearnedSlopes(4)))
    before = len(list(model.parameters()))
    use(model, one)
    assert len(list(model.parameters())) == before + 1
    assert all(layer.self_attn.genopt_bias is one.bias for layer in model.model.layers)


def test_in_16_bits():
    model, exact = tiny(dtype=torch.bfloat16), tiny()
    for one in (model, exact):
        use(one, encoding("rope+harmonic", 4))
    x = ids()
    assert model(x).logits.dtype == torch.bfloat16
    torch.testing.assert_close(model(x).logits.float(), exact(x).logits, atol=0.02, rtol=0)


# ------------------------------------------------------------------ the rope type


def config(**rope):
    small = copy.deepcopy(tiny().config).to_dict()
    small.pop("rope_parameters")
    return LlamaConfig(**small, rope_parameters={"rope_theta": 10_000.0, **rope})


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {"rope_type": "default"}),
        ({"rotated": 0.5}, {"rope_type": "proportional", "partial_rotary_factor": 0.5}),
        ({"scaling": "linear", "factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
    ],
)
def test_the_rope_type_is_that_of_the_library_where_it_has_one(ours, theirs, tmp_path):
    model = LlamaForCausalLM(config(rope_type=ROPE_TYPE, **ours)).eval()
    other = LlamaForCausalLM(config(**theirs)).eval()
    other.load_state_dict(model.state_dict())
    x = ids()
    torch.testing.assert_close(model(x).logits, other(x).logits, atol=1e-6, rtol=0)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.equal(again(x).logits, model(x).logits)


def test_yarn_also_warms_the_scores():
    given = {"scaling": "yarn", "factor": 4.0, "trained_length": 64}
    rotary = LlamaForCausalLM(config(rope_type=ROPE_TYPE, **given)).model.rotary_emb
    assert rotary.attention_scaling == pytest.approx(1.138629)
    expected = inverse_frequencies(16, **given)
    torch.testing.assert_close(
        rotary.inv_freq.double(), torch.from_numpy(expected), rtol=1e-6, atol=0
    )


def test_a_saved_model_keeps_its_rotation(tmp_path):
    model, x = model_with("nope"), ids()
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.equal(again(x).logits, model(x).logits)
    use(again, encoding("rope", 4))
    torch.testing.assert_close(again(x).logits, tiny()(x).logits, atol=1e-6, rtol=0)


def learned_of(kind):
    """Encodings whose slopes have learned: shared by all layers, one a layer, parts shared."""
    if kind == "shared":
        given = encoding("rope+harmonic", 4, learned=True, free=1)
    elif kind == "each":
        given = [encoding("kerple-log", 4, learned=True) for _ in range(3)]
    else:
        one = LearnedSlopes(4)
        still = Encoding(0.0, DistanceBias(one, "harmonic", windows=[0, 3, 9, 20]))
        given = [Encoding(1.0, DistanceBias(one)), still, Encoding(1.0)]
    g = torch.Generator().manual_seed(5)
    for one in [given] if kind == "shared" else given:
        for p in one.parameters():
            p.data = torch.rand(p.shape, generator=g)
    return given


@pytest.mark.parametrize("shards", [{}, {"max_shard_size": "20KB"}], ids=["one file", "shards"])
@pytest.mark.parametrize("kind", ["shared", "each", "parts"])
def test_what_was_learned_is_saved_and_comes_back(kind, shards, tmp_path, recwarn):
    model, x = tiny(), ids()
    use(model, learned_of(kind))
    expected = model(x).logits
    names = [name for name, _ in model.named_parameters() if "genopt" in name]
    assert len(names) == {"shared": 1, "each": 6, "parts": 1}[kind]
    model.save_pretrained(tmp_path, **shards)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert (again(x).logits - expected).abs().max() > 1e-3
    each = use_saved(again)
    assert torch.equal(again(x).logits, expected)
    assert [name for name, _ in again.named_parameters() if "genopt" in name] == names
    held = {id(p) for p in again.parameters()}
    assert all(id(p) in held and p.requires_grad for one in each for p in one.parameters())
    again.save_pretrained(tmp_path / "second")
    third = AutoModelForCausalLM.from_pretrained(tmp_path / "second").eval()
    use_saved(third, tmp_path / "second")
    assert torch.equal(third(x).logits, expected)
    assert not [w for w in recwarn if "given up" in str(w.message)]


@pytest.mark.parametrize("name", BIASED)
def test_a_fixed_encoding_comes_back_too(name, tmp_path):
    model, x = model_with(name), ids()
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    use_saved(again)
    assert torch.equal(again(x).logits, model(x).logits)


@pytest.mark.parametrize("kind", ["some", "none", "half"])
def test_layers_that_do_not_rotate_come_back_too(kind, tmp_path):
    """Without a bias, too: which layers rotate is in no weight."""
    model, x = tiny(), ids()
    rope, nope, half = Encoding(), Encoding(0.0), Encoding(0.5)
    layers = model.config.num_hidden_layers
    use(model, {"some": [rope] * (layers - 1) + [nope], "none": nope, "half": half}[kind])
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    use_saved(again)
    assert torch.equal(again(x).logits, model(x).logits)
    use(model, rope)
    assert not hasattr(model.config, positions.SAVED), "as the model was built"


IN_A_NEW_PROCESS = """
import sys
import torch
from transformers import AutoModelForCausalLM
from genopt_core.integrations.positions import use_saved
model = AutoModelForCausalLM.from_pretrained(sys.argv[1]).eval()
use_saved(model)
torch.save(model(torch.load(sys.argv[2])).logits, sys.argv[2])
"""


def test_a_process_that_never_called_use_loads_what_turns_otherwise(tmp_path):
    model, x = tiny(), ids()
    use(model, encoding("kerple-log", 4, learned=True))
    model.save_pretrained(tmp_path)
    torch.save(x, tmp_path / "x.pt")
    command = [sys.executable, "-c", IN_A_NEW_PROCESS, str(tmp_path), str(tmp_path / "x.pt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(torch.load(tmp_path / "x.pt"), model(x).logits)


def test_where_learned_numbers_lie_must_be_known(tmp_path):
    model = tiny()
    use(model, learned_of("shared"))
    model.save_pretrained(tmp_path)
    again = type(model)(type(model.config).from_pretrained(tmp_path))
    with pytest.raises(ValueError, match="folder must be given where from_pretrained read none"):
        use_saved(again)
    use_saved(again, tmp_path)


def test_giving_up_what_was_learned_is_said(tmp_path, recwarn):
    model = tiny()
    use(model, learned_of("each"))
    model.save_pretrained(tmp_path)
    for given in (encoding("kerple-log", 4, learned=True), None):
        again = AutoModelForCausalLM.from_pretrained(tmp_path)
        with pytest.warns(
            UserWarning, match=r"learned \(6 tensors .* use_saved\(model\) takes them"
        ):
            use(again, given)
        recwarn.clear()
        use(again, None)  # it is said once
        assert not recwarn.list
    use(model, None)
    assert not hasattr(model.config, positions.SAVED)
    use(model, encoding("alibi", 4))
    model.save_pretrained(tmp_path / "fixed")
    recwarn.clear()
    use(AutoModelForCausalLM.from_pretrained(tmp_path / "fixed"), None)  # nothing was learned
    assert not recwarn.list


def test_weights_without_what_was_learned_are_refused(tmp_path):
    model = tiny()
    use(model, learned_of("shared"))
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    tiny().save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"folder must hold genopt_learned.0.raw of \(3,\), got none"
    ):
        use_saved(again)
    with pytest.raises(OSError, match="nowhere"):
        use_saved(again, tmp_path / "nowhere")


def test_a_copy_learns_by_itself():
    model, x = tiny(), ids()
    use(model, learned_of("parts"))
    other = copy.deepcopy(model)
    (raw,) = [p for name, p in other.named_parameters() if "genopt" in name]
    expected = model(x).logits
    assert torch.equal(other(x).logits, expected)
    raw.data += 1
    assert torch.equal(model(x).logits, expected)
    assert (other(x).logits - expected).abs().max() > 1e-3


# ------------------------------------------------------------------ a real model


@pytest.mark.slow
def test_a_real_model_with_a_dense_bias():
    tokenizer, model = smollm()
    x = tokenizer("Positions are known by rotation and by distance. " * 8, return_tensors="pt")
    x = x.input_ids
    m = slopes(9, "harmonic", total=0.2)
    square = torch.from_numpy(bias(m, x.shape[1]).copy()).float()[None]
    with torch.no_grad():
        model.set_attn_implementation("sdpa")
        stock, expected = model(x).logits, model(x, attention_mask=square).logits
        try:
            use(model, encoding("rope+harmonic", 9, total=0.2))
            torch.testing.assert_close(model(x).logits, expected, atol=2e-3, rtol=1e-4)
            cache = StaircaseCache(model.config, (16, 8), chunk=16)
            for part in x.split(37, 1):
                last = model(part, past_key_values=cache).logits[:, -1]
            top = expected[:, -1].argmax()
            assert last.argmax() == top
            use(model, encoding("rope", 9))
            assert torch.equal(model(x).logits, stock)
        finally:
            use(model, None)


# ------------------------------------------------------------------ refusals


def gpt2():
    return GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=16))


def llama3():
    small = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope = {"rope_type": "llama3", "original_max_position_embeddings": 512, **small}
    return LlamaForCausalLM(config(**rope))


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: use(gpt2(), encoding("alibi", 2)), "model must be a decoder .* got GPT2LMHead"),
        (lambda: use_saved(tiny()), "model must have been saved while use"),
        (
            lambda: use_saved(model_with("alibi")),
            "model must come from from_pretrained, got one on",
        ),
        (lambda: use("llama", None), "model must be a decoder .* got str"),
        (lambda: use(tiny(), encoding("alibi", 8)), "encoding must have 4 heads.* got 8"),
        (lambda: use(tiny(), [encoding("alibi", 4)]), "encoding must be one or 3.* got 1"),
        (
            lambda: use(tiny(), [Encoding(1.0), Encoding(0.5), Encoding(1.0)]),
            "encoding must rotate one share",
        ),
        (lambda: use(llama3(), Encoding(0.5)), "rope_type 'llama3', got the share 0.5"),
        (
            lambda: model_with("alibi")(
                ids(), past_key_values=StaticCache(config=tiny().config, max_cache_len=64)
            ),
            "cache must hold the tokens that came and no more",
        ),
        (
            lambda: model_with("alibi")(ids(), attention_mask=torch.zeros(1, 1, 23, 23)),
            "mask must be bool over 23 tokens",
        ),
        (
            lambda: model_with("alibi")(ids(), position_bias=torch.zeros(1, 4, 23, 23)),
            "position_bias must be None",
        ),
        (lambda: LlamaForCausalLM(config(rope_type=ROPE_TYPE, rotated=2.0)), "rotated must be in"),
    ],
)
def test_bad_arguments_are_named(call, word):
    with pytest.raises(ValueError, match=word):
        call()


@pytest.mark.parametrize("given", ["alibi", 3, ["alibi"] * 3, DistanceBias([1.0] * 4)])
def test_what_is_no_encoding_is_refused(given):
    with pytest.raises(TypeError, match=r"encoding must be an Encoding, as .* got"):
        use(tiny(), given)


def test_an_odd_head_is_named():
    odd = tiny(dim=3).config  # the library itself lets heads this small pass
    odd.rope_parameters = {"rope_type": ROPE_TYPE, "rope_theta": 10_000.0}
    with pytest.raises(ValueError, match="head_dim must be even, got 3"):
        LlamaForCausalLM(odd)


def test_a_llama3_model_can_stop_rotating_and_come_back():
    model, x = llama3().eval(), ids()
    expected = model(x).logits
    use(model, encoding("alibi", 4))
    assert not model.model.rotary_emb.inv_freq.any()
    use(model, encoding("rope", 4))
    assert torch.equal(model(x).logits, expected)


@pytest.mark.parametrize("only", ["genopt", ""])
@pytest.mark.parametrize("name", ["rope+harmonic", "kerple-log"])
def test_slopes_learn_over_a_packed_staircase(name, only, monkeypatch):
    """The same gradients as over a cache that is restored, of the slopes alone and of all."""
    found = []
    for readers in ({NAME}, set()):
        monkeypatch.setattr("genopt_core.torch.kvcache.settings.READERS", readers)
        monkeypatch.setattr("genopt_core.torch.kvcache.attention.SCORES", 100)
        model, x = tiny(), ids(tokens=40)
        use(model, encoding(name, 4, learned=True))
        for weight, p in model.named_parameters():
            p.requires_grad_(only in weight)
        cache = StaircaseCache(model.config, (16, 8, 4), chunk=4, sink=2)
        out = [model(part, past_key_values=cache).logits for part in x.split([28, 9, 3], 1)]
        torch.cat(out, 1).logsumexp(-1).square().mean().backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    for weight, grad in found[1].items():
        torch.testing.assert_close(found[0][weight], grad, atol=1e-5, rtol=2e-3, msg=weight)
