"""Tiles and estimators against dense masked attention and exact expectations."""

import numpy as np
import pytest
from oracles.attention import block_sums, dense

from genopt_core.attention import blocks as att
from genopt_core.attention import merge_partials
from genopt_core.attention.blocks import DistanceLaw
from genopt_core.attention.blocks.estimators import FLOOR
from genopt_core.positions import bias_by_distance


def problem(tokens, block, seed=0, dim=5, width=3):
    rng = np.random.default_rng(seed)
    q, k = rng.normal(size=(2, tokens, dim))
    v = rng.normal(size=(tokens, width))
    count = -(-tokens // block)
    kept = np.tril(rng.random((count, count)) < 0.5)
    return q, k, v, kept


@pytest.mark.parametrize(("tokens", "block"), [(1, 1), (1, 8), (12, 4), (13, 4), (15, 1), (9, 16)])
@pytest.mark.parametrize("seed", [0, 1])
def test_any_kept_list_is_dense_masked_attention(tokens, block, seed):
    q, k, v, kept = problem(tokens, block, seed)
    weights = np.random.default_rng(9).normal(size=kept.shape)
    bias = bias_by_distance([0.3], tokens, "log")[0]
    for more in ({}, {"log_weights": weights}, {"bias": bias, "scale": 0.7}):
        out, lse = att.tiled_attention(q, k, v, kept, block, **more)
        expected = dense(
            q, k, v, kept, block, *[more.get(n) for n in ("log_weights", "bias", "scale")]
        )
        np.testing.assert_allclose(out, expected[0], atol=1e-12)
        np.testing.assert_allclose(lse, expected[1], atol=1e-12)


def test_each_step_is_attention_over_the_tiles_so_far():
    q, k, v, kept = problem(14, 4)
    seen: dict[int, list[int]] = {}
    for tile in att.walk_tiles(q, k, v, kept, 4):
        row = seen.setdefault(tile.row, [])
        assert tile.step == len(row)
        row.append(tile.column)
        part = np.zeros_like(kept)
        part[tile.row, row] = True
        out, lse = dense(q, k, v, part, 4)
        rows = slice(4 * tile.row, 4 * tile.row + len(tile.mass))
        np.testing.assert_allclose(tile.output, out[rows], atol=1e-12)
        np.testing.assert_allclose(tile.lse, lse[rows], atol=1e-12)
        assert (tile.rescale <= 1).all()
    assert seen == {i: np.flatnonzero(r).tolist() for i, r in enumerate(kept) if r.any()}


def test_scores_that_overflow_without_a_running_maximum():
    q, k, v, kept = problem(12, 4)
    np.fill_diagonal(kept, True)
    out, lse = att.tiled_attention(300 * q, 300 * k, v, kept, 4)
    assert np.isfinite(out).all()
    assert lse.max() > 800  # exp of which is infinite


@pytest.mark.parametrize("estimator", att.ESTIMATORS)
def test_all_probabilities_one_is_full_attention(estimator):
    q, k, v, _ = problem(19, 4)
    full = np.tril(np.ones((5, 5), dtype=bool))
    exact = dense(q, k, v, full, 4)
    more = {"lse": exact[1]} if estimator == "horvitz-thompson" else {}
    out, lse = att.estimate(q, k, v, full, np.ones(5), 4, estimator, **more)
    np.testing.assert_allclose(out, exact[0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(lse, exact[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("estimator", ["self-normalized", "difference"])
@pytest.mark.parametrize("tokens", [24, 22])
def test_numerator_and_denominator_are_unbiased_exactly(estimator, tokens):
    """Over every outcome of the draw: the tolerance is that of summing, 1e-9 is where sums snap."""
    block = 4
    q, k, v, _ = problem(tokens, block, dim=4)
    pi = DistanceLaw.harmonic().inclusion(6, 0.6)
    pi[1:] = pi[1:].clip(0.2)
    samples, probabilities = att.systematic_samples(pi)
    mass, sums = block_sums(q, k, v, block)
    mean_mass, mean_sums = np.zeros(tokens), np.zeros_like(v)
    for sample, p in zip(samples, probabilities, strict=True):
        kept = att.by_distance(sample)
        out, lse = att.estimate(q, k, v, kept, pi, block, estimator, floor=0.0)
        mean_mass += p * np.exp(lse)
        mean_sums += p * np.exp(lse)[:, None] * out
    np.testing.assert_allclose(mean_mass, mass.sum(axis=1), rtol=1e-8)
    np.testing.assert_allclose(mean_sums, sums.sum(axis=1), rtol=1e-8, atol=1e-8)


def test_horvitz_thompson_is_unbiased_and_plain_aims_at_a_biased_softmax():
    block, tokens = 3, 18
    q, k, v, _ = problem(tokens, block, dim=4)
    pi = DistanceLaw.harmonic().inclusion(6, 0.5)
    full = np.tril(np.ones((6, 6), dtype=bool))
    exact, total = dense(q, k, v, full, block)
    samples, probabilities = att.systematic_samples(pi)
    kept = [att.by_distance(s) for s in samples]
    unbiased = sum(
        p * att.estimate(q, k, v, s, pi, block, "horvitz-thompson", lse=total)[0]
        for p, s in zip(probabilities, kept, strict=True)
    )
    np.testing.assert_allclose(unbiased, exact, atol=1e-8)
    plain = [att.estimate(q, k, v, s, pi, block, "plain") for s in kept]
    pooled, _ = merge_partials(
        [(o, m + np.log(p)) for (o, m), p in zip(plain, probabilities, strict=True)]
    )
    biased, _ = dense(q, k, v, full, block, weights=np.log(att.by_distance(pi) + 1e-300))
    np.testing.assert_allclose(pooled, biased, atol=1e-8)
    assert np.abs(biased - exact).max() > 0.1


def test_difference_is_the_sum_of_centroids_and_corrections():
    block, tokens = 4, 22
    q, k, v, _ = problem(tokens, block, dim=4)
    bias = bias_by_distance([0.4], tokens, "linear")[0]
    pi = np.maximum(att.by_distance(DistanceLaw.harmonic().weights(6)), np.eye(6))
    kept = att.sample_blocks(pi, np.random.default_rng(2))
    out, lse = att.estimate(q, k, v, kept, pi, block, "difference", bias=bias)
    plain, mass = att.estimate(q, k, v, kept, pi, block, bias=bias)
    fallen = 0
    for i in range(tokens):
        number, total = np.exp(mass[i]) * plain[i], np.exp(mass[i])
        for j in range(i // block):
            keys = slice(block * j, block * j + block)
            weight = np.exp(bias[i - np.arange(block * j, block * j + block)]).mean()
            center = block * np.exp(q[i] @ k[keys].mean(axis=0) / 2) * weight
            c = 1 - (1 / pi[i // block, j] if kept[i // block, j] else 0)
            number, total = number + c * center * v[keys].mean(axis=0), total + c * center
        if total > FLOOR * np.exp(mass[i]):
            np.testing.assert_allclose(out[i], number / total, atol=1e-10)
            assert lse[i] == pytest.approx(np.log(total))
        else:
            fallen += 1
            np.testing.assert_allclose(out[i], plain[i], atol=1e-12)
            assert lse[i] == mass[i]
    assert fallen < tokens / 2


def test_identical_keys_and_values_in_a_block_make_centroids_exact():
    block = 4
    q = np.random.default_rng(0).normal(size=(16, 3))
    k, v = (np.repeat(x, block, axis=0) for x in np.random.default_rng(1).normal(size=(2, 4, 3)))
    exact, _ = dense(q, k, v, np.tril(np.ones((4, 4))), block)
    kept = np.eye(4, dtype=bool)
    out, _ = att.estimate(
        q, k, v, kept, np.full(4, 0.5).clip(np.arange(4) == 0), block, "difference"
    )
    np.testing.assert_allclose(out, exact, atol=1e-12)


def test_pooled_rounds_average_the_sums_and_come_close():
    block, tokens = 4, 32
    q, k, v, _ = problem(tokens, block, dim=4)
    pi = DistanceLaw.harmonic().inclusion(8, 0.5)
    _, total = dense(q, k, v, np.tril(np.ones((8, 8))), block)
    rng = np.random.default_rng(0)
    rounds = [att.estimate(q, k, v, att.sample_blocks(pi, rng), pi, block) for _ in range(400)]
    out, lse = att.pool_rounds(rounds)
    masses = np.exp([m for _, m in rounds])
    np.testing.assert_allclose(np.exp(lse), masses.mean(axis=0))
    np.testing.assert_allclose(
        out, np.einsum("rt,rtd->td", masses, [o for o, _ in rounds]) / masses.sum(0)[:, None]
    )
    six_errors = 6 * masses.std(axis=0, ddof=1) / np.sqrt(len(rounds))
    assert (np.abs(np.exp(lse) - np.exp(total)) <= six_errors + 1e-9).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"query": np.full((8, 2), np.nan)}, "query must be finite, got NaN"),
        ({"values": np.full((8, 2), np.inf)}, "values must be finite, got NaN or infinity"),
        ({"keys": np.zeros((7, 2))}, "same tokens"),
        ({"keys": np.zeros((8, 3))}, "query and keys must have one shape"),
        ({"kept": np.eye(3, dtype=bool), "pi": [1.0] * 3}, "kept must have 2 rows, got 3"),
        ({"kept": np.ones((2, 2), dtype=bool)}, "nothing above the diagonal"),
        ({"pi": [1.0, 0.0], "kept": np.tril(np.ones((2, 2), bool))}, "its weight is 1/pi; got 0.0"),
        ({"pi": [1.0]}, "pi must be of 2 distances"),
        ({"block": 0}, "block must be at least 1, got 0"),
        ({"bias": [0.0] * 5}, "bias must be numbers over at least 8 distances"),
        ({"estimator": "best"}, "estimator must be one of 'plain', 'horvitz-thompson'"),
        ({"estimator": "horvitz-thompson"}, "lse must be given for the estimator"),
        ({"lse": np.zeros(8)}, "lse must be given for .* no other, got one for 'self-normalized'"),
        ({"estimator": "difference", "pi": [0.5, 0.5]}, "whole diagonal with pi = 1"),
    ],
)
def test_refusals(change, words):
    x = np.zeros((8, 2))
    arguments = {
        "query": x, "keys": x, "values": x, "kept": np.eye(2, dtype=bool), "pi": [1.0, 0.5],
        "block": 4, **change,
    }  # fmt: skip
    with pytest.raises(ValueError, match=words):
        att.estimate(**arguments)


def test_pi_of_zero_is_fine_for_plain_dropping():
    q, k, v, _ = problem(8, 4)
    kept = np.tril(np.ones((2, 2), dtype=bool))
    out, _ = att.estimate(q, k, v, kept, [1.0, 0.0], 4, "plain")
    np.testing.assert_allclose(out, dense(q, k, v, kept, 4)[0], atol=1e-12)


def test_no_rounds_are_refused():
    with pytest.raises(ValueError, match="rounds must hold at least one"):
        att.pool_rounds([])
