"""What the build of the book makes of explorers: what each depends on, what is kept, what ships."""

import json
import os
import subprocess
import sys
import zipfile
from types import SimpleNamespace

import pytest
from places import BOOK, CORE

from genopt_core import explorers
from genopt_core.figures.widget import island

sys.path.append(str(BOOK / "_ext"))
import islands
import sources


def files(name):
    paths = sources.needed(sources.module_of(name))
    return {path.relative_to(CORE).as_posix() for path in paths}


def loaded_for(name):
    """Files of our modules that a fresh Python has loaded once explorer ``name`` is there."""
    code = (
        "import sys, genopt_core; from genopt_core import explorers; "
        f"explorers.draw({name!r}); "
        "print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('genopt_core')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {os.path.relpath(file, CORE).replace(os.sep, "/") for file in done.stdout.split()}


@pytest.mark.parametrize("name", ["subword-lattice", "cem-race", "kv-layers"])
def test_a_figure_loads_only_files_on_which_its_frames_depend(name):
    assert loaded_for(name) <= files(name)


def test_a_figure_loads_its_own_chapter_only():
    rooms = {file.split("/")[0] for file in loaded_for("kv-layers")}
    assert not rooms & {"subwords", "cross_entropy", "word2vec", "torch", "integrations"}
    other = [file for file in loaded_for("kv-layers") if not file.startswith("kvcache/")]
    assert len([file for file in other if "__init__" not in file]) <= 9


def test_figures_depend_neither_on_other_chapters_nor_on_what_draws_no_figure():
    assert "tables/kv_layers.json" in files("kv-layers")
    assert "figures/style.json" in files("kv-layers")
    assert "explorers/kvcache/layers.py" in files("kv-layers")
    for name in explorers.names():
        rooms = {file.split("/")[0] for file in files(name)}
        assert not rooms & {"torch", "integrations"}
        own = {"subword": {"subwords"}, "cem": {"cross_entropy"}, "kv": {"kvcache"}}
        own["one"] = {"subwords", "kvcache"}  # the one model is made of them
        others = {"subwords", "cross_entropy", "kvcache"} - own.get(name.split("-")[0], set())
        assert name.startswith("w2v") or not rooms & others, name
        assert "figures/widget.py" not in files(name)
        assert "subwords/__main__.py" not in files(name)
        assert "subwords/commands.py" not in files(name)


def test_known_names_are_what_the_package_defines():
    known = sources.definitions()
    assert {"Control", "Figure", "KINDS", "genopt_core.tables", "genopt_core", "load"} <= known
    assert "genopt_core.figures.frames.pack" in known
    assert not {"np", "Any", "dataclass", "json", "Callable"} & known
    assert not any(name.split(".")[-1].startswith("_") for name in known)


def test_the_package_in_the_page_draws_every_figure_without_anything_else(tmp_path):
    islands.live_package(tmp_path / "genopt_core.zip")
    with zipfile.ZipFile(tmp_path / "genopt_core.zip") as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "page")
    assert not [name for name in names if name.endswith("__main__.py")]
    assert not {name.split("/")[1] for name in names} & {"torch", "integrations", "build"}
    assert {"genopt_core/tables/sotu_words.json", "genopt_core/figures/style.json"} <= set(names)
    code = """
import sys, json, pathlib
class Refused:
    def find_spec(self, name, *rest):
        if name.split(".")[0] in ("scipy", "torch", "matplotlib", "anywidget", "optuna"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refused())
import genopt_core
from genopt_core import explorers
assert pathlib.Path(genopt_core.__file__).parts[-3] == "page"
print(json.dumps({name: json.loads(explorers.run_json(name, "{}")) for name in explorers.names()}))
"""
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "page")}
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == {name: explorers.run(name, {}) for name in explorers.names()}


@pytest.fixture
def counted(monkeypatch):
    """The settings that were computed, and the calls of Node, which draws nothing here."""
    runs, draws = [], []
    run = explorers.run
    monkeypatch.setattr(
        explorers, "run", lambda name, params: runs.append((name, params)) or run(name, params)
    )
    monkeypatch.setattr(
        islands, "draw", lambda figures: draws.append(figures) or dict.fromkeys(figures, "<svg/>")
    )
    return SimpleNamespace(runs=runs, draws=draws)


def page(shelf, *names):
    context = {
        "body": "".join(island(explorers.get(name), {}) for name in names),
        "pathto": lambda file, resource: f"../{file}",
    }
    islands.fill(SimpleNamespace(genopt_shelf=shelf), "page", "", context, None)
    return context["body"]


def test_each_figure_is_computed_once_and_not_again_while_it_is_kept(tmp_path, counted):
    first = page(islands.Shelf(tmp_path), "kv-layers", "kv-layers", "subword-lattice")
    assert len(counted.runs) == len({(name, json.dumps(params)) for name, params in counted.runs})
    assert len(counted.draws) == 1
    counted.runs.clear()
    assert page(islands.Shelf(tmp_path), "kv-layers", "kv-layers", "subword-lattice") == first
    assert not counted.runs

    def pictures(name):  # the setting it opens with, and each preset that is another one
        entry = explorers.get(name)
        start = entry.check({})
        return 1 + sum(entry.check(dict(preset.params)) != start for preset in entry.presets)

    assert (
        first.count('href="../_static/genopt/frames/kv-layers.js"') == first.count("preload") == 1
    )
    assert first.count("<svg/>") == 2 * pictures("kv-layers") + pictures("subword-lattice")


def test_what_was_computed_from_other_files_is_thrown_away(tmp_path, counted):
    shelf = islands.Shelf(tmp_path)
    page(shelf, "kv-layers", "subword-lattice")
    counted.runs.clear()
    shelf = islands.Shelf(tmp_path)
    shelf.versions["kv-layers"] = "another"
    page(shelf, "kv-layers", "subword-lattice")
    assert {name for name, _ in counted.runs} == {"kv-layers"}
    assert len(list((tmp_path / "kv-layers").iterdir())) == 1


def test_a_setting_that_cannot_be_shown_stands_there_in_words():
    assert islands.on_paper({"error": "k < 2"}) == "<div><p>k &lt; 2</p></div>"
    assert "<strong>P</strong>" in islands.on_paper({"error": "no"}, "P")
