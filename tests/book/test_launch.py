"""The menu *Open this chapter*: what it offers, and what lies in the JupyterLite behind it."""

import json
from types import SimpleNamespace

import pytest
from places import BOOK

from book._ext import launch

PAGES = {"START", "ch1_subwords/paths", "ch1_subwords/paths_solutions"}


def app(repository: str = "", lite: bool = False, out=None, pages=PAGES):
    suffix = {"index": ".md"}
    return SimpleNamespace(
        config=SimpleNamespace(book_repository=repository, book_lite=lite),
        env=SimpleNamespace(
            doc2path=lambda page: page + suffix.get(page, ".ipynb"), found_docs=pages
        ),
        builder=SimpleNamespace(format="html"),
        outdir=out,
    )


def offered(page: str = "ch1_subwords/paths", **built) -> dict[str, str]:
    """Text and address of each entry of the menu of ``page``; the menu is the first button."""
    context = {"header_buttons": ["theme's"], "pathto": lambda to, _: f"../{to}"}
    launch.button(app(**built), page, "page.html", context, doctree=object())
    *menus, last = context["header_buttons"]
    assert last == "theme's"
    return {link["text"]: link["url"] for menu in menus for link in menu["buttons"]}


def test_without_repository_and_jupyterlite_there_is_no_menu():
    assert offered() == {}


@pytest.mark.parametrize("end", ["", "/", ".git"])
def test_one_address_gives_colab_and_binder(end):
    assert offered(repository=f"https://github.com/some-one/gen.opt{end}") == {
        "Colab": "https://colab.research.google.com/github/some-one/gen.opt/blob/main/"
        "book/ch1_subwords/paths.ipynb",
        "Binder": "https://mybinder.org/v2/gh/some-one/gen.opt/main"
        "?urlpath=lab/tree/book/ch1_subwords/paths.ipynb",
    }


def test_colab_reads_github_only_and_an_unknown_host_offers_neither():
    assert list(offered(repository="https://gitlab.com/some/one")) == ["Binder"]
    assert offered(repository="https://example.org/some/one") == {}
    assert offered(repository="https://github.com/only-an-owner") == {}


def test_jupyterlite_opens_the_page_s_own_notebook_and_comes_first():
    links = offered(lite=True, repository="https://github.com/some/one")
    assert list(links) == ["JupyterLite", "Colab", "Binder"]
    assert links["JupyterLite"] == "../lite/lab/index.html?path=ch1_subwords/paths.ipynb"


def test_pages_that_are_no_notebooks_have_no_menu():
    assert offered("index", lite=True) == {}


def test_notebooks_that_the_book_leaves_out_are_not_in_jupyterlite(tmp_path):
    listing = tmp_path / "lite" / "api" / "contents" / "ch1_subwords" / "all.json"
    files = tmp_path / "lite" / "files" / "ch1_subwords"
    for folder in (listing.parent, files):
        folder.mkdir(parents=True)
    names = ["paths.ipynb", "paths_solutions.ipynb", "results.py"]
    listing.write_text(json.dumps({"content": [{"name": name} for name in names]}))
    for name in names:
        (files / name).touch()
    launch.only_pages(app(out=tmp_path, pages=PAGES - {"ch1_subwords/paths_solutions"}), None)
    kept = ["paths.ipynb", "results.py"]
    assert [file["name"] for file in json.loads(listing.read_text())["content"]] == kept
    assert sorted(path.name for path in files.iterdir()) == kept


def test_without_jupyterlite_its_wheels_go_and_a_new_one_leaves_none_of_the_old(
    tmp_path, monkeypatch
):
    out, made, runtime = tmp_path / "html", tmp_path / "made", tmp_path / "runtime"
    for folder in (out / launch.PYODIDE, made / "lite", made / "pyodide", runtime):
        folder.mkdir(parents=True)
    (runtime / "pyodide.mjs").touch()
    (out / launch.PYODIDE / "pyodide.mjs").touch()
    monkeypatch.setenv("GENOPT_PYODIDE", str(runtime))
    monkeypatch.setenv("GENOPT_LITE", str(made))

    def laid(version: str, lite: bool = True) -> list[str]:
        for path in (made / "pyodide").iterdir():
            path.unlink()
        (made / "pyodide" / f"ipython-{version}.whl").touch()
        (made / launch.STAMP).write_text(version)
        launch.lay_out(app(lite=lite, out=out))
        return sorted(path.name for path in (out / launch.PYODIDE).iterdir())

    assert laid("1") == ["ipython-1.whl", "pyodide.mjs"]
    assert laid("2") == ["ipython-2.whl", "pyodide.mjs"]
    assert laid("2", lite=False) == ["pyodide.mjs"]
    assert not (out / "lite").exists()


def test_the_lock_of_jupyterlite_pins_every_wheel_by_hash():
    lines = (BOOK / "_ext" / "lite.lock").read_text(encoding="utf-8").splitlines()
    told = [line for line in lines if not line.startswith("#")]
    assert len(told) == 20
    for pin, value in zip(told[::2], told[1::2], strict=True):
        assert "==" in pin
        assert value.strip().startswith("--hash=sha256:")


def test_binder_finds_the_version_of_python_and_the_packages():
    """repo2docker reads both from the root, unless there is a folder for it."""
    root = BOOK.parent
    assert not [name for name in ("binder", ".binder", "environment.yml") if (root / name).exists()]
    version = (root / "runtime.txt").read_text(encoding="utf-8").strip()
    assert version == "python-3.12"  # the workflow's, and of Pyodide's Python
    workflow = (root / ".github" / "workflows" / "pages.yml").read_text(encoding="utf-8")
    assert f'python-version: "{version.removeprefix("python-")}"' in workflow
    assert "-e ./genopt_core" in (root / "requirements.txt").read_text(encoding="utf-8")
