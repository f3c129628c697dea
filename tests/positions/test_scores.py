"""Rotation and bias together, and blocks dropped by chance, against their definitions."""

import numpy as np
import pytest

from genopt_core import positions as pos


@pytest.mark.parametrize("layout", ["half", "interleaved"])
@pytest.mark.parametrize(("heads", "key_heads", "queries"), [(4, 4, 7), (6, 2, 3), (4, 1, 1)])
def test_factored_scores_pair_by_pair(layout, heads, key_heads, queries):
    rng = np.random.default_rng(3)
    keys, dim = 7, 8
    q = rng.normal(size=(heads, queries, dim))
    k = rng.normal(size=(key_heads, keys, dim))
    m, omega = pos.slopes(heads, "harmonic"), pos.inverse_frequencies(dim)
    table = pos.bias_by_distance(m, keys, "harmonic")
    found = pos.factored_scores(q, k, table, omega, layout)
    first, second = (
        (np.arange(4), np.arange(4) + 4) if layout == "half" else (np.arange(4) * 2,) * 2
    )
    second = second if layout == "half" else first + 1
    for h, r, j in np.ndindex(heads, queries, keys):
        i = keys - queries + r
        if j > i:
            assert found[h, r, j] == -np.inf
            continue
        a = q[h, r, first] + 1j * q[h, r, second]
        b = k[h * key_heads // heads, j, first] + 1j * k[h * key_heads // heads, j, second]
        turned = (a * b.conj() * np.exp(1j * (i - j) * omega)).real.sum() / np.sqrt(dim)
        away = sum(1 / t for t in range(1, i - j + 1)) / (h + 1)
        assert found[h, r, j] == pytest.approx(turned - away, abs=1e-12)


def test_the_limits_are_rope_and_alibi_of_transformers():
    import torch
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    rng = np.random.default_rng(4)
    q, k = rng.normal(size=(2, 8, 5, 16))
    omega = pos.inverse_frequencies(16)
    seen = np.tril(np.ones((5, 5), bool))
    phase = torch.tensor(np.tile(np.arange(5)[:, None] * omega, 2))[None]
    turned = apply_rotary_pos_emb(
        torch.tensor(q)[None], torch.tensor(k)[None], phase.cos(), phase.sin()
    )
    rope = (turned[0] @ turned[1].transpose(2, 3))[0].numpy() / 4
    found = pos.factored_scores(q, k, np.zeros((8, 5)), omega)
    np.testing.assert_allclose(found[:, seen], rope[:, seen], atol=1e-12)
    alibi = build_alibi_tensor(
        torch.ones(1, 5), 8, torch.float64
    ).numpy()  # m times the key's place
    logits = q @ k.transpose(0, 2, 1) / 4 + alibi
    found = pos.factored_scores(q, k, pos.bias_by_distance(pos.slopes(8), 5))

    def attention(s):
        weight = np.exp(s - s.max(axis=-1, keepdims=True)) * seen
        return weight / weight.sum(axis=-1, keepdims=True)

    np.testing.assert_allclose(attention(found), attention(logits), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"q": np.ones((2, 4))}, "q must have the shape"),
        ({"k": np.ones((3, 5, 4))}, r"k must have the shape \(a divisor of 2, keys, 4\)"),
        ({"k": np.ones((2, 5, 6))}, "k must have the shape"),
        ({"table": np.ones((2, 4))}, r"table must have the shape \(2, 5\), got \(2, 4\)"),
        ({"frequencies": np.ones(3)}, "angles must have the shape"),
        ({"q": np.ones((2, 6, 4))}, "queries must be at most 5"),
    ],
)
def test_scores_refuse_what_does_not_fit(change, says):
    given = {"q": np.ones((2, 5, 4)), "k": np.ones((2, 5, 4)), "table": np.zeros((2, 5))} | change
    with pytest.raises(ValueError, match=says):
        pos.factored_scores(**given)


def test_merged_rounds_of_dropping_tend_to_the_bias():
    """Numerators and denominators of many rounds, added up: attention with the bias ln π."""
    rng = np.random.default_rng(5)
    scores, values = rng.normal(size=12), rng.normal(size=(12, 3))
    keep = 1 / (1 + np.arange(12))
    kept = rng.random((200_000, 12)) < keep
    weight = kept.mean(axis=0) * np.exp(scores)
    biased = np.exp(scores + pos.dropping_bias(keep))
    expected = biased @ values / biased.sum()
    np.testing.assert_allclose(weight @ values / weight.sum(), expected, atol=0.02)
    one = kept[:20_000] * np.exp(scores)
    alone = (one @ values / one.sum(axis=1, keepdims=True)).mean(axis=0)
    assert np.abs(alone - expected).max() > 0.05, "a single round has another mean"


def test_dropping_bias_of_the_ends_and_of_what_is_no_probability():
    assert pos.dropping_bias([0.0, 1.0]).tolist() == [-np.inf, 0.0]
    for bad in ([-0.1], [1.1], [np.nan]):
        with pytest.raises(ValueError, match=r"keep must be in \[0, 1\]"):
            pos.dropping_bias(bad)


@pytest.mark.parametrize("reading", ["linear", "harmonic", "power"])
def test_weights_are_a_softmax_of_equal_scores_and_the_context_their_inverse_purity(reading):
    table = pos.bias_by_distance([0.5, 0.01], 40, reading)
    found = pos.weights_by_distance(table)
    zero = np.zeros((2, 40, 4))
    scores = pos.factored_scores(zero, zero, table, np.zeros(2))
    last = np.exp(scores[:, -1])  # of the last query, which sees every distance
    np.testing.assert_allclose(found, (last / last.sum(1, keepdims=True))[:, ::-1], rtol=1e-12)
    pairs = np.random.default_rng(5).random((2, 200_000))
    drawn = (pairs[..., None] > np.cumsum(found[0])).sum(-1)
    same = (drawn[0] == drawn[1]).mean()  # two draws agree as often as one over the context
    error = np.sqrt(same * (1 - same) / 200_000)
    assert abs(1 / pos.effective_context(table)[0] - same) < 5 * error


def test_dropping_weight_moves_the_output_by_at_most_the_bound_and_may_reach_it():
    rng = np.random.default_rng(6)
    for _ in range(200):
        weight = rng.dirichlet(np.full(12, 0.3))
        values = rng.normal(size=(12, 3))
        kept = rng.random(12) < 0.7
        kept[np.argmax(weight)] = True
        moved = weight @ values - weight[kept] @ values[kept] / weight[kept].sum()
        norm = np.linalg.norm(values, axis=1).max()
        bound = pos.output_error_bound(weight[~kept].sum(), norm)
        assert np.linalg.norm(moved) <= bound + 1e-12
    # the kept value and the dropped one point away from each other
    assert abs(0.9 * 1 + 0.1 * -1 - 1) == pytest.approx(pos.output_error_bound(0.1, 1.0))
