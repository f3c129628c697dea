"""The configuration for Sphinx without Jupyter Book says the same, and its files are there."""

from pathlib import Path

import pytest
import yaml
from places import BOOK

ROOT = BOOK.parent


@pytest.fixture(scope="module")
def settings() -> dict:
    pytest.importorskip("jupyter_book")
    from book._ext import plain_sphinx

    names: dict = {}
    exec(plain_sphinx.configuration(), names)
    return names


def test_every_setting_of_the_book_is_in_it(settings):
    written = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    for name, value in written["sphinx"]["config"].items():
        if name != "html_static_path":
            assert settings[name] == value, name
    assert settings["html_title"] == written["title"]
    ours = {*written["sphinx"]["extra_extensions"], *written["sphinx"]["local_extensions"]}
    assert ours <= set(settings["extensions"])


def test_the_files_that_it_names_are_there(settings):
    named = [settings[name] for name in ("html_favicon", "html_logo")]
    for path in [*named, *settings["html_static_path"], *settings["bibtex_bibfiles"]]:
        assert Path(path).is_absolute()
        assert Path(path).exists(), path


def test_it_reads_nothing_of_jupyter_book_s_configuration(settings):
    assert "_config.yml" not in {Path(str(value)).name for value in settings.values()}
