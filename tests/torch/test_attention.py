"""PrFlashAttention in torch: every path against dense masked attention and the NumPy room."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.attention import dense
from torch.nn.functional import scaled_dot_product_attention

from genopt_core.attention import blocks as numpy_room
from genopt_core.positions import bias_by_distance
from genopt_core.torch import attention as att
from genopt_core.torch.attention import DistanceLaw, Plan, diagonals, near, pieces, sample, sink
from genopt_core.torch.attention.draws import capped, systematic

torch.set_num_threads(1)
HARMONIC = DistanceLaw.harmonic()
SHAPES = [(1, 1, 1), (5, 8, 2), (37, 8, 2), (64, 16, 1), (48, 8, 4)]  # tokens, block, key heads


def inputs(tokens, key_heads=4, batch=2, heads=4, dim=6, dtype=torch.float64, grad=True, seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = [(batch, h, tokens, dim) for h in (heads, key_heads, key_heads)]
    return [torch.randn(s, generator=g, dtype=dtype).requires_grad_(grad) for s in shapes]


def drawn(tokens, block, each="plan", seed=0, count=2.5, **groups):
    design = sink(1) | near(1) | sample(HARMONIC, count, each=each)
    return design.plan(tokens, block=block, generator=torch.manual_seed(seed), **groups)


def a_bias(tokens, heads=4):
    table = bias_by_distance(np.linspace(0.1, 1.0, heads), tokens, "log")
    return torch.from_numpy(table)


def outcome(x, plan, path, grad=True, **options):
    """Output, mass and gradients under fixed weights."""
    out, lse = att.pr_flash_attention(*x, plan, path=path, return_lse=True, **options)
    g = torch.Generator().manual_seed(9)
    loss = (out * torch.randn(out.shape, generator=g, dtype=out.dtype)).sum()
    loss = loss + (lse * torch.randn(lse.shape, generator=g, dtype=lse.dtype)).sum()
    return [out, lse, *(torch.autograd.grad(loss, x) if grad else ())]


# ------------------------------------------------------------------ what is computed


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("each", ["plan", "head", "row"])
@pytest.mark.parametrize(("tokens", "block", "key_heads"), SHAPES)
def test_any_plan_is_dense_masked_attention(
    tokens, block, key_heads, each, biased, fused, monkeypatch
):
    if not fused:
        monkeypatch.setattr(pieces, "fused", lambda device: False)
    x = inputs(tokens, key_heads)
    plan = drawn(tokens, block, each, heads=4, batch=2)
    bias = a_bias(tokens) if biased else None
    for estimator in ("plain", "self-normalized", "difference"):
        options = {"estimator": estimator, "bias": bias}
        expected = outcome(x, plan, "dense", **options)
        for path in ("rows",) if each == "row" else ("rows", "diagonal"):
            for found, wanted in zip(outcome(x, plan, path, **options), expected, strict=True):
                torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("estimator", numpy_room.ESTIMATORS)
@pytest.mark.parametrize("each", ["plan", "row"])
@pytest.mark.parametrize(("tokens", "block"), [(37, 8), (64, 16), (1, 4)])
def test_estimators_are_those_of_the_numpy_room(estimator, each, tokens, block):
    x = inputs(tokens, key_heads=2, grad=False)
    plan = drawn(tokens, block, each, heads=4, batch=2, count=1.5)
    bias = a_bias(tokens)
    exact = torch.zeros(2, 4, tokens, dtype=torch.float64) if "horvitz" in estimator else None
    out, lse = att.pr_flash_attention(
        *x, plan, bias=bias, estimator=estimator, lse=exact, return_lse=True
    )
    kept, pi = (t.expand(2, 4, *t.shape[2:]) for t in (plan.kept, plan.pi))
    for b in range(2):
        for h in range(4):
            found = numpy_room.estimate(
                x[0][b, h], x[1][b, h // 2], x[2][b, h // 2],
                kept[b, h].numpy(), pi[b, h].numpy(), plan.block, estimator, bias=bias[h].numpy(),
                lse=None if exact is None else exact[b, h].numpy(),
            )  # fmt: skip
            np.testing.assert_allclose(out[b, h], found[0], rtol=1e-9, atol=1e-11)
            np.testing.assert_allclose(lse[b, h], found[1], rtol=1e-9, atol=1e-11)


def test_kept_lists_that_no_design_draws_against_the_oracle():
    g = np.random.default_rng(0)
    for _ in range(10):
        x = inputs(23, batch=1, heads=1, key_heads=1, grad=False, seed=int(g.integers(99)))
        kept = torch.from_numpy(np.tril(g.random((6, 6)) < 0.4) | np.eye(6, dtype=bool))
        plan = Plan(23, 4, kept[None, None], torch.ones(1, 1, 6, 6, dtype=torch.float64))
        expected, lse = dense(*(t[0, 0].numpy() for t in x), kept.numpy(), 4)
        found = att.pr_flash_attention(*x, plan, return_lse=True)
        np.testing.assert_allclose(found[0][0, 0], expected, atol=1e-12)
        np.testing.assert_allclose(found[1][0, 0], lse, atol=1e-12)


@pytest.mark.parametrize("path", ["auto", "sdpa", "diagonal", "rows"])
@pytest.mark.parametrize("tokens", [300, 512])
def test_all_kept_for_sure_is_scaled_dot_product_attention(path, tokens):
    x = inputs(tokens, key_heads=2, dim=32, dtype=torch.float32)
    plan = (sink(1) | near(1) | sample(HARMONIC, density=1.0)).plan(tokens, block=64)
    assert plan.full
    assert plan.density == 1
    expected = scaled_dot_product_attention(*x, is_causal=True, enable_gqa=True)
    found = att.pr_flash_attention(*x, plan, path=path)
    weights = torch.randn(expected.shape, generator=torch.manual_seed(0))
    pairs = [(found, expected)]
    pairs += zip(
        torch.autograd.grad(found, x, weights),
        torch.autograd.grad(expected, x, weights),
        strict=True,
    )
    for a, b in pairs:
        assert ((a - b).norm() / b.norm()).item() <= 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("each", ["plan", "row"])
def test_half_precision_is_that_of_its_inputs(dtype, each):
    x = inputs(128, dtype=dtype, dim=16)
    plan = drawn(128, 16, each, heads=4)
    wide = [t.detach().float().requires_grad_() for t in x]
    found, expected = outcome(x, plan, "auto"), outcome(wide, plan, "dense")
    assert found[0].dtype == dtype
    assert found[1].dtype == torch.float32
    for a, b in zip(found, expected, strict=True):
        assert ((a.float() - b).norm() / b.norm()).item() < 4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("each", ["plan", "row"])
@pytest.mark.parametrize("estimator", ["plain", "self-normalized", "difference"])
def test_gradcheck(each, estimator):
    x = inputs(11, key_heads=1, batch=1, heads=2, dim=3)
    plan = drawn(11, 3, each, heads=2, count=1)
    bias = a_bias(11, 2)

    def call(q, k, v):
        return att.pr_flash_attention(
            q, k, v, plan, bias=bias, estimator=estimator, return_lse=True
        )

    assert torch.autograd.gradcheck(call, x)


def test_a_bias_that_learns():
    x = inputs(20, dim=3)
    bias = a_bias(20).requires_grad_()
    plan = drawn(20, 4)
    assert att.chosen_path(*x, plan, bias) == "dense"
    out = att.pr_flash_attention(*x, plan, bias=bias)
    (g,) = torch.autograd.grad(out.square().sum(), bias)
    assert (g[:, :4] != 0).all()


@pytest.mark.parametrize("each", ["plan", "row"])
@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2)])
def test_gradients_of_what_needs_them_alone(each, wanted):
    x = inputs(40)
    plan = drawn(40, 8, each, heads=4, batch=2)
    expected = outcome(x, plan, "auto")[2:]
    y = [t.detach().requires_grad_(i in wanted) for i, t in enumerate(x)]
    out, lse = att.pr_flash_attention(*y, plan, return_lse=True)
    g = torch.Generator().manual_seed(9)
    loss = (out * torch.randn(out.shape, generator=g, dtype=out.dtype)).sum()
    (loss + (lse * torch.randn(lse.shape, generator=g, dtype=lse.dtype)).sum()).backward()
    for i, t in enumerate(y):
        if i in wanted:
            torch.testing.assert_close(t.grad, expected[i], rtol=0, atol=0)
        else:
            assert t.grad is None


@pytest.mark.parametrize("each", ["plan", "row"])
def test_two_runs_are_the_same_to_the_bit(each):
    x = inputs(512, dtype=torch.float32, dim=16)
    plan = drawn(512, 32, each, heads=4, batch=2)
    again = copy.deepcopy(plan)
    for a, b in zip(outcome(x, plan, "auto"), outcome(x, again, "auto"), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("each", ["plan", "row"])
def test_any_strides(each):
    x = inputs(40)
    plan = drawn(40, 8, each, heads=4, batch=2)
    expected = outcome(x, plan, "auto")
    odd = [
        x[0].detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_(),
        x[1].detach().mT.contiguous().mT.requires_grad_(),
        torch.stack([x[2].detach()] * 2, -1)[..., 0].requires_grad_(),
    ]
    for a, b in zip(outcome(odd, plan, "auto"), expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("each", ["plan", "row"])
def test_a_bias_with_a_window(each):
    x = inputs(48)
    table = torch.from_numpy(bias_by_distance([0.1] * 4, 48, windows=[0, 5, 20, 1]))
    plan = drawn(48, 8, each, heads=4, batch=2)
    expected = outcome(x, plan, "dense", bias=table)
    for a, b in zip(outcome(x, plan, "auto", bias=table), expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.slow
def test_flex_attention_does_the_same():
    x = inputs(300, key_heads=2, dim=32, dtype=torch.float32, grad=False)
    plan = drawn(300, 128, "row", heads=4, batch=2, count=0.5)
    bias = a_bias(300).float()
    for options in ({"estimator": "plain"}, {"bias": bias}):
        expected = att.pr_flash_attention(*x, plan, path="rows", **options)
        found = att.pr_flash_attention(*x, plan, path="flex", **options)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_block_mask_holds_the_plan():
    plan = drawn(40, 8, "row", heads=3, batch=2)
    mask = plan.to_block_mask()
    assert torch.equal(mask.to_dense().bool(), plan.kept)
    i = torch.arange(40)
    seen = plan.to_dense_bias() > float("-inf")
    for b, h in ((0, 0), (1, 2)):
        said = mask.mask_mod(torch.tensor(b), torch.tensor(h), i[:, None], i)
        assert torch.equal(said, seen[b, h])


# ------------------------------------------------------------------ rounds


def test_rounds_pool_their_sums():
    x = inputs(48, grad=False)
    plans = [drawn(48, 8, seed=s) for s in range(4)]
    rounds = [att.pr_flash_attention(*x, p, return_lse=True) for p in plans]
    pooled = list(att.rounds_attention(*x, plans))
    assert len(pooled) == 4
    for r in range(4):
        expected = numpy_room.pool_rounds([(o.numpy(), m.numpy()) for o, m in rounds[: r + 1]])
        np.testing.assert_allclose(pooled[r][0], expected[0], atol=1e-12)
        np.testing.assert_allclose(pooled[r][1], expected[1], atol=1e-12)


def test_mean_mass_of_many_rounds_is_the_exact_one():
    """Six standard errors, from the rounds' own spread: 1e-9 for one query of a thousand."""
    x = inputs(64, batch=1, heads=2, key_heads=2, grad=False)
    full = (sink(0) | near(0) | sample(HARMONIC, density=1.0)).plan(64, block=8)
    exact, total = att.pr_flash_attention(*x, full, return_lse=True)
    design = sink(1) | near(0) | sample(HARMONIC, 2, each="row")
    g, mass, sums = torch.manual_seed(3), [], []
    for _ in range(400):
        plan = design.plan(64, block=8, heads=2, generator=g)
        out, lse = att.pr_flash_attention(*x, plan, return_lse=True)
        mass.append((lse - total).exp())
        sums.append((lse - total).exp().unsqueeze(-1) * out - exact)
    for values, wanted in ((torch.stack(mass), 1.0), (torch.stack(sums), 0.0)):
        error = values.std(0) / len(values) ** 0.5
        assert ((values.mean(0) - wanted).abs() <= 6 * error + 1e-9).all()


# ------------------------------------------------------------------ plans


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.001, 100), min_size=1, max_size=12), st.floats(0, 1), st.integers(0, 99)
)
def test_capped_and_systematic_are_those_of_the_numpy_room(weights, share, seed):
    w, total = torch.tensor(weights, dtype=torch.float64), share * len(weights)
    pi = capped(w, torch.tensor(total, dtype=torch.float64))
    expected = numpy_room.inclusion(w.numpy(), total)
    np.testing.assert_allclose(pi, expected, rtol=1e-9, atol=1e-12)
    samples, _ = numpy_room.systematic_samples(pi.numpy())
    found = systematic(pi.expand(5, -1), torch.manual_seed(seed))
    assert (found.numpy()[:, None] == samples).all(-1).any(-1).all()


@pytest.mark.parametrize("each", ["plan", "head", "row"])
@pytest.mark.parametrize("density", [0.35, 0.6, 1.0])
def test_mean_density_is_the_one_asked_for(each, density):
    design = sink(1) | near(1) | sample(HARMONIC, density=density, each=each)
    g = torch.manual_seed(0)
    plans = [design.plan(128, block=8, heads=2, generator=g) for _ in range(300)]
    pi = plans[0].pi
    lower = 16 * 17 / 2
    assert pi.sum((-2, -1)).mean().item() / lower == pytest.approx(density, rel=1e-9)
    kept = torch.stack([p.kept.double().mean((0, 1)) for p in plans]).mean(0)
    error = (pi[0, 0] * (1 - pi[0, 0]) / len(plans)).sqrt()
    assert ((kept - pi[0, 0]).abs() <= 6 * error + 1e-12).all()
    for p in plans[:5]:
        assert p.kept[..., 0].all()
        assert all(p.kept.diagonal(-d, -2, -1).all() for d in (0, 1))


def test_count_is_the_number_a_row():
    plan = (sink(2) | near(1) | sample(HARMONIC, 3, each="row")).plan(160, block=8, heads=3)
    i = torch.arange(20)
    sure = ((i[:, None] - i >= 0) & ((i < 2) | (i[:, None] - i <= 1))).sum(-1)
    assert torch.equal(plan.kept.sum(-1)[0, 0], torch.minimum(sure + 3, i + 1))


def test_plans_compose():
    law = DistanceLaw.zipf(0.5)
    assert (sink(1) | near(2) | sample(law, 3)) == (sample(law, 3) | sink(1) | near(2))
    a, b = (sink(1) | near(1)).plan(64, block=8), sample(HARMONIC, 2).plan(64, block=8)
    both = a | b
    assert torch.equal(both.kept, a.kept | b.kept)
    torch.testing.assert_close(both.pi, 1 - (1 - a.pi) * (1 - b.pi))
    assert both.sinks == 1
    assert set(both.distances) == {0, 1, *b.distances}
    x = inputs(64)
    for found, wanted in zip(outcome(x, both, "diagonal"), outcome(x, both, "dense"), strict=True):
        torch.testing.assert_close(found, wanted)
    rows = both | drawn(64, 8, "row", heads=4)
    assert rows.distances is None
    assert rows.kept.shape == (1, 4, 8, 8)


def test_plan_distances_is_the_design_drawn():
    found = att.plan_distances(4096, HARMONIC, density=0.4, generator=torch.manual_seed(1))
    design = sink(1) | near(1) | sample(HARMONIC, density=0.4)
    expected = design.plan(4096, generator=torch.manual_seed(1))
    assert torch.equal(found.kept, expected.kept)
    assert found.distances == expected.distances


# ------------------------------------------------------------------ plans that look at contents


@pytest.mark.parametrize("biased", [False, True])
def test_probes_see_the_exact_mass_of_a_block(biased):
    q, k, _ = inputs(30, key_heads=2, grad=False)
    bias = a_bias(30) if biased else None
    mass = att.block_mass(q, k, 4, probes=2, bias=bias)
    assert mass.shape == (2, 4, 8, 8)
    for b, h, i in ((0, 0, 7), (1, 3, 5), (1, 2, 1)):
        expected = np.zeros(8)
        for r in (1, 3):
            at = min(4 * i + r, 29)
            s = (k[b, h // 2, : at + 1] @ q[b, h, at]) * 6**-0.5
            s = s + (bias[h, : at + 1].flip(0) if biased else 0)
            p = np.zeros(32)
            p[: at + 1] = torch.softmax(s, 0)
            expected += p.reshape(8, 4).sum(1) ** 2 / 2
        expected[i:] = 0
        np.testing.assert_allclose(mass[b, h, i], expected**0.5, atol=1e-12)


def test_centroids_are_exact_where_keys_of_a_block_are_one():
    q, k, _ = inputs(32, key_heads=2, grad=False)
    k = k[:, :, ::4].repeat_interleave(4, 2)
    bias = a_bias(32)
    found = att.block_mass(q, k, 4, "centroid", probes=2, bias=bias)
    exact = att.block_mass(q, k, 4, "probe", probes=2, bias=bias)
    # the centroid's softmax is over earlier blocks alone, and so is the ratio of exact masses of
    # each probe: with a single probe they are proportional
    found, exact = (att.block_mass(q, k, 4, p, probes=1, bias=bias) for p in ("centroid", "probe"))
    scaled = exact / exact.sum(-1, keepdim=True).clamp_min(1e-300)
    torch.testing.assert_close(found, scaled)


def test_antidiagonals_sum_the_scores_of_their_tiles():
    q, k, _ = inputs(16, batch=1, heads=1, key_heads=1, grad=False)
    mass = att.block_mass(q, k, 8, "antidiagonal", probes=2)[0, 0]
    s = (q[0, 0] @ k[0, 0].T) * 6**-0.5
    tiles = np.full((4, 4), -np.inf)
    for a in range(4):
        for b in range(a + 1):
            tiles[a, b] = np.mean([s[4 * a + r, 4 * b + 3 - r].item() for r in range(4)])
    p = np.exp(tiles)
    p /= p.sum(1, keepdims=True)
    expected = np.sqrt(((p[2:, :2].sum(1)) ** 2).mean())
    assert mass[1, 0].item() == pytest.approx(expected)


@pytest.mark.parametrize("proxy", ["probe", "centroid", "antidiagonal"])
@pytest.mark.parametrize("choose", ["sample", "top"])
def test_rows_keep_what_they_are_told(proxy, choose):
    q, k, v = inputs(128, key_heads=2)
    plan = att.plan_rows(
        q, k, 3, block=8, proxy=proxy, choose=choose, generator=torch.manual_seed(0)
    )
    i = torch.arange(16)
    assert torch.equal(plan.kept.sum(-1)[1, 3], torch.minimum(torch.full((16,), 6), i + 1))
    assert plan.kept[..., 0].all()
    assert plan.kept.diagonal(-1, -2, -1).all()
    if choose == "sample":
        torch.testing.assert_close(plan.pi.sum(-1), plan.kept.sum(-1).double())
    else:
        assert (plan.pi[plan.kept] == 1).all()
    assert not plan.pi.requires_grad
    for found, wanted in zip(
        outcome([q, k, v], plan, "auto"), outcome([q, k, v], plan, "dense"), strict=True
    ):
        torch.testing.assert_close(found, wanted)


def test_rows_of_a_wanted_density_and_their_draws():
    q, k, _ = inputs(128, batch=1, heads=2, key_heads=2, grad=False)
    g = torch.manual_seed(0)
    options = {"density": 0.45, "block": 8, "choose": "sample", "generator": g}
    plans = [att.plan_rows(q, k, **options) for _ in range(300)]
    pi = plans[0].pi
    assert pi.sum().item() / (2 * 136) == pytest.approx(0.45, rel=1e-9)
    assert np.mean([p.density for p in plans]) == pytest.approx(0.45, abs=0.01)
    kept = torch.stack([p.kept for p in plans]).double().mean(0)
    assert ((kept - pi).abs() <= 6 * (pi * (1 - pi) / len(plans)).sqrt() + 1e-12).all()


def test_a_fraction_of_a_block_goes_to_the_rows_that_miss_most():
    q, k, _ = inputs(128, batch=1, heads=2, key_heads=2, grad=False)
    plan = att.plan_rows(q, k, density=0.4, block=8)  # 47 sure blocks of 136, so 0.5 a row
    assert plan.kept[0].sum((-2, -1)).tolist() == [54, 54]
    assert (plan.pi[plan.kept] == 1).all()
    mass = att.block_mass(q, k, 8)[0]
    free = torch.ones(16, 16).tril(-2).bool()
    free[:, 0] = False
    best = torch.where(free, mass, 0.0).amax(-1)
    more = (plan.kept[0] & free).sum(-1)
    assert more.max() == 1
    for h in range(2):
        assert best[h][more[h] == 1].min() > best[h][more[h] == 0].max()


def test_two_blocks_or_more_a_row_are_drawn_and_fewer_are_the_largest():
    q, k, _ = inputs(128, batch=1, heads=2, key_heads=2, grad=False)
    for count, sampled in ((1, False), (1.9, False), (2, True)):
        plan = att.plan_rows(q, k, count, block=8)
        assert bool((plan.pi[plan.kept] < 1).any()) == sampled


def test_a_head_that_looks_at_one_far_block_keeps_it():
    q, k, _ = inputs(128, batch=1, heads=1, key_heads=1, grad=False)
    q, k = torch.zeros_like(q), torch.zeros_like(k)
    q[..., 0], k[..., 40:48, 0] = 30.0, 3.0
    for proxy in ("probe", "centroid"):
        plan = att.plan_rows(q, k, 2, block=8, proxy=proxy)
        assert plan.kept[0, 0, 7:, 5].all()
        assert (plan.pi[0, 0, 7:, 5] > 0.99).all()


def test_cost_of_a_plan():
    assert att.plan_cost(1024, 64, "probe", 4) == 4 / 64 / 2
    assert att.plan_cost(1024, 64, "antidiagonal", 8) == 8 / 64 / 2
    assert att.plan_cost(1024, 64, "centroid", 4) == 4 / 64 / 64 / 2


# ------------------------------------------------------------------ refusals


def attend(q=None, plan=None, **options):
    x = inputs(16, grad=False)
    x[0] = x[0] if q is None else q
    return att.pr_flash_attention(*x, plan or (sink(1) | near(1)).plan(16, block=4), **options)


def by_hand(distances, pi=((1, 0, 0), (0, 1, 0), (0, 0, 1)), sinks=0):
    table = torch.tensor(pi, dtype=torch.float64)[None, None]
    return Plan(12, 4, table > 0, table, distances, sinks)


def test_a_plan_by_hand():
    plan = by_hand((0, 2), pi=[[1, 0, 0], [0, 1, 0], [0.5, 0, 1]])
    x = inputs(12)
    for a, b in zip(outcome(x, plan, "diagonal"), outcome(x, plan, "dense"), strict=True):
        torch.testing.assert_close(a, b)
    with pytest.raises(ValueError, match="pi must depend on the distance alone"):
        by_hand((0, 1), pi=[[1, 0, 0], [0.5, 1, 0], [0, 0.25, 1]])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: attend(inputs(16)[0] * float("nan")), "q must be finite, got NaN or infinity"),
        (lambda: attend(inputs(12)[0]), "q, k and v must have the shapes"),
        (lambda: attend(inputs(16, heads=3)[0]), "heads a multiple of key_heads"),
        (lambda: attend(plan=near(1).plan(20, block=4)), "for 16 tokens, got one for 20"),
        (lambda: attend(plan=drawn(16, 4, "row", heads=3)), "heads of 1 or 4, got 3"),
        (lambda: attend(bias=torch.zeros(3, 16)), r"bias must have the shape \(4 or 1, tokens\)"),
        (lambda: attend(bias=torch.zeros(4, 9)), "bias must have 16 distances or more, got 9"),
        (lambda: attend(estimator="best"), "estimator must be one of"),
        (lambda: attend(estimator="horvitz-thompson"), "lse must be given"),
        (lambda: attend(lse=torch.zeros(2, 4, 16)), "lse must be given .* no other"),
        (lambda: attend(path="sdpa"), "path must be another than 'sdpa'"),
        (lambda: attend(path="quick"), "path must be one of"),
        (lambda: attend(plan=drawn(16, 4, "row"), path="diagonal"), "for a plan without distances"),
        (lambda: sample(HARMONIC, density=0.0), r"density must be in \(0, 1\], got 0.0"),
        (lambda: sample(HARMONIC, density=1.5), r"density must be in \(0, 1\], got 1.5"),
        (lambda: sample(HARMONIC), "one of count and density must be given"),
        (lambda: sample(HARMONIC, -1), "count must not be negative, got -1"),
        (lambda: sample(HARMONIC, 1, each="token"), "each must be one of"),
        (lambda: sample(HARMONIC, 1) | sample(HARMONIC, 2), "must have one sample"),
        (lambda: (sink(2) | sample(HARMONIC, density=0.1)).plan(64, block=8), "always kept"),
        (lambda: near(1).plan(8, block=4) | near(1).plan(12, block=4), "one length and block"),
        (lambda: Plan(8, 4, torch.ones(1, 1, 2, 2) > 0, torch.ones(1, 1, 2, 2)), "nothing above"),
        (lambda: Plan(8, 4, torch.eye(2)[None, None] > 0, torch.zeros(1, 1, 2, 2)), "is 1/pi"),
        (lambda: Plan(8, 4, torch.eye(3)[None, None] > 0, torch.ones(1, 1, 3, 3)), "kept must be"),
        (lambda: by_hand((0, 1)), "must say the same as kept"),
        (lambda: by_hand((0, 2), pi=[[1, 0, 0], [0, 1, 0], [0.5, 0, 1]], sinks=1), "same as kept"),
        (lambda: att.plan_rows(*inputs(16)[:2]), "one of count and density"),
        (lambda: att.plan_rows(*inputs(16)[:2], 1, block=4, probes=5), "probes must be at most 4"),
        (lambda: att.plan_rows(*inputs(16)[:2], 1, block=4, mix=2), "mix must be in .*, got 2"),
        (lambda: att.plan_rows(*inputs(16)[:2], density=0.1, block=4), "density must be in"),
        (lambda: att.plan_rows(*inputs(16)[:2], 1, block=4, proxy="eye"), "proxy must be one of"),
        (
            lambda: att.block_mass(*inputs(16)[:2], 4, "antidiagonal", bias=a_bias(16)),
            "bias must be None",
        ),
    ],
)  # fmt: skip
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: attend(plan=near(1)), "plan must be a Plan"),
        (lambda: attend(inputs(16)[0].float()), "one floating dtype"),
        (lambda: attend(dropout_p=0.1), "dropout_p"),
        (lambda: sample("harmonic", 1), "law must be a DistanceLaw"),
    ],
)
def test_wrong_types(call, words):
    with pytest.raises(TypeError, match=words):
        call()


def test_distances_in_a_row_are_one_view():
    """Each distance once; those that follow each other copy nothing, the others are joined."""
    stacks = diagonals._stacks([1, 2, 3, 5, 8, 9, 12], 256)
    assert stacks == [[1, 2, 3], [8, 9], [5, 12]]
    assert diagonals._stacks(list(range(1, 7)), 256) == [[1, 2, 3], [4, 5, 6]]
    x = torch.arange(2 * 40 * 3, dtype=torch.float32).view(2, 40, 3)
    views = diagonals._Views(x, slice(0, 2), 4)
    for distances in ((1, 2), (1, 3)):
        r = diagonals._Round(slice(2, 5), distances, (0.0, 0.0))
        found = views.queries(r)
        assert torch.equal(found, torch.cat(views.parts(r), 2))
        shared = found.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
        assert shared == (distances == (1, 2))
