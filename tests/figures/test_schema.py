"""The figure schema: what is accepted, what is refused, what comes out as JSON."""

import json

import numpy as np
import pytest

from genopt_core.figures import schema as fg
from genopt_core.figures.frames import pack, unpack


def panel(*marks, **options):
    return fg.Panel(list(marks), **options)


def test_numbers_are_rounded_to_four_digits_and_nan_is_a_gap():
    mark = fg.line([1, 2, 3], [0.123456, float("nan"), 1e-7])
    assert mark.columns["y"] == [0.1235, None, 1e-07]
    assert mark.columns["x"] == [1, 2, 3]


def test_whole_floats_become_integers_so_that_every_engine_prints_the_same():
    assert fg.dot([2.0], [np.float64(40000.4)]).columns == {"x": [2], "y": [40000]}


def test_a_number_for_the_size_is_the_option_and_a_list_the_column():
    assert fg.dot([1, 2], [1, 2], size=5).options == {"size": 5}
    assert fg.dot([1, 2], [1, 2], size=[5, 6]).columns["size"] == [5, 6]
    assert fg.rule(x=0.5).columns == {"x": [0.5]}


def test_a_constant_series_stands_for_every_item():
    assert fg.line([1, 2], [3, 4], z="ours").columns["z"] == ["ours", "ours"]


def test_a_numpy_array_and_a_list_give_the_same_mark():
    values = np.array([0.5, 1.5])
    assert fg.line(values, values).to_json() == fg.line([0.5, 1.5], [0.5, 1.5]).to_json()


ALL_MARKS = {
    "line": fg.line([0, 1], [0, 1], width=2, dash="dashed", curve="step", label="l"),
    "area": fg.area([0, 1], [0, 0], [1, 1], label="a"),
    "dot": fg.dot([0, 1], [0, 1], size=[3, 4], symbol="square"),
    "bar": fg.bar([0, 1], [0, 1], base=[0, 0]),
    "cell": fg.cell([0, 1], [0, 1], [0.1, 0.9], text=["a", "b"]),
    "rect": fg.rect([0], [1], [0], [1], text=["t"], outline=True),
    "rule": fg.rule(x=0.5, dash="dotted"),
    "link": fg.link([0], [0], [1], [1], width=2, curve="arc", arrow=True),
    "text": fg.text([0], [0], ["w"], anchor="middle", bold=True),
}


@pytest.mark.parametrize("kind", fg.KINDS)
def test_every_mark_of_the_schema_reaches_json(kind):
    out = json.loads(json.dumps(panel(ALL_MARKS[kind]).to_json()))["marks"][0]
    assert out["kind"] == kind
    assert set(fg.KINDS[kind].required) <= set(out["columns"])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: fg.Mark("pie", {}), r"kind must be one of 'line', .*, got 'pie'"),
        (
            lambda: fg.Mark("line", {"x": [1]}),
            r"columns of a line mark must have x, y, got \['x'\]",
        ),
        (
            lambda: fg.Mark("line", {"x": [1], "y": [1], "w": [1]}),
            r"columns of a line mark must be among x, y, z, name, tip, got \['w'\]",
        ),
        (lambda: fg.line([1, 2], [1]), "columns of a line mark must be equally long"),
        (lambda: fg.line([1], [float("inf")]), "numbers must be finite, or NaN for a gap, got inf"),
        (
            lambda: fg.line([1], [1], dash="wavy"),
            "dash must be one of 'solid', 'dashed', 'dotted', got 'wavy'",
        ),
        (lambda: fg.line([1], [1], arrow=True), "options of a line mark must be among .*arrow"),
        (lambda: fg.rule(), "must be either x or y"),
        (lambda: fg.rule(x=[1], y=[1]), "must be either x or y"),
        (lambda: panel(), "marks must be at least one"),
        (lambda: panel(fg.line([1], [1], z="a")), r"z must be among the series \[\], got \['a'\]"),
        (lambda: panel(fg.line([1], [1]), series={"a": "c9"}), "role of series 'a' must be one of"),
        (lambda: panel(fg.line([1], [1]), height=9), "height must be 40 to 800 pixels, got 9"),
        (lambda: panel(fg.bar(["a"], [1])), "band"),
        (lambda: panel(fg.bar(["a"], [1]), x=fg.Axis(type="band", domain=["b"])), "band axis"),
        (lambda: panel(fg.line([0], [1]), x=fg.Axis(type="log")), "log axis"),
        (lambda: fg.Axis(type="polar"), "type must be one of .*, got 'polar'"),
        (lambda: fg.Axis(domain=(2, 1)), r"domain must be \(low, high\), low < high"),
        (lambda: fg.Axis(type="log", domain=(0, 1)), "positive"),
        (lambda: fg.Axis(tick_labels=["a"]), "tick_labels"),
        (lambda: fg.Axis(ticks=[1, 2], tick_labels=["a"]), "tick_labels"),
        (lambda: fg.Figure([], "t", "r"), "panels must be 1 to 4, got 0"),
        (lambda: fg.Figure([panel(fg.rule(x=1))], " ", "r"), "title must be a sentence"),
        (lambda: fg.Figure([panel(fg.rule(x=1))], "t", ""), "readout must be a sentence"),
        (lambda: fg.Figure([panel(fg.rule(x=1))], "t", "r", layout="grid"), "layout"),
        (lambda: fg.Figure([panel(fg.rule(x=1))], "t", "r", limits={"k": (2, 1)}), "limits"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_pack_and_unpack_are_inverse_on_odd_shapes():
    items = [
        {"figure": {"a": [1, 2, 3, 4, 5], "b": {"c": 1}, "d": [{"e": i}]}} for i in range(3)
    ] + [{"figure": {"a": [1, 2], "b": {"c": 1.0}, "d": []}}, {"error": "too large"}, {}]
    packed = json.loads(json.dumps(pack(items)))
    assert [unpack(packed, i) for i in range(len(items))] == items


def test_pack_stores_what_is_shared_once():
    items = [{"title": "t" * 1000, "y": [i] * 50} for i in range(20)]
    assert len(json.dumps(pack(items))) < len(json.dumps(items)) / 3
