"""The package as an import: light, complete, and free of what a reader's browser has not."""

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


@pytest.mark.parametrize("module", ["genopt_core", "genopt_core.figures.registry"])
def test_import_loads_numpy_and_nothing_heavier(module):
    code = f"""
import sys
import {module}
if {module!r}.endswith("explorer"):
    {module}.names()
print(*[name for name in {HEAVY!r} if name in sys.modules])
"""
    assert python(code).split() == []


def test_every_folder_with_python_is_a_listed_package():
    settings = tomllib.loads((PACKAGE / "pyproject.toml").read_text(encoding="utf-8"))
    listed = set(settings["tool"]["setuptools"]["packages"])
    found = {
        ".".join(["genopt_core", *init.parent.relative_to(PACKAGE).parts])
        for init in PACKAGE.rglob("__init__.py")
        if "node_modules" not in init.parts and "build" not in init.relative_to(PACKAGE).parts
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


def test_lock_has_what_requirements_pin():
    lines = (PACKAGE.parent / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = {line.split("#")[0].strip() for line in lines if line and line[0] not in "#-"}
    have = {re.sub("_", "-", pin.split(";")[0].strip()) for pin in lock()}
    bare = {re.sub(r"\[.*\]", "", pin) for pin in pins if not pin.startswith("torch==")}
    assert bare <= have, "run `python make.py freeze` after a change of requirements.txt"
