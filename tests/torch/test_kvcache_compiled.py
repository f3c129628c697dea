"""Compiled kernels for one token against the torch path and against restored keys and values."""

import importlib.util
import sys

import pytest
import torch
from oracles.models import tiny
from transformers import LlamaConfig

from genopt_core.torch.kvcache import StaircaseCache, attention, compiled, measure_balance, register
from genopt_core.torch.kvcache.settings import NAME

torch.set_num_threads(1)
needs_numba = pytest.mark.skipif(
    importlib.util.find_spec("numba") is None, reason="numba is not installed"
)


def view_of(ladder, values=None, tokens=300, heads=2, dim=16, batch=2, **options):
    """One layer with random keys and values, before one token more."""
    config = LlamaConfig(
        hidden_size=4 * dim, num_attention_heads=4, num_key_value_heads=heads, num_hidden_layers=1
    )
    cache = StaircaseCache(config, ladder, values, **({"chunk": 32} | options))
    g = torch.Generator().manual_seed(1)
    k, v, k1, v1, q = (
        torch.randn(batch, n, t, dim, generator=g)
        for n, t in ((heads, tokens), (heads, tokens), (heads, 1), (heads, 1), (4, 1))
    )
    cache.update(k + 0.5, v, 0)
    return q, cache.stair_layers[0].view(k1, v1)


@needs_numba
@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("ladder", ["16/8", "16/4", "16/3", "16/2", "16/1", "16/8/4/3/2/1"])
def test_kernels_are_attention_over_restored_keys(ladder, heads):
    q, view = view_of(ladder, heads=heads)
    assert compiled.reads(q, view)
    got = compiled.attend_token(q, view, 0.25)
    k, v = (x.repeat_interleave(4 // heads, 1) for x in view.restore())
    expected = (q @ k.mT * 0.25).softmax(-1) @ v
    torch.testing.assert_close(got, expected, atol=2e-6, rtol=1e-5)
    again = attention.attend_view(q, view, 0.25, None)
    torch.testing.assert_close(got, again, atol=2e-6, rtol=1e-5)


@needs_numba
def test_keys_and_values_on_different_ladders_in_chunks_of_64():
    q, view = view_of("16/8/3", "16/2/1", chunk=64, tokens=1000, dim=32)
    expected = attention.attend_view(q, view, 0.2, None)
    torch.testing.assert_close(compiled.attend_token(q, view, 0.2), expected, atol=2e-6, rtol=1e-5)


@needs_numba
def test_nan_is_not_hidden():
    q, view = view_of("16/4")
    q[0, 1] = float("nan")
    got = compiled.attend_token(q, view, 0.25)
    assert got[0, 1].isnan().all()
    assert got[1].isfinite().all()


@needs_numba
@pytest.mark.parametrize("balanced", [False, True])
def test_a_model_decodes_the_same(balanced, monkeypatch):
    model, calls = tiny(), []
    attend = compiled.attend_token
    monkeypatch.setattr(compiled, "attend_token", lambda *a: calls.append(1) or attend(*a))
    ids = torch.randint(3, 97, (1, 200), generator=torch.Generator().manual_seed(3))
    options = {"chunk": 32, "sink": 2}
    balance = measure_balance(model, ids, **options) if balanced else None
    outputs = []
    for name in (register(), register(compiled=True)):
        model.set_attn_implementation(name)
        cache = StaircaseCache(model.config, "16/4/2", balance=balance, **options)
        model(ids[:, :150], past_key_values=cache)
        with torch.no_grad():
            steps = [model(x, past_key_values=cache).logits for x in ids[:, 150:].split(1, 1)]
        outputs.append(torch.cat(steps, 1))
    assert len(calls) == 50 * model.config.num_hidden_layers
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "change",
    [{"chunk": 16}, {"codec": "grid", "group_size": 16}, {"values": (16, 16, 4)}, {"tokens": 20}],
)
def test_what_kernels_do_not_know_is_left_to_torch(change):
    q, view = view_of(**({"ladder": "16/4"} | change))
    assert not compiled.reads(q, view)
    q, view = view_of("16/4")
    assert compiled.reads(q, view)
    assert not compiled.reads(q.repeat(1, 1, 2, 1), view)
    assert not compiled.reads(q.requires_grad_(), view)


def test_without_numba_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(ModuleNotFoundError, match=r"numba is not installed: .*core\[compiled\]"):
        register(compiled=True)
    assert register() == NAME


def test_what_is_no_truth_value_is_refused():
    with pytest.raises(TypeError, match="compiled must be True or False, got 'no'"):
        register(compiled="no")
