"""Every explorer of the book: controls, presets, frames; and the registry's own refusals."""

import itertools
import json
import re
from importlib import import_module

import pytest
from oracles.figures import HYPHEN_AS_MINUS, strings
from places import CORE

from genopt_core import explorers as ex
from genopt_core.figures import controls as ctl
from genopt_core.figures import frames as fr
from genopt_core.figures import registry
from genopt_core.figures import schema as fg
from genopt_core.figures.widget import island

EVERY = ex.names()


@pytest.mark.parametrize("name", EVERY)
def test_default_and_presets_draw_and_say_something_different(name):
    entry = ex.get(name)
    shown = {}
    for params in [{}, *(preset.params for preset in entry.presets)]:
        # a preset may name the default; then it is the same setting, not another one
        shown[json.dumps(entry.check(params))] = json.dumps(ex.run(name, params))
    assert "figure" in json.loads(next(iter(shown.values()))), "the default must show a picture"
    assert len(shown) >= len(entry.presets), "two presets are the same setting"
    assert len(set(shown.values())) == len(shown), "two settings show the same"


@pytest.mark.parametrize("name", EVERY)
def test_three_to_five_presets_of_which_one_fails_and_says_why(name):
    presets = ex.get(name).presets
    assert 3 <= len(presets) <= 5
    assert any(preset.fails for preset in presets)
    assert all(preset.note for preset in presets if preset.fails)


@pytest.mark.parametrize("name", EVERY)
def test_controls_say_what_they_do(name):
    entry = ex.get(name)
    assert len(entry.alt) > 30, "alt text: the kind of picture, its axes, what is compared"
    assert all(control.label and control.help for control in entry.controls)


@pytest.fixture(scope="module", params=EVERY)
def framed(request):
    """An explorer with all its frames, which are computed once for the tests below."""
    return request.param, ex.frames(request.param)


def test_no_hyphen_stands_for_a_minus(framed):
    name, frames = framed
    said = [*strings(frames), *strings(ex.describe(name))]
    assert not [words for _, words in said if HYPHEN_AS_MINUS.search(words)]


def test_frames_are_the_figures_and_light_enough(framed):
    name, frames = framed
    assert len(json.dumps(frames, separators=(",", ":"), ensure_ascii=False).encode()) <= 300_000
    grid = frames["grid"]
    shape = [len(values) for values in grid.values()]
    picks = [[0] * len(shape), [n // 2 for n in shape], [n - 1 for n in shape]]
    for pick in picks:
        index = 0
        for position, size in zip(pick, shape, strict=True):
            index = index * size + position
        params = {key: grid[key][i] for key, i in zip(grid, pick, strict=True)}
        assert fr.unpack(frames["packed"], index) == ex.run(name, params)


@pytest.mark.parametrize("name", EVERY)
def test_default_and_presets_are_among_the_frames(name):
    entry = ex.get(name)
    for params in [{}, *(preset.params for preset in entry.presets)]:
        for key, value in entry.check(params).items():
            control = next(c for c in entry.controls if c.name == key)
            assert value in control.values(), f"{key}={value!r} has no frame"


@pytest.mark.parametrize("name", EVERY)
def test_json_in_and_out_is_run(name):
    assert json.loads(ex.run_json(name, "{}")) == json.loads(json.dumps(ex.run(name, {})))


@pytest.mark.parametrize("name", EVERY)
def test_bad_settings_come_back_as_words(name):
    for control in ex.get(name).controls:
        for bad in (float("nan"), None, [1], "", "no such option " * 9):
            result = ex.run(name, {control.name: bad})
            assert control.name in result.get("error", ""), (control.name, bad)
    assert "no control" in ex.run(name, {"nonsense": 1})["error"]


def test_the_island_reads_as_text_where_nothing_runs():
    html = island(ex.get("subword-lattice"), {})
    assert 'data-explorer="subword-lattice"' in html
    assert ex.run("subword-lattice", {})["figure"]["readout"][:20] in html


def test_an_unknown_explorer_names_those_there_are():
    with pytest.raises(KeyError, match="subword-lattice"):
        ex.get("nothing")


def test_registry_wants_a_failing_preset_and_one_name_each():
    def drawing(x):
        return fg.Figure([fg.Panel([fg.rule(x=x)])], "t", "r")

    with pytest.raises(ValueError, match="must include one that fails"):
        registry.explorer("t", ctl.Toggle("x", "x"), title="t", alt="a", presets=[])(drawing)
    fails = [registry.Preset("p", {}, fails=True)]
    with pytest.raises(ValueError, match="one explorer only"):
        registry.explorer("subword-lattice", title="t", alt="a", presets=fails)(drawing)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ctl.Slider("s", "s", 0, 10, 11), "start of s must be one of .*, got 11"),
        (lambda: ctl.Slider("s", "s", 0, 10, 3, step=2), r"one of \[0, 2, .*, got 3"),
        (
            lambda: ctl.Slider("s", "s", 0.0, 1.0, 0.0, scale="log"),
            "positive on a log scale, got 0.0",
        ),
        (lambda: ctl.Slider("s", "s", 0, 1, 0, step=0), "step of s must be positive, got 0"),
        (lambda: ctl.Slider("s", "s", 0, 1, 0, scale="square"), "scale must be one of"),
        (lambda: ctl.Slider("s", "s", 0, 9, 5, grid=[0, 9]), r"one of \[0, 9\], got 5"),
        (lambda: ctl.Step("i", "i", 0, 5, 6), "start of i must be one of .*, got 6"),
        (
            lambda: ctl.Choice("c", "c", [1, 2], start=3),
            r"start of c must be one of \[1, 2\], got 3",
        ),
    ],
)
def test_controls_refuse_impossible_ranges_and_starts(make, says):
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize(
    ("control", "good", "bad"),
    [
        (ctl.Slider("s", "s", 1, 9, 3), [(1, 1), (4.0, 4)], [0, 10, 2.5, True, "3", None]),
        (ctl.Slider("s", "s", 0.0, 1.0, 0.5, step=0.1), [(0.25, 0.25)], [1.1, float("inf")]),
        (ctl.Choice("c", "c", [1, 2]), [(2, 2)], [3, "1", None]),
        (ctl.Toggle("t", "t"), [(True, True)], [1, "True"]),
        (ctl.Text("w", "w", ["a"], max_length=3), [("abc", "abc")], ["", "  ", "abcd", 3]),
        (ctl.Seed("seed", "seed"), [(12, 12)], [-1, 1.5]),
        (ctl.Step("i", "i", 0, 5), [(5, 5)], [6, -1]),
    ],
)
def test_controls_check_values(control, good, bad):
    for value, expected in good:
        assert control.check(value) == expected
    for value in bad:
        with pytest.raises((ValueError, TypeError), match=control.name):
            control.check(value)


def test_log_slider_spaces_by_ratios():
    values = ctl.Slider("s", "s", 0.01, 1.0, 0.1, step=2, scale="log").values()
    assert values == [0.01, 0.0316, 0.1, 0.316, 1.0]


def test_too_many_frames_are_refused():
    def drawing(a, b):
        return fg.Figure([fg.Panel([fg.rule(x=a + b)])], "t", "r")

    controls = [ctl.Slider(n, n, 0, 99, 0) for n in ("a", "b")]
    fails = [registry.Preset("p", {}, fails=True)]
    registry.explorer("test-too-many", *controls, title="t", alt="a", presets=fails)(drawing)
    try:
        with pytest.raises(ValueError, match="coarsen"):
            fr.frames(registry.REGISTRY["test-too-many"])
    finally:
        del registry.REGISTRY["test-too-many"]


def test_the_list_of_explorers_is_what_their_modules_register_in_order():
    """The table says where to find each; here every file of the folder is read."""
    folder = CORE / "explorers"
    registering = {
        ".".join(path.relative_to(folder).with_suffix("").parts)
        for path in folder.rglob("*.py")
        if re.search(r"^@explorer\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert registering == set(ex.MODULES.values())
    for module in registering:
        import_module(f"genopt_core.explorers.{module}")
        found = [
            name
            for name, entry in registry.REGISTRY.items()
            if entry.function.__module__ == f"genopt_core.explorers.{module}"
        ]
        assert found == [name for name, place in ex.MODULES.items() if place == module]


def test_explorers_are_listed_by_chapter():
    chapters = [module.split(".")[0] for module in ex.MODULES.values()]
    assert [chapter for chapter, _ in itertools.groupby(chapters)] == list(dict.fromkeys(chapters))


FREE = {
    "subword-lattice": ["word"],
    "subword-peers": ["text"],
    "cem-generations": ["seed"],
    "cem-drift": ["population"],
    "cem-noise": ["noise", "seed"],
    "search-costs": ["evaluation"],
    "pos-rotate": ["distance"],
    "pos-coins": ["seed"],
    "attn-tiles": ["seed"],
    "attn-triangle": ["seed"],
    "attn-rounds": ["seed"],
    "attn-bridge": ["seed"],
    "kv-layers": ["budget"],
    "one-travel": ["sentence"],
    "one-generate": ["prompt", "density", "temperature", "seed"],
    "one-budget": ["context", "batch", "density"],
}


def test_python_in_the_page_adds_something_to_these_figures_only():
    """A text, a seed, a slider finer than its grid; all else the frames show."""
    free = {name: ex.describe(name)["free"] for name in EVERY}
    assert {name: controls for name, controls in free.items() if controls} == FREE


def test_a_control_is_free_if_a_live_engine_takes_more_than_the_frames_have():
    assert not ctl.Slider("k", "k", 1, 8, 4).free
    assert not ctl.Slider("k", "k", 1, 3, 1, grid=(1, 2, 3)).free
    assert ctl.Slider("k", "k", 1, 8, 4, grid=(1, 4, 8)).free
    assert ctl.Slider("rate", "rate", 0.0, 1.0, 0.5, step=0.5).free  # any number may be typed
    assert not ctl.Step("step", "step", 0, 3).free
    assert not ctl.Choice("c", "c", [1, 2]).free
    assert ctl.Text("word", "word", ["a"]).free
    assert ctl.Seed("seed", "seed").free
