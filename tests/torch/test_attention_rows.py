"""Plans by contents whose heads share a row's blocks."""

import pytest
import torch

from genopt_core.torch import attention as att
from genopt_core.torch.attention import DistanceLaw

torch.set_num_threads(1)
B, T = 8, 16


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("choose", ["sample", "top"])
def test_heads_that_miss_nothing_leave_their_blocks_to_others(choose):
    """The first head looks at the first block alone, the second at all blocks alike."""
    q, k = torch.ones(1, 2, T * B, 4), torch.zeros(1, 1, T * B, 4)
    k[:, :, :B] = 1.0
    q *= torch.tensor([40.0, 0.0]).view(1, 2, 1, 1)
    alone, shared = (
        att.plan_rows(q, k, 3, block=B, choose=choose, share=s, generator=seeded())
        for s in ("row", "heads")
    )
    torch.testing.assert_close(shared.pi.sum((1, 3)), alone.pi.sum((1, 3)))  # row by row
    first, second = shared.pi[0, :, -1].sum(-1) - 3  # beside sink, nearest and own block
    assert first < 1 < 5 < second
    assert (shared.pi[shared.kept] > 0).all()
    assert shared.kept[shared.pi == 1].all()


def test_probabilities_are_in_proportion_over_all_heads():
    q = torch.randn(1, 4, T * B, 8, generator=seeded(3)) * 3
    k = torch.randn(1, 2, T * B, 8, generator=seeded(4))
    plan = att.plan_rows(q, k, 2, block=B, share="heads", choose="sample", generator=seeded())
    row, far = T - 1, slice(1, T - 2)  # neither first, nearest nor own block
    seen = att.block_mass(q, k, B).double()[0, :, row, far]
    total = seen.sum(-1, keepdim=True)
    law = torch.from_numpy(DistanceLaw.harmonic().weights(T)).flip(0)[far]
    mixed = 0.9 * seen / total + 0.1 * law / law.sum()
    wanted = mixed * (0.9 * total + 0.1 * total.mean())
    pi = plan.pi[0, :, row, far]
    kappa = (pi / wanted)[pi < 1]
    torch.testing.assert_close(kappa, kappa[:1].expand_as(kappa))
    assert pi.sum().item() == pytest.approx(4 * 2)


def test_heads_that_all_look_at_what_is_kept_anyway_still_get_their_blocks():
    q, k = torch.zeros(1, 2, T * B, 4), torch.zeros(1, 2, T * B, 4)
    q[..., 0], k[:, :, :B, 0] = 40.0, 40.0  # nothing is left for the blocks between
    row, heads = (
        att.plan_rows(q, k, 3, block=B, share=s, choose="sample", generator=seeded())
        for s in ("row", "heads")
    )
    torch.testing.assert_close(heads.pi.sum((1, 3)), row.pi.sum((1, 3)))


def test_one_head_shares_with_nobody():
    q, k = torch.randn(2, 2, 1, T * B, 4, generator=seeded(1))
    alone, shared = (
        att.plan_rows(q, k, 3, block=B, share=s, generator=seeded()) for s in ("row", "heads")
    )
    torch.testing.assert_close(shared.pi, alone.pi)
    assert torch.equal(shared.kept, alone.kept)


def test_batch_rows_share_nothing():
    q = torch.randn(2, 4, T * B, 4, generator=seeded(1))
    k = torch.randn(2, 2, T * B, 4, generator=seeded(2))
    options = {"block": B, "share": "heads", "choose": "top"}
    both = att.plan_rows(q, k, 2.5, **options)
    for i in range(2):
        one = att.plan_rows(q[i : i + 1], k[i : i + 1], 2.5, **options)
        assert torch.equal(both.kept[i], one.kept[0])


def test_what_shares_is_named():
    q = torch.zeros(1, 1, 8, 4)
    with pytest.raises(ValueError, match="share must be one of"):
        att.plan_rows(q, q, 1, block=4, share="layers")
