"""Arguments that the fast forms refuse."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from genopt_core import kvcache as formulas
from genopt_core.one_model import ModelConfig
from genopt_core.torch import attention as fast
from genopt_core.torch.kvcache import StaircaseCache, calibrate_ladders, choose_ladders
from genopt_core.torch.model import Run, train

Q = torch.zeros(1, 1, 8, 4)
PLAN = fast.near(1).plan(8, block=4)
CONFIG = LlamaConfig(
    vocab_size=9, hidden_size=32, intermediate_size=8, num_attention_heads=2, num_hidden_layers=1
)
RUN = Run(model=ModelConfig(vocabulary=7, width=8, heads=2, key_heads=1, hidden=4), steps=1)


def learned_from(batch):
    return train(RUN, lambda step: batch)


def calibrated(**options):
    model = LlamaForCausalLM(CONFIG).eval()
    return calibrate_ladders(model, torch.zeros(1, 40, dtype=torch.long), **options)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: fast.pr_flash_attention(
                Q, Q, Q, PLAN, estimator="horvitz-thompson", lse=Q[0, 0, :, 0]
            ),
            ValueError,
            "lse must have the shape",
        ),
        (
            lambda: fast.Plan(8, 4, PLAN.kept, PLAN.pi / 2),
            ValueError,
            "pi must be 1 on the diagonal",
        ),
        (
            lambda: fast.stack_heads([]),
            ValueError,
            "plans must hold a plan for each head",
        ),
        (
            lambda: fast.stack_heads([PLAN, fast.near(1).plan(8, block=2)]),
            ValueError,
            "plans must have one length and block",
        ),
        (
            lambda: fast.stack_heads([fast.stack_heads([PLAN, PLAN])]),
            ValueError,
            "plans must be for one head each",
        ),
        (
            lambda: fast.plan_rows(Q, Q, -1.0, block=4),
            ValueError,
            "count must not be negative",
        ),
        (
            lambda: fast.block_mass(Q, Q[..., :2], 4),
            ValueError,
            "q and k must have the shapes",
        ),
        (
            lambda: fast.block_mass(Q, Q, 4, "antidiagonal", probes=3),
            ValueError,
            "probes must divide the block of 4",
        ),
    ],
)
def test_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: StaircaseCache(CONFIG, seed="a"),
            TypeError,
            "seed must be a whole number, got 'a'",
        ),
        (lambda: StaircaseCache(CONFIG, group_size=1.5), TypeError, "group_size must be a whole"),
        (
            lambda: StaircaseCache(CONFIG, full_dtype="float16"),
            ValueError,
            "full_dtype must be one of torch.float16, .*, got 'float16'",
        ),
        (
            lambda: StaircaseCache(CONFIG, balance="x"),
            TypeError,
            "balance must be a Balance, of measure_balance, got 'x'",
        ),
        (
            lambda: StaircaseCache.restore("nowhere", CONFIG, "x"),
            TypeError,
            "balance must be a Balance, of measure_balance, got 'x'",
        ),
        (lambda: calibrated(budget="4"), TypeError, "budget must be a number, got '4'"),
        (lambda: calibrated(budget=[4]), TypeError, r"budget must be a number, got \[4\]"),
        (
            lambda: choose_ladders(CONFIG, np.ones((1, 2, 1)), None, [(16, 8)], chunk=4),
            TypeError,
            "budget must be a number, got None",
        ),
        (
            lambda: formulas.allocate_uniform([[[1.0]]], [[2.0]], "4"),
            TypeError,
            "budget must be a number, got '4'",
        ),
        (
            lambda: formulas.allocate_widths([1.0], "4", (1, 2)),
            TypeError,
            "budget must be a number, got '4'",
        ),
        (
            lambda: learned_from(torch.zeros(2, 1).long()),
            ValueError,
            "batch must give a row .* 2 ids",
        ),
        (
            lambda: learned_from(torch.zeros(0, 3).long()),
            ValueError,
            "batch must give a row .* 2 ids",
        ),
        (lambda: learned_from(torch.zeros(3).long()), ValueError, "batch must give integer ids"),
        (
            lambda: learned_from(torch.zeros(1, 3)),
            ValueError,
            "batch must give integer ids .*float32",
        ),
        (
            lambda: learned_from(torch.zeros(1, 3) > 0),
            ValueError,
            "batch must give integer ids .*bool",
        ),
        (lambda: learned_from(np.zeros((1, 3), int)), TypeError, "tensors of ids, got ndarray"),
        (lambda: learned_from(None), TypeError, "tensors of ids, got NoneType"),
        (lambda: learned_from(torch.full((1, 3), 7)), ValueError, "ids from 0 to 6, got 7"),
        (lambda: learned_from(torch.full((1, 3), -1)), ValueError, "ids from 0 to 6, got -1"),
        (
            lambda: fast.plan_rows(Q, Q, 0.5, block=2, generator=3),
            TypeError,
            "generator must be a torch.Generator on the CPU, got 3",
        ),
        (
            lambda: fast.near(1).plan(8, block=4, generator=3),
            TypeError,
            "generator must be a torch.Generator on the CPU, got 3",
        ),
        (
            lambda: fast.PrFlashAttention(fast.near(1), generator=3),
            TypeError,
            "generator must be a torch.Generator on the CPU, got 3",
        ),
    ],
)
def test_a_foreign_argument_is_named_before_the_work(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_settings_are_numbers_of_python(tmp_path):
    cache = StaircaseCache(CONFIG, "16/8", chunk=np.int64(4), sink=np.int32(2), seed=np.uint8(1))
    assert [type(getattr(cache.settings, n)) for n in ("chunk", "sink", "seed")] == [int] * 3
    cache.save(tmp_path / "cache")
    assert StaircaseCache.restore(tmp_path / "cache", CONFIG).settings.chunk == 4


@pytest.mark.parametrize(("proxy", "block", "probes"), [
    ("probe", 1, 1), ("probe", 2, 2), ("probe", 3, 3), ("probe", 6, 4), ("centroid", 2, 2),
    ("antidiagonal", 2, 2), ("antidiagonal", 6, 3), ("antidiagonal", 7, 1), ("antidiagonal", 8, 4),
])  # fmt: skip
def test_as_many_probes_as_a_block_has_are_assumed(proxy, block, probes):
    q = torch.randn(1, 2, 24, 4, generator=torch.Generator().manual_seed(0))
    found = fast.block_mass(q, q, block, proxy)
    assert torch.equal(found, fast.block_mass(q, q, block, proxy, probes))
    assert fast.plan_cost(24, block, proxy) == fast.plan_cost(24, block, proxy, probes)
    options = {"block": block, "proxy": proxy, "choose": "top"}
    plan = fast.plan_rows(q, q, 2, **options)
    assert torch.equal(plan.kept, fast.plan_rows(q, q, 2, probes=probes, **options).kept)
