"""Laws over block distance, against definitions and closed forms."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from genopt_core.attention import blocks as att
from genopt_core.attention.blocks import DistanceLaw
from genopt_core.positions import bias_by_distance

LAWS = [
    DistanceLaw.harmonic(),
    DistanceLaw.zipf(0.5),
    DistanceLaw.zipf(2),
    DistanceLaw.geometric(0.7),
    DistanceLaw.uniform(),
    DistanceLaw.radial(),
    DistanceLaw.calibrated([0.3, 0.09, np.nan, 0.03]),
    DistanceLaw.custom([2.0, 1.0, 0.0]),
    DistanceLaw.implied(bias_by_distance([0.5], 64, "log")[0], block=4),
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
@pytest.mark.parametrize("blocks", [1, 2, 7, 64])
def test_inclusion_has_the_density_that_was_asked_for(law, blocks):
    pairs = blocks * (blocks + 1) / 2
    most = att.expected_blocks((law.weights(blocks) > 0).astype(float)) / pairs
    for density in np.linspace(2 / (blocks + 1), most, 7):
        pi = law.inclusion(blocks, float(density))
        assert pi[0] == 1
        assert (pi >= 0).all()
        assert (pi <= 1).all()
        assert att.expected_blocks(pi) == pytest.approx(density * pairs, rel=1e-12)
        free = (pi < 1) & (law.weights(blocks) > 0)
        if free.any():  # what is not capped follows the law
            ratio = pi[free] / law.weights(blocks)[free]
            np.testing.assert_allclose(ratio, ratio[0], rtol=1e-12)


def test_weights_are_the_definitions():
    d = np.arange(40)
    harmonic = [float(Fraction(1, 1 + x)) for x in range(40)]
    np.testing.assert_allclose(LAWS[0].weights(40), harmonic, rtol=1e-15)
    np.testing.assert_allclose(DistanceLaw.zipf(2).weights(40), (1.0 + d) ** -2)
    np.testing.assert_allclose(DistanceLaw.geometric(0.7).weights(40), 0.7**d)
    radial = [1.0] + [2.0 ** -math.floor(math.log2(x)) for x in range(1, 40)]
    assert DistanceLaw.radial().weights(40).tolist() == radial
    assert DistanceLaw.calibrated([0.4, 0.1, np.nan]).weights(4).tolist() == [1, 0.25, 0.25, 0.25]


@pytest.mark.parametrize("blocks", [1, 2, 16, 33])
def test_expected_cost_of_the_harmonic_law_in_closed_form(blocks):
    exact = sum(Fraction(blocks - d, 1 + d) for d in range(blocks))
    assert att.harmonic_blocks(blocks) == pytest.approx(float(exact), rel=1e-14)
    pi = DistanceLaw.harmonic().weights(blocks)
    assert att.expected_blocks(pi) == pytest.approx(float(exact), rel=1e-14)


def test_expected_cost_of_the_geometric_law_in_closed_form():
    t, g = 23, 0.8
    pi = DistanceLaw.geometric(g).weights(t)
    closed = t / (1 - g) - g * (1 - g**t) / (1 - g) ** 2
    assert att.expected_blocks(pi) == pytest.approx(closed)


@given(
    weights=st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=30),
    share=st.floats(0, 1),
)
@example(weights=[1.0, 3.0], share=5e-324)  # a cost below the normal numbers
def test_kappa_meets_any_cost(weights, share):
    w = np.array(weights)
    cost = np.arange(1, len(w) + 1)
    total = share * float(cost.sum())
    pi = att.inclusion(w, total, cost)
    assert float(cost @ pi) == pytest.approx(total, rel=1e-9, abs=1e-12)
    assert ((pi >= 0) & (pi <= 1)).all()


@pytest.mark.parametrize("steep", [1, 16, 50])
@pytest.mark.parametrize("share", [0.01, 0.25, 0.6])
def test_kappa_meets_a_cost_under_a_law_that_spans_hundreds_of_decades(steep, share):
    w = np.exp(-float(steep) * np.arange(12))
    cost = np.arange(12, 0, -1)
    total = share * float(cost.sum())
    pi = att.inclusion(w, total, cost)
    assert float(cost @ pi) == pytest.approx(total, rel=1e-9)
    assert ((pi >= 0) & (pi <= 1)).all()
    assert (np.diff(pi) <= 0).all()


def test_a_bias_implies_the_mean_of_its_exponential_over_a_pair_of_blocks():
    table, block = bias_by_distance([0.7], 40, "linear")[0], 5
    found = DistanceLaw.implied(table, block).weights(8)
    for delta in range(8):
        pairs = [
            math.exp(table[delta * block + s - t])
            for s in range(block)
            for t in range(block)
            if delta * block + s - t >= 0
        ]
        first = [math.exp(table[s - t]) for s in range(block) for t in range(s + 1)]
        assert found[delta] == pytest.approx(np.mean(pairs) / np.mean(first), rel=1e-12)
    assert DistanceLaw.implied(table[:3], block).weights(8)[3:].tolist() == [0] * 5


def test_mass_by_distance_is_that_of_full_attention():
    rng = np.random.default_rng(3)
    q, k = rng.normal(size=(2, 11, 4))
    p = np.tril(np.exp(q @ k.T / 2))
    p /= p.sum(axis=1, keepdims=True)
    for sink in (0, 1):
        seen = {}
        for i in range(3):
            for j in range(sink, i + 1):
                rows, keys = slice(4 * i, 4 * i + 4), slice(4 * j, 4 * j + 4)
                seen.setdefault(i - j, []).append(p[rows, keys].sum(axis=1).mean())
        expected = [np.mean(seen[d]) if d in seen else np.nan for d in range(3)]
        np.testing.assert_allclose(att.mass_by_distance(q, k, 4, sink=sink), expected)


def test_log_bias_of_the_harmonic_law():
    found = DistanceLaw.harmonic().log_bias(16, att.harmonic_blocks(16) / 136)
    np.testing.assert_allclose(found, -np.log1p(np.arange(16)), atol=1e-12)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: LAWS[0].inclusion(16, 0), "density must be in .*, got 0"),
        (lambda: LAWS[0].inclusion(16, 1.2), "density must be in .*, got 1.2"),
        (lambda: LAWS[0].inclusion(16, float("nan")), "density must be finite, got nan"),
        (
            lambda: DistanceLaw.custom([1.0, 0.0]).inclusion(16, 0.9),
            r"density must be in \[0\.1176, 0\.11764706\], .* for 16 blocks .*, got 0\.9",
        ),
        (
            lambda: DistanceLaw.geometric(0.5).inclusion(1200, 1.0),
            r"density must be in \[0\.001665, 0\.98\d+\], .* for 1200 blocks .*, got 1\.0",
        ),
        (lambda: DistanceLaw.custom([0.0, 1.0]), "weights must be .* positive at distance 0"),
        (lambda: DistanceLaw.calibrated([0.5, -0.1]), "mass must be"),
        (lambda: DistanceLaw.geometric(1.5), r"ratio must be in \(0, 1\], got 1.5"),
        (lambda: DistanceLaw.zipf(-1), "exponent must not be negative, got -1"),
        (lambda: DistanceLaw.implied([np.nan], 4), "table must be numbers"),
        (lambda: att.kappa([1.0, 1.0], 3), r"total must be in \[0, 2\], got 3"),
        (lambda: att.kappa([1.0, -1.0], 1), "weights must be finite and not negative"),
        (lambda: att.kappa([1.0], 1, [0.0]), "cost must be 1 positive numbers"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("weights", "total", "expected"),
    [
        ([1.0, 1e-310], 1.5, [1, 0.5]),
        ([1e10, 1e-300], 2.0, [1, 1]),
        ([1e300, 1e-300], 1.5, [1, 0.5]),
        ([1e-310, 5e-311], 1.5, [1, 0.5]),
        ([1e-310, 1e-310], 1.0, [0.5, 0.5]),
        ([1.0, 1e-305, 1e-306], 2.5, [1, 1, 0.5]),
        (
            [1.0, 1e-200, 0.0, 1e-310, 5e-311],
            3.25,
            [1, 1, 0, 0.8333333333333334, 0.4166666666666667],
        ),
        ([], 0.0, []),
    ],
)
def test_weights_at_the_ends_of_what_a_number_holds(weights, total, expected):
    found = att.inclusion(weights, total)
    assert found.tolist() == pytest.approx(expected, rel=1e-9)
    assert found.sum() == pytest.approx(total, rel=1e-9)


@pytest.mark.filterwarnings("error")
def test_kappa_at_the_ends_of_what_a_number_holds():
    assert att.kappa([1e-200], 1e-200, [1e-200]) == pytest.approx(1e200)
    assert att.kappa([1.0, 1e-310], 1.5) == math.inf
    assert att.kappa([1e300, 1e290], 1.5) == pytest.approx(0.5e-290)


def test_the_most_that_a_law_reaches_is_accepted():
    law = DistanceLaw.custom([1.0, 1.0, 0.0])
    most = (4 + 3) / 10
    assert law.inclusion(4, most).tolist() == [1, 1, 0, 0]
    with pytest.raises(ValueError, match=r"density must be in \[0\.4, 0\.7\]"):
        law.inclusion(4, most + 1e-9)
