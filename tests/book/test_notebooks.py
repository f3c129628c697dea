"""What nbval does not see: unrun cells, unstable outputs, figures without alt text, long cells."""

import hashlib
import itertools
import re

import nbformat
import pytest

from book._ext.refresh import BOOK, METADATA, STILL, clean, notebooks, stills, viewers
from genopt_core.figures.widget import MIME, WEB

MOST_LINES = 15
MOST_PRINTED = 12
RAW = re.compile(r"(?m)\{[a-z]+(:[a-z]+)?\}`|^\s*(```+|:::+)\{|^:[a-z]+: |^\([a-z-]+\)=$|\$\$ \(")


ALL = notebooks()


@pytest.fixture(params=ALL, ids=lambda path: f"{path.parent.name}/{path.stem}")
def path(request):
    return request.param


def code_cells(path):
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


def test_every_code_cell_has_been_run_in_order(path):
    # nbval compares nothing for a cell without execution_count, so an unrun cell would pass
    counts = [cell.execution_count for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1))
    for cell in code_cells(path):  # nor does it compare these
        for output in cell.outputs:
            assert output.get("execution_count", cell.execution_count) == cell.execution_count


def test_stored_form_is_clean(path):
    text = path.read_text(encoding="utf-8")
    notebook = clean(nbformat.reads(text, as_version=4))
    nbformat.validate(notebook)
    assert nbformat.writes(notebook) + "\n" == text, "run `make refresh`"


def markdown_cells(path):
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown"]


def test_no_myst_is_left_for_viewers_that_do_not_know_it(path):
    for cell in markdown_cells(path):
        code = re.sub(r"(?m)^    .*$", "", cell.source)
        assert not RAW.search(code), f"run `make refresh`: {RAW.search(code)}"


def test_references_and_numbers_are_right(path):
    page, book = path.relative_to(BOOK).as_posix(), viewers.Book()
    for cell in markdown_cells(path):
        assert viewers.tidy(cell.source, page, book) == cell.source, "run `make refresh`"


def test_start_leads_to_the_notebook(path):
    start = (BOOK / "START.ipynb").read_text(encoding="utf-8")
    assert path.stem == "START" or f"({path.relative_to(BOOK).as_posix()})" in start


def test_metadata_is_what_jupyterlab_writes(path):
    assert nbformat.read(path, 4).metadata == METADATA


def explorers(path):
    outputs = [output for cell in code_cells(path) for output in cell.outputs]
    return [output.data for output in outputs if MIME in output.get("data", {})]


def numbers_apart(one, other):
    """How far the numbers of two texts are apart; infinite if anything else differs."""
    number = r"(?<![\w#])-?\d+(?:\.\d+)?"
    if re.sub(number, "0", one) != re.sub(number, "0", other):
        return float("inf")
    pairs = zip(re.findall(number, one), re.findall(number, other), strict=True)
    return max((abs(float(a) - float(b)) for a, b in pairs), default=0)


@pytest.fixture(scope="module")
def drawn():
    """The stills of all notebooks, drawn in one go."""
    if not (WEB / "render.mjs").exists():
        pytest.skip("the front end is not built: run `make book`")
    shown = {path: [(d[MIME]["name"], d[MIME]["params"]) for d in explorers(path)] for path in ALL}
    asked = list(itertools.chain(*shown.values()))
    now = enumerate(stills.stills(asked))
    return {
        path: [
            still.replace(prefix(name, place), prefix(name, number))
            for number, (name, _) in enumerate(own)
            for place, still in itertools.islice(now, 1)
        ]
        for path, own in shown.items()
    }


def prefix(name, place):
    """Of the names inside the drawing of an explorer that stands at ``place`` among others."""
    return "gx" + hashlib.sha256(f"{name} {place}".encode()).hexdigest()[:10]


def test_each_explorer_has_a_small_still_of_what_it_shows_now(path, drawn):
    for data, now in zip(explorers(path), drawn[path], strict=True):
        assert len(now.encode()) <= stills.MOST_BYTES
        names = re.compile(r"\bs[0-9a-f]{8}\b")  # of shapes, from a digest of their numbers
        one, other = (names.sub("s", text) for text in (data[STILL], now))
        assert numbers_apart(one, other) <= 0.2, "run `python book/_ext/refresh.py --text`"


def test_a_cell_that_gives_an_answer_away_is_folded_below_its_question(path):
    cells = nbformat.read(path, 4).cells
    for before, cell in itertools.pairwise(cells):
        if "predicted" in cell.metadata.get("tags", []):
            assert cell.metadata.jupyter == {"outputs_hidden": True, "source_hidden": True}
            assert before.source.rstrip().endswith("</details>")
            assert "> **Predict.**" in before.source


def test_what_the_book_folds_jupyterlab_folds_too(path):
    for cell in code_cells(path):
        folded = {"hide-input", "hide-cell", "predicted"} & set(cell.metadata.get("tags", []))
        hidden = cell.metadata.get("jupyter", {}).get("source_hidden", False)
        assert hidden == bool(folded), cell.source


def test_a_chapter_asks_for_the_readers_own_words_near_its_first_figure(path):
    cells = nbformat.read(path, 4).cells
    if path.stem.endswith(("solutions", "evidence")):
        return
    first = next(i for i, cell in enumerate(cells) if "explore(" in cell.source)
    turn = next(i for i, cell in enumerate(cells) if "**Your turn.**" in cell.source)
    assert abs(turn - first) == 1
    assert cells[turn + 1].cell_type == "code"


def test_outputs_name_no_machine(path):
    for cell in code_cells(path):
        for output in cell.outputs:
            data = output.get("data", {})
            text = output.get("text", "") + str({k: v for k, v in data.items() if "text" in k})
            assert not re.search(r"0x[0-9a-f]{6,}|/(home|root|Users|tmp|work)/", text), cell.source


def test_every_picture_has_alt_text(path):
    for cell in code_cells(path):
        if any("image/png" in output.get("data", {}) for output in cell.outputs):
            assert cell.metadata.get("mystnb", {}).get("image", {}).get("alt"), cell.source


def test_cells_are_short_and_import_their_logic(path):
    for cell in code_cells(path):
        lines = cell.source.splitlines()
        assert len(lines) <= MOST_LINES, f"move this into genopt_core:\n{cell.source}"
        assert all(len(line) <= 88 for line in lines), cell.source
        assert not re.search(r"^\s*(def|class) ", cell.source, re.MULTILINE), (
            f"a formula belongs into genopt_core, where a test sees it:\n{cell.source}"
        )


def test_what_is_printed_is_short(path):
    for cell in code_cells(path):
        for output in cell.outputs:
            lines = output.get("text", "").splitlines()
            assert len(lines) <= MOST_PRINTED, f"make it a table or a figure:\n{cell.source}"


def test_no_interact_and_no_output_widget(path):
    # both print through an Output widget; without a front end nbval sees other outputs
    for cell in code_cells(path):
        assert not re.search(r"\binteract(ive|_manual)?\(|\bOutput\(\)", cell.source)


def test_no_stored_error_without_a_tag(path):
    for cell in code_cells(path):
        if "raises-exception" not in cell.metadata.get("tags", []):
            assert all(output.output_type != "error" for output in cell.outputs), cell.source


PROSE = re.compile(r"\$\$.*?\$\$|\]\([^)]*\)|<[^>]+>|\$[^$]*\$", re.DOTALL)  # taken out
WORDS_A_MINUTE = 180


def test_the_time_on_a_page_is_its_chapter_s_and_enough_for_its_words(path):
    """Output and tables are looked at, not read: they count for nothing here."""
    words = "\n".join(cell.source for cell in markdown_cells(path))
    said = re.search(r"\*About (\d+) minutes", words)
    if not said:
        return
    index = (path.parent / "index.md").read_text(encoding="utf-8")
    [promised] = re.findall(rf"\| {{doc}}`{path.stem}`.*?\| (\d+) min", index)
    assert said[1] == promised
    assert len(re.findall(r"[A-Za-z][\w'-]*", PROSE.sub(" ", words))) <= WORDS_A_MINUTE * int(
        said[1]
    )
