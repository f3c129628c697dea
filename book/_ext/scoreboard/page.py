"""The page of the scoreboard: a figure with a row for each comparison, and the table below it."""

import math
from collections.abc import Iterator
from html import escape
from itertools import groupby

import claims
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from scoreboard import comparisons
from scoreboard.comparison import BOOK, Comparison

LINEAR = 0.01  # up to a ratio of one percent the axis is linear, beyond it logarithmic
END = 100.0  # times better or worse, at the ends of the axis
TICKS = {
    0.02: "",
    0.1: "1/10",
    0.5: "half",
    0.9: "−10 %",
    0.99: "",
    1.0: "equal",
    1.01: "",
    1.1: "+10 %",
    2.0: "twice",
    10.0: "10×",
    50.0: "",
}
FEW = ("1/10", "−10 %", "equal", "+10 %", "10×")  # that a phone has room for
VERDICTS = {"ahead": "ahead", "behind": "behind", "open": "undecided"}
# Marks differ in shape and filling as well as in color; around (0, 0).
MARKS = {
    "ahead": '<path d="M-7 0 3.5-6v12z"/>',
    "behind": '<path d="M7 0-3.5-6v12z"/>',
    "open": '<path d="M0-6 6 0 0 6-6 0z"/>',
}
CHAPTERS = {
    1: "Sub-words",
    2: "Cross-entropy",
    3: "Positions",
    4: "Attention by chance",
    5: "A cache that steps down",
    6: "All five in one model",
}


def place(ratio: float) -> float:
    """Where a ratio stands on the axis, 0 to 100.

    >>> [round(place(r), 1) for r in (1 / 100, 1.0, 100.0)]
    [0.0, 50.0, 100.0]
    """
    log = math.log(ratio)
    far = math.log1p(math.log(END) / LINEAR)
    value = math.copysign(math.log1p(abs(log) / LINEAR), log) / far
    return 50 + 50 * max(-1.0, min(1.0, value))


def told(ratio: float) -> str:
    """A ratio in words that sort as a number.

    >>> told(0.9946), told(0.0394), told(3.878)
    ('0.995', '0.039', '3.88')
    """
    return f"{ratio:.3f}" if ratio < 2 else f"{ratio:.2f}"


def spread(row: Comparison) -> str:
    return f"{told(row.spread[0])} to {told(row.spread[1])}" if row.spread else "–"


def mark(verdict: str) -> str:
    return f'<svg class="sb-mark sb-{verdict}" viewBox="-8 -8 16 16">{MARKS[verdict]}</svg>'


def line(kind: str, start: float, end: float, top: int = 0, bottom: int = 100) -> str:
    x1, x2 = (f"{place(ratio):.2f}%" for ratio in (start, end))
    return f'<line class="{kind}" x1="{x1}" x2="{x2}" y1="{top}%" y2="{bottom}%"/>'


def strip(row: Comparison) -> str:
    """The axis of a row: all peers as ticks, the spread as a line, ours as a mark."""
    parts = [line("sb-equal" if at == 1 else "sb-grid", at, at) for at in TICKS]
    parts += [line("sb-peer", ratio, ratio, 25, 75) for ratio in row.peers().values()]
    if row.spread:
        parts.append(line(f"sb-spread sb-{row.verdict}", *row.spread, 50, 50))
    parts.append(
        f'<svg class="sb-{row.verdict}" x="{place(row.ratio):.2f}%" y="50%" overflow="visible">'
        f"{MARKS[row.verdict]}</svg>"
    )
    return f'<svg class="sb-strip" aria-hidden="true" focusable="false">{"".join(parts)}</svg>'


def axis() -> str:
    ticks = "".join(
        f'<span style="left:{place(at):.2f}%"{"" if words in FEW else " class=sb-wide"}>'
        f"{words}</span>"
        for at, words in TICKS.items()
        if words
    )
    row = f"<span></span><div>{ticks}</div><span></span>"
    return f'<div class="sb-axis" aria-hidden="true">{row}</div>'


def sentence(row: Comparison) -> str:
    """A row of the figure for those who do not see it."""
    within = f", {spread(row)} ({row.spread_of})" if row.spread else f" ({row.spread_of})"
    return (
        f"{row.what}: {row.ours} over {row.best} {told(row.ratio)}{within}: "
        f"{VERDICTS[row.verdict]}."
    )


def figure(address) -> str:
    rows = comparisons()
    counts = {v: sum(row.verdict == v for row in rows) for v in VERDICTS}
    key = "".join(f"<li>{mark(v)} {words}: {counts[v]}</li>" for v, words in VERDICTS.items())
    parts = [
        '<figure class="scoreboard" aria-labelledby="scoreboard-says">',
        '<figcaption id="scoreboard-says">Ours over the best peer of each comparison; '
        f"{counts['ahead']} of {len(rows)} are ahead, {counts['behind']} behind, "
        f"{counts['open']} undecided. Left of the middle ours is better.</figcaption>",
        f'<ul class="sb-key">{key}<li><span class="sb-peer-key"></span> every peer</li></ul>',
        axis(),
    ]
    for number, chapter in groupby(rows, key=lambda row: row.chapter):
        parts.append(f'<p class="sb-chapter">{number} {CHAPTERS[number]}</p><ul>')
        for row in chapter:
            parts.append(
                f'<li class="sb-row"><a href="{address(row.page)}#{row.section}">{escape(row.what)}'
                f'<span class="sb-ours">{escape(row.ours)}</span></a>{strip(row)}'
                f'<span class="sb-ratio">{told(row.ratio)}</span>'
                f'<span class="sb-said">{escape(sentence(row))}</span></li>'
            )
        parts.append("</ul>")
    return "".join([*parts, axis(), "</figure>"])


HEADS = ("comparison", "ours", "best peer, and all", "ratio", "spread", "over", "verdict", "claim")


def table(address) -> str:
    heads = "".join(f'<th scope="col">{words}</th>' for words in HEADS)
    lines = "".join(f"<tr>{''.join(cells(row, address))}</tr>" for row in comparisons())
    return (
        '<div class="genopt-table sb-table" role="region" tabindex="0" '
        'aria-label="Comparisons"><table><caption>Comparisons: the ratio of ours to the '
        "best peer. "
        "<span>Select a heading to sort, a peer to see all of them.</span></caption>"
        f"<thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def cells(row: Comparison, address) -> Iterator[str]:
    link = f"{address(row.page)}#{row.section}"
    yield f'<th scope="row"><a href="{link}">{row.chapter}. {escape(row.what)}</a></th>'
    yield f"<td>{escape(row.ours)}</td><td>{peers(row)}</td>"
    yield f"<td>{told(row.ratio)}</td><td>{spread(row)}</td><td>{escape(row.spread_of)}</td>"
    yield f"<td>{mark(row.verdict)} {VERDICTS[row.verdict]}</td>"
    claim = claims.named(row.claim)
    yield (
        f'<td><a href="{address("claims")}#{claim.id}" title="{escape(claim.says)}">'
        f"{claim.verdict}</a></td>"
    )


def peers(row: Comparison) -> str:
    """The best peer; folded behind it the ratio to each, and the values of a single cell."""
    ratios = row.peers()
    if len(ratios) == 1:
        return escape(row.best)
    items = "".join(f"<li>{escape(name)}: {told(ratio)}</li>" for name, ratio in ratios.items())
    return f"<details><summary>{escape(row.best)}</summary><ul>{items}</ul></details>"


class ScoreboardDirective(SphinxDirective):
    """``{scoreboard} figure`` and ``{scoreboard} table``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        parts = {"figure": figure, "table": table}
        if self.arguments[0] not in parts:
            raise self.error(f"scoreboard must be figure or table, got {self.arguments[0]!r}")
        for path in (*BOOK.glob("data/results/*.json"), *BOOK.glob("ch*/results.py")):
            self.env.note_dependency(str(path))
        self.env.note_dependency(str(BOOK / "claims.yml"))

        def address(page: str) -> str:
            return self.env.app.builder.get_relative_uri(self.env.docname, page)

        return [nodes.raw("", parts[self.arguments[0]](address), format="html")]
