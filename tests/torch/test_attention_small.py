"""Attention over drawn blocks in its smallest cases, by hand: designs, plans, draws, work."""

import itertools
import math

import numpy as np
import pytest
import torch

from genopt_core.torch import attention as att
from genopt_core.torch.attention import (
    DistanceLaw,
    Plan,
    diagonals,
    gathered,
    near,
    pieces,
    rows,
    sample,
    sink,
)
from genopt_core.torch.attention.draws import capped, systematic

torch.set_num_threads(1)
LAW = DistanceLaw.harmonic()
Q = torch.randn(1, 2, 12, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
K, V = Q.flip(3), Q.flip(2)
PLAN = (sink(1) | near(1)).plan(12, block=3)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def attend(q=Q, k=K, v=V, plan=PLAN, **options):
    return att.pr_flash_attention(q, k, v, plan, **options)


def zeros(*shape):
    return torch.zeros(shape, dtype=torch.float64)


def test_lengths_and_blocks_that_are_chosen():
    for length in (1, 15, 16, 127, 128, 2047, 2048, 4095, 4096, 8191, 8192, 10**6):
        powers = [2**n for n in range(30) if 2**n <= max(length // 16, 1)]
        assert att.default_block(length) == min(max(powers[-1], 128), 512, length)


def test_what_a_plan_by_rows_says_of_sinks():
    rows_of = (sink(2) | sample(LAW, 1, each="row")).plan(12, block=2, generator=seeded())
    assert (rows_of.distances, rows_of.head_distances, rows_of.sinks) == (None, None, 0)
    of_heads = (sink(2) | sample(LAW, 1, each="head")).plan(12, block=2, heads=2)
    assert (of_heads.distances, of_heads.sinks) == (None, 2)
    assert (sink(9) | near(0)).plan(4, block=2).sinks == 2
    assert (PLAN | rows_of.to("cpu") if PLAN.block == 2 else PLAN).sinks == 1
    a, b = (sink(2) | near(0)).plan(12, block=3), near(1).plan(12, block=3)
    assert ((a | b).sinks, (a | b).distances) == (2, (0, 1))
    mixed = a | sample(LAW, 1, each="row").plan(12, block=3, generator=seeded())
    assert (mixed.sinks, mixed.distances) == (0, None)
    assert PLAN.to("cpu") is PLAN
    assert att.stack_heads([PLAN]).head_distances == ((0, 1),)
    assert att.stack_heads([PLAN, PLAN]).sinks == 1


def test_plans_know_how_much_they_hold():
    full = near(9).plan(12, block=3)
    assert (full.blocks, full.density, full.full, full.certain) == (4, 1.0, True, True)
    assert PLAN.density == pytest.approx(9 / 10)  # all but (3, 1)
    assert not PLAN.full
    half = torch.where(full.kept, 0.5 + 0.5 * torch.eye(4), 0.0).double()
    likely = Plan(12, 3, full.kept, half)
    assert (likely.full, likely.certain) == (False, False)
    assert likely.log_weights[0, 0, 1].tolist() == [math.log(2), 0.0, -math.inf, -math.inf]
    plain = likely.to_dense_bias(weighted=False, dtype=torch.float64)
    assert torch.equal(plain[0, 0], torch.full((12, 12), -math.inf).triu(1).double())
    assert likely.to_dense_bias().dtype == torch.get_default_dtype()
    assert likely.to_dense_bias()[0, 0, 3, 0].item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("count", [0.5, 1, 2.5])
def test_probabilities_of_each_row_have_its_own_sum(count):
    design = sink(1) | near(1) | sample(LAW, count, each="row")
    pi = design.plan(14, block=2, generator=seeded()).pi[0, 0]
    for i in range(7):
        free = list(range(1, i - 1))
        assert pi[i, free].sum().item() == pytest.approx(min(count, len(free)))
        for a, b in itertools.pairwise(free):  # in proportion to 1 / (1 + distance)
            if pi[i, b] < 1:
                assert pi[i, a] * (1 + i - a) == pytest.approx(pi[i, b].item() * (1 + i - b))


def test_capped_probabilities_are_exactly_1_where_all_are_taken():
    for n in range(1, 9):
        w = torch.rand(n, generator=seeded(n), dtype=torch.float64)
        assert (capped(w, torch.tensor(float(n))) == 1).all()
        assert (capped(w, torch.tensor(float(n) - 1e-12)) == 1).all()
    assert capped(torch.tensor([1.0, 0.0]), torch.tensor(0.5)).tolist() == [0.5, 0.0]
    assert capped(torch.tensor([1.0, 0.0]), torch.tensor(2.0)).tolist() == [1.0, 0.0]
    assert capped(torch.zeros(2), torch.tensor(1.0)).tolist() == [0.0, 0.0]
    assert capped(torch.tensor([4.0, 1.0]), torch.tensor(0.0)).tolist() == [0.0, 0.0]
    assert capped(torch.tensor([1.0, 4.0]), torch.tensor(1.25)).tolist() == [0.25, 1.0]
    both = capped(torch.tensor([[1.0, 4.0], [2.0, 2.0]]), torch.tensor([1.5, 1.0]))
    assert both.tolist() == [[0.5, 1.0], [0.5, 0.5]]


def test_ten_tenths_hold_one_tooth_whatever_is_drawn():
    pi = torch.full((200, 10), 0.1)
    assert (systematic(pi, seeded()).sum(-1) == 1).all()
    sure = torch.tensor([[0.3, 1.0, 0.7, 0.0, 1.0]]).repeat(200, 1)
    drawn = systematic(sure, seeded())
    assert drawn[:, [1, 4]].all()
    assert not drawn[:, 3].any()
    assert (drawn[:, [0, 2]].sum(-1) == 1).all()


# ------------------------------------------------------------------ plans by contents


@pytest.mark.parametrize("mix", [0.0, 0.1, 0.7, 1.0])
@pytest.mark.parametrize("sinks", [0, 1])
def test_probabilities_of_rows_are_masses_mixed_with_a_law(mix, sinks):
    """Row by row in NumPy, where so few are drawn that no probability is capped."""
    plan = att.plan_rows(
        Q, K, 0.2, block=2, probes=2, mix=mix, sinks=sinks, nears=0, choose="sample"
    )
    mass = att.block_mass(Q, K, 2, probes=2).numpy()[0]
    for h in range(2):
        for i in range(6):
            free = np.arange(sinks, i)
            if not len(free):
                continue
            law = 1 / (1 + i - free)
            weight = (1 - mix) * mass[h, i, free] / mass[h, i, free].sum() + mix * law / law.sum()
            np.testing.assert_allclose(plan.pi[0, h, i, free], 0.2 * weight, rtol=1e-9)
    law = DistanceLaw.uniform()
    same = att.plan_rows(
        Q, K, 0.2, block=2, probes=2, law=law, mix=1.0, sinks=0, nears=0, choose="sample"
    )
    np.testing.assert_allclose(same.pi[0, 0, 3, :3], 0.2 / 3)


def test_similarity_does_not_know_how_long_keys_are():
    expected = att.self_similarity(K, 5)
    for size in (1e-6, 1e6):
        torch.testing.assert_close(att.self_similarity(K * size, 5), expected)
    assert expected.shape == (1, 2, 3)
    assert att.self_similarity(torch.ones(1, 1, 5, 2), 2).tolist() == [[pytest.approx([1, 1, 1])]]


@pytest.mark.parametrize("probes", [1, 2])
def test_masses_are_probed_a_slab_of_rows_at_a_time(probes, monkeypatch):
    """At most 64 probes of a head are in memory, so that it stays linear in the length."""
    q = torch.randn(1, 1, 300, 2, generator=seeded())
    for proxy in ("probe", "centroid", "antidiagonal"):
        name = "_antidiagonal" if proxy == "antidiagonal" else "_probed"
        seen, run = [], getattr(rows, name)

        def spy(q, k, of, *rest, run=run, seen=seen):
            seen.append(of)
            return run(q, k, of, *rest)

        monkeypatch.setattr(rows, name, spy)
        found = att.block_mass(q, q, 2, proxy, probes)
        monkeypatch.setattr(rows, name, run)
        assert [len(of) for of in seen[:-1]] == [64 // probes] * (len(seen) - 1)
        assert sum(map(len, seen)) == 150
        short = att.block_mass(q[:, :, :20], q[:, :, :20], 2, proxy, probes)
        torch.testing.assert_close(found[..., :10, :10], short)
        assert found[0, 0, 149, :149].gt(0).all()  # rows of a later slab know which they are


def test_probes_are_the_middles_of_equal_parts():
    """Of 6 queries two probes are those at 1 and 4: what others ask changes nothing."""
    for probes, places in ((1, [3]), (2, [1, 4]), (3, [1, 3, 5])):
        base = att.block_mass(Q, K, 6, probes=probes)
        for at in range(6):
            other = Q.clone()
            other[:, :, 6 + at] += 1.0
            changed = not torch.equal(att.block_mass(other, K, 6, probes=probes), base)
            assert changed == (at in places)


def test_a_part_of_the_last_block_has_the_part_s_centroid_left_out():
    mass = att.block_mass(Q[:, :, :11], K[:, :, :11], 4, "centroid", 1)
    assert mass.shape == (1, 2, 3, 3)
    s = K[0, :, :8].unflatten(1, (2, 4)).mean(2) @ Q[0, :, 10, :, None] / 2  # query 2 of block 2
    torch.testing.assert_close(mass[0, :, 2, :2], s[..., 0].softmax(-1))


# ------------------------------------------------------------------ a shorter sequence, promises


def test_a_subsequence_of_what_is_sure():
    plan = att.plan_subsequence(12, LAW, 0, block=3)
    assert plan.kept[0, 0].nonzero().tolist() == [[0, 0], [1, 1], [2, 2], [3, 0], [3, 3]]
    alone = att.plan_subsequence(12, LAW, 0, block=3, sinks=0)
    assert torch.equal(alone.kept[0, 0], torch.eye(4) > 0)
    every = att.plan_subsequence(12, LAW, 99, block=3)
    assert (every.kept[0, 0] == torch.ones(4, 4).tril()).all()
    assert every.full
    far = att.plan_subsequence(12, DistanceLaw.custom([1, 1, 0]), 99, block=3, sinks=0)
    assert far.kept[0, 0, 3].int().tolist() == [0, 0, 1, 1]  # what has no weight is never drawn


@pytest.mark.parametrize("method", ["normal", "serfling"])
@pytest.mark.parametrize("tokens", [1, 2, 5])
def test_promises_of_few_tokens(method, tokens):
    q = Q[:, :, :tokens]
    found = att.verify(q, q, q, near(0), 0.1, 0.1, block=2, of="mass", method=method)
    assert found.error.isfinite().logical_or(found.error.isposinf()).all()
    assert (found.error[:, :, :2] == 0).all()  # a row of blocks with nothing free is exact
    assert (found.needed <= found.free).all()
    assert found.free[0, 0].tolist() == list(range(-(-tokens // 2)))


def test_a_promise_may_be_true_up_to_the_end_of_its_interval():
    measured = att.Coverage(0.8, 0.7, 0.9, 50, 0.8, 0.5)
    assert measured.kept(0.1)
    assert measured.kept(0.2)
    assert not measured.kept(0.0999)


def test_pieces_merge_by_their_masses():
    g = seeded()
    q, k, v = (torch.randn(2, 3, n, 4, generator=g, dtype=torch.float64) for n in (5, 7, 7))
    out, lse = pieces.forward(q, k[:, :, :4], v[:, :, :4], 0.3, False)
    more = pieces.forward(q, k[:, :, 4:], v[:, :, 4:], 0.3, False)
    pieces.merge_into(out, lse, *more)
    s = q @ k.mT * 0.3
    torch.testing.assert_close(out, s.softmax(-1) @ v)
    torch.testing.assert_close(lse, s.logsumexp(-1))
    assert pieces.fused(torch.device("cpu"))
    assert not pieces.fused(torch.device("cuda"))


def test_large_numbers_that_are_finite_are_accepted():
    """Their product overflows, which must not be taken for a number that is not finite."""
    for dtype, size in ((torch.float32, 1e30), (torch.float64, 1e200), (torch.bfloat16, 1e30)):
        x = [(t * 0 + size).to(dtype) for t in (Q, K, V)]
        out = attend(x[0] * 0, x[1] * 0, x[2], path="dense")
        torch.testing.assert_close(out, x[2])
        with pytest.raises(ValueError, match="v must be finite"):
            attend(x[0] * 0, x[1] * 0, x[2] * math.inf, path="dense")
        att.pr_flash_attention(x[0], x[1], x[2] * 0, PLAN, path="dense")


@pytest.mark.parametrize(("p", "count"), [(0.7, 10), (0.9, 10), (0.55, 20), (0.1, 10)])
def test_a_comb_at_0_has_no_tooth_too_many(p, count, monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda shape, **options: zeros(*shape))
    drawn = systematic(torch.full((2, count), p, dtype=torch.float64), None)
    assert drawn.sum(-1).tolist() == [round(p * count)] * 2


def test_heads_of_batches_are_stacked():
    one = sample(LAW, 1, each="row").plan(12, block=3, batch=3, generator=seeded())
    both = att.stack_heads([one, PLAN])
    assert both.kept.shape == (3, 2, 4, 4)
    assert torch.equal(both.kept[:, 0], one.kept[:, 0])
    assert torch.equal(both.kept[:, 1], PLAN.kept[:, 0].expand(3, 4, 4))
    assert torch.equal(both.pi[:, 0], one.pi[:, 0])
    assert (both.distances, both.head_distances, both.sinks) == (None, None, 0)


@pytest.mark.parametrize("of", ["mass", "numerator", "output"])
@pytest.mark.parametrize("draws", [1, 3])
def test_coverage_counts_what_verify_promised(of, draws):
    """Errors against sums that are written out, one query a row of blocks as it was drawn."""
    size, t, eps, delta = 2, 6, 0.35, 0.3
    g, ours = seeded(8), seeded(8)
    found = att.coverage(
        Q, K, V, near(0), eps, delta, draws=draws, of=of, pilot=2, block=size, generator=g
    )
    s = np.tril(np.exp((Q @ K.mT / 2).numpy()[0]))
    total, exact = s.sum(-1), s @ V[0].numpy()
    trials, kept, every, density = 0, 0, [], []
    for _ in range(draws):
        one = att.verify(Q, K, V, near(0), eps, delta, of=of, pilot=2, block=size, generator=ours)
        weight = np.where(one.plan.kept, 1 / one.plan.pi, 0.0)[0].repeat(size, 1).repeat(size, 2)
        mass, sums = (s * weight).sum(-1), (s * weight) @ V[0].numpy()
        if of == "mass":
            error = np.abs(mass / total - 1)
        elif of == "numerator":
            error = np.linalg.norm(sums - exact, axis=-1) / np.linalg.norm(exact, axis=-1)
        else:
            wanted = exact / total[..., None]
            gap = sums / mass[..., None] - wanted
            error = np.linalg.norm(gap, axis=-1) / np.linalg.norm(wanted, axis=-1)
        good = error <= eps
        inside = torch.rand(1, 2, t, generator=ours).numpy()[0]
        for h in range(2):
            for i in range(t):
                if one.needed[0, h, i] < one.free[0, h, i]:
                    trials += 1
                    kept += good[h, size * i + int(inside[h, i] * size)]
        every.append(good.mean())
        density.append(one.density)
    assert (found.trials, found.share) == (trials, kept / trials if trials else 1.0)
    assert found.every == pytest.approx(np.mean(every))
    assert found.density == pytest.approx(np.mean(density))
    assert found.low <= found.share <= found.high


class Nothing(torch.autograd.Function):
    """Passes a tensor on, and no gradient back."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return None


@pytest.mark.parametrize("path", ["rows", "diagonal"])
def test_no_gradient_of_the_output_is_none_of_the_inputs(path):
    x = [t.clone().requires_grad_() for t in (Q, K, V)]
    out, lse = attend(*x, path=path, return_lse=True)
    (Nothing.apply(out).sum() + Nothing.apply(lse).sum()).backward()
    assert all(t.grad is None for t in x)
    out, lse = attend(*x, path=path, return_lse=True)
    (Nothing.apply(out).sum() + lse.sum()).backward()  # that of the mass alone
    wanted = [t.clone().requires_grad_() for t in (Q, K, V)]
    attend(*wanted, path="dense", return_lse=True)[1].sum().backward()
    for a, b in zip(x, wanted, strict=True):
        torch.testing.assert_close(a.grad, torch.zeros_like(a) if b.grad is None else b.grad)


# ------------------------------------------------------------------ how the work is cut


@pytest.mark.parametrize(
    ("block", "least", "size", "squares"),
    [
        (48, 6, 6, [6, 12, 24]),
        (40, 5, 5, [5, 10, 20]),
        (40, 16, 20, [20]),
        (33, 6, 33, []),
        (16, 9, 16, []),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_diagonal_block_in_halves_is_the_whole(block, least, size, squares, dtype, monkeypatch):
    """Each pair of query and key is met once: outputs and gradients are those of dense scores.

    Bfloat16 keeps eight bits, and gradients are sums over two blocks of such.
    """
    monkeypatch.setattr(diagonals, "LEAST", least)
    found = diagonals._halves(block, torch.device("cpu"))
    assert (found[0], sorted(found[1])) == (size, squares)
    g = seeded()
    x = [torch.randn(2, 2, 2 * block, 4, generator=g).to(dtype) for _ in range(3)]
    x = [t.requires_grad_() for t in x]
    rows = []
    for path in ("diagonal", "dense"):
        plan = near(1).plan(2 * block, block=block)
        out, lse = att.pr_flash_attention(*x, plan, path=path, return_lse=True)
        rows.append([out, lse, *torch.autograd.grad(out.square().sum() + lse.sin().sum(), x)])
    near_enough = {} if dtype != torch.bfloat16 else {"rtol": 2**-5, "atol": 2**-4}
    for mine, wanted in zip(*rows, strict=True):
        torch.testing.assert_close(mine, wanted, **near_enough)


@pytest.mark.parametrize("path", ["auto", "diagonal", "rows", "dense"])
@pytest.mark.parametrize(("batch", "heads"), [(0, 2), (2, 0)])
def test_of_nothing_there_is_nothing(path, batch, heads):
    x = [torch.zeros(batch, heads, 12, 4, requires_grad=True) for _ in range(3)]
    out = att.pr_flash_attention(*x, (sink(1) | near(1)).plan(12, block=3), path=path)
    assert out.shape == x[0].shape
    assert all(g.shape == out.shape for g in torch.autograd.grad(out.sum(), x))


def test_stacks_are_as_even_as_they_can_be_and_never_too_tall():
    for count, block, groups in (
        (2048, 1, 2), (2050, 1, 3), (2, 512, 1), (3, 512, 2), (5, 512, 3), (4, 4096, 4), (0, 8, 0)
    ):  # fmt: skip
        found = diagonals._stacks(list(range(count)), block)
        assert len(found) == groups
        assert list(itertools.chain(*found)) == list(range(count))
        assert all(len(some) * block <= max(1024, block) for some in found)
        assert not found or max(map(len, found)) == -(-count // groups)


@pytest.mark.parametrize("sinks", [0, 1, 2, 5])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("distances", [(0,), (0, 1, 2), (0, 2, 3, 4)])
def test_rounds_meet_each_kept_pair_once(sinks, biased, distances):
    i = torch.arange(5)
    delta = i[:, None] - i
    kept = (torch.isin(delta, torch.tensor(distances)) | (i < sinks)) & (delta >= 0)
    plan = Plan(10, 2, kept[None, None], kept[None, None].double(), distances, sinks)
    met = []
    for r in diagonals._rounds(plan, (0, 0), distances, True, biased):
        keys = range(5)[r.keys]
        if r.column is not None:
            met += itertools.product(range(5)[r.column], keys)
        else:
            assert len(r.weights) == len(r.distances)
            met += [(k + d, k) for k in keys for d in r.distances]
    wanted = [tuple(pair) for pair in kept.nonzero().tolist() if biased or pair[0] != pair[1]]
    assert sorted(met) == wanted  # without a bias the diagonal has been done


@pytest.mark.parametrize("most", [1, 2, 3, 8])
def test_slabs_gather_half_a_text_at_most(most):
    """As many rows at once as have together half of the blocks, one at least."""
    t = 16
    kept = (torch.arange(t) < most).expand(1, t, t).tril(-1)
    weight = torch.arange(float(t)).expand(1, t, t)
    start = 1
    for at, index, chosen in gathered._slabs(kept, weight):
        assert at.start == start
        first = min(most, start)  # kept by the first row of the slab, which sets its size
        assert at.stop == min(start + max(1, t // first // 2), t)
        for row in range(at.start, at.stop):
            held = index[0, row - start].tolist()
            assert held[: min(most, row)] == list(range(min(most, row)))
            real = chosen[0, row - start].tolist()
            assert real[: min(most, row)] == list(range(min(most, row)))
            assert set(real[min(most, row) :]) <= {pieces.LOWEST}
        start = at.stop
    assert start == t
    assert gathered._slabs(torch.zeros(1, t, t) > 0, weight) == []


def test_blocks_as_alike_as_the_guard_are_like_others():
    k = torch.zeros_like(K)
    k[..., 0] = 1.0
    own = torch.eye(4, dtype=torch.float64)[None, None]
    plan = Plan(12, 3, own > 0, own.clamp_min(0.5))
    options = {"estimator": "difference", "plan": plan}
    filled, guarded = (attend(k=k, guard=g, **options) for g in (0.0, 1.0))
    assert torch.equal(filled, guarded)
    assert not torch.equal(filled, attend(k=k, plan=plan))
    some = {"block": 3, "probes": 3, "choose": "top"}
    plain, same = (att.plan_rows(Q, k, 0, guard=g, **some) for g in (0.0, 1.0))
    assert torch.equal(plain.kept, same.kept)
    assert not plain.full


def test_a_density_that_is_refused_is_told_the_least_and_the_most():
    for call, words in (
        (lambda: sample(LAW, density=0.3).plan(12, block=3), r"\[0\.4, 1\] for 4 blocks"),
        (
            lambda: (near(1) | sample(LAW, density=0.3)).plan(12, block=3),
            r"\[0\.7, 1\] for 4 blocks",
        ),
        (
            lambda: sample(DistanceLaw.custom([1, 1, 0]), density=0.9).plan(12, block=3),
            r"\[0\.4, 0\.7\] for 4 blocks",
        ),
        (
            lambda: att.plan_rows(Q, K, density=0.3, block=3, probes=1, sinks=0),
            r"\[0\.7, 1\] for 4 blocks",
        ),
    ):
        with pytest.raises(ValueError, match=f"density must be in {words}, of which some"):
            call()
