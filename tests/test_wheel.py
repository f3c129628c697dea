"""The wheel: built from a copy, looked into, and used outside the repository."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

import genopt_core

PACKAGE = Path(genopt_core.__file__).parent
ROOT = PACKAGE.parent


def copied(target: Path) -> Path:
    """The package's sources; setuptools leaves folders beside those it builds from."""
    ignored = shutil.ignore_patterns("node_modules", "build", "*.egg-info", "__pycache__")
    shutil.copytree(PACKAGE, target, ignore=ignored)
    return target


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = copied(folder / "genopt_core")
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*pip, "-w", folder, source], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert not (source / "build").exists()
    return next(folder.glob("*.whl"))


def test_it_has_all_that_the_package_reads(wheel):
    with zipfile.ZipFile(wheel) as file:
        packed = {name.removeprefix("genopt_core/") for name in file.namelist()}
    web = PACKAGE / "figures" / "web"
    wanted = [
        *(path for path in PACKAGE.rglob("*.py") if not {"web", "build"} & set(path.parts)),
        *(path for path in (PACKAGE / "tables").iterdir() if path.suffix not in (".py", "")),
        *(web / "dist" / name for name in ("explore.mjs", "explore.css")),
        PACKAGE / "figures" / "style.json",
        PACKAGE / "py.typed",
    ]
    assert {path.relative_to(PACKAGE).as_posix() for path in wanted} - packed == set()
    assert not [name for name in packed if name.startswith(("figures/web/src", "figures/web/test"))]
    assert "figures/web/backend.py" not in packed
    texts = {name.rpartition("/")[2] for name in packed if ".dist-info/licenses/" in name}
    assert texts == {"LICENSE", "NOTICE"}
    assert "figures/web/dist/third-party-licenses.json" in packed


def test_its_license_names_those_of_what_it_bundles(wheel):
    with zipfile.ZipFile(wheel) as file:
        (place,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        told = re.search(r"(?m)^License-Expression: (.*)$", file.read(place).decode())
        report = json.loads(file.read("genopt_core/figures/web/dist/third-party-licenses.json"))
    bundled = {one["licenseId"] for one in report["packages"]}
    assert set(told[1].split(" AND ")) == {"MIT", *bundled}


def test_node_s_wheel_is_that_of_make():
    said = re.search(r'NODE_WHEEL = "(.*?)"', (ROOT / "make.py").read_text(encoding="utf-8"))
    assert said
    assert said[1] == backend().NODE_WHEEL


def backend(folder: Path = PACKAGE):
    path = folder / "figures" / "web" / "backend.py"
    spec = importlib.util.spec_from_file_location("backend_under_test", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def unbuilt(tmp_path, monkeypatch):
    """The backend of a fresh clone: nobody has built the front end."""
    source = copied(tmp_path / "genopt_core")
    shutil.rmtree(source / "figures" / "web" / "dist", ignore_errors=True)
    monkeypatch.chdir(source)
    return backend(source)


def test_without_node_pip_is_asked_for_it(unbuilt, monkeypatch, tmp_path):
    monkeypatch.setattr(unbuilt, "_npm", lambda: ([], {}))
    assert unbuilt.NODE_WHEEL in unbuilt.get_requires_for_build_wheel()
    assert unbuilt.NODE_WHEEL not in unbuilt.get_requires_for_build_wheel({"figures": "no"})
    with pytest.raises(SystemExit, match=r"needs Node .* pip install -C figures=no"):
        unbuilt.build_wheel(str(tmp_path))
    name = unbuilt.build_wheel(str(tmp_path), {"figures": "no"})
    assert "explore.mjs" not in " ".join(zipfile.ZipFile(tmp_path / name).namelist())


def test_a_missing_front_end_is_built_first(unbuilt, monkeypatch, tmp_path):
    npm = tmp_path / "npm.py"
    npm.write_text(
        "import pathlib, sys\n"
        "print(*sys.argv[1:], file=open('said', 'a'))\n"
        "if 'run' in sys.argv:\n"
        "    pathlib.Path('dist').mkdir()\n"
        "    pathlib.Path('dist/explore.mjs').write_text('')\n"
    )
    monkeypatch.setattr(unbuilt, "_npm", lambda: ([sys.executable, str(npm)], dict(os.environ)))
    name = unbuilt.build_wheel(str(tmp_path))
    said = (unbuilt.WEB / "said").read_text().splitlines()
    assert [line.split()[0] for line in said] == ["ci", "run"]
    packed = zipfile.ZipFile(tmp_path / name).namelist()
    assert "genopt_core/figures/web/dist/explore.mjs" in packed
    assert not (unbuilt.PACKAGE / "build").exists()


def test_an_npm_that_fails_is_named(unbuilt, monkeypatch, tmp_path):
    command = [sys.executable, "-c", "raise SystemExit(1)"]
    monkeypatch.setattr(unbuilt, "_npm", lambda: (command, dict(os.environ)))
    with pytest.raises(SystemExit, match=r"`npm ci` failed .*registry.*-C figures=no"):
        unbuilt.build_wheel(str(tmp_path))


def test_an_explorer_without_its_packages_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("genopt_core.figures.widget")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install \"./genopt_core\[notebook\]\""):
        genopt_core.explore("subword-lattice")


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """Python of an environment with the wheel alone; what it needs is borrowed from this one."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=False)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps"]
    subprocess.run([*pip, "--no-index", wheel], check=True)
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)
    borrowed = Path(np.__file__).parents[1]  # a .pth in there, such as ours, is not followed
    (Path(site.stdout.strip()) / "borrowed.pth").write_text(f"{borrowed}\n")
    return python


def outside(python: Path, folder: Path, code: str, **env: str) -> subprocess.CompletedProcess:
    clean = {name: v for name, v in os.environ.items() if name not in ("PYTHONPATH", "GENOPT_DATA")}
    return subprocess.run(
        [python, "-c", code], cwd=folder, env=clean | env, capture_output=True, text=True
    )


@pytest.mark.slow
def test_the_first_snippet_of_the_readme_runs_outside_the_repository(installed, tmp_path):
    pytest.importorskip("transformers")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n([^`]*to_transformers.*?)```", text, re.DOTALL)
    (tmp_path / "my_text.txt").write_text(text, encoding="utf-8")
    code += "import genopt_core\nprint(genopt_core.__file__)\n"
    done = outside(installed, tmp_path, code)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[-1]).is_relative_to(installed.parents[1])
    assert (tmp_path / "my_tokenizer" / "tokenizer.json").is_file()


@pytest.mark.slow
def test_outside_the_repository_the_texts_are_found_through_the_environment(installed, tmp_path):
    code = "from genopt_core import corpora; print(corpora.load('sotu')[:4])"
    done = outside(installed, tmp_path, code)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "GENOPT_DATA=" in last
    assert "not in the package" in last
    done = outside(installed, tmp_path, code, GENOPT_DATA=str(ROOT / "book" / "data"))
    assert done.stdout == "Fell\n", done.stderr


@pytest.mark.slow
def test_outside_the_repository_a_figure_has_its_front_end(installed, tmp_path):
    pytest.importorskip("anywidget")
    code = "from genopt_core import explore; print(len(explore('subword-lattice')._esm) > 100_000)"
    done = outside(installed, tmp_path, code)
    assert done.stdout == "True\n", done.stderr
