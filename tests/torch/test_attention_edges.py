"""PrFlashAttention at its edges: lengths, densities, weights, strides, NaN, arguments, a guard."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from genopt_core.attention import blocks as numpy_room
from genopt_core.torch import attention as att
from genopt_core.torch.attention import DistanceLaw, Plan, near, sample, sink

torch.set_num_threads(1)
HARMONIC = DistanceLaw.harmonic()
PATHS = ("diagonal", "rows", "dense")


def inputs(tokens, key_heads=4, batch=2, heads=4, dim=6, dtype=torch.float64, grad=False):
    g = torch.Generator().manual_seed(0)
    shapes = [(batch, h, tokens, dim) for h in (heads, key_heads, key_heads)]
    return [torch.randn(s, generator=g, dtype=dtype).requires_grad_(grad) for s in shapes]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------ lengths


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("tokens", [1, 2, 7, 8, 9, 15, 17])
def test_any_length_and_nothing_beyond_the_end_counts(path, tokens):
    """A longer text begins with the same outputs: what lies ahead is not seen, padding least."""
    design = sink(1) | near(1)
    x = inputs(24, key_heads=2, grad=True)
    plan, longer = design.plan(tokens, block=8), design.plan(24, block=8)
    y = [t[:, :, :tokens] for t in x]
    found = att.pr_flash_attention(*y, plan, path=path)
    expected = att.pr_flash_attention(*x, longer, path=path)[:, :, :tokens]
    torch.testing.assert_close(found, expected)
    pairs = zip(*(torch.autograd.grad(o.square().sum(), x) for o in (found, expected)), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("estimator", ["plain", "self-normalized", "difference"])
def test_a_single_token_is_its_value(estimator):
    x = inputs(1)
    plan = (sink(1) | near(1) | sample(HARMONIC, 3)).plan(1, block=16)
    assert (plan.blocks, plan.density, plan.full) == (1, 1.0, True)
    for path in PATHS:
        out, lse = att.pr_flash_attention(*x, plan, estimator=estimator, path=path, return_lse=True)
        torch.testing.assert_close(out, x[2])
        torch.testing.assert_close(lse, (x[0] * x[1]).sum(-1) / 6**0.5)
    torch.testing.assert_close(att.plan_rows(*x[:2], 1).kept, torch.ones(2, 4, 1, 1).bool())


def test_a_block_longer_than_the_text_is_full_attention():
    x = inputs(9)
    plan = sample(HARMONIC, 0).plan(9, block=64)
    assert plan.block == 9
    expected = scaled_dot_product_attention(*x, is_causal=True)
    torch.testing.assert_close(att.pr_flash_attention(*x, plan), expected)


# ------------------------------------------------------------------ densities and weights


@pytest.mark.parametrize("density", [0.0, -0.1, 1.0001, math.nan, math.inf])
def test_a_density_that_is_none_is_refused(density):
    for call in (
        lambda: sample(HARMONIC, density=density),
        lambda: att.plan_rows(*inputs(32)[:2], density=density, block=4),
        lambda: HARMONIC.inclusion(8, density),
    ):
        with pytest.raises(ValueError, match="density must be"):
            call()


def test_nothing_drawn_is_what_is_always_kept():
    for design in (sample(HARMONIC, 0), sample(HARMONIC, 0) | near(1)):
        plan = design.plan(32, block=4)
        i = torch.arange(8)
        delta = i[:, None] - i
        assert torch.equal(plan.kept[0, 0], (delta >= 0) & (delta <= design.nears))


def test_a_weight_of_a_block_that_could_not_be_drawn_is_refused():
    kept = torch.ones(1, 1, 3, 3, dtype=torch.bool).tril()
    for none in (0.0, math.nan, 1.5, -0.5):
        pi = kept.double()
        pi[0, 0, 2, 0] = none
        with pytest.raises(ValueError, match=r"pi must .* as its weight is 1/pi"):
            Plan(12, 4, kept, pi)
    pi = kept.double()
    pi[0, 0, 2, 0] = 0.0
    without = kept.clone()
    without[0, 0, 2, 0] = False
    plan = Plan(12, 4, without, pi)  # not kept, so no weight: what the law gave it does not matter
    x = inputs(12)
    for estimator in ("plain", "self-normalized", "difference"):
        out = att.pr_flash_attention(*x, plan, estimator=estimator)
        assert out.isfinite().all()


def test_probabilities_near_0_weigh_much_and_stay_finite():
    x = inputs(32, dtype=torch.float32, grad=True)
    kept = torch.ones(1, 1, 8, 8, dtype=torch.bool).tril()
    pi = torch.where(torch.eye(8, dtype=torch.bool), 1.0, 1e-30).double()[None, None]
    plan = Plan(32, 4, kept, pi)
    for path in ("rows", "dense"):
        out, lse = att.pr_flash_attention(*x, plan, path=path, return_lse=True)
        assert out.isfinite().all()
        assert lse.isfinite().all()
        for g in torch.autograd.grad(out.sum(), x):
            assert g.isfinite().all()


# ------------------------------------------------------------------ contents


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("each", ["q", "k", "v"])
@pytest.mark.parametrize("what", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_by_name(path, each, what):
    x = inputs(16)
    x["qkv".index(each)][1, 2, 5, 3] = what
    plan = (sink(1) | near(1)).plan(16, block=4)
    with pytest.raises(ValueError, match=f"{each} must be finite, got NaN or infinity"):
        att.pr_flash_attention(*x, plan, path=path)


def test_large_scores_stay_finite():
    x = inputs(32, dtype=torch.float32)
    x[0], x[1] = x[0] * 300, x[1] * 300
    plan = (sink(1) | sample(HARMONIC, 2)).plan(32, block=4, generator=seeded())
    for estimator in ("plain", "self-normalized", "difference"):
        for path in PATHS:
            out = att.pr_flash_attention(*x, plan, estimator=estimator, path=path)
            assert out.isfinite().all()
            assert out.abs().max() <= 2 * x[2].abs().max()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("key_heads", [1, 4])
def test_expanded_and_sliced_inputs(path, key_heads):
    x = inputs(30, key_heads=key_heads)
    plan = (sink(1) | near(1) | sample(HARMONIC, 1)).plan(15, block=4, generator=seeded())
    odd = [t[:, :, ::2] for t in x]
    expected = att.pr_flash_attention(*(t.contiguous() for t in odd), plan, path=path)
    torch.testing.assert_close(att.pr_flash_attention(*odd, plan, path=path), expected)
    wide = [odd[0], *(t[:, :1].expand(-1, 4, -1, -1) for t in odd[1:])]
    found = att.pr_flash_attention(*wide, plan, path=path)
    plain = att.pr_flash_attention(*(t.contiguous() for t in wide), plan, path=path)
    torch.testing.assert_close(found, plain)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("dropout", "the drawn plan is the dropout"),
        ("dropout_p", "the drawn plan is the dropout"),
        ("attn_mask", "cut padding off"),
        ("attention_mask", "cut padding off"),
        ("is_causal", "always causal"),
        ("enable_gqa", "key heads are always shared"),
        ("window", "window is no argument here"),
    ],
)
def test_arguments_of_other_functions_are_refused_with_a_hint(word, hint):
    plan = near(1).plan(8, block=4)
    with pytest.raises(TypeError, match=f"{hint}.*, got {word}=0.1"):
        att.pr_flash_attention(*inputs(8), plan, **{word: 0.1})


# ------------------------------------------------------------------ what the estimators promise


@pytest.mark.parametrize("guard", [0.0, 0.5])
def test_numerator_and_denominator_of_differences_are_unbiased_guard_or_not(guard):
    """The mean over every sample of one row, each with its probability: no tolerance but rounding.

    The row's floor is off, as it would be a bias; the scores are so alike that no sum is near 0.
    """
    g = np.random.default_rng(0)
    n, block = 48, 4
    q, k, v = 0.3 * g.normal(size=(n, 5)), 0.3 * g.normal(size=(n, 5)), g.normal(size=(n, 2))
    k[:24] += 1.0  # half of the blocks point somewhere
    alike = numpy_room.self_similarity(k, block) >= guard
    assert not guard or 0 < alike.sum() < 12
    pi = HARMONIC.inclusion(12, 0.5)
    samples, probabilities = numpy_room.systematic_samples(pi[1:])
    mass, sums = np.zeros(n), np.zeros((n, 2))
    for drawn, p in zip(samples, probabilities, strict=True):
        kept = numpy_room.by_distance(np.concatenate([[True], drawn]))
        out, lse = numpy_room.estimate(
            q, k, v, kept, pi, block, "difference", floor=0.0, guard=guard
        )
        mass += p * np.exp(lse)
        sums += p * np.exp(lse)[:, None] * out
    s = np.where(np.tril(np.ones((n, n))) > 0, np.exp(q @ k.T / 5**0.5), 0.0)
    np.testing.assert_allclose(mass, s.sum(1), rtol=1e-9)
    np.testing.assert_allclose(sums, s @ v, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("key_heads", [2, 4])
@pytest.mark.parametrize("tokens", [45, 48])
def test_the_guard_is_that_of_the_numpy_room(key_heads, tokens):
    x = inputs(tokens, key_heads=key_heads, grad=True)
    with torch.no_grad():
        x[1][:, :, 8:20] += 3.0
    similar = att.self_similarity(x[1], 4)
    g = 0.5
    plan = (sink(1) | sample(HARMONIC, 2, each="row")).plan(
        tokens, block=4, heads=4, batch=2, generator=seeded()
    )
    options = {"estimator": "difference", "return_lse": True}
    found, lse = att.pr_flash_attention(*x, plan, guard=g, **options)
    assert not torch.equal(found, att.pr_flash_attention(*x, plan, **options)[0])
    for b, h in ((0, 0), (1, 3)):
        at = h // (4 // key_heads)
        expected = numpy_room.self_similarity(x[1][b, at].detach(), 4)
        np.testing.assert_allclose(similar[b, at], expected, rtol=1e-9)
        assert (expected < g).any()
        assert (expected >= g).any()
        out, mass = numpy_room.estimate(
            *(t[b, j].detach() for t, j in zip(x, (h, at, at), strict=True)),
            plan.kept[b, h].numpy(), plan.pi[b, h].numpy(), 4, "difference", guard=g,
        )  # fmt: skip
        np.testing.assert_allclose(found[b, h].detach(), out, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(lse[b, h].detach(), mass, rtol=1e-9, atol=1e-11)


def test_a_block_of_low_self_similarity_is_never_filled_by_its_centroid():
    """Two keys that point apart: their centroid is no key, and its value nobody's."""
    q, k, v = (torch.zeros(1, 1, 16, 2, dtype=torch.float64) for _ in range(3))
    q[..., 0], k[0, 0, 4:8, 0] = 4.0, torch.tensor([4.0, -4.0, 4.0, -4.0])
    v[0, 0, 4:8, 1] = 1.0
    kept = torch.eye(4, dtype=torch.bool)[None, None]
    plan = Plan(16, 4, kept, torch.where(kept, 1.0, 0.5).double())
    options = {"estimator": "difference"}
    filled = att.pr_flash_attention(q, k, v, plan, **options)[0, 0, 12:, 1]
    guarded = att.pr_flash_attention(q, k, v, plan, guard=0.5, **options)[0, 0, 12:, 1]
    assert (filled > 0.1).all()
    assert not guarded.any()
    assert att.self_similarity(k, 4)[0, 0].tolist() == [0.0, 0.0, 0.0, 0.0]


def test_rows_always_keep_blocks_of_low_self_similarity():
    q, k, _ = inputs(64, key_heads=2)
    k[:, :, 24:] = k[:, :, 24:25] * torch.rand(40, 1, generator=seeded(), dtype=torch.float64)
    low = att.self_similarity(k, 4) < 0.9
    assert low[:, :, :6].all()
    assert not low[:, :, 6:].any()
    for choose in ("sample", "top"):
        options = {"block": 4, "choose": choose, "generator": seeded()}
        plan = att.plan_rows(q, k, 2, guard=0.9, **options)
        lower = torch.ones(16, 16).tril().bool()
        assert plan.kept[..., :6][..., lower[:, :6]].all()
        assert (plan.pi[..., :6][..., lower[:, :6]] == 1).all()
        sure = (lower & ((torch.arange(16) < 6) | ~torch.ones(16, 16).tril(-2).bool())).sum(-1)
        assert torch.equal(plan.kept[1, 3].sum(-1), torch.minimum(sure + 2, torch.arange(16) + 1))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda q, k, v, p: att.pr_flash_attention(q, k, v, p, guard=1.5), r"guard must be in \[0"),
        (
            lambda q, k, v, p: att.plan_rows(q, k, density=0.9, block=4, guard=0.5),
            "guard must be 0 if density is given",
        ),
        (
            lambda q, k, v, p: att.plan_rows(q, k, 1.5, block=4, guard=0.5),
            "count must be whole with a guard, got 1.5",
        ),
        (
            lambda q, k, v, p: numpy_room.estimate(
                v[0, 0], v[0, 0], v[0, 0], np.eye(4, dtype=bool), np.ones(4), 4, "difference",
                guard=-1,
            ),
            "guard must be in",
        ),
        (lambda q, k, v, p: numpy_room.self_similarity([1.0], 2), "keys must have the shape"),
    ],
)  # fmt: skip
def test_refusals_of_the_guard(call, words):
    with pytest.raises(ValueError, match=words):
        call(*inputs(16), near(1).plan(16, block=4))


# ------------------------------------------------------------------ a shorter sequence


def test_a_subsequence_is_causal_attention_among_the_chosen():
    x = inputs(64)
    plan = att.plan_subsequence(64, HARMONIC, 2.5, block=4, generator=seeded(1))
    chosen = plan.kept[0, 0, -1]
    assert chosen[0]
    assert 4 <= chosen.sum() <= 5
    at = torch.arange(64).view(16, 4)[chosen].flatten()
    short = [t[:, :, at] for t in x]
    expected = scaled_dot_product_attention(*short, is_causal=True)
    found = att.pr_flash_attention(*x, plan, estimator="plain")
    torch.testing.assert_close(found[:, :, at], expected)
    own = ~chosen
    alone = [t.unflatten(2, (16, 4))[:, :, own].flatten(0, 2).unsqueeze(1) for t in x]
    expected = scaled_dot_product_attention(*alone, is_causal=True).view(2, 4, -1, 6)
    other = torch.arange(64).view(16, 4)[own].flatten()
    torch.testing.assert_close(found[:, :, other], expected)


def test_weights_of_a_subsequence_are_exact():
    """Six standard errors of how often a row that is chosen has each block with it."""
    g, together, rows = seeded(), torch.zeros(9, 9), torch.zeros(9)
    likely: dict[int, torch.Tensor] = {}
    for _ in range(3000):
        plan = att.plan_subsequence(36, DistanceLaw.zipf(0.5), 3, block=4, generator=g)
        chosen = plan.kept[0, 0, -1]
        together += plan.kept[0, 0] * chosen[:, None]
        rows += chosen
        for i in chosen.nonzero().flatten().tolist():
            likely[i] = plan.pi[0, 0, i]
    assert len(likely) == 9
    for i, pi in likely.items():
        error = 6 * (pi * (1 - pi) / rows[i]).sqrt() + 1e-9
        assert ((together[i] / rows[i] - pi).abs() <= error).all()


@pytest.mark.parametrize("tokens", [1, 4, 6])
@pytest.mark.parametrize("count", [0, 1, 100])
def test_short_subsequences(tokens, count):
    plan = att.plan_subsequence(tokens, HARMONIC, count, block=4)
    assert plan.kept[0, 0, -1].all() or count == 0
    with pytest.raises(ValueError, match="count must not be negative, got -1"):
        att.plan_subsequence(tokens, HARMONIC, -1)


# ------------------------------------------------------------------ diagonals that are one call


@pytest.mark.parametrize("rows", [4, 8, 12, 64])
@pytest.mark.parametrize("distances", [(0, 1, 2, 3, 5, 6), (0, 2, 3, 4, 7), (0, 6, 7)])
@pytest.mark.parametrize("sinks", [0, 1, 3])
@pytest.mark.parametrize("alike", [True, False])
def test_distances_that_are_one_call_give_the_same_sums(rows, distances, sinks, alike, monkeypatch):
    from genopt_core.torch.attention import diagonals

    monkeypatch.setattr(diagonals, "ROWS", rows)
    line = torch.full((8,), 0.5) if alike else torch.linspace(0.9, 0.2, 8)
    line = torch.where(torch.arange(8) == 0, 1.0, line).double()
    i = torch.arange(8)
    delta = i[:, None] - i
    first = (delta >= 0) & (i < sinks)
    kept = (torch.isin(delta, torch.tensor(distances)) | first)[None, None]
    pi = torch.where(first | (delta == 0), 1.0, line[delta.clamp_min(0)]) * (delta >= 0)
    plan = Plan(30, 4, kept, pi[None, None], distances, sinks)
    x = inputs(30, key_heads=2, grad=True)
    results = []
    for path in ("diagonal", "dense"):
        out, lse = att.pr_flash_attention(*x, plan, path=path, return_lse=True)
        loss = (out * torch.arange(30.0).double()[:, None]).sum() + lse.sin().sum()
        results.append([out, lse, *torch.autograd.grad(loss, x)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_a_plan_knows_whether_it_has_weights():
    assert (sink(1) | near(1)).plan(64, block=8).certain
    drawn = (sink(1) | sample(HARMONIC, 2)).plan(64, block=8, generator=seeded())
    assert not drawn.certain
    assert att.plan_rows(*inputs(64)[:2], 2, block=8, choose="top").certain
    assert not att.plan_rows(*inputs(64)[:2], 2, block=8, choose="sample").certain


@pytest.mark.parametrize("path", ["diagonal", "rows"])
def test_a_bias_that_learns_is_refused_where_it_would_get_no_gradient(path):
    plan, bias = near(1).plan(16, block=4), torch.zeros(4, 16, dtype=torch.float64)
    bias.requires_grad_()
    with pytest.raises(ValueError, match="path must be 'dense' or 'auto' for a bias that learns"):
        att.pr_flash_attention(*inputs(16), plan, bias=bias, path=path)
    with torch.no_grad():
        att.pr_flash_attention(*inputs(16), plan, bias=bias, path=path)


# ------------------------------------------------------------------ distances of each head


def test_heads_with_distances_of_their_own_run_as_diagonals():
    design = sink(1) | near(1) | sample(HARMONIC, 2, each="head")
    plan = design.plan(64, block=4, heads=4, batch=2, generator=seeded())
    x = inputs(64, key_heads=2)
    assert att.chosen_path(*x, plan) == "diagonal"
    assert len(plan.head_distances) == 8
    assert len(set(plan.head_distances)) > 1
    for b, h in ((0, 0), (1, 3)):
        last = plan.kept[b, h, -1].flip(-1).nonzero().flatten().tolist()
        assert set(last) == {*plan.head_distances[4 * b + h], 15}
    single = att.stack_heads([near(n).plan(64, block=4) for n in range(4)])
    assert single.head_distances == ((0,), (0, 1), (0, 1, 2), (0, 1, 2, 3))
    for one in (plan, single):
        found, wanted = (att.pr_flash_attention(*x, one, path=p) for p in ("diagonal", "dense"))
        torch.testing.assert_close(found, wanted)
    mixed = att.stack_heads([sink(1).plan(64, block=4), near(1).plan(64, block=4)])
    assert mixed.head_distances is None
    rows = sample(HARMONIC, 2, each="row").plan(64, block=4, heads=1)
    assert att.stack_heads([rows, rows]).head_distances is None


def test_distances_of_heads_are_checked():
    kept = torch.eye(3, dtype=torch.bool).repeat(1, 2, 1, 1)
    kept[0, 1, 1, 0] = kept[0, 1, 2, 1] = True
    pi = kept.double()
    assert Plan(12, 4, kept, pi, None, 0, ((0,), (0, 1))).density == pytest.approx(8 / 12)
    for lists, words in (
        (((0,), (0,)), "must say the same as kept"),
        (((0,),), "must be given for 2 heads, got 1"),
    ):
        with pytest.raises(ValueError, match=words):
            Plan(12, 4, kept, pi, None, 0, lists)
    with pytest.raises(ValueError, match="distances must be given for one plan of all heads alone"):
        Plan(12, 4, kept, pi, (0,), 0, ((0,), (0, 1)))
    pi[0, 1, 1, 0] = 0.5
    with pytest.raises(ValueError, match="pi must depend on the distance alone"):
        Plan(12, 4, kept, pi, None, 0, ((0,), (0, 1)))


# ------------------------------------------------------------------ which path, without a GPU


class OnGpu:
    """What `chosen_path` asks of queries that lie on a GPU."""

    requires_grad = False
    device = torch.device("cuda")

    def __init__(self, tokens):
        self.shape = (1, 4, tokens, 64)


@pytest.mark.parametrize(("tokens", "path"), [(2048, "dense"), (4095, "dense"), (4096, "flex")])
def test_a_gpu_is_dense_where_flex_attention_was_slower(tokens, path):
    q, design = OnGpu(tokens), sink(1) | near(1)
    plan = design.plan(tokens, block=128)
    assert att.chosen_path(q, q, q, plan) == path
    assert att.chosen_path(q, q, q, plan, needs_lse=True) == path
    full = near(10**6).plan(tokens, block=128)
    assert att.chosen_path(q, q, q, full) == "sdpa"
    odd = design.plan(tokens, block=120)  # no multiple of the kernel's smallest tile
    assert att.chosen_path(q, q, q, odd) == "dense"


@pytest.mark.parametrize("estimator", ["plain", "self-normalized"])
def test_the_mask_that_a_gpu_gets_says_the_same(estimator):
    from genopt_core.torch.attention import attention
    from genopt_core.torch.attention.plans import Terms

    x = inputs(30)
    plan = (sink(1) | sample(HARMONIC, 2)).plan(30, block=4, generator=seeded())
    terms = Terms(plan, None, estimator != "plain", 6**-0.5)
    assert attention._masks(x[0], terms)
    assert attention._masks(x[0].bfloat16(), terms) == (estimator == "plain")
    found = attention._masked(*x, terms)
    wanted = att.pr_flash_attention(*x, plan, estimator=estimator, path="dense")
    torch.testing.assert_close(found, wanted)


# ------------------------------------------------------------------ rounds without bias


def every_draw(tokens, block):
    """One head's plans with one half for each free block: all are equally likely."""
    t = -(-tokens // block)
    free = torch.ones(t, t).tril(-1).bool()
    for bits in range(2 ** int(free.sum())):
        kept = torch.eye(t, dtype=torch.bool)
        kept[free] = torch.tensor([bool(bits >> i & 1) for i in range(int(free.sum()))])
        pi = torch.where(free, 0.5, 1.0).double()
        yield Plan(tokens, block, kept[None, None], pi[None, None])


def test_all_draws_of_the_difference_pooled_are_full_attention():
    """Where the floor never acts; with it the sums have a bias that rounds do not take away."""
    g = seeded(5)
    q, k, v = (torch.randn(1, 1, 11, 6, generator=g, dtype=torch.float64) for _ in range(3))
    k[:, :, :4] = k[:, :, :1] + 0.8 * k[:, :, :4]  # so that a centroid says much
    exact = scaled_dot_product_attention(q, k, v, is_causal=True)
    plans = list(every_draw(11, 4))
    masses = [
        att.pr_flash_attention(q, k, v, p, estimator="difference", floor=0.0, return_lse=True)[1]
        for p in plans
    ]
    plain = [att.pr_flash_attention(q, k, v, p, return_lse=True)[1] for p in plans]
    least = min((a - b).exp().min().item() for a, b in zip(masses, plain, strict=True))
    *_, (out, lse) = att.rounds_attention(q, k, v, plans, estimator="difference")
    torch.testing.assert_close(out, exact, rtol=1e-9, atol=1e-9)
    floor = 1.1 * least  # acts on one row of one draw, at least
    *_, (biased, _) = att.rounds_attention(q, k, v, plans, estimator="difference", floor=floor)
    assert (biased - exact).abs().max() > 1e-5
    rounds = [
        numpy_room.estimate(
            *(x[0, 0].numpy() for x in (q, k, v)),
            p.kept[0, 0].numpy(),
            p.pi[0, 0].numpy(),
            4,
            "difference",
            floor=0.0,
        )
        for p in plans
    ]
    pooled, mass = numpy_room.pool_rounds(rounds)
    np.testing.assert_allclose(pooled, exact[0, 0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(mass, lse[0, 0], rtol=1e-9)


def test_flex_attention_on_a_cpu_gets_nothing_that_asks_for_gradients(monkeypatch):
    """It refuses such tensors there, even where none are computed."""
    from genopt_core.torch.attention import flex

    def stand_in(q, k, v, **options):
        asked.append(q.requires_grad or k.requires_grad or v.requires_grad)
        return torch.zeros_like(q)

    asked = []
    monkeypatch.setattr(flex, "_compiled", lambda: stand_in)
    x, plan = inputs(16, grad=True), near(1).plan(16, block=4)
    with torch.no_grad():
        att.pr_flash_attention(*x, plan, estimator="plain", path="flex")
    att.pr_flash_attention(*x, plan, estimator="plain", path="flex")
    assert asked == [False, True]
