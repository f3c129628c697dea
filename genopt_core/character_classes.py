r"""Published regular expressions of tokenizers, in Python's own dialect.

They name characters by general category, such as ``\p{L}``, which `re` cannot.  Here the classes
are written out from Python's Unicode tables, so that no further library is needed, in a browser
neither.  What the two dialects read differently is refused, not guessed.
"""

import re
import sys
import unicodedata
from functools import lru_cache

BLANKS = (
    *((0x09, 0x0D), (0x20, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680)),
    *((0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000)),
)
r"""Code points of ``\s``: Unicode's White_Space, from first to last."""

_ABSENT = 0x10FFFF  # a code point that is no character: what an empty class has in it
_CEILINGS = (0x7F, 0xFFFF, sys.maxunicode)

Ranges = tuple[tuple[int, int], ...]


def words_of(pattern: str, text: str) -> list[str]:
    r"""A text cut at every match of an expression: matches, and what lies between them.

    The concatenation is the text, and Hugging Face's ``Split`` (behavior "Isolated") cuts the same
    words, except at characters newer than Python's Unicode tables.

    >>> words_of(r"\p{L}+", "low, lower")
    ['low', ', ', 'lower']
    """
    words, end = [], 0
    for match in compiled(pattern, text).finditer(text):
        first, last = match.span()
        if first == last:
            raise ValueError(
                f"pattern must not match the empty string, got {pattern!r}, which does so before "
                f"{text[first : first + 10]!r}"
            )
        if first > end:
            words.append(text[end:first])
        words.append(text[first:last])
        end = last
    return [*words, text[end:]] if end < len(text) else words


def compiled(pattern: str, text: str = "\U0010ffff") -> re.Pattern[str]:
    r"""An expression in Python's dialect, good for this text.

    The classes hold no character beyond the plane of the text: small classes are fast classes.
    """
    if text.isascii():
        return _compiled(pattern, _CEILINGS[0])
    return _compiled(pattern, _CEILINGS[1 if max(text) <= "\uffff" else 2])


@lru_cache(maxsize=64)
def _compiled(pattern: str, ceiling: int) -> re.Pattern[str]:
    translated = _translated(pattern, ceiling)
    try:
        return re.compile(translated)
    except re.error as error:
        raise ValueError(
            f"pattern must be a regular expression, got {pattern!r}: {error}"
        ) from None


# What a regular expression is made of.  The last alternative takes what no other one has taken.
_PARTS = re.compile(
    r"(?P<property>\\[pP]\{[^}]*\})|(?P<escape>\\.)|(?P<group>\((?:\?(?:[:=!>]|<[=!]|i:))?)"
    r"|(?P<repeated>\}[+?])|(?P<other>[\s\S])"
)
_ESCAPES = frozenset("rntfvdDsS")  # letters that mean the same in both dialects; and punctuation


def _translated(pattern: str, ceiling: int) -> str:
    parts, inside, place = [], False, 0
    for match in _PARTS.finditer(pattern):
        part, kind, place = match.group(), match.lastgroup, match.start()
        if kind == "property":
            part = _written_out(part[3:-1], part[1] == "P", inside, ceiling, pattern)
        elif part in (r"\s", r"\S"):
            part = _written_out("", part == r"\S", inside, ceiling, pattern)
        elif kind == "escape":
            if part[1].isalnum() and part[1] not in _ESCAPES:
                raise _refused(pattern, part)
        elif inside:
            if part == "[" or pattern.startswith(("&&", "--", "||", "~~"), place):
                raise _refused(pattern, pattern[place : place + 2])
            if part == "]" and (pattern[:place].endswith(("[", "[^"))):
                raise _refused(pattern, "[]")
            inside = part != "]"
        elif part == "[":
            inside = True
        elif part in ("^", "$") or kind == "repeated":
            raise _refused(pattern, part)
        elif kind == "group" and pattern.startswith("(?", place) and part == "(":
            raise _refused(pattern, pattern[place : place + 3])
        parts.append(part)
    return "".join(parts)


def _refused(pattern: str, part: str) -> ValueError:
    return ValueError(
        f"pattern must do without {part!r}, which not every program reads alike, got {pattern!r}; "
        r"there are \p{L} and the other general categories, \s, \S, \d, \D, classes, groups, "
        "(?:...), (?i:...), looking ahead and behind, and repetitions"
    )


def _written_out(name: str, negated: bool, inside: bool, ceiling: int, pattern: str) -> str:
    ranges = category(name) if name else BLANKS
    if not ranges:
        raise ValueError(
            f"pattern must name general categories, such as \\p{{L}} or \\p{{Lu}}, got "
            f"\\p{{{name}}} in {pattern!r}"
        )
    if negated and inside:
        ranges, negated = _others(ranges), False
    kept = [(first, min(last, ceiling)) for first, last in ranges if first <= ceiling]
    text = "".join(
        f"\\U{first:08x}" + (f"-\\U{last:08x}" if last > first else "")
        for first, last in kept or [(_ABSENT, _ABSENT)]
    )
    return text if inside else f"[{'^' * negated}{text}]"


@lru_cache(maxsize=64)
def category(name: str) -> Ranges:
    """Code points whose general category begins so, from first to last; none if there is no such.

    >>> category("Nd")[:2]
    ((48, 57), (1632, 1641))
    """
    joined: list[list[int]] = []
    groups = (runs for key, runs in _categories().items() if name and key.startswith(name))
    for first, last in sorted(run for runs in groups for run in runs):
        if joined and first == joined[-1][1] + 1:
            joined[-1][1] = last
        else:
            joined.append([first, last])
    return tuple((first, last) for first, last in joined)


def _others(ranges: Ranges) -> Ranges:
    edges = [-1, *(edge for run in ranges for edge in run), sys.maxunicode + 1]
    gaps = zip(edges[::2], edges[1::2], strict=True)
    return tuple((last + 1, first - 1) for last, first in gaps if first - last > 1)


@lru_cache(maxsize=1)
def _categories() -> dict[str, list[tuple[int, int]]]:
    """Every general category as runs of code points."""
    found: dict[str, list[tuple[int, int]]] = {}
    before, start = unicodedata.category("\x00"), 0
    for code in range(1, sys.maxunicode + 2):
        here = unicodedata.category(chr(code)) if code <= sys.maxunicode else ""
        if here != before:
            found.setdefault(before, []).append((start, code - 1))
            before, start = here, code
    return found
