"""The package as an import: light, complete, and free of what a reader's browser has not."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import genopt_core

PACKAGE = Path(genopt_core.__file__).parent
HEAVY = ("torch", "matplotlib", "ipywidgets", "anywidget", "traitlets", "scipy", "IPython")


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "code",
    ["import genopt_core", "from genopt_core import explorers as e; [e.get(n) for n in e.names()]"],
)
def test_import_loads_numpy_and_nothing_heavier(code):
    show = f"import sys; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    assert python(f"{code}; {show}").split() == []


def test_nothing_is_imported_behind_the_contracts_of_import_linter():
    """Which sees import statements only; one place imports by name, and only explorers."""
    behind = r"sys\.path|import_module|__import__|exec\(|runpy|spec_from_file_location"
    found = [
        path.relative_to(PACKAGE).as_posix()
        for path in modules()
        if re.search(behind, path.read_text(encoding="utf-8"))
    ]
    assert found == ["explorers/__init__.py"]
    text = (PACKAGE / found[0]).read_text(encoding="utf-8")
    assert re.findall(r"import_module\(.*\)", text) == [
        'import_module(f"{__name__}.{MODULES[name]}")'
    ]


def modules() -> list[Path]:
    """The Python files of the package; not what a reader's own `pip install` left in build/."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return [path for path in paths if not {"web", "build"} & set(path.relative_to(PACKAGE).parts)]


@pytest.mark.parametrize(
    "left", ["genopt_core/build/lib/a.py", "genopt_core/a.egg-info/b", "a.pyc"]
)
def test_what_pip_install_leaves_behind_is_ignored(left):
    done = subprocess.run(["git", "check-ignore", "-q", left], cwd=PACKAGE.parent)
    assert done.returncode == 0


def test_every_folder_with_python_is_a_listed_package():
    settings = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))
    listed = set(settings["tool"]["setuptools"]["packages"])
    found = {
        ".".join(["genopt_core", *path.parent.relative_to(PACKAGE).parts])
        for path in modules()
        if path.name == "__init__.py"
    }
    assert listed == found


def test_version_is_stated_once():
    settings = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))
    citation = (PACKAGE.parent / "CITATION.cff").read_text(encoding="utf-8")
    assert settings["project"]["version"] == genopt_core.__version__
    assert f"\nversion: {genopt_core.__version__}\n" in citation


def test_requirements_pin_exactly_and_the_owner_s_packages_are_there():
    lines = (PACKAGE.parent / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("#")[0].strip() for line in lines if line and line[0] not in "#-"]
    assert all("==" in pin for pin in pins), pins
    owner = {"jupyter", "jupyter-book", "numpy", "torch", "matplotlib", "ipywidgets", "nbval"}
    assert owner <= {pin.split("==")[0] for pin in pins}


def lock() -> dict[str, list[str]]:
    """Requirement with marker -> hashes, as requirements.lock has them."""
    text = (PACKAGE.parent / "requirements.lock").read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=[A-Za-z0-9])", text)[1:]
    return {
        block.partition("\\")[0].strip(): re.findall(r"--hash=sha256:([0-9a-f]{64})", block)
        for block in blocks
    }


def test_every_locked_package_has_a_hash_and_constraints_say_the_same():
    locked = lock()
    assert all(locked.values())
    lines = (PACKAGE.parent / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and line[0] != "#"] == list(locked)


def test_lock_leaves_out_what_make_py_names():
    from make import LEFT_OUT

    assert [pin for pin in lock() if pin.startswith(LEFT_OUT)] == []


def test_lock_has_what_requirements_pin():
    lines = (PACKAGE.parent / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = {line.split("#")[0].strip() for line in lines if line and line[0] not in "#-"}
    have = {re.sub("_", "-", pin.split(";")[0].strip()) for pin in lock()}
    bare = {re.sub(r"\[.*\]", "", pin) for pin in pins if not pin.startswith("torch==")}
    assert bare <= have, "run `python make.py freeze` after a change of requirements.txt"


def test_every_pinned_part_of_sphinx_is_used():
    """An extension is named in the book's settings, or something installed needs it."""
    config = (PACKAGE.parent / "_config.yml").read_text(encoding="utf-8")
    pins = re.findall(
        r"(?m)^(\w*sphinx[\w-]*)==", (PACKAGE.parent / "requirements.txt").read_text("utf-8")
    )
    needed = {
        re.match(r"[\w.-]+", wanted)[0].lower().replace("_", "-")
        for package in importlib.metadata.distributions()
        for wanted in package.requires or ()
    }
    assert pins
    assert [pin for pin in pins if pin not in needed and pin.replace("-", "_") not in config] == []
