"""What an exercise says of itself, and a book that leaves the solutions out.

The text of an exercise opens with its level and the time it takes, *Medium · needs Python ·
20 minutes · 4 points.*, which every viewer shows; the book makes badges of it.  Solutions are left
out of a build whose table of contents does not list them (``python make.py book --no-solutions``).
"""

import re
from pathlib import Path

import yaml
from sphinx.application import Sphinx

POINTS = {"Easy": 2, "Medium": 4, "Hard": 6}
HEAD = re.compile(
    r"\*(?P<level>Easy|Medium|Hard)(?P<python> · needs Python)?"
    r" · (?P<minutes>\d+) minutes · (?P<points>\d+) points\.\* "
)
PAGE_OF_SOLUTIONS = "_solutions"
NAMED = r"(?:\[[^\]]+\]\([^)\s]*_solutions\.ipynb[^)]*\)|\{doc\}`[^`]*_solutions>?`)"


def badges(text: str) -> str:
    """MyST of ``text`` with the opening words of exercises as badges."""

    def shown(match: re.Match) -> str:
        python = " [needs Python]{.level .python}" if match["python"] else ""
        effort = f"{match['minutes']} minutes · {match['points']} points"
        return f"[{match['level'].lower()}]{{.level}}{python} [{effort}]{{.effort}} "

    return HEAD.sub(shown, text)


def without_solutions(text: str) -> str:
    """``text`` without its links to solutions, and without the sentences that only list them."""
    text = re.sub(
        rf"Solutions(?:, executed| to the exercises): {NAMED}(?:, {NAMED})*\.[ \n]?", "", text
    )
    text = re.sub(r"\s*\[Solution\]\([^)\s]*_solutions\.ipynb[^)]*\)", "", text)
    return re.sub(r"\[([^\]]+)\]\([^)\s]*_solutions\.ipynb[^)]*\)", r"\1", text)


def listed(table: str) -> str:
    """The table of contents ``table``, in YAML, without the pages of solutions."""

    def kept(entry: dict) -> dict:
        inner = {
            key: [kept(one) for one in entry[key] if not is_solution(one.get("file", ""))]
            for key in ("parts", "chapters", "sections")
            if key in entry
        }
        return {**entry, **inner}

    return yaml.safe_dump(kept(yaml.safe_load(table)), sort_keys=False, allow_unicode=True)


def is_solution(page: str) -> bool:
    return page.endswith(PAGE_OF_SOLUTIONS)


def left_out(app: Sphinx) -> bool:
    """Whether this build has no solutions."""
    table = Path(app.srcdir) / app.config.external_toc_path
    return PAGE_OF_SOLUTIONS not in table.read_text(encoding="utf-8")


if __name__ == "__main__":  # the table of contents of a book without solutions
    source = Path(__file__).resolve().parent.parent / "_toc.yml"
    print(listed(source.read_text(encoding="utf-8")), end="")
