"""Gradients through packed chunks: those of attention over restored keys and values."""

import importlib.util

import pytest
import torch
from oracles.models import tiny

from genopt_core.torch.kvcache import StaircaseCache, register
from genopt_core.torch.kvcache import attention as packed
from genopt_core.torch.online_softmax import attend, masked, merge_partials, softmax_partial

torch.set_num_threads(1)
HAS_NUMBA = importlib.util.find_spec("numba") is not None
PACKED = [register(), *([register(compiled=True)] if HAS_NUMBA else [])]
LADDERS = {"ladder": "16/8/4"}, {"ladder": "16/16/4"}, {"ladder": "16", "value_ladder": "16/2"}


def gradients(reader, pieces, options, through=True, only=""):
    """Of all weights, or those whose name has ``only``, after a text in pieces."""
    model = tiny().requires_grad_(False)
    for name, p in model.named_parameters():
        p.requires_grad_(only in name)
    model.set_attn_implementation(reader)
    cache = StaircaseCache(model.config, chunk=16, group_size=16, **options)
    x = torch.randint(3, 128, (2, sum(pieces)), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(x)
    mask[0, :40] = 0  # whole chunks are padding
    out, at = [], 0
    for i, part in enumerate(x.split(pieces, 1)):
        at += part.shape[1]
        given = {"attention_mask": mask[:, :at]} if options.get("sink") else {}
        with torch.set_grad_enabled(through or i > 0):
            out.append(model(part, past_key_values=cache, **given).logits)
    logits = torch.cat(out[0 if through else 1 :], 1)
    logits[mask[:, -logits.shape[1] :] == 1].logsumexp(-1).square().mean().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("reader", PACKED)
@pytest.mark.parametrize("pieces", [(70, 9), (70, 1, 30, 1)])
@pytest.mark.parametrize("options", LADDERS, ids=str)
@pytest.mark.parametrize("codec", ["rotated", "grid"])
def test_gradients_are_those_of_the_restored_cache(codec, options, pieces, reader, monkeypatch):
    monkeypatch.setattr(packed, "SCORES", 300)  # several groups
    for more in ({"sink": 0}, {"sink": 4}):
        given = options | more | {"codec": codec}
        for through in (True, False):  # into the chunks as well, or into what attends to them
            expected = gradients("sdpa", pieces, given, through)
            found = gradients(reader, pieces, given, through)
            for name, grad in expected.items():
                torch.testing.assert_close(found[name], grad, atol=1e-5, rtol=1e-3, msg=name)


@pytest.mark.parametrize("only", ["q_proj", "k_proj", "v_proj"])
def test_some_weights_alone(only):
    for pieces in ((70, 1), (70, 9, 1)):
        given = {"ladder": "16/8/4"}
        expected = gradients("sdpa", pieces, given, only=only)
        found = gradients(PACKED[0], pieces, given, only=only)
        assert len(found) == 3
        for name, grad in expected.items():
            torch.testing.assert_close(found[name], grad, atol=1e-5, rtol=1e-3, msg=name)


@pytest.mark.parametrize("reader", PACKED)
def test_chunks_with_gradients_are_read_without(reader):
    """A prompt that was learned from, then single tokens of a model that learns no more."""
    model = tiny().requires_grad_(True)
    model.set_attn_implementation(reader)
    cache = StaircaseCache(model.config, "16/4", chunk=32)
    x = torch.randint(3, 128, (1, 80), generator=torch.Generator().manual_seed(3))
    model(x[:, :78], past_key_values=cache)
    with torch.no_grad():
        model(x[:, 78:79], past_key_values=cache)
    model.requires_grad_(False)
    assert model(x[:, 79:], past_key_values=cache).logits.isfinite().all()


def test_pieces_of_a_softmax_have_the_gradients_of_the_whole():
    """Also where a piece is not seen at all."""
    g = torch.Generator().manual_seed(2)
    q, k, v = (torch.randn(2, n, 4, generator=g, requires_grad=True) for n in (3, 8, 8))
    mask = torch.rand(2, 3, 8, generator=g) < 0.6
    mask[0, :, :3], mask[..., 7] = False, True
    pieces = [
        attend(q, k[:, s], v[:, s], scale=0.5, mask=mask[..., s])
        for s in (slice(0, 3), slice(3, 5), slice(5, 8))
    ]
    out, lse = merge_partials(pieces)
    s = (q @ k.mT * 0.5).masked_fill(~mask, -torch.inf)
    whole = s.softmax(-1) @ v, s.logsumexp(-1)
    weights = torch.randn(2, 3, 4, generator=g)
    found, expected = (
        torch.autograd.grad((x * weights).sum() + y.square().sum(), (q, k, v))
        for x, y in ((out, lse), whole)
    )
    torch.testing.assert_close((out, lse), whole)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_scores_without_gradients_are_overwritten():
    scores = torch.randn(2, 3)
    assert softmax_partial(scores)[0] is scores
    learned = torch.randn(2, 3, requires_grad=True)
    with torch.no_grad():
        assert masked(learned, None) is learned
        assert softmax_partial(learned)[0] is learned
