"""Models whose layers attend to a window or to everything in turn: what steps down, what stays."""

import functools

import pytest
import torch
from oracles.models import alternating, tiny
from transformers import DynamicCache, Llama4TextConfig
from transformers.cache_utils import get_layer_types_and_kwargs

from genopt_core import kvcache as kv
from genopt_core.torch.kvcache import StaircaseCache
from genopt_core.torch.kvcache.attention import register, staircase_attention

torch.set_num_threads(1)
PACKED = register()
ORDERS = {
    "full last": 5 * ("sliding",) + ("full",),
    "full first": ("full", "sliding", "full", "sliding"),
    "one window": ("full", "full", "sliding"),
}
HOW = {
    "greedy, padded": {},
    "beams, padded": {"num_beams": 4},
    "sampling": {"do_sample": True, "top_k": 20},
    "prefill in chunks": {"prefill_chunk_size": 7},
    "prompt look-up (crop)": {"prompt_lookup_num_tokens": 3},
}


@pytest.fixture(params=["sdpa", PACKED])
def attention(request):
    return request.param


def text(rows=1, tokens=40, pad=0):
    x = torch.randint(3, 97, (rows, tokens), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(x)
    mask[0, :pad] = 0
    return x.masked_fill(mask == 0, 0), mask


def filled(config, tokens, step=None, **options):
    """A cache and the library's own, both having seen the same random states."""
    caches = StaircaseCache(config, **options), DynamicCache(config=config)
    g = torch.Generator().manual_seed(5)
    k, v = torch.randn(2, 1, config.num_key_value_heads, tokens, config.head_dim, generator=g)
    for part in torch.arange(tokens).split(step or tokens):
        for i in range(config.num_hidden_layers):
            for cache in caches:
                cache.update(k[..., part, :], v[..., part, :], i)
    return *caches, k, v


def library_bytes(cache):
    return sum(t.nbytes for layer in cache.layers for t in (layer.keys, layer.values))


# ------------------------------------------------------------------ lossless


def generated(model, cache, how):
    x, mask = text(1, 23) if "crop" in how else text(2, 23, pad=6)
    torch.manual_seed(1)
    return model.generate(
        x,
        attention_mask=mask,
        past_key_values=cache,
        max_new_tokens=50,
        no_repeat_ngram_size=2,  # random weights say one token again and again
        **{"do_sample": False, **HOW[how]},
    )


@functools.cache
def generated_by_the_library(how, order, window):
    model = alternating(window=window, kinds=ORDERS[order])
    model.set_attn_implementation("sdpa")
    return generated(model, DynamicCache(config=model.config), how)


@pytest.mark.parametrize("window", [8, 64])  # gone past long before the end, and only just
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("how", HOW)
def test_lossless_cache_generates_the_same_tokens(how, order, window, attention):
    model = alternating(window=window, kinds=ORDERS[order])
    model.set_attn_implementation(attention)
    found = generated(model, StaircaseCache(model.config, (16,), chunk=8), how)
    expected = generated_by_the_library(how, order, window)
    assert torch.equal(found, expected)
    # not stuck: many different tokens came after the windows were full
    assert len(set(expected[-1, -40:].tolist())) > 5


def test_windows_hold_exactly_what_the_library_holds():
    config = alternating(window=16).config
    for tokens, step in ((9, 1), (15, None), (16, 1), (60, 7), (60, None)):
        cache, own, _, _ = filled(config, tokens, step, chunk=8)
        for ours, theirs in zip(cache.window_layers, own.layers[:5], strict=True):
            assert type(ours) is type(theirs)
            assert torch.equal(ours.keys, theirs.keys)
            assert torch.equal(ours.values, theirs.values)
        assert cache.get_seq_length() == tokens
        for i in range(6):
            assert cache.get_mask_sizes(3, i) == own.get_mask_sizes(3, i)


def test_full_layers_step_down_as_they_do_alone():
    config, (full,) = alternating(window=16).config, [5]
    cache, _, k, v = filled(config, 99, 1, chunk=8)
    alone = StaircaseCache(tiny(layers=1, dim=32).config, chunk=8)
    for t in range(99):
        alone.update(k[..., t : t + 1, :], v[..., t : t + 1, :], 0)
    assert cache.stairs() == kv.stairs_by_age(99, (16, 8, 4, 2), 8, sink=4)
    for ours, theirs in zip(cache.layers[full].tensors, alone.layers[0].tensors, strict=True):
        assert torch.equal(ours, theirs)
    assert cache.bits_per_element() == alone.bits_per_element()
    assert cache.limit_bits() == alone.limit_bits()


def test_packed_attention_is_attention_over_restored_keys():
    model = alternating(window=16, kinds=ORDERS["full first"])
    x, mask = text(2, 140, pad=6)
    logits = []
    for name in ("sdpa", PACKED):
        model.set_attn_implementation(name)
        cache, out, at = StaircaseCache(model.config, chunk=8), [], 0
        for step in (61, 1, 1, 30, 8, 1, 38):
            seen = mask[:, : at + step]
            part = model(x[:, at : at + step], attention_mask=seen, past_key_values=cache)
            out.append(part.logits)
            at += step
        logits.append(torch.cat(out, 1))
    torch.testing.assert_close(logits[0][mask == 1], logits[1][mask == 1], atol=1e-4, rtol=1e-4)


# ------------------------------------------------------------------ bytes


@pytest.mark.parametrize("tokens", [0, 1, 20, 63, 64, 200])
def test_bytes_of_both_kinds_are_those_of_the_formula(tokens):
    cache, own, _, _ = filled(alternating().config, tokens, 3, ladder=(16, 4, 2), chunk=8)
    assert cache.nbytes() == cache.expected_bytes()
    if tokens:
        windows = sum(2 * t.keys.nbytes for t in own.layers[:5])
        assert cache.nbytes() == windows + sum(t.nbytes for t in cache.layers[5].tensors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_at_four_thousand_tokens_at_most_two_fifths_of_the_library_s_bytes(dtype):
    """Widths, windows and layers of the case at hand, as arithmetic: random states."""
    config = alternating().config
    cache, own = StaircaseCache(config, (16, 4, 2)), DynamicCache(config=config)
    x = torch.randn(1, 2, 4096, 32, generator=torch.Generator().manual_seed(0)).to(dtype)
    for i in range(6):
        for each in (cache, own):
            each.update(x, x, i)
    share = cache.nbytes() / library_bytes(own)
    print(f"{dtype}: {share:.3f} of the library's bytes")
    assert cache.nbytes() == cache.expected_bytes()
    assert share <= 0.4


# ------------------------------------------------------------------ rows, disk, refusals


def test_rows_are_repeated_selected_and_reordered_in_both_kinds():
    config = alternating(window=16, kinds=ORDERS["full first"]).config
    cache, own, k, v = filled(config, 60, ladder=(16,), chunk=8)
    for each in (cache, own):
        each.batch_repeat_interleave(3)
        each.layers[1].keys += torch.arange(3)[:, None, None, None]  # rows differ now
        each.batch_select_indices(torch.tensor([0, 2]))
        each.reorder_cache(torch.tensor([1, 0]))
    for i in range(4):
        a, b = (
            each.update(k[:, :, :1].repeat(2, 1, 1, 1), v[:, :, :1].repeat(2, 1, 1, 1), i)
            for each in (cache, own)
        )
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])
    cache.reset()
    assert cache.get_seq_length() == cache.nbytes() == 0


def test_crop_past_the_window_is_refused_as_the_library_refuses_it():
    cache, own, _, _ = filled(alternating(window=16).config, 60, chunk=8)
    for each in (cache, own):
        with pytest.raises(RuntimeError, match="crop"):
            each.crop(-3)
    cache, own, k, v = filled(alternating(window=64).config, 60, ladder=(16,), chunk=8)
    for each in (cache, own):
        each.crop(-3)
        assert each.get_seq_length() == 57
    for i in range(6):
        a, b = (each.update(k[:, :, :1], v[:, :, :1], i) for each in (cache, own))
        assert torch.equal(a[0], b[0])


@pytest.mark.parametrize("tokens", [0, 3, 30, 150])
def test_saved_and_restored_cache_goes_on_alike(tmp_path, tokens, attention):
    model = alternating(window=16, kinds=ORDERS["full first"])
    model.set_attn_implementation(attention)
    x, _ = text(1, 170)
    cache = StaircaseCache(model.config, [(16, 8, 4), (16, 2)], chunk=8)
    if tokens:
        model(x[:, :tokens], past_key_values=cache)
    cache.save(tmp_path / "cache")
    back = StaircaseCache.restore(tmp_path / "cache", model.config)
    assert back.nbytes() == cache.nbytes()
    assert [back.stairs(i) for i in (0, 1)] == [cache.stairs(i) for i in (0, 1)]
    a, b = (model(x[:, tokens:], past_key_values=c).logits for c in (cache, back))
    assert torch.equal(a, b)


def test_a_file_of_another_model_is_refused(tmp_path):
    kinds = ORDERS["full first"]
    cache, _, _, _ = filled(alternating(window=16, kinds=kinds).config, 40, chunk=8)
    cache.save(tmp_path / "cache")
    with pytest.raises(ValueError, match="window of 16 tokens, the model has one of 32"):
        StaircaseCache.restore(tmp_path / "cache", alternating(window=32, kinds=kinds).config)
    with pytest.raises(ValueError, match="windows in other layers"):
        StaircaseCache.restore(tmp_path / "cache", alternating(window=16, kinds=kinds[::-1]).config)


def test_ladders_are_counted_by_full_layers():
    config = alternating(kinds=ORDERS["full first"]).config
    cache = StaircaseCache(config, [(16, 8), (16, 2)])
    assert [layer.ladders["key"] for layer in cache.stair_layers] == [(16, 8), (16, 2)]
    assert repr(cache).startswith("StaircaseCache(2 layers and 2 windows, ladders by layer, 0 tok")
    with pytest.raises(ValueError, match="ladder must be one ladder or 2, one a layer, got 4"):
        StaircaseCache(config, [(16, 8)] * 4)


def test_chunked_layers_are_kept_as_the_library_keeps_them():
    config = Llama4TextConfig(
        num_hidden_layers=4, hidden_size=64, num_attention_heads=2, attention_chunk_size=16
    )
    cache = StaircaseCache(config)
    assert len(cache.stair_layers) == 1
    assert [type(layer) for layer in cache.window_layers] == [
        type(layer) for layer in DynamicCache(config=config).layers[:3]
    ]


def test_channels_of_full_layers_count_where_windows_have_others():
    from transformers import Gemma4TextConfig

    config = Gemma4TextConfig(num_kv_shared_layers=0)
    assert {"full_attention", "sliding_attention"} == set(get_layer_types_and_kwargs(config)[0])
    assert StaircaseCache(config).settings.head_dim == 512


def test_other_layers_are_still_refused():
    from transformers import BambaConfig, FalconH1Config, Gemma3nTextConfig, Qwen3NextConfig

    for config, kind in (
        (Qwen3NextConfig(), "linear_attention"),
        (BambaConfig(), "linear_attention"),
        (FalconH1Config(), "hybrid"),
        (Gemma3nTextConfig(), "dummy"),
    ):
        with pytest.raises(ValueError, match=f"full_attention or with a window .*{kind}"):
            StaircaseCache(config)


def test_learned_sinks_are_refused_rather_than_left_out():
    """GPT-OSS adds a learned logit to each softmax, which SDPA would ignore without a word."""
    q = torch.zeros(1, 2, 1, 16)
    with pytest.raises(ValueError, match=r"s_aux is not supported .* 'eager'"):
        staircase_attention(torch.nn.Module(), q, q, q, None, s_aux=torch.zeros(2))
