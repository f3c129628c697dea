"""Run the notebooks and store outputs that are the same on every run and every machine.

    python book/_ext/refresh.py [NOTEBOOK ...]      store (only what changed is written)
    python book/_ext/refresh.py --check [...]       exit 1 if storing would change a file
    python book/_ext/refresh.py --text [...]        run nothing: references, numbers, stills

Stored outputs are the truth that the book shows and nbval proves, so everything that would differ
without meaning anything is taken out: widget ids, timings, traceback bodies, machine metadata.
Beside each explorer a still of it is stored, for viewers that show no widgets.
The tests leave the comparison to nbval, which runs the notebooks in parallel; --check is for
looking at one by hand, byte for byte.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from genopt_core.figures.widget import MIME
from genopt_core.files import write_text

sys.path.append(str(Path(__file__).parent))
import stills
import viewers

BOOK = Path(__file__).resolve().parent.parent
WIDGET = "application/vnd.jupyter.widget-view+json"
STILL = "image/svg+xml"
# What JupyterLab writes, so that to open and to save changes nothing; but for the version of
# Python, which `lab.py` takes out again.
METADATA = {
    "kernelspec": {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    },
    "language_info": {
        "codemirror_mode": {"name": "ipython", "version": 3},
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
    },
}
# What the book folds JupyterLab folds too.
FOLDED = {
    "predicted": {"outputs_hidden": True, "source_hidden": True},
    "hide-cell": {"outputs_hidden": True, "source_hidden": True},
    "hide-input": {"source_hidden": True},
}
TRANSIENT = ("execution", "collapsed", "scrolled", "trusted", "jp-MarkdownHeadingCollapsed")


def notebooks() -> list[Path]:
    """All notebooks of the book, in reading order."""
    return sorted(
        path
        for path in BOOK.rglob("*.ipynb")
        if not {"_build", ".ipynb_checkpoints"} & set(path.parts)
    )


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop everything that changes from run to run or from machine to machine."""
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell.id = f"c{number:03d}"
        for key in TRANSIENT:
            cell.metadata.pop(key, None)
        fold(cell)
        if "outputs" in cell:
            cell.outputs = joined(cell.outputs)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            data.pop(WIDGET, None)
            alt = output.get("metadata", {}).get("image/png", {}).get("alt")
            if alt:
                cell.metadata["mystnb"] = {"image": {"alt": alt}}
            if output.output_type == "error":
                output.traceback = [f"{output.ename}: {output.evalue}"]
    return notebook


def fold(cell: nbformat.NotebookNode) -> None:
    """Have JupyterLab show of ``cell`` what its tags leave to be seen."""
    cell.metadata.pop("jupyter", None)
    for tag in cell.metadata.get("tags", []):
        if tag in FOLDED:
            cell.metadata["jupyter"] = nbformat.from_dict(FOLDED[tag])


def joined(outputs: list) -> list:
    """Neighboring pieces of one stream as one: how a kernel cuts them depends on the clock."""
    out: list = []
    for output in outputs:
        stream = output.output_type == "stream"
        if stream and out and out[-1].output_type == "stream" and out[-1].name == output.name:
            out[-1].text += output.text
        else:
            out.append(output)
    return out


def illustrated(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Store a still beside each explorer."""
    found = [
        output["data"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if MIME in output.get("data", {})
    ]
    drawn = stills.stills([(data[MIME]["name"], data[MIME]["params"]) for data in found])
    for data, picture in zip(found, drawn, strict=True):
        data[STILL] = picture
    return notebook


def told(notebook: nbformat.NotebookNode, path: Path) -> nbformat.NotebookNode:
    """Put references and numbers in the Markdown right."""
    if path.resolve().is_relative_to(BOOK):
        page, book = path.resolve().relative_to(BOOK).as_posix(), viewers.Book()
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = viewers.tidy(cell.source, page, book)
    return notebook


def stored(notebook: nbformat.NotebookNode, path: Path) -> str:
    illustrated(told(clean(notebook), path))
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def refreshed(path: Path) -> str:
    """The text of the notebook at ``path`` after a run from a fresh kernel."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=False,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # else a warning about TCP each time
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    return stored(notebook, path)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing, report differences")
    parser.add_argument("--text", action="store_true", help="put the text right, run nothing")
    options = parser.parse_args(arguments)
    stale = failed = 0
    for path in options.notebooks or notebooks():
        try:
            new = stored(nbformat.read(path, 4), path) if options.text else refreshed(path)
        except CellExecutionError as problem:
            print(f"failed   {path.name}\n{problem}")
            failed += 1
            continue
        same = new == path.read_text(encoding="utf-8")
        stale += not same
        print(f"{'same    ' if same else 'changed '} {path.name}", flush=True)
        if not same and not options.check:
            write_text(path, new)
    return 1 if failed or (options.check and stale) else 0


if __name__ == "__main__":
    sys.exit(main())
