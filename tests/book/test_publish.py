"""`make.py publish`: the built book in a folder, and nothing of others lost."""

import argparse
import importlib.util

import pytest
from places import BOOK


@pytest.fixture
def make(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("make_under_test", BOOK.parent / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    html = tmp_path / "html"
    (html / "_static" / "genopt").mkdir(parents=True)
    (html / "index.html").write_text("new")
    monkeypatch.setattr(module, "HTML", html)
    monkeypatch.setattr(module, "set_up", dict)
    monkeypatch.setattr(module, "build", lambda env: None)
    return module


def publish(make, folder):
    make.publish(argparse.Namespace(to=str(folder)))
    return sorted(path.name for path in folder.iterdir())


def test_a_new_folder_gets_the_book(make, tmp_path):
    assert publish(make, tmp_path / "site") == ["_static", "index.html"]


def test_pages_that_are_gone_go_and_a_checkout_stays_one(make, tmp_path):
    site = tmp_path / "site"
    publish(make, site)
    (site / "old.html").touch()
    (site / ".git").mkdir()
    (site / "CNAME").write_text("book.example")
    (site / ".git" / "HEAD").touch()
    assert publish(make, site) == [".git", "CNAME", "_static", "index.html"]
    assert (site / ".git" / "HEAD").exists()


def test_a_copy_that_fails_leaves_the_checkout_and_a_folder_that_can_be_published_again(
    make, tmp_path, monkeypatch
):
    site = tmp_path / "site"
    publish(make, site)
    (site / ".git").mkdir()

    def full(*_, **__):
        raise OSError("no space left")

    with monkeypatch.context() as broken:
        broken.setattr(make.shutil, "copytree", full)
        with pytest.raises(OSError, match="no space"):
            publish(make, site)
    assert publish(make, site) == [".git", "_static", "index.html"]


def test_the_built_book_is_not_published_into_itself(make):
    with pytest.raises(make.Stop, match="the built book itself"):
        publish(make, make.HTML / "site")


def test_files_of_others_are_left_alone(make, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "draft.txt").touch()
    with pytest.raises(make.Stop, match="no book of ours"):
        publish(make, tmp_path / "letters")
    assert (tmp_path / "letters" / "draft.txt").exists()
