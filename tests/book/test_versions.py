"""One version for package, book and citation, and a changelog in the form that tools read."""

import datetime
import re
import tomllib

import yaml
from places import ROOT

import genopt_core

TEXT = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
HEADINGS = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)
SEMANTIC = r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"


def newest() -> tuple[str, str]:
    """Version and day of the newest release in the changelog."""
    versions = [line for line in HEADINGS if line != "[Unreleased]"]
    found = re.fullmatch(rf"\[({SEMANTIC})\] - (\d{{4}}-\d\d-\d\d)", versions[0])
    assert found, versions[0]
    return found[1], found[5]


def test_package_citation_and_changelog_name_one_version():
    settings = tomllib.loads((ROOT / "genopt_core" / "pyproject.toml").read_text(encoding="utf-8"))
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    version, day = newest()
    assert genopt_core.__version__ == version
    assert settings["project"]["version"] == version
    assert citation["version"] == version
    assert str(citation["date-released"]) == day


def test_versions_fall_and_so_do_their_days():
    found = [re.fullmatch(rf"\[{SEMANTIC}\] - (.*)", line) for line in HEADINGS[1:]]
    assert HEADINGS[0] == "[Unreleased]"
    assert found
    assert all(found)
    versions = [tuple(map(int, one.groups()[:3])) for one in found if one]
    days = [datetime.date.fromisoformat(one[4]) for one in found if one]
    assert versions == sorted(set(versions), reverse=True)
    assert days == sorted(days, reverse=True)


def test_sections_are_those_of_keep_a_changelog():
    kinds = re.findall(r"^### (.*)$", TEXT, re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    for part in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]:
        own = re.findall(r"^### (.*)$", part, re.MULTILINE)
        assert len(own) == len(set(own))
