"""The page of licenses: what the site carries of others has an entry with its words."""

import json
import re
import sys
from html import escape

import pytest
from places import BOOK, CORE, ROOT

sys.path.insert(0, str(BOOK / "_ext"))
import carried
import licenses

FILES = "files of the site that are neither ours nor of a part on the page"


@pytest.fixture(scope="module")
def parts(html):
    return carried.parts(html)


def test_every_file_of_the_built_site_is_ours_or_has_an_entry(html, parts):
    assert carried.unknown(html, parts) == [], FILES


def test_a_file_of_an_unknown_maker_is_found(tmp_path):
    for place in ("_static/other.js", "lite/extensions/other/main.js", "fonts/other.woff2"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    (tmp_path / "index.html").touch()
    core = carried.Part("jupyterlite-core", "1", "BSD", "https://a.b/", "Words")._asdict()
    (tmp_path / "lite" / "licenses.json").write_text(json.dumps([core]))
    left = carried.unknown(tmp_path, carried.parts(tmp_path))
    assert left == ["_static/other.js", "fonts/other.woff2", "lite/extensions/other/main.js"]


def test_every_wheel_and_bundled_package_has_its_entry(html, parts):
    """Counted from the files themselves, not by the code that makes the page."""
    names = {part.name.lower().replace("_", "-") for part in parts}
    lock = json.loads((html / carried.PYODIDE / "lite-lock.json").read_text(encoding="utf-8"))
    wheels = {name for name in lock["packages"] if not name.startswith("genopt")}
    assert wheels - {"ssl", "sqlite3"} <= names  # CPython's own modules
    bundled = {
        one["name"].lower().replace("_", "-")
        for report in html.rglob("third-party-licenses.json")
        for one in json.loads(report.read_text(encoding="utf-8"))["packages"]
    }
    assert len(bundled) > 300
    assert bundled <= names
    assert {
        "pyodide",
        "cpython",
        "openssl",
        "mathjax",
        "@observablehq/plot",
        "d3",
        "reveal.js",
    } <= names


def test_every_entry_has_license_words_and_source(parts):
    for part in parts:
        assert part.license, part.name
        assert re.match(r"https?://", part.source), part.name
        words = r"(?i)copyright|permission|license|public domain"
        assert re.search(words, part.text), part.name
        assert "{copyright}" not in part.text, part.name
    mpl = [part for part in parts if "MPL" in part.license and part.files]
    assert {part.name for part in mpl} == {"Pyodide", "micropip", "matplotlib-pyodide"}
    assert all("Mozilla Public License" in part.text for part in mpl)


@pytest.mark.parametrize("one", carried.INSIDE, ids=lambda one: one.name)
def test_what_is_said_to_be_inside_of_a_file_is_there(html, one):
    assert any(carried.marked(path, one.mark) for path in one.seen_in(html)), one.where


def test_icons_have_their_entry_before_the_small_font_is_made(tmp_path):
    """The page is written while the theme's own fonts still lie in the site."""
    for place in ("vendor/fontawesome/6.5.2/css/all.min.css", "icons.css"):
        site = tmp_path / place.partition("/")[0]
        path = site / "_static" / place
        path.parent.mkdir(parents=True)
        path.touch()
        assert [part.name for part in carried.from_inside(site)] == ["Font Awesome Free"]


def test_paths_and_patterns_of_parts_are_told_apart(tmp_path):
    for name in ("a.b+c.js", "axb+c.js", "d1.js", "d.js"):
        (tmp_path / name).touch()
    some = [carried.Part("a", "", "", "", "", files=(re.escape("a.b+c.js"), r"d\d\.js"))]
    assert carried.unknown(tmp_path, some) == ["axb+c.js", "d.js"]


def test_banners_of_minified_scripts_name_entries(html, parts):
    """A script of others says in a comment of the form "/*! name" what is in it."""
    told = " ".join(part.name.lower() for part in parts)
    for path in sorted((html / "_static").rglob("*.js")):
        banner = re.findall(r"/\*!\s*\*?\s*([A-Za-z][\w.-]+)", path.read_text(encoding="utf-8"))
        for name in banner:
            assert name.lower().removesuffix(".js") in told, (path.name, name)


def test_the_page_has_them_all_and_pages_lead_to_it(html, parts):
    page = (html / "licenses.html").read_text(encoding="utf-8")
    cells = re.findall(r'<tr><td><a href="[^"]+">([^<]+)</a></td>', page)
    assert sorted(cells) == sorted(part.name for part in parts)
    links = set(re.findall(r'href="#(text-\d+)"', page))
    assert links == set(re.findall(r'<pre id="(text-\d+)"', page))
    for name, link in (("index.html", "licenses.html"), ("api/index.html", "../licenses.html")):
        foot = (html / name).read_text(encoding="utf-8").rpartition('class="extra_footer"')[2]
        assert f'href="{link}"' in foot


def test_one_text_is_said_once_and_names_are_escaped():
    some = [carried.Part(n, "1", "MIT", "https://a.b/", "Words & <more>") for n in ("a<b", "c")]
    page = licenses.document(some)
    assert page.count("Words &amp; &lt;more&gt;") == 1
    assert "a<b" not in page
    assert ">a&lt;b</a>" in page


def test_texts_and_data_are_named_on_the_page_and_in_the_package():
    notice = " ".join((CORE / "NOTICE").read_text(encoding="utf-8").split())
    for one in json.loads((BOOK / "data" / "manifest.json").read_text(encoding="utf-8"))["corpora"]:
        for said in (one["title"], one["source"], one["licence"]):
            assert said in notice
            assert escape(said) in licenses.data_list()


def test_what_the_manifest_says_is_escaped(tmp_path, monkeypatch):
    monkeypatch.setattr(licenses, "BOOK", tmp_path)
    (tmp_path / "data").mkdir()
    corpus = {"title": "<b>", "source": "A & B", "licence": "<i>"}
    path = tmp_path / "data" / "manifest.json"
    path.write_text(json.dumps({"corpora": [corpus]}), encoding="utf-8")
    assert "<li>&lt;b&gt;: from A &amp; B. License: &lt;i&gt;.</li>" in licenses.data_list()


def test_the_license_of_the_package_is_the_repository_s():
    whole = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert whole.endswith((CORE / "LICENSE").read_text(encoding="utf-8"))
