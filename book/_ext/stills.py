"""A still of an explorer, stored beside its cell: what a viewer without widgets shows.

The panels come from the front end's own drawing (`islands.draw`); here they are put below each
other with title, keys and readout into one SVG.  It is light on white for whatever draws SVG, and
dark where a browser shows it on a dark page.
"""

import hashlib
import html
import re
import textwrap
from collections import Counter
from typing import Any
from xml.etree import ElementTree

import islands

from genopt_core import explorers
from genopt_core.figures.style import STYLE

MOST_BYTES = 60_000
SVG = "http://www.w3.org/2000/svg"
NAME = "gx-still"  # its class: a viewer may put many into one page
WIDTH, MARGIN, FONT = 684, 12, 12
SOFT = 'fill="var(--gx-ink-soft)"'
COLORS = {
    name: color for group in ("page", "roles", "cells") for name, color in STYLE[group].items()
}
COLORED = re.compile(r'(?<= )(fill|stroke|color|stop-color)="([^"]*(?:var|color-mix)\([^"]*)"')
MIX = re.compile(r"color-mix\(in \w+, (#\w+) ([\d.]+)%, (#\w+|transparent)\)")


def rgb(color: str) -> list[int]:
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    return [int(digits[i : i + 2], 16) for i in (0, 2, 4)]


def plain(color: str, scheme: str) -> str:
    """``color`` without variables and mixtures, as any drawing program reads it."""

    def mixed(match: re.Match) -> str:
        share = float(match[2]) / 100
        if match[3] == "transparent":
            return "#" + "".join(f"{c:02x}" for c in [*rgb(match[1]), round(255 * share)])
        pairs = zip(rgb(match[1]), rgb(match[3]), strict=True)
        return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in pairs)

    return MIX.sub(mixed, re.sub(r"var\(--gx-([\w-]+)\)", lambda m: COLORS[m[1]][scheme], color))


def colored(text: str) -> str:
    """``text`` in light colors, with a style sheet that says which dark one each of them becomes.

    Two colors that are one on light pages only are told apart by how they are written: #fff, #FFF.
    """
    dark: dict[tuple[str, str], str] = {}

    def written(match: re.Match) -> str:
        name, color = match.groups()
        light, other = plain(color, "light"), plain(color, "dark")
        for spelling in (light, light.upper(), "#" + "".join(2 * d for d in light[1:])):
            if dark.setdefault((name, spelling), other) == other:
                return f'{name}="{spelling}"'
        raise ValueError(f"{light} must be at most three colors on dark pages, got {other} too")

    drawn = COLORED.sub(written, text)
    rules = "".join(
        f':is(.{NAME},.{NAME} *)[{name}="{light}"]{{{name}:{other}}}'
        for (name, light), other in sorted(dark.items())
        if light != other
    )
    style = f"<style>@media (prefers-color-scheme:dark){{{rules}}}</style>"
    return drawn.replace(">", f">\n{style}", 1)


def is_(node: ElementTree.Element, name: str) -> bool:
    return name in node.get("class", "").split()


def words(node: ElementTree.Element) -> str:
    if is_(node, "gx-sr"):
        return ""
    inner = "".join(words(child) + (child.tail or "") for child in node)
    return " ".join(((node.text or "") + inner).split())


class Sheet:
    """An SVG that grows downwards."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.y = MARGIN

    def line(self, text: str, x: float = MARGIN, more: str = "", down: int = 18) -> None:
        place = f'x="{x:g}" y="{self.y + 12}" font-size="{FONT}"'
        self.parts.append(f"<text {place} {more}>{html.escape(text)}</text>")
        self.y += down

    def keys(self, node: ElementTree.Element, left: float, width: float) -> None:
        """Swatches with names in rows, and the ramp of a color scale."""
        x = left
        for item in node.iter("li"):
            name = words(item)
            needed = 38 + 6.6 * len(name)
            if x > left and x + needed > left + width:
                x, self.y = left, self.y + 18
            swatch = item.find("svg")
            if swatch is not None:
                self.place(swatch, x, self.y)
            self.line(name, x + 34, down=0)
            x += needed + 8
        if x > left:
            self.y += 20
        for ramp in (p for p in node.iter("p") if is_(p, "gx-ramp")):
            self.line(words(ramp), left)

    def place(self, drawing: ElementTree.Element, x: float, y: float) -> None:
        for name in ("class", "role", "aria-label", "aria-hidden", "aria-describedby"):
            drawing.attrib.pop(name, None)
        for desc in drawing.findall("desc"):
            drawing.remove(desc)
        drawing.attrib |= {"x": f"{x:g}", "y": f"{y:g}", "overflow": "visible"}
        drawing.tail = None
        self.parts.append(ElementTree.tostring(drawing, encoding="unicode"))

    def panel(self, panel: ElementTree.Element, left: float) -> float:
        """Draw a panel; its width."""
        frame = next(node for node in panel.iter("svg") if is_(node, "gx-svg"))
        wide = float(frame.get("width", 0))
        parts = (part for node in panel for part in (node if is_(node, "gx-plot") else (node,)))
        for node in parts:
            if is_(node, "gx-panel-title"):
                self.line(words(node), left, 'font-weight="600"', 20)
            elif is_(node, "gx-keys"):
                self.keys(node, left, wide)
            elif is_(node, "gx-ylabel"):
                self.line(words(node), left, SOFT)
            elif is_(node, "gx-frame"):
                self.place(frame, left, self.y)
                self.y += round(float(frame.get("height", 0))) + 2
            elif is_(node, "gx-xlabel"):
                self.line(words(node), left + wide, f'text-anchor="end" {SOFT}')
        return wide

    def text(self, label: str) -> str:
        high = self.y + MARGIN
        head = (
            f'<svg xmlns="{SVG}" viewBox="0 0 {WIDTH} {high}" width="{WIDTH}" height="{high}"'
            f' class="{NAME}" role="img" aria-label="{html.escape(label)}" color="var(--gx-ink)"'
            f' fill="var(--gx-ink)" font-family="system-ui, sans-serif">'
        )
        ground = f'<rect width="{WIDTH}" height="{high}" fill="var(--gx-bg)"/>'
        return colored("\n".join([head, ground, *self.parts, "</svg>"]))


def rounded(text: str) -> str:
    """``text`` with coordinates to a tenth, which is as much as a screen shows."""

    def path(match: re.Match) -> str:
        return re.sub(r"-?\d+\.\d{2,}", lambda m: f"{float(m[0]):.1f}", match[0])

    return re.sub(r'(?<= )(?:d|x|y|x1|x2|y1|y2|cx|cy|transform|points)="[^"]*"', path, text)


def shared(text: str) -> str:
    """``text`` with shapes that are drawn many times written down once.

    Their names come from the shapes, as pictures may meet on one page.
    """
    shapes = Counter(re.findall(r'<path [^>]*?d="([^"]+)"[^>]*/>', text))
    for shape in (shape for shape, count in shapes.items() if count > 5):
        name = f"s{hashlib.sha256(shape.encode()).hexdigest()[:8]}"
        used = re.compile(rf'<path ([^>]*?) ?d="{re.escape(shape)}"([^>]*?) ?/>')
        text = used.sub(rf'<use href="#{name}" \1\2/>', text)
        text = text.removesuffix("</svg>") + f'<defs><path id="{name}" d="{shape}"/></defs></svg>'
    return text


def still(figure: dict[str, Any], drawn: str) -> str:
    """One SVG of a ``figure`` whose panels are ``drawn``."""
    sheet = Sheet()
    sheet.line(figure["title"], more='font-weight="700"', down=26)
    row = ElementTree.fromstring(drawn.replace("&nbsp;", "\u00a0"))
    start, lowest, left = sheet.y, 0, float(MARGIN)
    for panel in row:
        if is_(row, "gx-row"):
            sheet.y = start
        wide = sheet.panel(panel, left)
        if is_(row, "gx-row"):
            left += wide + 2 * MARGIN
        else:
            sheet.y += 10
        lowest = max(lowest, sheet.y)
    sheet.y = lowest + 4
    for line in textwrap.wrap(figure["readout"], 100):
        sheet.line(line)
    sheet.line("Run the cell to move it.", more=SOFT)
    return shared(rounded(sheet.text(f"{figure['title']}. {figure['readout']}")))


def stills(wanted: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """A still for each explorer at its settings, by one call of Node."""
    results = [explorers.run(name, params).get("figure") for name, params in wanted]
    named = [f"{name} {number}" for number, (name, _) in enumerate(wanted)]
    drawn = islands.draw(dict(zip(named, results, strict=True)))
    return [
        still(figure, drawn[key]) if figure else ""
        for key, figure in zip(named, results, strict=True)
    ]
