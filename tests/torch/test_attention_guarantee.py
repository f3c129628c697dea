"""Promises (ε, δ) on tensors: against the NumPy room, exact attention and measured coverage."""

import numpy as np
import pytest
import torch

from genopt_core.attention import blocks as numpy_room
from genopt_core.positions import bias_by_distance
from genopt_core.torch import attention as att
from genopt_core.torch.attention import DistanceLaw, near, sample, sink

torch.set_num_threads(1)
ALL = ("mass", "numerator", "output")


def inputs(tokens, heads=4, key_heads=2, batch=2, dim=6, spread=1.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = [(batch, h, tokens, dim) for h in (heads, key_heads, key_heads)]
    q, k, v = (torch.randn(s, generator=g, dtype=torch.float64) for s in shapes)
    return spread * q, k, v + 0.5


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def sums_of(q, k, v, bias, block):
    """Each query's masses and sums of every block, in NumPy."""
    n = len(q)
    s = q.numpy() @ k.numpy().T * q.shape[-1] ** -0.5
    i = np.arange(n)
    if bias is not None:
        s = s + bias[np.maximum(i[:, None] - i, 0)]
    e = np.where(i[:, None] >= i, np.exp(s), 0.0)
    starts = range(0, n, block)
    z = np.stack([e[:, a : a + block].sum(1) for a in starts], 1)
    return z, np.stack([e[:, a : a + block] @ v.numpy()[a : a + block] for a in starts], 1)


@pytest.mark.parametrize("of", ALL)
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("tokens", [64, 75])
def test_a_promise_is_that_of_the_numpy_room(of, biased, tokens):
    block, pilot, eps, delta = 5, 3, 0.4, 0.2
    q, k, v = inputs(tokens)
    table = bias_by_distance([0.1, 0.2, 0.3, 0.0], tokens, "log")
    bias = torch.from_numpy(table.copy()) if biased else None
    plan = (sink(1) | near(1) | sample(DistanceLaw.uniform(), 2.0)).plan(
        tokens, block=block, generator=seeded(5)
    )
    options = {"pilot": pilot, "of": of, "bias": bias}
    found = att.verify(q, k, v, plan, eps, delta, generator=seeded(), **options)
    t = plan.blocks
    order = torch.rand(2, 4, t, t, generator=seeded(), dtype=torch.float64).numpy()
    sure = (plan.kept & (plan.pi == 1))[0, 0].numpy()
    for b, h in ((0, 0), (1, 3)):
        z, n = sums_of(q[b, h], k[b, h // 2], v[b, h // 2], table[h] if biased else None, block)
        for i in range(t):
            free = np.flatnonzero(np.tril(~sure, -1)[i])
            rows = slice(i * block, min((i + 1) * block, tokens))
            held = int((plan.kept[0, 0, i].numpy() & ~sure[i]).sum())
            assert found.free[b, h, i] == len(free)
            ranked = free[order[b, h, i, free].argsort()]
            if len(free) > pilot:
                drawn = ranked[:pilot]
                r = numpy_room.relative_deviation(
                    z[rows][:, drawn], len(free), sums=n[rows][:, drawn], of=of,
                    sure_mass=z[rows][:, sure[i]].sum(1), sure_sum=n[rows][:, sure[i]].sum(1),
                )  # fmt: skip
                needed = numpy_room.blocks_needed(r, len(free), eps, delta, pilot).max()
                error = numpy_room.promised_error(r, len(free), held, delta, pilot)
            else:
                needed = len(free)
                error = np.full(rows.stop - rows.start, 0.0 if held == len(free) else np.inf)
            assert found.needed[b, h, i] == needed
            np.testing.assert_allclose(found.error[b, h, rows], error, rtol=1e-9)
            kept = np.flatnonzero(found.plan.kept[b, h, i].numpy() & ~sure[i])
            assert set(kept) == set(ranked[:needed])
            if needed:
                np.testing.assert_allclose(found.plan.pi[b, h, i, free], needed / len(free))
    assert found.promised == pytest.approx((found.error <= eps).double().mean().item())
    assert found.density == found.plan.density


@pytest.mark.parametrize("of", ALL)
@pytest.mark.parametrize("pilot", [3, 6])
def test_promises_are_kept(of, pilot):
    """Contents without outstanding blocks: at least as often as said, within the interval."""
    q, k, v = inputs(256, spread=0.7, batch=1)
    found = att.coverage(
        q, k, v, sink(1) | near(1), 0.25, 0.2, block=4, of=of, pilot=pilot, draws=6,
        generator=seeded(),
    )  # fmt: skip
    assert found.trials > 500
    assert found.low <= found.share <= found.high
    assert found.kept(0.2)
    assert found.every >= found.share - 0.05
    assert 0 < found.density < 1


def test_the_interval_tells_when_a_promise_is_broken():
    q, k, v = inputs(256, batch=1, heads=2, key_heads=2, seed=3)
    q, k = torch.zeros_like(q), torch.zeros_like(k)
    q[..., 0], k[:, :, 80:84, 0] = 8.0, 4.0  # one block is nearly everything
    design = sink(1) | near(1)
    found = att.coverage(
        q, k, v, design, 0.1, 0.05, block=4, of="mass", draws=6, generator=seeded()
    )
    assert not found.kept(0.05)
    assert found.high < 0.7
    best = att.plan_rows(q, k, 2, block=4, choose="top")  # a look at the contents mends it
    assert att.coverage(
        q, k, v, best, 0.1, 0.05, of="mass", draws=2, generator=seeded()
    ).kept(0.05)  # fmt: skip


def test_serflings_bound_is_never_broken_and_asks_for_much():
    q, k, v = inputs(256, spread=0.05, batch=1)
    found = att.coverage(
        q, k, v, sink(1) | near(1), 0.3, 0.2, block=4, of="mass", method="serfling", draws=3,
        generator=seeded(),
    )  # fmt: skip
    assert found.trials > 100
    assert found.share == 1.0
    q, k, v = inputs(256, spread=0.5, batch=1)
    normal = att.verify(q, k, v, sink(1), 0.3, 0.2, of="mass", block=4, generator=seeded())
    bound = att.verify(
        q, k, v, sink(1), 0.3, 0.2, of="mass", method="serfling", block=4, generator=seeded()
    )
    assert bound.density > normal.density
    for b, h in ((0, 0), (0, 3)):
        low, high = numpy_room.mass_bounds(q[b, h], k[b, h // 2], 4)
        z, _ = sums_of(q[b, h], k[b, h // 2], v[b, h // 2], None, 4)
        i, row = 200, 50
        least = z[i, [0, row]].sum() + np.exp(low[i, 1:row]).sum()
        span = (row - 1) * (np.exp(high[i, 1:row]).max() - np.exp(low[i, 1:row]).min()) / least
        expected = numpy_room.serfling_error(span, row - 1, 0, 0.2)
        assert bound.error[b, h, i].item() == pytest.approx(expected)


def test_a_plan_that_keeps_everything_promises_everything():
    q, k, v = inputs(40)
    plan = (sink(1) | sample(DistanceLaw.harmonic(), density=1.0)).plan(40, block=8)
    found = att.verify(q, k, v, plan, 0.01, 0.01)
    assert found.promised == 1
    assert not found.error.any()
    assert not found.needed.any()
    assert found.density == 1
    measured = att.coverage(q, k, v, plan, 0.01, 0.01, draws=1)
    assert (measured.trials, measured.share, measured.every) == (0, 1.0, 1.0)


@pytest.mark.parametrize("tokens", [1, 3, 9])
def test_few_tokens(tokens):
    q, k, v = inputs(tokens)
    found = att.verify(q, k, v, sink(1) | near(1), 0.1, 0.1, block=2)
    assert found.plan.length == tokens
    assert torch.equal(found.needed, torch.minimum(found.needed, found.free))


def test_one_generator_one_answer_and_half_precision():
    q, k, v = (x.bfloat16() for x in inputs(96))
    one, two = (
        att.verify(q, k, v, sink(1) | near(1), 0.3, 0.1, block=8, generator=seeded()) for _ in "ab"
    )
    assert torch.equal(one.plan.kept, two.plan.kept)
    assert torch.equal(one.error, two.error)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"eps": 0.0}, ValueError, "eps must be above 0, got 0.0"),
        ({"delta": 1.0}, ValueError, r"delta must be in \(0, 1\), got 1.0"),
        ({"pilot": 1}, ValueError, "pilot must be at least 2, got 1"),
        ({"of": "all"}, ValueError, "of must be one of"),
        ({"method": "hope"}, ValueError, "method must be one of"),
        ({"method": "serfling"}, ValueError, "of must be 'mass' and bias None"),
        ({"plan": "sink"}, TypeError, "plan must be a Plan or a Design, got 'sink'"),
    ],
)
def test_refusals(options, error, words):
    q, k, v = inputs(48)
    given = {"plan": sink(1) | near(1), "eps": 0.1, "delta": 0.1, "block": 4} | options
    with pytest.raises(error, match=words):
        att.verify(q, k, v, given.pop("plan"), given.pop("eps"), given.pop("delta"), **given)
