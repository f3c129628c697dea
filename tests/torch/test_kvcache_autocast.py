"""The staircase cache under ``torch.autocast``: the same codes, and outputs as without."""

import importlib.util

import pytest
import torch
from oracles.models import tiny
from transformers import AttentionInterface

from genopt_core.torch.kvcache import (
    StaircaseCache,
    cache_divergence,
    calibrate_ladders,
    measure_balance,
    register,
)

torch.set_num_threads(1)
DTYPES = [torch.bfloat16, torch.float16]
LADDERS = ["16", "16/8", "16/4", "16/8/4/2"]
HAS_NUMBA = importlib.util.find_spec("numba") is not None
READERS = ["sdpa", register(), *([register(compiled=True)] if HAS_NUMBA else [])]


def ids(tokens=124):
    return torch.randint(3, 128, (1, tokens), generator=torch.Generator().manual_seed(3))


def logits(model, cache, dtype, outside=0):
    """Predictions of a prompt in two pieces and of single tokens; so many steps without."""
    out = []
    for i, part in enumerate(ids().split([70, 50, *[1] * 4], 1)):
        with torch.autocast(
            "cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None and i >= outside
        ):
            out.append(model(part, past_key_values=cache).logits.float())
    return torch.cat(out, 1)


def far(a, b):
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("codec", ["rotated", "grid"])
@pytest.mark.parametrize("ladder", LADDERS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_predictions_are_those_without_autocast(dtype, ladder, codec, reader):
    """All under it, or what comes after the prompt, or after its first piece."""
    model = tiny()
    model.set_attn_implementation(reader)
    options = {"chunk": 32, "codec": codec, "group_size": 16}
    plain = logits(model, StaircaseCache(model.config, ladder, **options), None)
    for outside in (0, 1, 2):
        cache = StaircaseCache(model.config, ladder, **options)
        assert far(logits(model, cache, dtype, outside), plain) < 2 * torch.finfo(dtype).eps
        assert cache.nbytes() == cache.expected_bytes()


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("codec", ["rotated", "grid"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_chunks_and_what_they_give_are_the_same_to_the_bit(dtype, codec, reader):
    """The same keys and values, and queries, with and without."""
    model, found = tiny(layers=1), []
    model.set_attn_implementation(reader)
    g = torch.Generator().manual_seed(1)
    k, v, q = (torch.randn(1, heads, 101, 16, generator=g) for heads in (2, 2, 4))
    attend = model.model.layers[0].self_attn
    for on in (False, True):
        cache = StaircaseCache(
            model.config, "16/8/4", chunk=32, codec=codec, group_size=16, full_dtype=torch.float16
        )
        with torch.autocast("cpu", dtype=dtype, enabled=on):
            cache.update(k[:, :, :100], v[:, :, :100], 0)
            layer = cache.stair_layers[0]
            layer.crop(-10)
            held = cache.update(k[:, :, 90:], v[:, :, 90:], 0)
            view = layer.view(k[:, :, :1], v[:, :, :1])
            out = []
            if reader != "sdpa":
                for count in (1, 11):
                    held = cache.update(k[:, :, :count], v[:, :, :count], 0)
                    f = AttentionInterface()[reader]
                    out.append(f(attend, q[:, :, :count], *held, None, scaling=0.25)[0])
            found.append([*layer.tensors, *view.restore(), *view.unpacked(), *out])
    for plain, cast in zip(*found, strict=True):
        assert plain.dtype == cast.dtype
        assert torch.equal(plain, cast)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_generation_calibration_and_balance_run(dtype, reader):
    model, text, options = tiny(), ids(), {"chunk": 16, "sink": 2}
    model.set_attn_implementation(reader)
    exact = measure_balance(model, text, **options)
    with torch.autocast("cpu", dtype=dtype):
        balance = measure_balance(model, text, **options)
        for ours, theirs in zip(balance.keys[0], exact.keys[0], strict=True):
            assert far(ours, theirs) < 0.1
        keys, values = calibrate_ladders(
            model, text, 7, [(16, 8), (16, 4)], progress=False, decoded=60, **options
        )
        cache = StaircaseCache(model.config, keys, values, balance=balance, **options)
        assert 0 <= cache_divergence(model, text, cache, decoded=60) < 0.1
        assert model.generate(
            text, past_key_values=cache, max_new_tokens=4, do_sample=False
        ).shape == (1, 128)
