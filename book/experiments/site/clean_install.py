"""The package alone: installed from its sources into a fresh environment of each Python, and used.

    python -m book.experiments.site.clean_install python3.11 python3.12 python3.13 --report FILE

For each Python named: a new environment, pip's install of a copy of the sources with the extras
``torch``, ``integrations`` and ``notebook``, then, outside the repository, every doctest of the
package, every recipe of ``book/api/recipes.md`` and a figure with its front end.  What fails is
named in the report; the exit code is 1 if anything did.
"""

import argparse
import json
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
EXTRAS = "torch,integrations,notebook"
USE = r"""
import doctest, importlib, json, pkgutil, re, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
import genopt_core
said = {"python": sys.version.split()[0], "from": genopt_core.__file__}
parts, failed, tried = [], [], 0
left_out = ("genopt_core.subwords.__main__", "genopt_core.figures.web", "genopt_core.backend")
for module in pkgutil.walk_packages(genopt_core.__path__, "genopt_core."):
    if module.name.startswith(left_out):
        continue
    try:
        found = importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        failed.append(f"import {module.name}: {error}")
        continue
    result = doctest.testmod(
        found, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, verbose=False
    )
    tried += result.attempted
    if result.failed:
        failed.append(f"{module.name}: {result.failed} of {result.attempted} examples")
said["doctests"] = tried
page = Path(sys.argv[1]).read_text(encoding="utf-8")
recipes = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
for name, text in recipes.items():
    code = "".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    test = doctest.DocTestParser().get_doctest(code, {}, name, "recipes.md", 0)
    out = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=out.append)
    if out:
        failed.append(f"recipe {name}: {out[0][-300:]}")
said["recipes"] = len(recipes)
figure = genopt_core.explore("subword-lattice", word="strawberries")
said["front end"] = len(figure._esm)
import numpy, torch, transformers, optuna
said["versions"] = {m.__name__: m.__version__ for m in (numpy, torch, transformers, optuna)}
said["failed"] = failed
print("SAID" + json.dumps(said))
"""


def tried(python: str, scratch: Path) -> dict:
    """What happened with ``python``; every key is a column of the report."""
    folder = scratch / re.sub(r"\W+", "-", python)
    source = folder / "source" / "genopt_core"
    ignored = shutil.ignore_patterns("node_modules", "build", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT / "genopt_core", source, ignore=ignored)
    subprocess.run([python, "-m", "venv", folder / "venv"], check=True)
    inside = folder / "venv" / "bin" / "python"
    started = time.monotonic()
    pip = [inside, "-m", "pip", "install", "--quiet", f"{source}[{EXTRAS}]"]
    done = subprocess.run(pip, capture_output=True, text=True)
    row = {"python": python, "install": done.returncode, "seconds": time.monotonic() - started}
    if done.returncode:
        return row | {"failed": [done.stderr[-1500:]]}
    return row | used(inside, folder)


def used(python: Path, folder: Path) -> dict:
    """What the installed package says of itself outside the repository."""
    page = ROOT / "book" / "api" / "recipes.md"
    env = {"GENOPT_DATA": str(ROOT / "book" / "data"), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    command = [python, "-c", USE, page]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("SAID")]
    return json.loads(lines[-1][4:]) if lines else {"failed": [done.stderr[-1500:]]}


def report(rows: list[dict]) -> str:
    lines = ["| Python | installed in | doctests | recipes | versions | failed |"]
    lines.append("|---|---|---|---|---|---|")
    for row in rows:
        versions = ", ".join(f"{name} {v}" for name, v in row.get("versions", {}).items())
        failed = "; ".join(row["failed"]).replace("\n", " ").replace("|", "\\|") or "nothing"
        cells = (row["python"], f"{row['seconds']:.0f} s", row.get("doctests"), row.get("recipes"))
        lines.append("| " + " | ".join(map(str, (*cells, versions, failed))) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("python", nargs="+", help="commands of the Pythons to try")
    parser.add_argument("--report", type=Path, help="where the table goes (default: here)")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for python in arguments.python:
            rows.append(tried(python, Path(scratch)))
            print(json.dumps(rows[-1]), flush=True)
            if arguments.report:
                arguments.report.write_text(report(rows), encoding="utf-8")
    if not arguments.report:
        print(report(rows))
    return int(any(row["failed"] for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
