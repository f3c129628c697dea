"""A failing test is reported whatever its message holds; nothing skips where all is required."""

import os
import subprocess
import sys

from places import ROOT

ODD = """
def test_odd():
    assert "\\udc7d" == "x", "\\udc7d was said"
"""
SKIPS = """
import pytest

def test_skips():
    pytest.skip("no time")

def test_skips_for_a_named_reason():
    pytest.skip("needs rustbpe")

@pytest.mark.xfail
def test_is_known_to_fail():
    assert False
"""
WHOLE_FILE_SKIPS = 'import pytest\npytest.skip("not today", allow_module_level=True)\n'


def report(folder, *options, **env) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "conftest", "-q", *options],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "GENOPT_REQUIRE_ALL": ""} | env,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    return done.stdout


def test_a_lone_surrogate_in_a_message_is_shown(tmp_path):
    (tmp_path / "test_odd.py").write_text(ODD, encoding="utf-8")
    said = report(tmp_path, "-n", "1")
    assert r"FAILED test_odd.py::test_odd - AssertionError: \udc7d was said" in said
    assert "INTERNALERROR" not in said


def test_a_skip_fails_where_all_is_required(tmp_path):
    (tmp_path / "test_skips.py").write_text(SKIPS, encoding="utf-8")
    (tmp_path / "test_whole.py").write_text(WHOLE_FILE_SKIPS, encoding="utf-8")
    assert "3 skipped, 1 xfailed" in report(tmp_path)
    said = report(tmp_path, "--continue-on-collection-errors", GENOPT_REQUIRE_ALL="1")
    assert "no time (nothing may skip here)" in said
    assert "not today (nothing may skip here)" in said
    assert "1 failed, 1 skipped, 1 xfailed, 1 error" in said
