"""The newest releases of all that the book is made with, tried, and what breaks named by package.

    python -m book.experiments.site.freshness [--report FILE] [--tests PATH …]

An environment of its own (``.cache/fresh``) gets every package of ``requirements.txt`` without its
pin, but for those in `HELD`, whose newest releases are known to need other work first, and for
upper bounds of a pip configuration of this machine.  In it the book is built, warnings being
errors, and tests are run.  The report names pinned and newest versions and, for every failure,
the package in whose code it arose or whose name its message has.
"""

import argparse
import collections
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FRESH = ROOT / ".cache" / "fresh"
HELD = {
    "jupyter-book": "2.x is another program: it reads neither _config.yml nor Sphinx extensions",
    "sphinx": "jupyter-book 1.0 needs 7",
    "sphinx-book-theme": "newer ones add a top bar with a second search box",
    "pydata-sphinx-theme": "goes with the theme",
    "myst-parser": "goes with Sphinx 7",
    "docutils": "Sphinx 7.4 refuses 0.22",
    "torch": "pinned by hand: its build depends on the machine",
}
TESTS = ("tests/integrations", "tests/kvcache", "tests/torch/test_kvcache.py", "tests/figures")
QUICK = "not browser and not notebook and not slow"


def pins() -> dict[str, str]:
    """Package and pinned version of each line of ``requirements.txt``."""
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([A-Za-z][\w.-]*(?:\[\w+\])?)==([^\s#]+)", text, re.MULTILINE))


def wanted(pinned: dict[str, str]) -> list[str]:
    """What is asked of the package index: bare names, held ones with their pin."""
    return [
        f"{name}=={version}" if name in HELD else name
        for name, version in [*pinned.items(), ("setuptools", "")]
    ]


def install(python: Path, names: list[str]) -> subprocess.CompletedProcess:
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    return subprocess.run([*pip, *names], capture_output=True, text=True)


def versions(python: Path) -> dict[str, str]:
    listed = [python, "-m", "pip", "list", "--format=json", "--disable-pip-version-check"]
    done = subprocess.run(listed, capture_output=True, text=True, check=True)
    return {
        row["name"].lower().replace("_", "-"): row["version"] for row in json.loads(done.stdout)
    }


def blamed(text: str, newer: list[str]) -> str:
    """The newer package in whose files a failure arose last or that its text names, else any."""
    files = re.findall(r"site-packages[/\\](\w+)", text)
    named = [name for name in newer if re.search(rf"\b{re.escape(name)}\b", text)]
    suspects = [file for file in files if file.replace("_", "-") in newer] or named or files
    return suspects[-1] if suspects else "the book's own code or numbers"


def tested(python: Path, paths: list[str], newer: list[str]) -> tuple[str, dict[str, list[str]]]:
    """What pytest says last, and the failures by package."""
    options = ["-p", "no:nbval", "-o", "addopts=--import-mode=importlib --strict-markers"]
    command = [python, "-m", "pytest", "-q", "--tb=long", "-m", QUICK, *options, *paths]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    found: dict[str, list[str]] = collections.defaultdict(list)
    for part in re.split(r"\n(?=_{3,} \S.* _{3,}\n)", done.stdout)[1:]:
        name = part.splitlines()[0].strip("_ ")
        reason = [line[2:].strip() for line in part.splitlines() if line.startswith("E  ")]
        found[blamed(part, newer)].append(f"{name}: {' '.join(reason[:2])[:200]}")
    last = [line for line in done.stdout.splitlines() if line.strip()]
    if done.returncode and not found:
        told = (done.stderr.strip() or "\n".join(last))[-300:]
        found["pytest did not run"].append(told or f"exit code {done.returncode}")
    return (last[-1].strip("= ") if last else done.stderr[-300:]), dict(found)


def test_of(failure: str) -> str:
    """The test of a line of the report, with its parameters, which may have colons too."""
    return re.match(r"[^:\[]*(\[.*?\](?=: ))?", failure)[0]


OURS = "our own tree, with the pins too"


def without_ours(failures: dict[str, list[str]], paths: list[str]) -> dict[str, list[str]]:
    """``failures`` but for those that the pinned environment has too, which no release caused."""
    named = {test_of(one) for of in failures.values() for one in of}
    if not named:
        return failures
    # pytest chooses by the name of a function, what is in brackets is compared below
    functions = {test.partition("[")[0].rpartition(".")[2] for test in named}
    _, here = tested(Path(sys.executable), ["-k", " or ".join(sorted(functions)), *paths], [])
    ours = {test_of(one) for of in here.values() for one in of} & named
    kept = {name: [one for one in of if test_of(one) not in ours] for name, of in failures.items()}
    kept[OURS] = sorted(ours)
    return {name: of for name, of in kept.items() if of}


def built(python: Path) -> tuple[str, list[str]]:
    """How the build of the book ended, and its warnings."""
    out = FRESH / "book"
    shutil.rmtree(out / "_build", ignore_errors=True)
    kept = ROOT / "_build" / "explorers"
    if kept.is_dir():  # pictures of figures, by the digest of what they are made from
        shutil.copytree(kept, out / "_build" / "explorers", dirs_exist_ok=True)
    program = "from jupyter_book.cli.main import main; main()"
    command = [python, "-c", program, "build", "book", "-W", "-n", "--keep-going", "-q"]
    done = subprocess.run(
        [*command, f"--path-output={out}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "ignore::DeprecationWarning"},
        capture_output=True,
        text=True,
    )
    told = [line for line in done.stderr.splitlines() if "WARNING" in line or "Error" in line]
    return ("built without a warning" if not done.returncode else "did not build"), told[:20]


def report(pinned: dict[str, str], newest: dict[str, str], parts: dict[str, str]) -> str:
    """The report as Markdown."""
    lines = ["# Newest releases", ""]
    lines += [f"Python {sys.version.split()[0]}, {time.strftime('%Y-%m-%d')}.", ""]
    lines += ["| package | pinned | newest | |", "|---|---|---|---|"]
    for name, version in pinned.items():
        bare = name.partition("[")[0]
        now = newest.get(bare.lower().replace("_", "-"), "not installed")
        note = f"held: {HELD[bare]}" if bare in HELD else ("" if now == version else "**newer**")
        lines.append(f"| {name} | {version} | {now} | {note} |")
    for title, text in parts.items():
        lines += ["", f"## {title}", "", text]
    return "\n".join([*lines, ""])


def listed(failures: dict[str, list[str]]) -> str:
    rows = [
        f"- **{name}**\n" + "\n".join(f"  - {one}" for one in of) for name, of in failures.items()
    ]
    return "\n".join(rows) or "Nothing broke."


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--report", type=Path, default=FRESH / "report.md")
    parser.add_argument("--tests", nargs="*", default=list(TESTS), help="what pytest is given")
    parser.add_argument("--no-book", action="store_true", help="leave the build out")
    parser.add_argument("--keep", action="store_true", help="use the environment that is there")
    arguments = parser.parse_args()
    pinned, python = pins(), FRESH / "venv" / "bin" / "python"
    parts: dict[str, str] = {}
    FRESH.mkdir(parents=True, exist_ok=True)
    if not arguments.keep or not python.exists():
        shutil.rmtree(FRESH / "venv", ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", FRESH / "venv"], check=True)
        torch = f"torch=={pinned['torch']}"
        for names in ([torch], wanted(pinned)):
            done = install(python, names)
            if done.returncode:
                parts["They do not go together"] = f"```\n{done.stderr[-1500:]}\n```"
                break
        install(python, ["--no-deps", "--no-build-isolation", "-e", str(ROOT / "genopt_core")])
    newest = versions(python)
    broken = bool(parts)

    def write() -> None:
        arguments.report.write_text(report(pinned, newest, parts), encoding="utf-8")

    write()
    if not arguments.no_book:
        ended, told = built(python)
        broken |= bool(told) or "not" in ended
        parts["The book"] = "\n".join([f"It {ended}.", *[f"- {line}" for line in told]])
        write()
    if arguments.tests:
        newer = [name for name, version in pinned.items() if newest.get(name, version) != version]
        last, failures = tested(python, arguments.tests, newer)
        failures = without_ours(failures, arguments.tests)
        broken |= any(name != OURS for name in failures)
        parts[f"Tests ({', '.join(arguments.tests)})"] = f"{last}.\n\n{listed(failures)}"
        write()
    print(arguments.report.read_text(encoding="utf-8"))
    return int(broken)


if __name__ == "__main__":
    raise SystemExit(main())
