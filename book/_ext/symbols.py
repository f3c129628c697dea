r"""The symbols of formulas: each labeled formula is followed by a line that explains its own.

A symbol is a letter with its accent, such as ``c``, ``\hat o`` or ``\mathcal L``; what stands below
or above it only tells symbols of the same letter apart.  Meanings come from the tables of
``notation.md`` and, for what stands in a single formula, from ``symbols.yml``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from html import escape
from typing import NamedTuple

import claims
import yaml
from docutils import nodes
from sphinx.application import Sphinx

BOOK = claims.BOOK
TOKEN = re.compile(r"\\[a-zA-Z]+\*?|\\.|[{}^_&']|[^\s\\{}^_&']")
ACCENTS = {r"\hat", r"\bar", r"\tilde", r"\overline", r"\mathcal", r"\mathbb", r"\mathbf"}
WORDS = {r"\text", r"\operatorname", r"\operatorname*", r"\mathrm", r"\begin", r"\end", r"\mathbin"}
SMALL = (
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "kappa", "lamda", "mu"),
    *("nu", "xi", "pi", "rho", "sigma", "tau", "phi", "chi", "psi", "omega"),
)
CAPITAL = ["Gamma", "Delta", "Theta", "Lamda", "Sigma", "Phi", "Psi", "Omega"]
CHARACTERS = {
    **{f"\\{name}": unicodedata.lookup(f"GREEK SMALL LETTER {name}") for name in SMALL},
    **{f"\\{name}": unicodedata.lookup(f"GREEK CAPITAL LETTER {name}") for name in CAPITAL},
    **{r"\lambda": "λ", r"\Lambda": "Λ"},
    **{r"\varepsilon": "ε", r"\varphi": "φ", r"\ell": "ℓ", r"\sum": "∑", r"\ln": "ln "},
    **{r"\,": " ", r"\dots": "…", r"\Vert": "‖", r"\|": "‖", r"\infty": "∞", "-": "−"},
}
OVER = {r"\hat": "\u0302", r"\bar": "\u0304", r"\overline": "\u0304", r"\tilde": "\u0303"}
LETTERS = {name for name, letter in CHARACTERS.items() if letter.isalpha()}
BINDERS = {r"\sum", r"\prod", r"\max", r"\min", r"\int"}
KNOWN = {"e", r"\mathbb E", r"\mathbb P", r"\mathbf 1"}  # what every reader of formulas knows


class Symbol(NamedTuple):
    """A letter with its accent, its place below (without braces), and as TeX."""

    base: str
    below: str
    tex: str


def _group(tokens: list[str], at: int) -> tuple[list[str], int]:
    """The tokens of the group or the single token at a place, and where it ends."""
    if at >= len(tokens):
        return [], at
    if tokens[at] in WORDS:
        inside, end = _group(tokens, at + 1)
        return [tokens[at], "{", *inside, "}"], end
    if tokens[at] != "{":
        return [tokens[at]], at + 1
    depth, start = 1, at + 1
    at += 1
    while depth:
        depth += {"{": 1, "}": -1}.get(tokens[at], 0)
        at += 1
    return tokens[start : at - 1], at


def _joined(tokens: Iterable[str]) -> str:
    text = ""
    for token in tokens:
        text += " " * bool(re.search(r"\\[a-zA-Z]+$", text) and token[0].isalpha()) + token
    return text


def _walk(tokens: list[str], bound: set[str]) -> Iterator[Symbol]:
    at = 0
    while at < len(tokens):
        token = tokens[at]
        at += 1
        if token in WORDS:
            _, at = _group(tokens, at)
            continue
        if token in "^_":
            inside, at = _group(tokens, at)
            continue
        if token in BINDERS:
            while at < len(tokens) and tokens[at] in "^_":
                below = tokens[at] == "_"
                inside, at = _group(tokens, at + 1)
                if below:
                    bound |= {t for t in inside if t.isalpha()}
            continue
        base = [token]
        if token in ACCENTS:
            inside, at = _group(tokens, at)
            base += inside
            if not (len(inside) == 1 and (inside[0].isalpha() or inside[0] in LETTERS)):
                yield from _walk(inside, bound)
                continue
        elif token == "{":
            inside, at = _group(tokens, at - 1)
            yield from _walk(inside, bound)
            continue
        elif not ((token.isalpha() and token.isascii()) or token in LETTERS):
            continue
        below, exponents = "", []
        while at < len(tokens) and tokens[at] in "^_'":
            if tokens[at] == "'":
                at += 1
                continue
            sign = tokens[at]
            inside, at = _group(tokens, at + 1)
            if sign == "_":
                below = _joined(inside)
            elif token == "e":
                exponents += inside
        name = _joined(base)
        yield Symbol(name, below, name + (f"_{{{below}}}" if below else ""))
        yield from _walk(exponents, bound)


def symbols(tex: str) -> list[Symbol]:
    r"""The symbols of a formula, each once, without what a sum or an extremum runs over.

    >>> [s.tex for s in symbols(r"\sum_s c_s\ln c_s-C\ln C=-C\,H(c/C)")]
    ['c_{s}', 'C', 'H', 'c']
    """
    bound: set[str] = set()
    found = [*_walk(TOKEN.findall(tex), bound)]
    return [*dict.fromkeys(s for s in found if s.base not in bound | KNOWN)]


EQUATION = re.compile(
    rf'<a id="(?P<anchor>{claims.LABEL})"></a>\n(?:> )?\$\$(?P<first>[^$]*)\$\$'
    rf"|\$\$(?P<second>[^$]*)\$\$\s*\((?P<label>{claims.LABEL})\)"
)


@cache
def formulas() -> dict[str, str]:
    """TeX of every labeled formula."""
    return {
        found["anchor"] or found["label"]: (found["first"] or found["second"]).strip()
        for path in claims.pages()
        for found in EQUATION.finditer(claims.page_text(path))
    }


@cache
def notation() -> dict[str, list[tuple[Symbol, str]]]:
    """Symbols and meanings of the tables, by the folder of a chapter's pages."""
    text = (BOOK / "notation.md").read_text(encoding="utf-8")
    folders = {path.name.partition("_")[0]: path.name for path in BOOK.glob("ch?_*")}
    found = {}
    for number, part in enumerate(text.split("\n## ")[1:7], 1):
        rows = [re.split(r"(?<!\\)\|", line)[1:3] for line in part.splitlines() if line[:1] == "|"]
        found[folders[f"ch{number}"]] = [
            row for cell, meaning in rows[2:] for row in _row(cell, meaning.strip())
        ]
    return found


def _row(cell: str, meaning: str) -> list[tuple[Symbol, str]]:
    """Symbols of a row, each with its part of the meaning if there are as many."""
    named = [_first(tex)[0] for tex in re.findall(r"\$([^$]+)\$", cell)]
    parts = meaning.split("; ")
    return [*zip(named, parts if len(parts) == len(named) else [meaning] * len(named), strict=True)]


def _first(tex: str) -> list[Symbol]:
    r"""The symbol that a cell names, of ``D^{(t)}(j)`` the first."""
    return [*_walk(TOKEN.findall(tex), set())][:1]


@cache
def local() -> dict[str, dict[str, str]]:
    """Meanings of symbols that stand in one formula, by its label."""
    return yaml.safe_load((BOOK / "symbols.yml").read_text(encoding="utf-8")) or {}


def chapter(label: str) -> str:
    return claims.equations()[label].partition("/")[0]


def _fits(asked: Symbol, known: Symbol) -> bool:
    """Whether a known symbol may be meant: with an index it needs one that has an index too."""
    return asked.base == known.base and (bool(known.below) or not asked.below)


def explained(label: str) -> tuple[dict[str, str], list[str]]:
    """Meanings of the symbols of a formula, as TeX, and the symbols that have none."""
    shared = [(_first(t)[0], m) for t, m in local().get(chapter(label), {}).items()]
    rows = notation()[chapter(label)]
    own = [(_first(t)[0], m) for t, m in local().get(label, {}).items()]
    told: dict[str, str] = {}
    lost = []
    for symbol in symbols(formulas()[label]):
        for known in (own, [*rows, *shared]):
            fitting = [(s, m) for s, m in known if _fits(symbol, s)]
            exact = [(s, m) for s, m in fitting if s.below == symbol.below]
            if fitting:
                told |= {s.tex: m for s, m in exact or fitting}
                break
        else:
            lost.append(symbol.tex)
    return told, lost


def html(tex: str) -> str:
    r"""A short formula as HTML, without MathJax.

    >>> html(r"\hat o_{ij}"), html(r"1-\delta/2"), html("N^e")
    ('<i>ô</i><sub><i>i</i><i>j</i></sub>', '1−<i>δ</i>/2', '<i>N</i><sup><i>e</i></sup>')
    """
    return _html(TOKEN.findall(tex))


def _html(tokens: list[str]) -> str:
    text, at = "", 0
    while at < len(tokens):
        token = tokens[at]
        at += 1
        if token in "^_":
            inside, at = _group(tokens, at)
            tag = "sub" if token == "_" else "sup"
            text += f"<{tag}>{_html(inside)}</{tag}>"
        elif token == "{":
            inside, at = _group(tokens, at - 1)
            text += _html(inside)
        elif token in WORDS:
            inside, at = _group(tokens, at)
            text += escape("".join(inside))
        elif token in ACCENTS:
            inside, at = _group(tokens, at)
            letter = _letter("".join(inside[:1])) + OVER.get(token, "")
            style = ' class="script"' if token == r"\mathcal" else ""
            rest = _html(inside[1:])
            text += f"<i{style}>{unicodedata.normalize('NFC', letter)}</i>{rest}"
        elif token.isalpha() or token in LETTERS:
            text += f"<i>{_letter(token)}</i>"
        else:
            text += escape(CHARACTERS.get(token, token))
    return text


def _letter(token: str) -> str:
    return CHARACTERS.get(token, token)


def letter(tex: str) -> str:
    """The bare letter of a symbol, as a browser finds it in a formula that MathJax has set."""
    base = next(t for t in TOKEN.findall(tex) if t.isalpha() or t in LETTERS)
    return unicodedata.normalize("NFKC", _letter(base))


def _prose(text: str) -> str:
    parts = re.split(r"\$([^$]+)\$", text)
    plain = [html(part) if at % 2 else escape(part) for at, part in enumerate(parts)]
    return re.sub(r"\{(?:ref|eq|doc)\}`(?:([^`<]*) <)?[^`]*`", r"\1", "".join(plain))


# The quantity of a chapter's main figure, by its formula: it has one color in the formula, on the
# control that moves it and on the curve or mark that shows it.
QUANTITIES = {
    "swe-limit": ("k", "accent"),
    "cem-smoothing": (r"\alpha", "c1"),
    "pos-error": (r"\varepsilon", "accent"),
    "attn-inclusion": (r"\pi", "c1"),
    "kv-stairs": ("B", "c1"),
    "one-effect": ("y", "accent"),
}


def explanation(label: str) -> str:
    """The line below a formula that opens to its symbols."""
    told, _ = explained(label)
    colored, role = QUANTITIES.get(label, ("", ""))
    items = ""
    for tex, meaning in told.items():
        color = f' data-role="{role}"' if _first(tex)[0].base == colored else ""
        items += f'<dt data-letter="{escape(letter(tex))}"{color}>{html(tex)}</dt>'
        items += f"<dd>{_prose(meaning)}</dd>"
    return (
        f'<details class="symbols"><summary>Symbols</summary><dl>{items}</dl></details>'
        if items
        else ""
    )


def explain(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Put the line of its symbols behind each labeled formula of a page."""
    if app.builder.format != "html":
        return
    for formula in [*doctree.findall(nodes.math_block)]:
        label = formula.get("label")
        if label in formulas() and (line := explanation(label)):
            formula.parent.insert(
                formula.parent.index(formula) + 1, nodes.raw("", line, format="html")
            )
