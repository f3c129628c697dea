"""The sampler in the form of a package of OptunaHub: complete, and it loads as they load it."""

import importlib.util
import re
import sys
import types
from pathlib import Path

import pytest
import yaml

optuna = pytest.importorskip("optuna")

REGISTRY = Path(__file__).resolve().parents[2] / "book/experiments/cross_entropy/optunahub"
NAME = "samplers/genopt_cross_entropy"
FOLDER = REGISTRY / NAME
README = (FOLDER / "README.md").read_text(encoding="utf-8")


def local_module(package: str, *, registry_root: str = str(REGISTRY)) -> types.ModuleType:
    """As ``optunahub.load_local_module`` does, which need not be installed here."""
    name = f"optunahub_registry.package.{package.replace('/', '.')}"
    spec = importlib.util.spec_from_file_location(name, Path(registry_root, package, "__init__.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def hub(monkeypatch):
    """``optunahub``, of which a test may not ask the network."""
    stand_in = types.ModuleType("optunahub")
    stand_in.load_module = local_module
    stand_in.load_local_module = lambda package, **_: local_module(package)
    monkeypatch.setitem(sys.modules, "optunahub", stand_in)


def test_the_front_matter_is_what_the_registry_asks_for():
    front = yaml.safe_load(README.split("---")[1])
    assert set(front) == {
        "author", "title", "description", "tags", "optuna_versions", "license",
    }  # fmt: skip
    assert "sampler" in front["tags"]
    assert front["license"] == "MIT License"
    assert optuna.__version__ in map(str, front["optuna_versions"])


def test_all_files_of_a_package_are_there():
    names = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    named = {"README.md", "LICENSE", "__init__.py", "example.py", "requirements.txt"}
    assert named | {"tests/test_sampler.py"} <= names
    for section in ("Abstract", "APIs", "Installation", "Example"):
        assert f"\n## {section}\n" in README


@pytest.mark.parametrize("source", ["README.md", "example.py"])
def test_the_example_finds_what_it_looks_for(source, capsys):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    text = (FOLDER / source).read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0] if source == "README.md" else text
    exec(code, {"__name__": "__main__"})
    assert "'layers': 4" in capsys.readouterr().out


def test_its_own_tests_load_the_sampler_and_hold():
    names: dict = {"__name__": "registry_test"}
    exec((FOLDER / "tests" / "test_sampler.py").read_text(encoding="utf-8"), names)
    names["test_it_finds_the_least"]()


@pytest.mark.skipif(not importlib.util.find_spec("optunahub"), reason="optunahub is not installed")
def test_optunahub_itself_loads_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "optunahub")
    import optunahub

    module = optunahub.load_local_module(NAME, registry_root=str(REGISTRY))
    assert module.CrossEntropySampler.__module__ == "genopt_core.integrations.optuna"
