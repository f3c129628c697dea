"""What plus and posterior propose, against their formulas over every setting of a small space."""

from itertools import product

import numpy as np
import pytest

from genopt_core.cross_entropy import plus
from genopt_core.cross_entropy.parameters import Categorical, Integer
from genopt_core.cross_entropy.posterior import Posterior
from genopt_core.cross_entropy.space import SearchSpace

SPACE = SearchSpace({"kind": Categorical(["a", "b", "c"]), "depth": Integer(1, 4)})
ALL = np.array(list(product(range(3), range(4))), dtype=float)


def trials(count, seed):
    rng = np.random.default_rng(seed)
    rows = ALL[rng.integers(len(ALL), size=count)]
    return rows, np.abs(rows[:, 0] - 1) + (rows[:, 1] - 2) ** 2 + rng.normal(0, 0.1, count)


def kernel(own, other, categories, width, prior):
    """One parameter's K of a cell at another: of categories, or a normal over levels."""
    count = 3 if categories else 4
    if categories:
        values = [width / 3 + (1 - width) * (own == cell) for cell in range(3)]
    else:
        spread = max(width * count / 2, 0.35)
        values = [np.exp(-(((cell - own) / spread) ** 2) / 2) for cell in range(4)]
    return (1 - prior) * values[other] / sum(values) + prior / count


@pytest.mark.parametrize("seed", range(4))
def test_plus_takes_the_proposal_of_the_largest_ratio(seed, monkeypatch):
    rows, scores = trials(9, seed)
    elite = plus.fit_elite(SPACE, rows, scores, 0.34)
    monkeypatch.setattr(plus, "_proposals", lambda space, elite, rng: space.cell(ALL))
    order = np.argsort(scores, kind="stable")
    size = plus.elite_of_all(9, 0.34)
    weights = np.log(size + 0.5) - np.log(np.arange(1, size + 1))
    weights /= weights.sum()

    def density(row, others, shares):
        return sum(
            share
            * kernel(int(one[0]), int(row[0]), True, elite.width, elite.prior)
            * kernel(int(one[1]), int(row[1]), False, elite.width, elite.prior)
            for one, share in zip(others, shares, strict=True)
        )

    rest = rows[order[size:]]
    ratios = [
        density(row, rows[order[:size]], weights) / density(row, rest, [1 / len(rest)] * len(rest))
        for row in ALL
    ]
    rng = np.random.default_rng(0)
    found = plus.propose(SPACE, rows, scores, ALL[:0], set(), 0.34, 0.0, rng)
    assert found.tolist() == ALL[int(np.argmax(ratios))].tolist()


def test_posterior_is_the_projection_of_its_gains():
    rows, scores = trials(8, 1)
    search = Posterior(SPACE, deterministic=False, elite_fraction=0.2)
    fitted = search.distribution(rows, scores, np.random.default_rng(2))
    gains = search._gain(rows, scores, ALL[:0], None)(ALL)
    wanted = [
        [gains[ALL[:, 0] == cell].sum() for cell in range(3)],
        [gains[ALL[:, 1] == cell].sum() for cell in range(4)],
    ]
    for marginal, exact in zip(fitted, wanted, strict=True):
        assert marginal.sum() == pytest.approx(1, abs=1e-12)
        assert np.argmax(marginal) == np.argmax(exact)
        assert np.corrcoef(marginal, exact)[0, 1] > 0.8
