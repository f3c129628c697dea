"""Attention over drawn blocks: last value accepted, first refused, what is assumed, small cases."""

import inspect
import itertools
import json
import math
import pickle
from types import SimpleNamespace

import pytest
import torch
from oracles.limits import accepts_and_refuses, numbers_assumed
from places import RESULTS
from torch.nn.attention.flex_attention import flex_attention

from genopt_core.torch import attention as att
from genopt_core.torch.attention import (
    DistanceLaw,
    Plan,
    PrFlashAttention,
    diagonals,
    flex,
    gathered,
    near,
    pieces,
    sample,
    sink,
)

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
    accepts_and_refuses(call, inside, outside, f"^{name} must ")


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
            {"mix": 0.1, "sinks": 1, "nears": 1, "guard": 0.0},
        ),
        (att.block_mass, lambda: att.block_mass(Q, K, 4), {}),
        (att.plan_cost, lambda: att.plan_cost(9, 3), {}),
        (att.plan_subsequence, lambda: att.plan_subsequence(9, LAW, 1), {"sinks": 1}),
    ],
)
@pytest.mark.restates
def test_what_is_assumed(function, call, defaults):
    call()
    assert numbers_assumed(function) == defaults


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
        for cached, wanted in (
            (1, {2: [2, 2, 1], 4: [4, 1], 9: [5]}),
            (2 * 48 + 1, {2: [4, 1], 4: [5], 9: [5]}),  # of 12 x 4 values each
        ):
            monkeypatch.setattr(diagonals, "CACHED", cached)
            groups = diagonals.head_groups(q[0])
            assert [len(range(5)[g]) for g in groups] == wanted[threads]
        monkeypatch.setattr(diagonals, "CACHED", 1)
        for path in ("rows", "diagonal"):
            torch.testing.assert_close(attend(q, k, v, plan, path=path), expected)


# ------------------------------------------------------------------ the path of GPUs, not compiled


@pytest.fixture
def written_out(monkeypatch):
    """What `flex_attention` is documented to compute, all scores at once; options it was given."""
    seen = []

    def call(q, k, v, score_mod, block_mask, scale, enable_gqa, kernel_options, return_aux):
        seen.append(kernel_options)
        assert enable_gqa == (q.shape[1] != k.shape[1])
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
    assert flex._options(q, plan, True) is None


@pytest.mark.parametrize("tables", [False, True])
@pytest.mark.parametrize("dim", [64, 128])
def test_a_gpu_gets_the_options_that_were_the_fastest(dim, tables):
    """Those of the stored measurement, both ways, for blocks of 128."""
    content = json.loads((RESULTS / "attention_gpu_options.json").read_text(encoding="utf-8"))
    best = {(b["dim"], b["weighted"], b["way"]): b["options"] for b in content["best"]}
    fastest = best.get((dim, tables, "both"), best.get((dim, tables, "forward")))
    plan = near(1).plan(1024, block=128)
    found = flex._options(OnGpu(dim, torch.bfloat16), plan, tables)
    assert found == {"ROWS_GUARANTEED_SAFE": True} | fastest


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("block", "tile"), [(16, 16), (48, 16), (64, 64), (96, 32), (512, 128)])
def test_tiles_of_a_gpu_divide_a_block(block, tile, dtype):
    plan = near(1).plan(8 * block, block=block)
    assert flex._tile(plan) == tile
    for tables in (False, True):
        found = flex._options(OnGpu(64, dtype), plan, tables)
        tiles = [size for name, size in found.items() if "BLOCK" in name]
        assert tiles or block == 512
        assert all(block % size == 0 for size in tiles)


class OnGpu:
    """As much of a tensor as options are chosen by."""

    device = torch.device("cuda")

    def __init__(self, dim, dtype):
        self.shape, self.dtype = (1, 2, 1024, dim), dtype


def test_the_mask_of_a_compiled_kernel_lists_the_same_blocks():
    """Its function is asked for the listed partial blocks alone: together they say the plan."""
    plan = (sink(1) | sample(LAW, 1, each="row")).plan(12, block=3, heads=2, generator=seeded(3))
    mask, whole = plan._block_mask(causal=True), plan.to_block_mask()
    assert mask is plan._block_mask(causal=True)
    for name in ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices"):
        assert torch.equal(getattr(mask, name), getattr(whole, name))
    kept = torch.zeros_like(plan.kept)
    for h, row in itertools.product(range(2), range(plan.blocks)):
        for counts, index in (
            (mask.kv_num_blocks, mask.kv_indices),
            (mask.full_kv_num_blocks, mask.full_kv_indices),
        ):
            kept[0, h, row, index[0, h, row, : counts[0, h, row]]] = True
    assert torch.equal(kept, plan.kept)
    at = torch.meshgrid(*map(torch.arange, (1, 2, 12, 12)), indexing="ij")
    blocks = kept.repeat_interleave(3, -1).repeat_interleave(3, -2)
    assert torch.equal(mask.mask_mod(*at) & blocks, whole.mask_mod(*at))


@pytest.mark.parametrize("block", [8, 24, 100])
def test_blocks_that_tiles_of_a_gpu_do_not_fit_are_refused(block):
    plan = near(1).plan(8 * block, block=block)
    with pytest.raises(
        ValueError,
        match=f"block must be a multiple of 16 for the path 'flex' on a GPU, got {block}",
    ):
        flex._options(OnGpu(64, torch.float32), plan, False)


def test_a_plan_can_be_pickled_once_masks_are_made():
    plan = (sink(1) | near(1)).plan(12, block=3)
    plan.to_block_mask()
    again = pickle.loads(pickle.dumps(plan))
    assert torch.equal(again.kept, plan.kept)
    assert again.to_block_mask() is again.to_block_mask()


def test_a_mask_says_the_whole_plan_to_all():
    """Uncompiled flex_attention heeds its function alone: there is no way to ask for less."""
    assert list(inspect.signature(Plan.to_block_mask).parameters) == ["self", "device"]


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("path", ["diagonal", "rows", "flex", "dense"])
@pytest.mark.parametrize("first", [-40_000.0, 0.0, 40_000.0])
def test_a_bias_may_be_as_low_as_it_likes(path, first, monkeypatch):
    """Only its differences count: from the bias at distance 0, which every token sees."""
    delta = torch.arange(12.0, dtype=torch.float64)
    monkeypatch.setattr(flex, "_compiled", lambda: flex_attention)
    for slope in (-0.5, 0.5, -2e4, -math.inf):
        bias = (first + torch.where(delta > 0, slope * delta, 0.0)).expand(2, -1)
        expected = attend(bias=bias - first, path="dense", return_lse=path != "flex")
        found = attend(bias=bias, path=path, return_lse=path != "flex")
        if path != "flex":
            expected, found = (expected[0], expected[1] + first), found
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_the_difference_reads_a_bias_as_low_as_it_likes():
    bias = -0.5 * torch.arange(12.0, dtype=torch.float64).expand(2, -1)
    torch.testing.assert_close(difference(bias=bias - 4e4), difference(bias=bias))


def test_what_is_cut_off_of_a_bias_lies_so_far_below_its_first():
    bias = torch.tensor([[5.0, -1e6, -math.inf, -29_994.0]], dtype=torch.float64)
    found = diagonals.toeplitz(bias, slice(None), 0, 4, torch.float64)[0, 0]
    assert found[3].tolist() == [-29_994.0, -29_995.0, -29_995.0, 5.0]
    empty = torch.tensor([[[0.5, pieces.LOWEST]]], dtype=torch.float64)
    table = gathered._bias_table(bias, 2, 2, torch.float64)
    mask = gathered._mask(empty, torch.tensor([[[0, 1]]]), slice(1, 2), 2, table)
    assert mask.shape == (1, 1, 2, 4)
    assert (mask[..., 2:] == -29_995.0).all()
    assert mask[0, 0, 0].tolist() == [-29_994.5, -29_994.5, -29_995.0, -29_995.0]
    assert set(gathered._slabs(torch.zeros(1, 3, 3) > 0, torch.zeros(1, 3, 3))) == set()
    kept = torch.tensor([[[False] * 2, [True, False]], [[False] * 2, [False] * 2]])
    assert gathered._slabs(kept, torch.zeros(2, 2, 2))[0][2].flatten().tolist() == [0, -30_000]


@pytest.mark.parametrize("first", [-math.inf, math.inf, math.nan])
def test_a_token_must_see_itself(first):
    bias = zeros(2, 12)
    bias[1, 0] = first
    with pytest.raises(ValueError, match=r"bias must be finite at distance 0, got \[0.0, "):
        attend(bias=bias)


@pytest.mark.parametrize("pieces_of", [1, 2, 3])
def test_the_dtype_of_what_is_merged_is_the_widest(pieces_of):
    half = torch.ones(2, 3, dtype=torch.bfloat16), torch.zeros(2)
    out, lse = att.merge_partials([half] * pieces_of)
    assert out.dtype == lse.dtype == torch.float32
    assert lse.tolist() == pytest.approx([math.log(pieces_of)] * 2)
    assert out.tolist() == [[1.0] * 3] * 2
    wide = half[0].double(), half[1]
    for some in ([wide, half], [half, wide]):
        assert att.merge_partials(some)[0].dtype == torch.float64
