"""Continuations: what is drawn, what is followed, and the blocks that are drawn for them."""

import numpy as np
import pytest

from genopt_core.one_model import DrawnBlocks, Forward, ForwardCache, ModelConfig
from genopt_core.one_model.generation import continued, divergence, next_probabilities

CONFIG = ModelConfig(vocabulary=40, block=4, positions="rope+harmonic")
MODEL = Forward.random(CONFIG, np.random.default_rng(3))
TEXT = np.random.default_rng(1).integers(40, size=50)


def read(ladder=(16,), **options):
    cache = ForwardCache(CONFIG, ladder, chunk=8)
    return MODEL.logits(TEXT, cache, **options)[-1], cache


def test_drawn_by_the_probabilities_that_are_said():
    """Token by token against one pass, and against a sum that is written out."""
    logits, cache = read()
    made = continued(MODEL, logits, cache, 20, rng=np.random.default_rng(7), temperature=0.7)
    whole = MODEL.logits([*TEXT, *made.ids])[len(TEXT) - 1 : -1].astype(float)
    said = np.exp(whole) / np.exp(whole).sum(1, keepdims=True)
    np.testing.assert_allclose(made.probabilities, said, atol=1e-5)
    rng = np.random.default_rng(7)
    for z, i in zip(whole, made.ids, strict=True):
        p = np.exp(z / 0.7) / np.exp(z / 0.7).sum()
        u = rng.random()
        assert p[:i].sum() - 1e-6 < u < p[: i + 1].sum() + 1e-6
    each = 2 * CONFIG.layers * CONFIG.key_heads * CONFIG.head_dim * 4
    assert made.nbytes == [each * (len(TEXT) + t) for t in range(20)]


def test_the_same_seed_draws_alike_and_a_followed_text_is_followed():
    logits, cache = read()
    one = continued(MODEL, logits, cache, 12, rng=np.random.default_rng(0))
    two = continued(MODEL, *read(), 12, rng=np.random.default_rng(0))
    assert one.ids == two.ids
    other = continued(MODEL, *read((16, 2)), 12, follow=one.ids)
    assert other.ids == one.ids
    assert other.nbytes[-1] < one.nbytes[-1]
    apart = divergence(one.probabilities, other.probabilities)
    assert apart[0] == 0, "a prompt sees itself in full precision"
    assert (apart[1:] > 0).all()
    with pytest.raises(ValueError, match="follow must have 12 tokens, got 3"):
        continued(MODEL, *read(), 12, follow=[1, 2, 3])


def test_a_cut_keeps_the_likeliest():
    z = np.log([0.1, 0.4, 0.2, 0.3])
    assert next_probabilities(z, top_p=0.7).round(6).tolist() == [0, 0.571429, 0, 0.428571]
    assert next_probabilities(z, top_p=0.71).tolist()[0] == 0
    assert next_probabilities(z, top_k=9).round(6).tolist() == [0.1, 0.4, 0.2, 0.3]
    assert next_probabilities(z, temperature=0.5, top_k=1).tolist() == [0, 1, 0, 0]
    for change in ({"temperature": -1}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}):
        with pytest.raises(ValueError, match=f"{next(iter(change))} must be"):
            next_probabilities(z, **change)


def test_divergence_is_zero_or_more_and_may_be_infinite():
    p, q = np.random.default_rng(0).dirichlet(np.ones(5), (2, 30))
    by_hand = [
        sum(a * np.log2(a / b) for a, b in zip(x, y, strict=True))
        for x, y in zip(p, q, strict=True)
    ]
    np.testing.assert_allclose(divergence(p, q), by_hand)
    assert divergence([0.5, 0.5], [1.0, 0.0]) == np.inf
    with pytest.raises(ValueError, match=r"q must have the shape \(2,\) of p, got \(3,\)"):
        divergence([1, 0], [1, 0, 0])


def test_draws_keep_what_is_sure_and_as_much_as_asked_for():
    draws = [DrawnBlocks.draw(CONFIG, 64, 0.5, np.random.default_rng(s)) for s in range(60)]
    kept = np.isfinite([one.log_weights for one in draws])
    i = np.arange(16)
    distance = i[:, None] - i
    assert kept[..., (distance >= 0) & ((i < 1) | (distance <= 1))].all()
    assert not kept[..., distance < 0].any()
    assert kept[..., distance >= 0].mean() == pytest.approx(0.5, abs=0.01)
    assert not (kept[0, 0, 0] == kept[0, 1, 1]).all()
    everything = DrawnBlocks.draw(CONFIG, 64, 1.0, np.random.default_rng(0))
    np.testing.assert_array_equal(
        everything.between(0, 64, 64)[:, distance.repeat(4, 0).repeat(4, 1) >= 0], 0
    )
    same = MODEL.logits(TEXT, blocks=DrawnBlocks.draw(CONFIG, 64, 1.0, np.random.default_rng(0)))
    np.testing.assert_array_equal(same, MODEL.logits(TEXT))
    with pytest.raises(ValueError, match=r"density must be at least 0.3309 for 16 blocks"):
        DrawnBlocks.draw(CONFIG, 64, 0.2, np.random.default_rng(0))
    with pytest.raises(ValueError, match="tokens must be at most 64, for which blocks are drawn"):
        everything.between(0, 1, 65)


def test_what_a_layer_saw_is_its_attention():
    seen = []
    MODEL.logits(
        TEXT, blocks=DrawnBlocks.draw(CONFIG, 64, 0.5, np.random.default_rng(0)), seen=seen
    )
    assert len(seen) == CONFIG.layers
    one = seen[1]
    assert one.query.shape == (4, 50, 16)
    assert one.key.shape == (2, 50, 16)
    np.testing.assert_allclose(one.weights.sum(-1), 1, rtol=1e-5)
    bias = np.broadcast_to(-1 / np.arange(1, 5)[:, None], (4, 49))  # harmonic slopes, distance 1
    step = (one.biased - one.scores)[:, np.arange(1, 50), np.arange(49)]
    np.testing.assert_allclose(step, bias, atol=1e-5)
    own = np.einsum("hqd,hqd->hq", one.query, one.key.repeat(2, 0)) / 4
    np.testing.assert_allclose(one.scores[:, np.arange(50), np.arange(50)], own, atol=1e-5)


def test_a_cache_takes_a_text_as_its_prompt():
    full, own = (
        ForwardCache(CONFIG, lad, chunk=8, full_dtype="float16") for lad in ((16,), (16, 4))
    )
    MODEL.logits(TEXT, full)
    MODEL.logits(TEXT, own)
    taken = ForwardCache(CONFIG, (16, 4), chunk=8, full_dtype="float16")
    taken.take(full)
    assert (taken.tokens, taken.nbytes()) == (own.tokens, own.nbytes())
    np.testing.assert_array_equal(MODEL.logits([1], taken), MODEL.logits([1], own))
    with pytest.raises(ValueError, match=r"full must be a cache of the ladder \(16,\), got one"):
        ForwardCache(CONFIG).take(own)
