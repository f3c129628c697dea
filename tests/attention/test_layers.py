"""Blocks divided among layers: by hand, against every division, and as the experiment stored it."""

import inspect
import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genopt_core.attention import blocks as att
from genopt_core.attention.blocks.layers import LEAST_DIVERGENCE, tiles
from tests.places import RESULTS


def cost(kept, blocks):
    return sum(min(row, kept) + 1 for row in range(blocks))


def curve(found, tried, kept):
    """The divergence at ``kept`` blocks, from the two tried next to it."""
    part = max((i for i, n in enumerate(tried[:-1]) if n <= kept), default=0)
    a, b = (math.log(max(x, LEAST_DIVERGENCE)) for x in found[part : part + 2])
    return math.exp(a + (b - a) * (kept - tried[part]) / (tried[part + 1] - tried[part]))


@pytest.mark.parametrize("blocks", [1, 5, 16])
def test_tiles_are_counted_row_by_row(blocks):
    assert tiles(range(20), blocks).tolist() == [cost(n, blocks) for n in range(20)]
    every = np.ones((blocks, blocks), bool)
    kept = np.tril(every) & ~np.tril(every, -4)
    assert tiles(3, blocks) == kept.sum()
    assert att.kept_density(kept) == pytest.approx(tiles(3, blocks) / tiles(blocks, blocks))


def test_by_hand():
    # A row keeps 1 to 3 of 3 earlier blocks; divergences halve with each for all layers.
    divide = att.divide_among_layers
    same = [[4.0, 2.0, 1.0]] * 3
    assert divide(same, [1, 2, 3], 100, 2, least=1, most=3) == [2, 2, 2]
    # The second layer is a hundred times as far off: it gets all that the first one does not need.
    assert divide([[4.0, 1.0], [400.0, 100.0]], [2, 4], 100, 3, least=1, most=5) == [1, 5]
    assert divide([[4.0, 1.0], [400.0, 100.0]], [2, 4], 100, 1, least=1, most=5) == [1, 1]
    assert divide([[4.0, 1.0], [400.0, 100.0]], [2, 4], 100, 5, least=1, most=5) == [5, 5]
    # Nothing changes with more blocks: all are given away in the order of layers.
    assert divide([[0.0, 0.0]] * 2, [2, 4], 100, 2, least=1, most=4) == [3, 1]
    # A first step that does not help, and a second one that does.
    late = [[1.0, 1.0, 1e-3], [1.0, 0.9, 0.8]]
    assert divide(late, [1, 2, 3], 100, 2, least=1, most=3) == [3, 1]


@given(
    st.lists(
        st.tuples(st.floats(-9, 3), st.floats(0.2, 1.0), st.floats(0.2, 1.0)),
        min_size=1,
        max_size=3,
    ),
    st.integers(1, 6),
)
def test_no_division_of_that_cost_is_better(layers, mean):
    """Where curves fall ever more slowly; every division is tried."""
    tried, blocks = [1, 3, 6], 400  # so many that a block costs the same everywhere, but for 1 %
    found = []
    for first, fast, slow in layers:
        fast, slow = max(fast, slow), min(fast, slow)
        found.append([math.exp(first - s) for s in (0.0, 2 * fast, 2 * fast + 3 * slow)])
    got = att.divide_among_layers(found, tried, blocks, mean, least=1, most=6)
    spent = sum(cost(n, blocks) for n in got)
    assert spent <= len(found) * cost(mean, blocks)
    total = sum(curve(f, tried, n) for f, n in zip(found, got, strict=True))
    for other in itertools.product(range(1, 7), repeat=len(found)):
        if sum(cost(n, blocks) for n in other) <= spent:
            least = sum(curve(f, tried, n) for f, n in zip(found, other, strict=True))
            assert total <= least * (1 + 1e-9)


@given(
    st.lists(st.lists(st.floats(0, 1e3), min_size=3, max_size=3), min_size=1, max_size=6),
    st.integers(0, 9),
    st.integers(1, 40),
)
def test_the_budget_is_kept_and_used_up(found, mean, blocks):
    found = [sorted(row, reverse=True) for row in found]
    got = att.divide_among_layers(found, [2, 4, 7], blocks, mean, least=0, most=9)
    left = len(found) * cost(mean, blocks) - sum(cost(n, blocks) for n in got)
    assert left >= 0
    assert all(n == 9 or cost(n + 1, blocks) - cost(n, blocks) > left for n in got)


def test_between_and_beyond_what_was_tried_logarithms_are_lines():
    """More layers of known need, seen at other numbers of blocks, are divided alike."""
    halves = [[2.0**-n * scale for n in (2, 9)] for scale in (1.0, 30.0, 1000.0)]
    wanted = att.divide_among_layers(halves, [2, 9], 50, 6, least=1, most=20)
    for tried in ([0, 1], [5, 6, 7], [2, 29]):
        seen = [[2.0**-n * scale for n in tried] for scale in (1.0, 30.0, 1000.0)]
        assert min(map(min, seen)) > LEAST_DIVERGENCE
        assert att.divide_among_layers(seen, tried, 50, 6, least=1, most=20) == wanted
    assert wanted[0] < wanted[1] < wanted[2]


def test_blocks_that_make_it_worse_are_not_given():
    assert att.divide_among_layers([[1, 2], [1, 2]], [2, 4], 16, 4, least=1, most=12) == [1, 1]
    got = att.divide_among_layers([[1, 2], [4, 1]], [2, 4], 16, 4, least=1, most=12)
    assert got[0] == 1
    assert got[1] > 4


@pytest.mark.filterwarnings("error")
def test_lines_that_lead_beyond_all_numbers():
    for steep in ([1e300, 1e-300], [1e-9, 1e3]):
        got = att.divide_among_layers([steep, [1, 0.5]], [20, 21], 16, 4, least=1, most=12)
        assert all(1 <= n <= 12 for n in got)


def test_the_stored_pilot_is_divided_as_it_was():
    stored = json.loads((RESULTS / "attention_halves.json").read_text(encoding="utf-8"))
    found = [stored["pilot"][str(n)] for n in range(len(stored["pilot"]))]
    blocks = stored["tokens"] // 64
    got = att.divide_among_layers(found, stored["steps"], blocks, stored["kept"])
    assert got == stored["layers"]
    share = sum(cost(n, blocks) for n in got) / len(got) / cost(blocks, blocks)
    assert share <= stored["density"] + 5e-5
    assert share == pytest.approx(stored["density"], abs=1e-3)


def test_what_is_assumed():
    given = inspect.signature(att.divide_among_layers).parameters
    assert (given["least"].default, given["most"].default) == (4, 48)
    assert LEAST_DIVERGENCE == 1e-9


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"tried": [2]}, ValueError, "tried must be two whole numbers or more, rising"),
        ({"tried": [4, 2]}, ValueError, "tried must be"),
        ({"tried": [2, 2]}, ValueError, "tried must be"),
        ({"tried": [2.0, 4.0]}, ValueError, "tried must be"),
        ({"tried": [[2, 4]]}, ValueError, "tried must be"),
        ({"tried": [2, 4, 8]}, ValueError, r"divergences must be \(layers, 3\)"),
        ({"divergences": [4.0, 1.0]}, ValueError, r"divergences must be \(layers, 2\)"),
        ({"divergences": []}, ValueError, r"divergences must be \(layers, 2\)"),
        ({"divergences": [[4.0, math.nan]]}, ValueError, "finite and not negative"),
        ({"divergences": [[4.0, math.inf]]}, ValueError, "finite and not negative"),
        ({"divergences": [[4.0, -1e-9]]}, ValueError, "finite and not negative"),
        ({"blocks": 0}, ValueError, "blocks must be at least 1"),
        ({"mean": 0}, ValueError, "mean must be"),
        ({"mean": 6}, ValueError, "mean must be from 1 to 5, least and most, got 6"),
        ({"mean": 1, "least": 2}, ValueError, "mean must be from 2 to 5"),
        ({"mean": math.nan}, TypeError, "mean must be a whole number"),
        ({"least": -1}, ValueError, "least must be at least 0"),
        ({"most": 4.5}, TypeError, "most must be a whole number"),
    ],
)
def test_is_refused(changed, error, words):
    usual = {"divergences": [[4.0, 1.0]], "tried": [2, 4], "blocks": 9, "mean": 3}
    att.divide_among_layers(**usual, least=1, most=5)
    with pytest.raises(error, match=words):
        att.divide_among_layers(**{**usual, "least": 1, "most": 5, **changed})
