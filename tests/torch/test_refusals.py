"""Arguments that the fast forms refuse."""

import pytest
import torch

from genopt_core.torch import attention as fast

Q = torch.zeros(1, 1, 8, 4)
PLAN = fast.near(1).plan(8, block=4)


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
