"""The numbers in the figures of chapter 5 are the core's, and the stored tables the fixture's."""

import hashlib
import itertools
import json
import math

import numpy as np
import pytest
from oracles.figures import drawn, marks
from oracles.kvcache import FIXTURE
from places import RESULTS, TABLES

from book.ch5_kvcache import results
from genopt_core import explorers as ex
from genopt_core import tables
from genopt_core.explorers.kvcache import (
    away,
    designer,
    nested,
    objections,
    quality,
    recall,
    staircase,
    times,
)
from genopt_core.explorers.kvcache import layers as by_layer
from genopt_core.explorers.kvcache.block import real_block
from genopt_core.explorers.kvcache.channel import GROUPINGS
from genopt_core.kvcache import (
    Staircase,
    dequantize_groups,
    design_bits,
    drop_low_bits,
    format_ladder,
    ladder_bound,
    quantize_groups,
    stairs_by_age,
)


@pytest.fixture(scope="module")
def maker():
    from book.experiments.kvcache import explorer_tables

    return explorer_tables


@pytest.fixture(scope="module")
def grown(maker):
    return maker.Heads(maker.LENGTH)


def test_tables_are_of_this_fixture_and_hold_its_numbers():
    table = tables.load("kv_tables")
    assert table["fixture sha256"] == hashlib.sha256(FIXTURE.read_bytes()).hexdigest()
    data = np.load(FIXTURE)
    for side, name in (("key", "K"), ("value", "V")):
        assert (real_block(side) == data[name][1, 2, :64].astype(np.float32)).all()
        with pytest.raises(ValueError, match="read-only"):
            real_block(side)[0, 0] = 0


@pytest.mark.parametrize(
    ("ladders", "codec", "chunk", "sink"),
    [
        (((16, 2), (16, 2)), "grid 32", 64, 0),
        (((16, 8, 4, 3), (16, 8, 4, 2)), "rotated", 64, 4),
        (((16, 4, 4, 3, 3, 2), (16, 4)), "rotated", 128, 0),
    ],
)
def test_a_design_s_error_is_that_of_a_grown_cache(maker, grown, ladders, codec, chunk, sink):
    """The table's batched codecs against a Staircase for each head."""
    name, _, group = codec.partition(" ")
    k, v = (np.empty_like(grown.k) for _ in range(2))
    for layer, head in itertools.product(range(3), range(3)):
        one = Staircase(
            ladders[0],
            value_ladder=ladders[1],
            chunk=chunk,
            sink=sink,
            codec=name,
            group_size=int(group or 32),
        )
        one.append(grown.k[layer, head], grown.v[layer, head])
        k[layer, head], v[layer, head] = one.keys, one.values
    row, column = (maker.LADDERS.index(ladder) for ladder in ladders)
    stored = tables.load("kv_tables")["measured"][f"{codec}, chunk {chunk}, {sink} sinks"][row][
        column
    ]
    assert stored == pytest.approx(grown.error(k, v), rel=2e-3)
    meta = designer.metadata(codec, chunk)
    bits = design_bits(*ladders, maker.LENGTH, chunk, sink=sink, **meta)
    # the fixture is restored in float32 here: its sinks and residual count twice
    half = Staircase(
        ladders[0],
        value_ladder=ladders[1],
        chunk=chunk,
        sink=sink,
        codec=name,
        group_size=int(group or 32),
    )
    half.append(grown.k[0, 0].astype(np.float16), grown.v[0, 0].astype(np.float16))
    assert half.bits_per_element() == pytest.approx(bits, rel=1e-12)


def test_expected_error_is_first_order_and_below_what_conspires(grown):
    """The prediction assumes independent errors: right order, and of the right size or too low."""
    pairs = []
    for name, rows in tables.load("kv_tables")["measured"].items():
        codec, chunk, sink = (part.strip() for part in name.split(","))
        setting = codec, int(chunk.split()[1]), int(sink.split()[0])
        for (i, k), (j, v) in itertools.product(enumerate(designer.LADDERS), repeat=2):
            square = sum(designer.terms("key", k, *setting)) + sum(
                designer.terms("value", v, *setting)
            )
            pairs.append((math.sqrt(square), rows[i][j]))
    expected, measured = np.array(pairs).T
    assert (expected < 1.2 * measured).all()
    order = [np.argsort(np.argsort(x)) for x in (expected, measured)]
    assert np.corrcoef(*order)[0, 1] > 0.97


def test_groupings_are_the_fixture_s(maker):
    heads = maker.Heads()
    for per in ("channel", "token"):
        v = dequantize_groups(*quantize_groups(heads.v, 2, 32, per=per), per=per)
        stored = tables.load("kv_tables")["groupings"][f"value {per} 2, 0 sinks"]
        assert stored[1] == pytest.approx(heads.error(heads.k, v), rel=1e-3)
    assert maker.narrowed(heads) == {
        name: pytest.approx(row, rel=1e-3)
        for name, row in tables.load("kv_tables")["narrowed"].items()
    }


def test_the_designer_offers_the_measured_ladders():
    assert tables.load("kv_tables")["ladders"] == designer.LADDERS


@pytest.mark.parametrize("name", ["layers", "quality", "answers"])
def test_copies_are_of_the_stored_results(maker, name):
    stored = json.loads((TABLES / f"kv_{name}.json").read_text(encoding="utf-8"))
    again = json.loads(json.dumps(getattr(maker, name)()))
    assert stored == again, "run: python -m book.experiments.kvcache.explorer_tables --results"


# ------------------------------------------------------------------ the figures


@pytest.mark.parametrize("step", [0, 1, 8, 43, 44, 64])
@pytest.mark.parametrize("sink", [0, 4])
@pytest.mark.parametrize("ladder", ["16/8/4/2", "16/2"])
def test_staircase_shows_the_core_s_stairs_and_bytes(step, sink, ladder):
    widths = tuple(map(int, ladder.split("/")))
    figure = drawn("kv-staircase", step=step, ladder=ladder, sink=sink)
    stairs, curves, meter = figure["panels"]
    blocks = marks(stairs, "rect")
    expected = stairs_by_age(16 * step, widths, 64, sink=sink)
    if step:
        c = blocks[0]["columns"]
        assert list(zip(c["x1"], c["x2"], c["y2"], strict=True)) == [tuple(s) for s in expected]
    else:
        assert not blocks
    one = Staircase(widths, chunk=64, sink=sink)
    x = np.random.default_rng(5).normal(size=(max(16 * step, 1), 64)).astype(np.float16)
    one.append(x, x)
    if step:
        (line,) = marks(curves, "line", z="this ladder")
        assert line["columns"]["y"][step - 1] == pytest.approx(one.bits_per_element(), rel=1e-3)
        (bars,) = marks(meter, "bar")
        held = one.nbytes() * staircase.CHANNELS / 128 / 1e6  # the cache above has 128 channels
        assert bars["columns"]["x"][2] == pytest.approx(held, rel=1e-3)


def test_staircase_says_how_many_chunks_move():
    assert "3 chunks change" in ex.draw("kv-staircase", step=40).readout
    assert "1 chunk changes" in ex.draw("kv-staircase", step=40, ladder="16/2").readout
    assert "no width changes" in ex.draw("kv-staircase", step=41).readout


@pytest.mark.parametrize("side", ["key", "value"])
@pytest.mark.parametrize("per", ["channel", "token"])
@pytest.mark.parametrize("bits", [1, 2, 8])
def test_channel_shows_the_core_s_codes(side, per, bits):
    x = real_block(side)
    y = dequantize_groups(*quantize_groups(x, bits, 32, per=per), per=per)
    figure = drawn("kv-channel", side=side, per=per, bits=bits, channel="largest")
    at = int(np.argsort(np.abs(x).mean(axis=0), kind="stable")[-1])
    upper, lower = figure["panels"]
    assert marks(upper, "line")[0]["columns"]["y"] == pytest.approx(y[:, at], rel=1e-3, abs=1e-4)
    rms = np.sqrt(np.square((y - x).astype(float)).mean(axis=0))
    (line,) = marks(lower, "line", z=GROUPINGS[per])
    assert line["columns"]["y"] == pytest.approx(rms, rel=1e-3)
    overall = math.sqrt(np.square((y - x).astype(float)).mean())
    assert f"off by {overall:.3g} (rms)" in figure["readout"]


def test_smaller_error_of_numbers_and_larger_error_of_attention():
    """What the failing presets say, as numbers."""
    table = tables.load("kv_tables")["groupings"]
    channel, token = table["value channel 2, 0 sinks"], table["value token 2, 0 sinks"]
    assert channel[0] < 0.8 * token[0]
    assert channel[1] > 1.3 * token[1]
    channel, token = table["value channel 2, 4 sinks"], table["value token 2, 4 sinks"]
    assert channel[1] < 0.8 * token[1], "with sinks exact the order turns"
    drop, kept = (tables.load("kv_tables")["narrowed"][f"{m}, 0 sinks"] for m in ("drop", "recode"))
    assert drop[0] < 0.9 * kept[0]
    assert drop[1] > 2 * kept[1]


@pytest.mark.parametrize("ladder", [format_ladder(lad) for lad in nested.LADDERS])
def test_nested_ladders_lose_nothing_and_others_do(ladder):
    widths = tuple(map(int, ladder.split("/")))
    x = np.linspace(0, 1, 212)
    figure = drawn("kv-nested", ladder=ladder, method="recode")
    upper, lower = figure["panels"]
    direct, arrived = (m["columns"]["y"] for m in marks(upper, "line"))
    y = x[:, None]
    for bits in widths:  # the paper's way: de-quantize and quantize again
        y = dequantize_groups(*quantize_groups(y, bits, 212), dtype=float)
    assert arrived == pytest.approx(y[:, 0], abs=1e-3)
    assert np.abs(y[:, 0] - x).max() <= ladder_bound(1.0, widths) + 1e-12
    nested = all(a % b == 0 for a, b in itertools.pairwise(widths))
    assert (direct == arrived) == nested
    (bars,) = marks(lower, "bar")
    assert (bars["columns"]["y"][1] == 1) == nested
    assert ("0.0 % of the codes" in figure["readout"]) == nested


def test_dropped_bits_are_the_core_s():
    (_, line) = marks(drawn("kv-nested", ladder="8/4/2", method="drop")["panels"][0], "line")
    fine = np.rint(np.linspace(0, 1, 212) * 255).astype(np.uint8)
    assert line["columns"]["y"] == pytest.approx(drop_low_bits(fine, 8, 2)[1] / 255, rel=1e-3)


def test_designer_s_panels_add_up():
    figure = drawn("kv-designer")
    cloud, parts = figure["panels"][:2]
    held, measured = (marks(cloud, "dot", z="this design")[0]["columns"][n][0] for n in "xy")
    assert f"{held:.2f} bits a number at 508" in figure["readout"]
    assert f"off by {measured:.3g} %" in figure["readout"]
    columns = marks(parts, "bar")[0]["columns"]
    total = np.array(columns["y"]).sum() - np.array(columns["base"]).sum()
    assert f"{math.sqrt(total):.3g} % would be" in figure["readout"]


# ------------------------------------------------------------------ ladders by layer


@pytest.mark.parametrize("chosen_on", ["both", "prose", "code"])
@pytest.mark.parametrize("budget", [1.5, 2.35, 4.3, 6.0])
def test_layers_shows_the_best_division_and_what_it_costs(budget, chosen_on):
    """Against a Lagrangian bound: no division of these bits can cost less than its minimum."""
    figure = drawn("kv-layers", budget=budget, chosen_on=chosen_on)
    gets, _, loss = figure["panels"]
    bits = np.array([marks(gets, "dot", z)[0]["columns"]["y"] for z in ("keys", "values")]).T
    spent = bits + by_layer.METADATA
    assert budget - 0.2 < spent.mean() <= budget + 1e-9
    floors, costs = by_layer.stored_costs()
    at = np.vectorize(floors.tolist().index)(bits.astype(int))
    used = (costs["prose"] + costs["code"]) / 2 if chosen_on == "both" else costs[chosen_on]
    ours = np.take_along_axis(used, at[..., None], -1).sum()
    every = floors + by_layer.METADATA[:, None]
    bound = max(
        (used + price * (every - budget)).min(axis=-1).sum()
        for price in np.geomspace(1e-6, 10, 400)
    )
    assert bound <= ours <= bound * 1.05 + 0.02
    bars = marks(loss, "bar")[0]["columns"]
    shown = dict(zip(bars["y"], bars["x"], strict=True))
    for text in ("prose", "code"):
        cost = np.take_along_axis(costs[text], at[..., None], -1).sum()
        assert shown[f"{text}, by layer"] == pytest.approx(cost, rel=1e-3)
    assert (
        ours
        <= np.take_along_axis(
            used, by_layer.uniform_ladders(budget, chosen_on)[..., None], -1
        ).sum()
    )


# ------------------------------------------------------------------ quality, times, objections


@pytest.mark.parametrize("measure", ["divergence", "rise"])
@pytest.mark.parametrize("place", list(quality.PLACES))
def test_quality_shows_every_scored_design_at_its_bits(place, measure):
    length, text = place.split("/", 1)
    table = tables.load("kv_quality")
    column = table["columns"].index(measure)
    scored = {row[0]: row[column] for row in table["places"][length][text]}
    panels = drawn("kv-quality", place=place, measure=measure)["panels"]
    for panel, kind in zip(panels, quality.BITS, strict=True):
        (dots,) = marks(panel, "dot")
        for number, design in enumerate(table["designs"]):
            value = dots["columns"]["y"][number]
            if number not in scored:
                assert value is None
                continue
            assert value == pytest.approx(scored[number], rel=1e-3)
            bits = design["limit"] if kind == "limit" else design["held"][length]
            assert dots["columns"]["x"][number] == pytest.approx(bits, rel=1e-3)


@pytest.mark.parametrize("budget", quality.BUDGETS)
def test_quality_names_the_best_peer_of_these_bits(budget):
    """By the summary of the stored results, which the table copies."""
    stored = json.loads((RESULTS / "kv_quality.json").read_text(encoding="utf-8"))
    entries = [e for e in stored["summary"] if e["length"] == 2048]
    ours = next(e for e in entries if e["design"] == stored["chosen"][budget])
    peers = [e for e in entries if e["family"] not in ("SAQ", "SAQ+", "full")]
    for kind, limit in (("limit bits", float(budget)), ("held bits", ours["held bits"])):
        fit = [e for e in peers if e[kind] <= limit + quality.TOLERANCE]
        best = min(fit, key=lambda e: e["mean kl"])
        readout = ex.draw("kv-quality", budget=budget).readout
        assert results.design_label(best["design"]) in readout
        assert f"{1e3 * best['mean kl']:.2f}" in readout
    assert f"{1e3 * ours['mean kl']:.2f}" in readout


def test_no_design_beats_the_front():
    for kind in quality.BITS:
        rows = quality.rows_at("2048/mean", "divergence")
        front = quality.front(rows, kind)
        assert front == sorted(front, key=lambda point: (point[0], -point[1]))
        for row in rows:
            assert any(x <= row[kind] and y <= row["value"] for x, y in front)


@pytest.mark.parametrize("unit", ["time", "ratio"])
@pytest.mark.parametrize("part", list(times.PARTS))
def test_times_are_the_stored_ones(part, unit):
    speed = json.loads((RESULTS / "kv_speed.json").read_text(encoding="utf-8"))
    over = {}
    if part == "step":
        stored = speed["model"]["least ms"]
    elif part == "turns":
        caches = speed["compiled"]["caches"]
        stored = {name: row["median ms"] for name, row in caches.items()}
        over = {name: row["over full"] for name, row in caches.items()}
    elif part == "prompt":
        stored = speed["prefill"]["seconds"]
    else:
        stored = next(r["ms"] for r in speed["kernels"] if f"attention {r['bits']}" == part)
    base = stored.get("DynamicCache") or stored["sdpa, full precision"]
    (bars,) = marks(drawn("kv-times", part=part, unit=unit)["panels"][0], "bar")
    over = over or {name: value / base for name, value in stored.items()}
    wanted = sorted((over if unit == "ratio" else stored).values())
    assert sorted(bars["columns"]["x"]) == pytest.approx(wanted, rel=1e-3)


def test_times_tell_what_kernels_save():
    caches = json.loads((RESULTS / "kv_speed.json").read_text(encoding="utf-8"))["compiled"]
    plain, compiled = (
        caches["caches"][name]["over full"] for name in ("SAQ+ 16/8/4/2", "SAQ+ 16/8/4/2, compiled")
    )
    said = drawn("kv-times", part="turns")["readout"]
    assert said.endswith(f"{plain:.2f} times, and SAQ+ 16/8/4/2, compiled {compiled:.2f} times.")


@pytest.mark.parametrize("objection", list(objections.OBJECTIONS))
def test_objections_draw_the_stored_answers(objection):
    stored = json.loads((RESULTS / "kv_sensitivity.json").read_text(encoding="utf-8"))["fixture"]
    rows = {name.split(" (")[0]: value for name, value in stored.items()}
    wanted = {
        "ages": lambda: [
            error
            for row in rows["by age"]
            if row["cache"].replace("-2", ", 2 bits") in objections.AGES
            for error in row["error of one age"]
        ],
        "requantizing": lambda: [
            row["error"] for row in rows["nested"] if (row["sides"], row["sink"]) == ("both", 4)
        ],
        "memory": lambda: [
            value["mean"] if isinstance(value, dict) else value
            for row in rows["equal memory"]
            for value in (row[key] for key in objections.CONTROLS)
        ],
        "sinks": lambda: [row["error"] for row in rows["sinks"]],
        "sharing": lambda: [
            row["correlation of errors in a group"] / 100 for row in rows["sharing"]
        ],
        "metadata": lambda: [row["error"] for row in rows["metadata"] if row["group size"] != 8],
    }[objection]()
    (panel,) = drawn("kv-objections", objection=objection)["panels"]
    shown = [
        y for kind in ("dot", "bar") for mark in marks(panel, kind) for y in mark["columns"]["y"]
    ]
    assert sorted(shown) == pytest.approx(sorted(100 * value for value in wanted), rel=1e-3)


@pytest.mark.parametrize("measure", ["divergence", "rise"])
@pytest.mark.parametrize("text", list(recall.TEXTS))
def test_recall_shows_the_stored_losses(text, measure):
    """Straight from the result, not by way of the table."""
    name = results.RECALL_TEXTS[text]
    stored = json.loads((RESULTS / "kv_recall.json").read_text(encoding="utf-8"))["rows"][name]
    (dots,) = marks(drawn("kv-recall", text=text, measure=measure)["panels"][0], "dot")
    shown = list(zip(dots["columns"]["y"], dots["columns"]["z"], dots["columns"]["x"], strict=True))
    for design, label in results.RECALL_DESIGNS.items():
        for key, series in (
            (design, "plain codes"),
            (f"{design}, balanced", "balanced codes"),
            (f"{design}, with recall, balanced", "balanced, ladders chosen with recall"),
        ):
            if key not in stored:
                continue
            row, full = stored[key], stored["full"]["nll"]
            kind = series if design.startswith("SAQ") else "peers"
            value = (
                1e3 * row["kl"] if measure == "divergence" else 100 * math.expm1(row["nll"] - full)
            )
            (found,) = [x for y, z, x in shown if (y, z) == (label, kind)]
            assert found == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize("cache", list(away.CACHES))
@pytest.mark.parametrize("home", list(away.HOMES))
@pytest.mark.parametrize("measure", list(away.MEASURES))
def test_away_shows_the_stored_windows_and_twice_home(measure, home, cache):
    """Straight from the result, not by way of the table."""
    name = "kv_domains" if cache == away.NINETEEN else "kv_recall_windows"
    stored = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["rows"]
    design = results.COPIED.get(cache, results.MET)
    by_kind = {
        kind: 1e3 * np.array(row["kl"]) if measure == "divergence" else 100 * np.expm1(row["rise"])
        for kind, row in ((kind, designs[design]) for kind, designs in stored.items())
    }
    (panel,) = drawn("kv-away", measure=measure, home=home, cache=cache)["panels"]
    windows, means = (mark["columns"] for mark in marks(panel, "dot"))
    (spans,) = (mark["columns"] for mark in marks(panel, "link"))
    assert sorted(means["y"]) == sorted(by_kind)
    for i, kind in enumerate(means["y"]):
        values = by_kind[kind]
        shown = [x for x, y in zip(windows["x"], windows["y"], strict=True) if y == kind]
        error = values.std(ddof=1) / len(values) ** 0.5
        assert shown == pytest.approx(values, rel=1e-3, abs=1e-3)
        assert means["x"][i] == pytest.approx(values.mean(), rel=1e-3)
        assert (spans["x1"][i], spans["x2"][i]) == pytest.approx(
            (values.mean() - error, values.mean() + error), rel=2e-3, abs=1e-3
        )
    prose, code = by_kind["addresses, 19th century"].mean(), by_kind["code of numpy"].mean()
    base = {"both": (prose + code) / 2, "prose": prose, "code": code}[home]
    rules = [mark["columns"]["x"] for mark in marks(panel, "rule")]
    assert rules == [pytest.approx([base], rel=1e-3), pytest.approx([2 * base], rel=1e-3)]
    low, high = panel["x"]["domain"]
    assert low < min(windows["x"])
    assert max(windows["x"]) < high


def test_away_counts_what_is_outside():
    texts = {
        (m, h): drawn("kv-away", measure=m, home=h)["readout"]
        for m in away.MEASURES
        for h in away.HOMES
    }
    assert texts["divergence", "both"].startswith("2 of 17 kinds")
    assert texts["divergence", "prose"].startswith("12 of 17 kinds")  # ten that do not copy
    assert "messages, Finnish, 1.92 times" in texts["divergence", "both"]
    assert "messages, Finnish" in texts["rise", "both"]
