"""One run of everything asks Debian for what is missing only, and does without what is faster."""

import os
import shutil
import subprocess

import pytest
from places import ROOT

import make

STUBS = {
    "dpkg": "exit $MISSING",
    "apt-get": 'echo "$*" >> "$LOG"; case "$*" in *headless*) exit 100;; esac',
    "make": 'echo "make $*" >> "$LOG"',
}


@pytest.mark.parametrize("missing", [0, 1])
def test_an_optional_package_stops_no_run(tmp_path, missing):
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    for name, does in STUBS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    log = tmp_path / "log"
    own = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(log), "MISSING": str(missing)}
    run = ["bash", tmp_path / ".ci" / "run"]
    done = subprocess.run(run, env=os.environ | own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    asked = log.read_text(encoding="utf-8").splitlines()
    assert asked[-1] == "make test"
    assert len(asked) == (4 if missing else 1)  # nothing is asked of a network without need


def test_the_browser_that_is_named_or_the_first_that_is_there(monkeypatch):
    there = {"chromium", "google-chrome", "mine"}
    monkeypatch.setattr(make.shutil, "which", lambda name: f"/{name}" if name in there else None)
    monkeypatch.delenv("CHROMIUM", raising=False)
    assert make.chromium() == "/chromium"
    there.add("chromium-headless-shell")
    assert make.chromium() == "/chromium-headless-shell"
    monkeypatch.setenv("CHROMIUM", "mine")
    assert make.chromium() == "/mine"
    monkeypatch.setenv("CHROMIUM", "not there")
    with pytest.raises(make.Stop, match="no Chromium"):
        make.chromium()
