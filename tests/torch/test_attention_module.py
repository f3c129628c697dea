"""The module: dropout by blocks in training, four ways to evaluate, draws that can be repeated."""

import copy

import numpy as np
import pytest
import torch
from oracles.attention import dense
from torch.nn.functional import scaled_dot_product_attention

from genopt_core.positions import bias_by_distance
from genopt_core.torch import attention as att
from genopt_core.torch.attention import DistanceLaw, PrFlashAttention, near, sample, sink

torch.set_num_threads(1)
HARMONIC = DistanceLaw.harmonic()
FEW = sink(1) | near(1) | sample(HARMONIC, 1.5)


def inputs(tokens=37, key_heads=2, heads=4, dim=6, dtype=torch.float64, grad=True):
    g = torch.Generator().manual_seed(0)
    shapes = [(2, h, tokens, dim) for h in (heads, key_heads, key_heads)]
    return [torch.randn(s, generator=g, dtype=dtype).requires_grad_(grad) for s in shapes]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def module(design=FEW, **options):
    return PrFlashAttention(design, **({"block": 4, "generator": seeded()} | options))


def full(q, k, v, bias=None):
    mask = None
    if bias is not None:
        i = torch.arange(q.shape[2])
        ahead = i[:, None] < i
        mask = bias[:, (i[:, None] - i).clamp_min(0)].masked_fill(ahead, -torch.inf)[None]
    return scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True
    )


# ------------------------------------------------------------------ training


@pytest.mark.parametrize("estimator", ["plain", "self-normalized", "difference"])
def test_backward_uses_the_draw_of_forward(estimator):
    x, one = inputs(), module(estimator=estimator)
    for _ in range(3):
        out = one(*x)
        found = torch.autograd.grad(out.square().sum(), x)
        again = att.pr_flash_attention(*x, one.plan, estimator=estimator, path="dense")
        torch.testing.assert_close(out, again)
        expected = torch.autograd.grad(again.square().sum(), x)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)


def test_each_step_draws_and_one_seed_draws_alike():
    x, one, two = inputs(), module(), module()
    plans = []
    for _ in range(4):
        assert torch.equal(one(*x), two(*x))
        plans.append(one.plan.kept)
    assert any(not torch.equal(plans[0], p) for p in plans[1:])
    torch.manual_seed(5)
    a = module(generator=None)(*x)
    torch.manual_seed(5)
    assert torch.equal(module(generator=None)(*x), a)


def test_a_run_that_is_taken_up_again_draws_what_it_would_have_drawn():
    x, one = inputs(), module()
    one(*x)
    held = copy.deepcopy(one.state_dict())
    expected = [one(*x) for _ in range(3)]
    other = module(generator=seeded(99))
    other.load_state_dict(held)
    for wanted in expected:
        assert torch.equal(other(*x), wanted)
    without = module(generator=None)
    without.load_state_dict(held)
    assert without.state_dict()["_extra_state"] == {"generator": None}


def test_checkpoints_with_a_plan_and_with_pytorchs_own_generator():
    from torch.utils.checkpoint import checkpoint

    x = inputs()
    for options in ({"generator": None}, {}):
        one = module(**options)
        plan = one.draw(x[0], x[1]) if options == {} else None
        torch.manual_seed(3)
        expected = torch.autograd.grad(one(*x, plan=plan).sum(), x)
        torch.manual_seed(3)
        out = checkpoint(lambda *y, m=one, p=plan: m(*y, plan=p), *x, use_reentrant=False)
        for a, b in zip(torch.autograd.grad(out.sum(), x), expected, strict=True):
            torch.testing.assert_close(a, b)


def test_a_callable_sees_queries_keys_and_the_generator():
    def draw(q, k, generator):
        assert not q.requires_grad
        return att.plan_rows(q, k, 2, block=4, generator=generator)

    x = inputs()
    one, two = module(draw), module(draw)
    assert torch.equal(one(*x), two(*x))
    assert one.plan.kept.shape[:2] == (2, 4)


# ------------------------------------------------------------------ evaluation


def test_full_and_the_expectation_of_reweighted_draws_are_full_attention():
    x = inputs()
    expected = full(*x)
    for options in ({}, {"evaluate": "expected"}, {"estimator": "plain"}):
        torch.testing.assert_close(module(**options).eval()(*x), expected)
    with torch.no_grad():
        single = [t.float() for t in x]
        assert torch.equal(module().eval()(*single), full(*single))  # the same call


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("each", ["plan", "row"])
@pytest.mark.parametrize("tokens", [37, 40, 3])
def test_expected_is_full_attention_with_the_log_of_the_probabilities(each, biased, tokens):
    x = inputs(tokens)
    design = near(1) | sample(HARMONIC, 2.0, each=each)
    table = bias_by_distance([0.1, 0.2, 0.3, 0.0], tokens, "log") if biased else None
    bias = None if table is None else torch.from_numpy(table.copy())
    one = module(design, estimator="plain", evaluate="expected").eval()
    before = torch.random.get_rng_state()
    out = one(*x, bias=bias)
    assert torch.equal(out, one(*x, bias=bias))
    assert torch.equal(before, torch.random.get_rng_state())
    plan = design.plan(tokens, block=4, heads=4, batch=2)
    t = plan.blocks
    with np.errstate(divide="ignore"):
        logs = np.log(plan.pi.expand(2, 4, t, t).numpy())
    i = np.arange(tokens)
    for b, h in ((0, 0), (1, 3)):
        q, k, v = (y[b, j].detach().numpy() for y, j in zip(x, (h, h // 2, h // 2), strict=True))
        s = q @ k.T / 6**0.5 + logs[b, h][i[:, None] // 4, i // 4]
        s = s if table is None else s + table[h][np.maximum(i[:, None] - i, 0)]
        p = np.exp(np.where(i[:, None] >= i, s, -np.inf))
        expected = p @ v / p.sum(1, keepdims=True)
        np.testing.assert_allclose(out[b, h].detach(), expected, rtol=1e-9, atol=1e-11)
    assert torch.autograd.gradcheck(lambda *y: one(*y, bias=bias), x) if tokens == 3 else True


def test_many_pooled_rounds_of_plain_dropping_come_to_the_expectation():
    x = inputs(grad=False)
    design = sink(1) | sample(HARMONIC, 2.0, each="row")
    options = {"estimator": "plain"}
    limit = module(design, evaluate="expected", **options).eval()(*x)
    errors = []
    for rounds in (4, 64, 1024):
        out = module(design, evaluate="rounds", rounds=rounds, **options).eval()(*x)
        errors.append(((out - limit).norm() / limit.norm()).item())
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.02
    assert (limit - full(*x)).norm() / limit.norm() > 0.05  # and not to full attention


def test_sample_draws_in_evaluation_too():
    x, one = inputs(), module(evaluate="sample").eval()
    assert not torch.equal(one(*x), full(*x))
    assert torch.equal(one(*x, plan=one.plan), att.pr_flash_attention(*x, one.plan))


def test_expected_takes_a_plan_by_hand():
    q, k, v = inputs(12, heads=2, key_heads=2, grad=False)
    kept = torch.ones(1, 1, 3, 3, dtype=torch.bool).tril()
    plan = att.Plan(12, 4, kept, kept.double())
    expected, _ = dense(*(t[0, 0].numpy() for t in (q, k, v)), kept[0, 0].numpy(), 4)
    np.testing.assert_allclose(att.expected_attention(q, k, v, plan)[0, 0], expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("evaluate", ["sample", "rounds", "expected", "full"])
def test_dtypes(dtype, evaluate):
    x = inputs(dtype=dtype)
    out = module(estimator="plain", evaluate=evaluate, rounds=2).eval()(*x)
    assert (out.dtype, out.shape) == (dtype, x[0].shape)


def test_inside_a_model():
    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.project = torch.nn.Linear(8, 24)
            self.attention = module()

        def forward(self, x):
            q, k, v = self.project(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
            return self.attention(q, k, v).transpose(1, 2).flatten(2)

    layer, x = Layer(), torch.randn(2, 30, 8, generator=seeded())
    layer(x).square().mean().backward()
    assert layer.project.weight.grad.isfinite().all()
    assert layer.eval()(x).shape == x.shape
    assert "estimator='self-normalized', block=4" in repr(layer)
    assert [name for name, _ in layer.named_parameters()] == ["project.weight", "project.bias"]


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: module("harmonic"), TypeError, "design must be a Design, or a callable"),
        (lambda: module(estimator="horvitz-thompson"), ValueError, "estimator must be one of"),
        (lambda: module(evaluate="mean"), ValueError, "evaluate must be one of"),
        (lambda: module(rounds=0), ValueError, "rounds must be at least 1, got 0"),
        (lambda: module(block=0), ValueError, "block must be at least 1, got 0"),
        (lambda: module()(*inputs(), plan=near(1)), TypeError, "plan must be a Plan"),
        (
            lambda: att.expected_attention(*inputs(), near(1).plan(12)),
            ValueError,
            "plan must be for 37 tokens, got one for 12",
        ),
    ],
)
def test_refusals(call, error, words):
    with pytest.raises(error, match=words):
        call()
