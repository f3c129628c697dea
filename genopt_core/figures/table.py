"""A table for readers: aligned text for tests and terminals, an accessible HTML table for pages.

On a page the front end (``tables.js``) makes its headings buttons that sort; without it, and in
JupyterLab, it is a plain table in the order of its rows.
"""

import html
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

from genopt_core.checks import one_of

Row = Mapping[str, Any]
MISSING = "–"
BEST = "★"
DENSE = 6  # columns, above which letters are smaller
LONG = 32  # characters, above which a cell breaks into lines
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
DIGIT, POINT = "\u2007", "\u2008"  # spaces as wide as a digit and as a point


class Column(NamedTuple):
    """How a column is shown: format, unit in the heading, and which value is the best.

    ``best`` is ``"least"``, ``"most"`` or empty; ``heading`` replaces the key of the rows.
    """

    format: str | None = None
    unit: str = ""
    best: str = ""
    heading: str = ""


class Table:
    r"""Rows as aligned columns, numbers to the right, a dash where there is none.

    Parameters
    ----------
    rows : sequence of mappings
        The columns are the keys of all rows in the order in which they come.
    columns : mapping of str to str or Column, optional
        Format specifications, or more, by column; without one a float has three decimals.
    caption : str
        A sentence that says what is in the table.
    first : str
        The column that names the rows; without it the first one.
    sort : str
        Column by which the rows are put in order, best first.
    across : str
        ``"least"`` or ``"most"``: marks the best real number of each row, where columns compete, in
        place of the best of a column.
    own : collection of str
        Names of rows to set in bold: one's own methods.
    links : mapping of str to str
        Where a text of the table leads to.

    Examples
    --------
    >>> rows = [{"tokens": 1.25, "by": "ours"}, {"tokens": None, "by": "BPE"}]
    >>> print(Table(rows, {"tokens": Column(".2f", "per word")}, first="by"))
    by    tokens (per word)
    ours               1.25
    BPE                   –
    """

    def __init__(
        self,
        rows: Sequence[Row],
        columns: Mapping[str, str | Column] | None = None,
        *,
        caption: str = "",
        first: str = "",
        sort: str = "",
        across: str = "",
        own: Collection[str] = (),
        links: Mapping[str, str] | None = None,
    ) -> None:
        names = list(dict.fromkeys(name for row in rows for name in row))
        for given in filter(None, (first, sort)):
            one_of(given, "first and sort", names)
        self.names = [first, *(n for n in names if n != first)] if first else names
        shown = {n: (columns or {}).get(n, Column()) for n in self.names}
        self.columns = [c if isinstance(c, Column) else Column(c) for c in shown.values()]
        self.caption, self.own, self.links, self.sort = caption, own, links or {}, sort
        self.across = one_of(across, "across", ("", "least", "most"))
        if sort:
            most = self.columns[self.names.index(sort)].best == "most"
            kept = [row for row in rows if row.get(sort) is not None]
            kept.sort(key=lambda row: _leading(row[sort]), reverse=most)
            rows = [*kept, *(row for row in rows if row.get(sort) is None)]
        self.rows = rows
        self.cells = [
            [_cell(row.get(n), c.format) for n, c in zip(self.names, self.columns, strict=True)]
            for row in rows
        ]
        self.is_text = [all(isinstance(row.get(n), str | None) for row in rows) for n in self.names]

    def _headings(self) -> list[str]:
        named = zip(self.names, self.columns, strict=True)
        return [(c.heading or n) + (f" ({c.unit})" if c.unit else "") for n, c in named]

    def __str__(self) -> str:
        lines = [self._headings(), *self.cells]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [
            "  ".join(
                cell.ljust(width) if left else cell.rjust(width)
                for cell, width, left in zip(line, widths, self.is_text, strict=True)
            ).rstrip()
            for line in lines
        ]
        return "\n".join([self.caption, *text] if self.caption else text)

    __repr__ = __str__

    def _best(self) -> set[tuple[int, int]]:
        """Row and column of each best value, as it is shown; none where all are equal."""
        found: set[tuple[int, int]] = set()
        for at, (name, column) in enumerate(zip(self.names, self.columns, strict=True)):
            if one_of(column.best, "best", ("", "least", "most")) and not self.across:
                values = {(i, at): row.get(name) for i, row in enumerate(self.rows)}
                found |= self._best_of(values, column.best)
        for i, row in enumerate(self.rows if self.across else ()):
            shown = enumerate(row.get(name) for name in self.names)
            values = {(i, at): value for at, value in shown if isinstance(value, float)}
            found |= self._best_of(values, self.across)
        return found

    def _best_of(self, values: Mapping[tuple[int, int], Any], best: str) -> set[tuple[int, int]]:
        known = {place: _leading(v) for place, v in values.items() if v is not None}
        if len(known) < 2:
            return set()
        shown = {(i, at): self.cells[i][at].split(" ")[0] for i, at in known}
        winner = (min if best == "least" else max)(known, key=lambda place: known[place])
        places = {place for place in known if shown[place] == shown[winner]}
        return places if len(places) < len(known) else set()

    def to_html(self) -> str:
        """The table with its caption, in a box that scrolls."""
        escape = html.escape
        aligned = [
            column if text else _aligned(column)
            for column, text in zip(zip(*self.cells, strict=True), self.is_text, strict=True)
        ]
        best = self._best()
        wide = {at for row in self.cells for at, cell in enumerate(row) if len(cell) > LONG}
        side = ["left" if text else "right" for text in self.is_text]
        heads = []
        for name, column, align in zip(self.names, self.columns, side, strict=True):
            unit = f" <span>({escape(column.unit)})</span>" if column.unit else ""
            order = "descending" if column.best == "most" else "ascending"
            first = ' data-first="descending"' if column.best == "most" else ""
            sorted_by = f' aria-sort="{order}"' if name == self.sort else ""
            words = escape(column.heading or name) + unit
            heads.append(
                f'<th scope="col" style="text-align: {align}"{sorted_by}{first}>{words}</th>'
            )
        body = []
        for i in range(len(self.rows)):
            cells = []
            for at, align in enumerate(side):
                text = self._linked(aligned[at][i])
                if (i, at) in best:
                    mark = f'<span role="img" aria-label="best">{BEST}</span>'
                    text = f"<strong>{mark} {text}</strong>"
                tag = 'th scope="row"' if at == 0 else "td"
                if at == 0 and self.cells[i][0] in self.own:
                    text = f"<strong>{text}</strong>"
                long = ' class="gt-long"' if align == "left" and at in wide else ""
                cells.append(f'<{tag} style="text-align: {align}"{long}>{text}</{tag[:2]}>')
            own = ' class="gt-own"' if self.cells[i][0] in self.own else ""
            body.append(f"<tr{own}>{''.join(cells)}</tr>")
        note = (
            f" <span>{BEST} best of its {'row' if self.across else 'column'}.</span>"
            if best
            else ""
        )
        dense = ' class="gt-dense"' if len(self.names) > DENSE else ""
        label = escape(self.caption.split(". ")[0] or "table", quote=True)
        return (
            f'<div class="genopt-table" role="region" tabindex="0" aria-label="{label}">\n'
            f"<table{dense}>\n"
            + (f"<caption>{escape(self.caption)}{note}</caption>\n" if self.caption or note else "")
            + f"<thead><tr>{''.join(heads)}</tr></thead>\n<tbody>\n"
            + "\n".join(body)
            + "\n</tbody>\n</table>\n</div>"
        )

    def _linked(self, text: str) -> str:
        shown = html.escape(text)
        return (
            f'<a href="{html.escape(self.links[text])}">{shown}</a>'
            if text in self.links
            else shown
        )

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self.to_html(), "text/plain": str(self)}


def _leading(value: Any) -> Any:
    """What a value is put in order by: of several numbers, the first."""
    return value[0] if isinstance(value, tuple) else value


def _cell(value: Any, spec: str | None) -> str:
    if value is None:
        return MISSING
    if spec is None:
        spec = "" if isinstance(value, str | int) else ".3f"
    return format(value, spec)


def _aligned(cells: Sequence[str]) -> list[str]:
    """Cells with their numbers one below the other, point below point, by spaces of equal width."""
    if any(re.search(r"\de[+-]?\d", cell) for cell in cells):
        return list(cells)  # powers of ten: no point stands below another
    parts = [NUMBER.findall(cell) for cell in cells]
    most = max(map(len, parts), default=0)
    before, after = [0] * most, [0] * most
    for found in parts:
        for i, number in enumerate(found):
            whole, _, rest = number.partition(".")
            before[i], after[i] = max(before[i], len(whole)), max(after[i], len(rest))
    out = []
    for cell in cells:
        places = count()

        def padded(match: re.Match, places: Any = places) -> str:
            i = next(places)
            whole, point, rest = match[0].partition(".")
            left = DIGIT * (before[i] - len(whole)) if i else ""  # the first is to the right anyway
            right = DIGIT * (after[i] - len(rest)) + (POINT if after[i] and not point else "")
            return f"{left}{match[0]}{right}"

        out.append(NUMBER.sub(padded, cell).replace("-", "−") if NUMBER.search(cell) else cell)
    return out
