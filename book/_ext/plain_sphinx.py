"""The way out of Jupyter Book: its configuration as a ``conf.py`` that Sphinx alone reads.

    python book/_ext/plain_sphinx.py FOLDER
    sphinx-build -W -n -c FOLDER book OUT

`make.py sphinx` does both.  The file needs the extensions of the book's requirements, and neither
``_config.yml`` nor the command ``jupyter-book``; if that ever stops, put it under version control.
"""

import sys
from pathlib import Path

from jupyter_book.config import get_final_config

from genopt_core.files import write_text

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"
BESIDE = ("html_static_path", "bibtex_bibfiles", "html_favicon", "html_logo")
"""Settings that name files below ``book``; Sphinx looks for them beside ``conf.py``."""
HEAD = '''"""Made by book/_ext/plain_sphinx.py from _config.yml."""

import sys
from pathlib import Path

BOOK = Path({book!r})
sys.path.insert(0, str(BOOK / "_ext"))
'''


def below(value: str | list[str]) -> str:
    """The expression for a file, or files, below ``BOOK``."""
    if isinstance(value, list):
        return f"[{', '.join(map(below, value))}]"
    return f"str(BOOK / {value!r})"


def configuration() -> str:
    """The text of ``conf.py``.

    >>> "extensions = " in configuration()
    True
    """
    settings, _ = get_final_config(
        user_yaml=ROOT / "_config.yml",
        sourcedir=BOOK,
        cli_config={"latex_individualpages": False},
    )
    lines = [
        f"{name} = {below(value) if name in BESIDE and value else repr(value)}"
        for name, value in sorted(settings.items())
    ]
    return "\n".join([HEAD.format(book=str(BOOK)), *lines, ""])


def main() -> int:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "conf.py", configuration())
    return 0


if __name__ == "__main__":
    sys.exit(main())
