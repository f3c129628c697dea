"""Attention over drawn blocks: last value accepted, first refused, what is assumed, small cases."""

import inspect
import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from genopt_core.torch import attention as att
from genopt_core.torch.attention import (
    DistanceLaw,
    Plan,
    PrFlashAttention,
    diagonals,
    flex,
    near,
    pieces,
    rows,
    sample,
    sink,
)
from genopt_core.torch.attention.draws import capped, systematic

torch.set_num_threads(1)
TINY = 1e-9
LAW = DistanceLaw.harmonic()
Q = torch.randn(1, 2, 12, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
K, V = Q.flip(3), Q.flip(2)
PLAN = (sink(1) | near(1)).plan(12, block=3)
DRAWN = (sink(1) | sample(LAW, 1, each="head")).plan(
    12, block=3, heads=2, generator=torch.Generator().manual_seed(1)
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def attend(q=Q, k=K, v=V, plan=PLAN, **options):
    return att.pr_flash_attention(q, k, v, plan, **options)


def difference(**options):
    return attend(plan=DRAWN, estimator="difference", **options)


def zeros(*shape):
    return torch.zeros(shape, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "call", "inside", "outside"),
    [
        ("guard", lambda x: difference(guard=x), [0.0, 0.5, 1.0], [-TINY, -0.5, 1 + TINY, 1.5]),
        ("floor", lambda x: difference(floor=x), [0.0, -1.0, 2.0], [math.nan, math.inf]),
        ("scale", lambda x: attend(scale=x), [0.0, -1.0], [math.nan]),
        (
            "bias",
            lambda x: attend(bias=x),
            [zeros(1, 12), zeros(2, 13)],
            [zeros(1, 11), zeros(3, 12), zeros(12)],
        ),
        (
            "lse",
            lambda x: attend(estimator="horvitz-thompson", lse=x),
            [zeros(1, 2, 12)],
            [zeros(2, 12)],
        ),
        (
            "q, k and v",
            lambda x: attend(k=x, v=x),
            [K[:, :1], K],
            [K[:, :0], K[0], K[..., :3], K[:, :, :11]],
        ),
        ("q, k and v", lambda x: attend(v=x), [V], [V[..., :3], V[0], V[:, :1]]),
        ("q, k and v", lambda x: attend(zeros(1, x, 12, 4), plan=PLAN), [2, 4], [1, 3]),
        ("q, k and v", lambda x: attend(zeros(1, x, 12, 4), K[:, :1], K[:, :1]), [1, 2, 3], []),
        ("plan", lambda x: attend(plan=x), [PLAN, DRAWN], [near(0).plan(11, block=3)]),
        (
            "plan",
            lambda x: attend(zeros(3, 2, 12, 4), zeros(3, 2, 12, 4), zeros(3, 2, 12, 4), x),
            [DRAWN],
            [sample(LAW, 1, each="head").plan(12, block=3, heads=2, batch=2)],
        ),
        ("length", near(1).plan, [1, 2], [0]),
        ("block", lambda x: near(1).plan(9, block=x), [1, 99, None], [0]),
        ("heads", lambda x: near(1).plan(9, block=3, heads=x), [1], [0]),
        ("batch", lambda x: near(1).plan(9, block=3, batch=x), [1], [0]),
        ("blocks", sink, [0, 1], [-1]),
        ("blocks", near, [0, 1], [-1]),
        ("count", lambda x: sample(LAW, x), [0, 0.0, TINY], [-TINY, -0.5]),
        ("density", lambda x: sample(LAW, density=x), [TINY, 0.5, 1.0], [0.0, -0.5, 1 + TINY, 1.5]),
        (
            "density",
            lambda x: sample(LAW, density=x).plan(12, block=3),
            [0.4, 1.0],
            [0.4 - TINY, 0.3],
        ),
        (
            "density",
            lambda x: sample(DistanceLaw.custom([1, 1, 0]), density=x).plan(12, block=3),
            [0.7],
            [0.7 + TINY],
        ),
        ("eps", lambda x: att.verify(Q, K, V, PLAN, x, 0.1), [TINY, 0.5, 2.0], [0.0, -0.5]),
        ("delta", lambda x: att.verify(Q, K, V, PLAN, 0.1, x), [TINY, 1 - TINY], [0.0, 1.0]),
        ("pilot", lambda x: att.verify(Q, K, V, PLAN, 0.1, 0.1, pilot=x), [2, 9], [1]),
        ("draws", lambda x: att.coverage(Q, K, V, PLAN, 0.1, 0.1, draws=x), [1], [0]),
        ("rounds", lambda x: PrFlashAttention(near(1), rounds=x), [1], [0]),
        ("block", lambda x: PrFlashAttention(near(1), block=x), [1, None], [0]),
        (
            "estimator",
            lambda x: PrFlashAttention(near(1), estimator=x),
            ["plain"],
            ["horvitz-thompson"],
        ),
        ("evaluate", lambda x: PrFlashAttention(near(1), evaluate=x), ["full", "rounds"], ["none"]),
        ("plan", lambda x: att.expected_attention(Q, K, V, x), [PLAN], [near(1).plan(9, block=3)]),
        ("length", att.default_block, [1], [0]),
        (
            "length",
            lambda x: Plan(x, 1, torch.eye(1)[None, None] > 0, torch.ones(1, 1, 1, 1)),
            [1],
            [0],
        ),
        (
            "block",
            lambda x: Plan(1, x, torch.eye(1)[None, None] > 0, torch.ones(1, 1, 1, 1)),
            [1],
            [0],
        ),
        (
            "kept",
            lambda x: Plan(2, 1, x, torch.eye(2)[None, None]),
            [torch.eye(2)[None, None] > 0],
            [
                torch.eye(2)[None, None], torch.eye(2)[None] > 0, torch.eye(3)[None, None] > 0,
                torch.ones(1, 1, 2, 2) > 0, torch.zeros(1, 1, 2, 2) > 0,
            ],
        ),
        (
            "count",
            lambda x: att.plan_rows(Q, K, x, block=3, probes=3),
            [0, 0.0, TINY, 9],
            [-TINY, -0.5],
        ),
        (
            "mix",
            lambda x: att.plan_rows(Q, K, 1, block=3, probes=3, mix=x),
            [0.0, 1.0],
            [-TINY, 1 + TINY, 1.5],
        ),
        (
            "guard",
            lambda x: att.plan_rows(Q, K, 1, block=3, probes=3, guard=x),
            [0.0, 1.0],
            [-TINY, 1 + TINY],
        ),
        (
            "count",
            lambda x: att.plan_rows(Q, K, x, block=3, probes=3, guard=0.5),
            [1, 1.0],
            [1.5, 0.5],
        ),
        ("sinks", lambda x: att.plan_rows(Q, K, 1, block=3, probes=3, sinks=x), [0, 9], [-1]),
        ("nears", lambda x: att.plan_rows(Q, K, 1, block=3, probes=3, nears=x), [0, 9], [-1]),
        ("block", lambda x: att.plan_rows(Q, K, 1, block=x, probes=1), [1, 99], [0]),
        ("probes", lambda x: att.plan_rows(Q, K, 1, block=3, probes=x), [1, 3], [0, 4]),
        ("probes", lambda x: att.plan_rows(Q, K, 1, block=12, probes=x), [1, 99], [0]),
        (
            "density",
            lambda x: att.plan_rows(Q, K, density=x, block=3, probes=3),
            [0.9, 1.0],
            [0.9 - TINY, 1 + TINY],
        ),
        ("block", lambda x: att.block_mass(Q, K, x, probes=1), [1, 99], [0]),
        ("probes", lambda x: att.block_mass(Q, K, 3, probes=x), [1, 3], [0, 4]),
        (
            "q and k",
            lambda x: att.block_mass(Q, x, 4),
            [K, K[:, :1]],
            [K[0], K[..., :3], K[:, :, :9], zeros(1, 3, 12, 4)],
        ),
        (
            "bias",
            lambda x: att.block_mass(Q, K, 4, bias=x),
            [zeros(1, 12), zeros(2, 13)],
            [zeros(1, 11), zeros(3, 12)],
        ),
        ("block", lambda x: att.self_similarity(K, x), [1, 99], [0]),
        ("block", lambda x: att.plan_cost(9, x, probes=1), [1], [0]),
        ("block", lambda x: att.plan_cost(9, x, "centroid"), [1], [0]),
        ("probes", lambda x: att.plan_cost(9, 3, probes=x), [1], [0]),
        ("length", lambda x: att.plan_subsequence(x, LAW, 1), [1], [0]),
        ("count", lambda x: att.plan_subsequence(9, LAW, x, block=3), [0, TINY, 9], [-TINY, -0.5]),
        ("sinks", lambda x: att.plan_subsequence(9, LAW, 1, block=3, sinks=x), [0, 9], [-1]),
        ("block", lambda x: att.plan_subsequence(9, LAW, 1, block=x), [1, 99, None], [0]),
    ],
)  # fmt: skip
def test_the_last_that_is_accepted_and_the_first_that_is_not(name, call, inside, outside):
    for value in inside:
        call(value)
    for value in outside:
        with pytest.raises(ValueError, match=f"^{name} must "):
            call(value)


@pytest.mark.parametrize(
    ("function", "call", "defaults"),
    [
        (att.pr_flash_attention, attend, {"return_lse": False, "floor": 0.3, "guard": 0.0}),
        (att.chosen_path, lambda: att.chosen_path(Q, K, V, PLAN), {"needs_lse": False}),
        (att.Design, lambda: near(0) | sink(0), {"sinks": 0, "nears": 0}),
        (att.Design.plan, lambda: near(0).plan(1), {"heads": 1, "batch": 1}),
        (sink, sink, {"blocks": 1}),
        (near, near, {"blocks": 1}),
        (att.plan_distances, lambda: att.plan_distances(9, LAW, 1), {"sinks": 1, "nears": 1}),
        (att.verify, lambda: att.verify(Q, K, V, PLAN, 0.1, 0.1), {"pilot": 4}),
        (
            att.coverage,
            lambda: att.coverage(Q, K, V, PLAN, 0.1, 0.1, draws=1),
            {"draws": 20, "pilot": 4},
        ),
        (PrFlashAttention, lambda: PrFlashAttention(near(1)), {"rounds": 8}),
        (Plan, lambda: near(0).plan(1).blocks, {"sinks": 0}),
        (Plan.to_dense_bias, PLAN.to_dense_bias, {"weighted": True}),
        (
            att.plan_rows,
            lambda: att.plan_rows(Q, K, 1),
            {"probes": 4, "mix": 0.1, "sinks": 1, "nears": 1, "guard": 0.0},
        ),
        (att.block_mass, lambda: att.block_mass(Q, K, 4), {"probes": 4}),
        (att.plan_cost, lambda: att.plan_cost(9, 3), {"probes": 4}),
        (att.plan_subsequence, lambda: att.plan_subsequence(9, LAW, 1), {"sinks": 1}),
    ],
)
def test_what_is_assumed(function, call, defaults):
    call()
    given = inspect.signature(function).parameters.items()
    assert {n: p.default for n, p in given if isinstance(p.default, int | float)} == defaults


# ------------------------------------------------------------------ what all have in common


@pytest.mark.parametrize("scale", [0.3, 0.0, -0.7])
def test_a_scale_is_a_factor_of_the_queries(scale):
    """Of each path and estimator, of plans by contents, promises and the module."""
    more = Q * (scale * Q.shape[-1] ** 0.5)
    full = near(9).plan(12, block=3)

    def promise(q, **options):
        options |= {"block": 2, "generator": seeded()}
        return att.verify(q, K, V, near(0), 0.5, 0.1, **options).error

    calls = [
        *(lambda q, s, p=p: attend(q, path=p, scale=s) for p in ("diagonal", "rows", "dense")),
        lambda q, s: attend(q, path="sdpa", plan=full, scale=s),
        lambda q, s: attend(q, plan=DRAWN, estimator="difference", scale=s, floor=0.0),
        lambda q, s: att.expected_attention(q, K, V, DRAWN, scale=s),
        *(
            lambda q, s, p=p: att.block_mass(q, K, 4, p, 2, scale=s)
            for p in ("probe", "centroid", "antidiagonal")
        ),
        lambda q, s: att.plan_rows(q, K, 0.5, block=3, probes=3, scale=s, choose="sample").pi,
        lambda q, s: promise(q, scale=s, pilot=2),
        lambda q, s: promise(q, scale=s, of="mass", method="serfling"),
        lambda q, s: PrFlashAttention(near(1), block=3)(q, K, V, scale=s),
        lambda q, s: PrFlashAttention(near(1), block=3, evaluate="sample")(q, K, V, scale=s),
        lambda q, s: PrFlashAttention(near(1), block=3, evaluate="rounds")(q, K, V, scale=s),
    ]  # fmt: skip
    for call in calls:
        torch.testing.assert_close(call(Q, scale), call(more, None))


@pytest.mark.parametrize("longer", [0, 5])
def test_one_line_of_bias_is_that_of_all_heads(longer):
    line = -torch.rand(1, 12 + longer, generator=seeded(), dtype=torch.float64)
    both = line.repeat(2, 1)
    design = sink(1) | sample(LAW, 1)
    calls = [
        *(lambda b, p=p: attend(path=p, bias=b) for p in ("diagonal", "rows", "dense")),
        lambda b: difference(bias=b, floor=0.0),
        lambda b: att.expected_attention(Q, K, V, DRAWN, bias=b),
        lambda b: att.block_mass(Q, K[:, :1], 4, "probe", 2, bias=b),
        lambda b: att.block_mass(Q, K[:, :1], 4, "centroid", 2, bias=b),
        lambda b: att.plan_rows(Q, K, 0.5, block=3, probes=3, bias=b, choose="sample").pi,
        lambda b: att.verify(Q, K, V, design, 0.5, 0.1, block=2, bias=b, generator=seeded()).error,
    ]
    for call in calls:
        torch.testing.assert_close(call(line), call(both))
        torch.testing.assert_close(call(both), call(both[:, :12]))


@pytest.mark.parametrize("each", ["q", "k", "v"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_bad_number_is_found_in_any_layout(each, dtype):
    for spread in (False, True):
        x = [t.to(dtype).clone() for t in (Q, K, V)]
        if spread:
            x = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in x]
        attend(*x)
        x["qkv".index(each)][0, 1, 7, 2] = math.inf
        with pytest.raises(ValueError, match=f"^{each} must be finite"):
            attend(*x)


def test_types_that_are_refused():
    with pytest.raises(TypeError, match="one floating dtype"):
        attend(Q.long(), K.long(), V.long())
    with pytest.raises(TypeError, match="one floating dtype"):
        attend(v=V.float())
    with pytest.raises(TypeError, match="design must be a Design"):
        PrFlashAttention(3)
    with pytest.raises(TypeError):
        near(1) | 3
    with pytest.raises(TypeError):
        PLAN | 3


def test_heads_in_groups_of_threads_give_the_same(monkeypatch):
    q, k, v = (torch.randn(1, 5, 12, 4, generator=seeded(i), dtype=torch.float64) for i in range(3))
    plan = sample(LAW, 2).plan(12, block=2, generator=seeded())
    expected = attend(q, k, v, plan)
    for threads in (2, 4, 9):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        groups = diagonals.head_groups(q[0], 3)
        assert [len(range(5)[g]) for g in groups] == {2: [2, 2, 1], 4: [4, 1], 9: [5]}[threads]
        assert diagonals.head_groups(q[0], 1) == [slice(None)]
        for path in ("rows", "diagonal"):
            torch.testing.assert_close(attend(q, k, v, plan, path=path), expected)


# ------------------------------------------------------------------ the path of GPUs, not compiled


@pytest.fixture
def written_out(monkeypatch):
    """What `flex_attention` is documented to compute, all scores at once; options it was given."""
    seen = []

    def call(q, k, v, score_mod, block_mask, scale, enable_gqa, kernel_options, return_aux):
        seen.append(kernel_options)
        if enable_gqa:
            k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
        assert q.shape[:3] == k.shape[:3]
        at = torch.meshgrid(*map(torch.arange, (*q.shape[:3], k.shape[2])), indexing="ij")
        s = q @ k.mT * scale
        s = s if score_mod is None else score_mod(s, *at)
        s = torch.where(block_mask.mask_mod(*at), s, -math.inf)
        out, lse = s.softmax(-1) @ v, s.logsumexp(-1)
        return out if return_aux is None else (out, SimpleNamespace(lse=lse))

    monkeypatch.setattr(flex, "_compiled", lambda: call)
    return seen


@pytest.mark.parametrize("key_heads", [1, 2])
@pytest.mark.parametrize("biased", [None, 1, 2])
@pytest.mark.parametrize("each", ["plan", "row"])
def test_flex_attention_is_told_the_same(written_out, key_heads, biased, each):
    plan = (sink(1) | sample(LAW, 1, each=each)).plan(12, block=3, heads=2, generator=seeded(3))
    k, v = K[:, :key_heads], V[:, :key_heads]
    bias = None
    if biased:
        bias = -torch.rand(biased, 12, generator=seeded(), dtype=torch.float64)
    for estimator in ("plain", "self-normalized"):
        options = {"estimator": estimator, "bias": bias, "return_lse": True, "scale": 0.4}
        found, wanted = (attend(k=k, v=v, plan=plan, path=p, **options) for p in ("flex", "rows"))
        torch.testing.assert_close(found, wanted)
        options.pop("return_lse")
        torch.testing.assert_close(attend(k=k, v=v, plan=plan, path="flex", **options), wanted[0])
    assert set(map(str, written_out)) == {"None"}


def test_flex_attention_with_a_plan_of_each_text(written_out):
    q, k, v = (t.repeat(2, 1, 1, 1) for t in (Q, K, V))
    plan = sample(LAW, 1, each="row").plan(12, block=3, batch=2, generator=seeded(3))
    assert plan.kept.shape[:2] == (2, 1)
    torch.testing.assert_close(attend(q, k, v, plan, path="flex"), attend(q, k, v, plan))
    assert flex._options(torch.device("cuda"), True) == {"num_stages": 1}
    assert flex._options(torch.device("cuda"), False) is None
    assert flex._options(torch.device("cpu"), True) is None


# ------------------------------------------------------------------ designs and plans by hand


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
