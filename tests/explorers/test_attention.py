"""The numbers in the figures of chapter 4 are those of attention, computed here in another way."""

import math
import re

import numpy as np
import pytest
from oracles.figures import drawn, marks

from genopt_core import explorers as ex
from genopt_core.attention.blocks import systematic_samples
from genopt_core.explorers.attention import bridge, promise, rounds, tiles, triangle
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
    figure = drawn("attn-tiles", step=36)
    carried, mass = marks(figure["panels"][2], "bar")
    (words, _) = marks(figure["panels"][2], "text")
    assert sum(map(bool, words["columns"]["text"])) == 2, "the maximum grows twice in this row"
    head = drawn_head(tiles.TOKENS, 0, tiles.PEAK, tiles.SINK)
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


# ------------------------------------------------------------------ the triangle


def weights(law):
    delta = np.arange(16)
    return {
        "harmonic": 1 / (1 + delta),
        "zipf": 1 / (1 + delta) ** 2,
        "geometric": 0.7**delta,
        "uniform": np.ones(16),
        "radial": np.array([1, 1, *[0.5] * 2, *[0.25] * 4, *[0.125] * 8]),
    }[law]


@pytest.mark.parametrize("law", list(triangle.LAWS))
@pytest.mark.parametrize("density", list(triangle.DENSITIES))
def test_the_curve_is_the_capped_law_and_its_cost_is_the_density(law, density):
    figure = drawn("attn-triangle", law=law, density=density)
    (line,) = marks(figure["panels"][1], "line")
    factor = float(re.search(r"κ = (\d+\.\d+) ", figure["readout"])[1])
    w = weights(law)
    pi = np.minimum(1, factor * w)
    pi[0] = 1
    assert line["columns"]["y"] == pytest.approx(pi, abs=0.006), "κ is printed to two digits"
    assert (16 - np.arange(16)) @ line["columns"]["y"] == pytest.approx(density * 136, rel=1e-3)


@pytest.mark.parametrize("selection", list(triangle.SELECTIONS))
@pytest.mark.parametrize("sure", list(triangle.SURE))
def test_the_views_show_the_same_blocks_and_the_sure_ones_are_among_them(selection, sure):
    given = {"selection": selection, "sure": sure, "seed": 1}
    shown = {}
    for view in triangle.VIEWS:
        (cells,) = marks(drawn("attn-triangle", view=view, **given)["panels"][0], "cell")
        grid = np.zeros((16, 16), int)
        columns = cells["columns"]
        grid[columns["y"], columns["x"]] = columns["value"]
        shown[view] = grid
    for view, grid in shown.items():
        assert (grid.sum(axis=1) == shown["key"].sum(axis=1)).all(), view
    i = np.arange(16)
    assert (shown["key"][i, i] == 4).all()
    for row in range(16):
        assert (shown["distance"][row, : row + 1] == shown["key"][row, : row + 1][::-1]).all()
        assert (np.diff(shown["left"][row]) <= 0).all()
    if sure != "none":
        assert (shown["key"][:, 0] == 4).all()
    if sure == "near":
        assert (shown["distance"][1:, 1] == 4).all()
    if selection == "shared":
        assert set(np.unique(shown["key"])) == {0, 4}
    if selection != "rows" and sure == "none":
        assert all(len(set(shown["distance"][d:, d])) == 1 for d in range(16))
        assert (np.diff(shown["left"].sum(axis=1)) >= 0).all(), "the outline of a triangle"
    figure = ex.draw("attn-triangle", **given)
    mean = shown["key"].sum() / 4
    never = 136 - (shown["key"] > 0).sum()
    assert f"keep {mean:.1f} of 136" in figure.readout
    assert f"and {never} blocks are kept by no head" in figure.readout


def test_over_many_draws_the_mean_is_what_is_expected():
    """Within four standard errors."""
    for selection in triangle.SELECTIONS:
        means = [
            triangle.drawn_blocks("harmonic", 0.305, selection, "sink", s).sum() / 4
            for s in range(400)
        ]
        readout = ex.draw("attn-triangle", selection=selection, sure="sink").readout
        expected = float(re.search(r"average, (\d+\.\d) expected", readout)[1])
        assert np.mean(means) == pytest.approx(expected, abs=4 * np.std(means) / 20)


def test_the_meter_has_the_harmonic_law_in_closed_form():
    (bar,) = marks(drawn("attn-triangle")["panels"][2], "bar")
    h = sum(1 / n for n in range(1, 17))
    assert bar["columns"]["x"][2:] == pytest.approx([17 * h - 16, 136], rel=1e-3)


# ------------------------------------------------------------------ rounds


def sums_of_blocks(peak, seed):
    """Numerator and mass of each key block for each query of the last block, and all centroids."""
    head = drawn_head(64, seed, peak, rounds.SINK, values=4)
    q, v = head.queries[60:], head.values + 1
    e = np.where(np.arange(64) <= np.arange(60, 64)[:, None], np.exp(q @ head.keys.T / 3), 0)
    mass = e.reshape(4, 16, 4).sum(axis=2)
    numerator = (e[..., None] * v).reshape(4, 16, 4, 4).sum(axis=2)
    rough = 4 * np.exp(q @ head.keys.reshape(16, 4, 9).mean(axis=1).T / 3)
    return numerator, mass, rough[..., None] * v.reshape(16, 4, 4).mean(axis=1), rough


def distance(out, full):
    return np.linalg.norm(out - full, axis=(-2, -1)) / np.linalg.norm(full)


@pytest.mark.parametrize("sink", [True, False])
@pytest.mark.parametrize(("law", "peak"), [("harmonic", 1.5), ("uniform", 3.0), ("geometric", 0.5)])
def test_errors_of_rounds_are_those_of_sums_over_the_drawn_blocks(law, peak, sink):
    found = rounds.converging(law, 5, peak, sink, 1)
    numerator, mass, rough_numerator, rough = sums_of_blocks(peak, 1)
    full = numerator.sum(axis=1) / mass.sum(axis=1, keepdims=True)
    pi = rounds.probabilities(law, 5, sink)
    assert pi.sum() == pytest.approx(5)
    assert pi[-1] == 1
    assert (pi[0] == 1) == sink
    samples, chance = systematic_samples(pi)
    drawn_ones = np.random.default_rng(1).choice(len(samples), p=chance, size=(64, 256))
    taken = samples[drawn_ones]  # (repeats, rounds, blocks)
    for column, count in enumerate(rounds.ROUNDS):
        many = taken[:, :count].mean(axis=1)  # how often each block is in
        over = many / pi
        n, z = (np.einsum("rb,qb...->rq...", over, x) for x in (numerator, mass))
        plain = np.einsum("rb,qbv->rqv", many, numerator)
        plain = plain / np.einsum("rb,qb->rq", many, mass)[..., None]
        assert found.errors["plain"][:, column] == pytest.approx(distance(plain, full))
        ratio = distance(n / z[..., None], full)
        assert found.errors["self-normalized"][:, column] == pytest.approx(ratio)
        exact = distance(n / mass.sum(axis=1)[:, None], full)
        assert found.errors["horvitz-thompson"][:, column] == pytest.approx(exact)
        left = np.where(pi < 1, 1 - over, 0)
        n = n + np.einsum("rb,qbv->rqv", left, rough_numerator)
        z = z + np.einsum("rb,qb->rq", left, rough)
        if count > 1:  # a single round with a mass below 0 takes the ratio instead
            difference = distance(n / z[..., None], full)
            assert found.errors["difference"][:, column] == pytest.approx(difference)
    limit = (numerator * pi[:, None]).sum(axis=1) / (mass @ pi)[:, None]
    assert found.limit == pytest.approx(float(distance(limit, full)))
    shares = (mass / mass.sum(axis=1, keepdims=True)).mean(axis=0)
    assert found.shares == pytest.approx(shares)
    tilted = mass * pi
    tilted = (tilted / tilted.sum(axis=1, keepdims=True)).mean(axis=0)
    assert found.limit_shares == pytest.approx(tilted)


def test_unbiased_rounds_fall_by_the_root_and_plain_ones_stay():
    """Of 64 repeats: the exact rate for the one whose output is unbiased in every round."""
    for law in rounds.LAWS:
        errors = rounds.converging(law, 8, 1.5, True, 0).errors
        fall = {n: np.sqrt((e**2).mean(axis=0)) for n, e in errors.items()}
        x = np.log(rounds.ROUNDS)
        assert np.polyfit(x, np.log(fall["horvitz-thompson"]), 1)[0] == pytest.approx(
            -0.5, abs=0.05
        )
        limit = rounds.converging(law, 8, 1.5, True, 0).limit
        assert fall["plain"][-1] == pytest.approx(limit, rel=0.05)
        for name in ("self-normalized", "difference"):
            assert fall[name][-1] < fall["plain"][-1] / 3


@pytest.mark.parametrize("estimator", list(rounds.ESTIMATORS))
def test_the_readout_of_rounds_has_the_errors_that_are_drawn(estimator):
    figure = drawn("attn-rounds", estimator=estimator, law="uniform", kept=8)
    (chosen,) = marks(figure["panels"][0], "dot")
    errors = rounds.converging("uniform", 8, 1.5, True, 0)
    rms = np.sqrt((errors.errors[estimator] ** 2).mean(axis=0))
    assert chosen["columns"]["y"] == pytest.approx(rms, rel=1e-3)
    for value in (rms[0], rms[-1], errors.limit):
        assert f"{100 * value:.1f} %" in figure["readout"]
    assert "from round 3 on" in figure["cost"], "17 blocks of 8 a round"


# ------------------------------------------------------------------ a promise


def promised(spread, eps, delta, pilot, sure, of):
    """Errors and sizes of the same orders, one draw after the other."""
    from scipy.stats import t as student

    mass, sums = promise.other_blocks(spread)
    known = sure / (1 - sure)
    whole_mass, whole_sum = known + mass.sum(), known + sums.sum(axis=0)
    quantile = student.ppf(1 - delta / 2, pilot - 1)
    errors, sizes = [], []
    for order in np.random.default_rng(1).random((1000, 64)).argsort(axis=1):
        z, n = mass[order[:pilot]], sums[order[:pilot]]
        about = known + 64 * z.mean()
        if of == "mass":
            spread_ = 64 * z.std(ddof=1) / about
        else:
            out = (known + 64 * n.mean(axis=0)) / about
            e = n - z[:, None] * out
            spread_ = 64 * math.sqrt(e.var(axis=0, ddof=1).sum()) / about / np.linalg.norm(out)
        x = (quantile * spread_ / eps) ** 2
        size = min(max(math.ceil(x / (1 + x / 64) - 1e-9), pilot), 64)
        sizes.append(size)
        used = order[:size]
        z = known + 64 * mass[used].mean()
        if of == "mass":
            errors.append(abs(z - whole_mass) / whole_mass)
        else:
            out = (known + 64 * sums[used].mean(axis=0)) / z
            full = whole_sum / whole_mass
            errors.append(np.linalg.norm(out - full) / np.linalg.norm(full))
    return np.array(errors), np.mean(sizes)


@pytest.mark.parametrize("of", list(promise.OF))
@pytest.mark.parametrize(
    ("spread", "pilot", "sure"),
    [("even", 8, 0.0), ("one", 4, 0.0), ("tail", 16, 0.9)],  # the first within its interval
)
def test_a_promise_is_kept_as_often_as_is_said(of, spread, pilot, sure):
    from scipy.stats import binomtest

    errors, size = promised(spread, 0.1, 0.2, pilot, sure, of)
    figure = drawn("attn-promise", delta=0.2, pilot=pilot, spread=spread, sure=sure, of=of)
    share = float((errors <= 0.1).mean())
    assert f"asks for {size:.1f} of 64" in figure["readout"]
    assert f"and {100 * share:.1f} % of 1,000 draws" in figure["readout"]
    high = binomtest(round(1000 * share), 1000).proportion_ci(method="wilson").high
    assert ("broken" in figure["readout"]) == (high < 0.8)
    (bars,) = marks(figure["panels"][1], "bar")
    counts, _ = np.histogram(np.minimum(errors / 0.1, 2.999), np.linspace(0, 3, 19))
    assert bars["columns"]["y"] == counts.tolist()
    assert sum(bars["columns"]["y"][:6]) == pytest.approx(1000 * share)
    (dots,) = marks(figure["panels"][2], "dot")
    assert dots["columns"]["x"][promise.PILOTS.index(pilot)] == pytest.approx(share, rel=1e-3)


def test_intervals_of_a_promise_are_scipy_s():
    from scipy.stats import binomtest

    table = ex.draw("attn-promise", spread="uneven").panels[2].table
    for share, low, high in zip(table["share of draws"], table["from"], table["to"], strict=True):
        found = binomtest(round(1000 * share), 1000).proportion_ci(method="wilson")
        assert (low, high) == pytest.approx((found.low, found.high))


def test_a_true_bound_asks_for_all_where_one_block_is_heavy():
    assert "asks for 64 of 64" in ex.draw("attn-promise", spread="one").cost
    mass, _ = promise.other_blocks("one")
    assert mass.sum() == pytest.approx(1)
    assert mass.argmax() == promise.HEAVY
    (bars,) = marks(drawn("attn-promise", spread="one", sure=0.9)["panels"][0], "bar")
    assert bars["columns"]["y"] == pytest.approx(0.1 * mass, rel=1e-3)


# ------------------------------------------------------------------ the bridge to chapter 3


@pytest.mark.parametrize("distance", list(bridge.DISTANCES))
@pytest.mark.parametrize(("slope", "block", "c", "eps"), [(0.125, 16, 1, 0.01), (2.0, 64, 0, 0.1)])
def test_the_bridge_shows_the_mean_weight_of_blocks_and_the_bound(distance, slope, block, c, eps):
    given = {"distance": distance, "slope": slope, "block": block, "c": c, "eps": eps}
    figure = drawn("attn-bridge", **given)
    length = 12 * block
    cost = np.arange(length) if distance == "linear" else np.cumsum([0, *1 / np.arange(1, length)])
    weight = np.exp(-slope * cost)
    i = np.arange(block)
    law = []
    for delta in range(12):
        apart = delta * block + i[:, None] - i
        law.append(np.mean([weight[d] for d in apart.ravel() if 0 <= d < length]))
    law = np.array(law) / law[0]
    bound, free = [], []
    for delta in range(12):
        nearest = max(delta * block - block + 1, 0)
        far, near = weight[nearest:].sum(), weight[:nearest].sum()
        bound.append(far / (far + math.exp(-2 * c) * near))
        free.append(delta > 0 and bound[-1] <= eps)
    shown = {m["columns"]["z"][0]: m["columns"]["y"] for m in marks(figure["panels"][0], "line")}

    def read(values):
        return pytest.approx(
            np.where(values >= bridge.LEAST, values, np.nan), rel=1e-3, nan_ok=True
        )

    for name, values in ((bridge.LAW, law), (bridge.BOUND, np.array(bound))):
        assert [math.nan if y is None else y for y in shown[name]] == read(values)
    (rects,) = marks(figure["panels"][1], "rect")
    states = rects["columns"]["z"]
    apart = [
        int(y - x) for x, y in zip(rects["columns"]["x1"], rects["columns"]["y1"], strict=True)
    ]
    assert [s == bridge.SKIPPED for s in states] == [free[d] for d in apart]
    assert all(s == bridge.KEPT for s, d in zip(states, apart, strict=True) if d == 0)
    skipped, kept = states.count(bridge.SKIPPED), states.count(bridge.KEPT)
    assert f"{kept} of 78 blocks are computed" in figure["cost"]
    assert (
        f"the {66 - skipped} others beside the diagonal the draw keeps {kept - 12},"
        in (figure["readout"])
    )
    said = f"so {skipped} of 78 blocks may go for sure" if skipped else "No block may go for sure"
    assert said in figure["readout"]


def test_half_of_what_the_bound_leaves_is_drawn_by_the_implied_law():
    found = bridge.bridged("harmonic", 1.0, 16, 1, 0.01, 0)
    assert not found.free.any()
    assert found.pi[1:] @ np.arange(11, 0, -1) == pytest.approx(33)
    inner = found.pi[(found.pi < 1) & (found.pi > 0)] / found.law[(found.pi < 1) & (found.pi > 0)]
    assert inner == pytest.approx(np.full(len(inner), inner[0]))
    far = found.law[2:] * np.arange(2, 12)
    assert far.max() / far.min() < 1.05, "it falls as 1/δ"
