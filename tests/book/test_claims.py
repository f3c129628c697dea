"""The claim ledger names only what exists, and leaves out nothing that it should name."""

import re
import sys

import pytest
from places import BOOK

sys.path.insert(0, str(BOOK / "_ext"))
import claims

ROWS = claims.claims()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.says[:40])
def test_a_row_names_what_exists(row):
    assert row.page in {
        path.relative_to(BOOK).with_suffix("").as_posix() for path in claims.pages()
    }
    for label in row.equations:
        assert label in claims.equations()
        assert claims.tested(claims.computed()[label].items())
    assert all(claims.command(result) for result in row.results)
    assert row.equations or row.results


def test_every_objection_is_a_row_under_its_title():
    text = (BOOK / "criticisms.md").read_text(encoding="utf-8")
    asked = dict(re.findall(r"^\((criticism-[a-z-]+)\)=\n### (.+)$", text, re.M))
    assert len(asked) == 16
    rows = {row.anchor: row.says for row in ROWS if row.source == "objection"}
    assert set(rows) == set(asked)


def test_a_wrong_row_is_refused_by_name():
    with pytest.raises(ValueError, match=r"verdict must be one of proved, .* got 'true'"):
        claims.Claim("It works.", "paper", "true", "index")
    with pytest.raises(ValueError, match=r"source must be one of paper, .* got 'me'"):
        claims.Claim("It works.", "me", "proved", "index")
    with pytest.raises(FileNotFoundError, match="got 'nothing'"):
        claims.command("nothing")


@pytest.mark.parametrize("label", sorted(claims.equations()))
def test_a_function_that_computes_a_formula_is_called_by_a_test(label):
    assert claims.tested(claims.computed()[label].items())
