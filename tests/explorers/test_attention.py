"""The numbers in the figures of chapter 4 are those of attention, computed here in another way."""

import numpy as np
import pytest
from oracles.figures import drawn, marks

from genopt_core import explorers as ex
from genopt_core.explorers.attention import tiles
from genopt_core.explorers.attention.example import drawn_head


def dense(head, allowed):
    """Attention by the softmax of whole rows, and its scores."""
    scores = head.queries @ head.keys.T / np.sqrt(head.queries.shape[1])
    e = np.where(allowed, np.exp(scores), 0)
    return e @ head.values / e.sum(axis=1, keepdims=True), scores


# ------------------------------------------------------------------ an example of a head


def test_the_example_has_the_spread_and_the_sink_that_it_says():
    head = drawn_head(400, 0, peak=1.5, sink=2.0)
    scores = head.queries @ head.keys.T / 3.0
    assert scores[:, 1:].std() == pytest.approx(1.5, rel=0.02)
    assert scores[:, 1:].mean() == pytest.approx(0, abs=0.02)
    assert np.array_equal(drawn_head(400, 0, 1.5, 0.0).keys[1:], head.keys[1:])
    without = drawn_head(400, 0, peak=1.5, sink=0.0)
    lift = (head.queries @ head.keys[0] - without.queries @ without.keys[0]) / 3.0
    assert lift == pytest.approx(np.full(400, 2.0))


# ------------------------------------------------------------------ tiles


@pytest.mark.parametrize("pattern", list(tiles.PATTERNS))
@pytest.mark.parametrize("seed", [0, 1])
def test_every_row_of_tiles_ends_at_dense_attention_over_what_is_kept(pattern, seed):
    head = drawn_head(tiles.TOKENS, seed, tiles.PEAK, tiles.SINK)
    kept = tiles.kept_pattern(pattern, seed)
    causal = np.tri(tiles.TOKENS, dtype=bool)
    allowed = causal & kept.repeat(4, axis=0).repeat(4, axis=1)
    out, scores = dense(head, allowed)
    full, _ = dense(head, causal)
    ends = np.cumsum(kept.sum(axis=1))
    for row, step in enumerate(ends):
        figure = drawn("attn-tiles", step=int(step), pattern=pattern, seed=seed)
        query = 4 * row + 3
        _, right, mass = figure["panels"]
        (link,) = marks(right, "link")
        top = [y for y in link["columns"]["y1"] if y is not None][-1]
        assert top == pytest.approx(scores[query][allowed[query]].max(), rel=1e-3)
        heights = marks(mass, "bar")[1]["columns"]["y"]
        expected = np.exp(scores[query] - scores[query][allowed[query]].max())
        assert heights[row] == pytest.approx(expected[allowed[query]].sum(), rel=1e-3)
        assert mass["table"]["output"][row] == f"{out[query, 0]:.2f}".replace("-", "−")
        assert mass["table"]["full attention"][0] == f"{full[query, 0]:.2f}".replace("-", "−")
        ended = abs(out - full)[query, 0] < 1e-12
        assert ("to 12 digits" in figure["readout"]) == ended
    if pattern == "all":
        assert "to 12 digits" in figure["readout"]


def test_a_mass_is_what_was_carried_over_and_what_the_tile_adds():
    figure = drawn("attn-tiles", step=36, seed=1)
    carried, mass = marks(figure["panels"][2], "bar")
    head = drawn_head(tiles.TOKENS, 1, tiles.PEAK, tiles.SINK)
    _, scores = dense(head, np.tri(tiles.TOKENS, dtype=bool))
    for j in range(8):
        top = scores[31, : 4 * j + 4].max()
        before = np.exp(scores[31, : 4 * j] - top).sum()
        assert carried["columns"]["y"][j] == pytest.approx(before, rel=1e-3)
        here = np.exp(scores[31, 4 * j : 4 * j + 4] - top).sum()
        assert mass["columns"]["y"][j] == pytest.approx(before + here, rel=1e-3)


def test_the_states_of_the_tiles_follow_the_step():
    for step in (1, 12, 36):
        (rects,) = marks(drawn("attn-tiles", step=step)["panels"][0], "rect")
        states = rects["columns"]["z"]
        assert states.count("done") == step - 1
        assert states.count("this tile") == 1
        assert states.count("to come") == 36 - step
    figure = ex.draw("attn-tiles", step=36, pattern="window")
    assert figure.limits == {"step": (1, 21)}
    assert "21 of 36 tiles" in figure.cost
    assert figure.to_json() == drawn("attn-tiles", step=21, pattern="window")
