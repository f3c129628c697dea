r"""The rule that cuts a text into words, before any sub-word encoding, and how words are spelled.

A `Convention` is part of a vocabulary: texts are counted, encoded and exported by the same rule.
Words are spelled with U+2581 for a blank or, in the alphabet of bytes, with one letter a byte.
"""

import itertools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

from genopt_core.character_classes import compiled, words_of
from genopt_core.checks import one_of

END_OF_WORD = "\u2581"
"""The end-of-word symbol, U+2581: visible, one character long, absent from ordinary text."""

Alphabet = Literal["characters", "bytes"]

# Letters, or digits, or one other character: the classes of `_patterns`, for any text.
_CHARACTER = r"(?:[\p{L}\p{Nl}\p{No}\p{M}]+|\p{Nd}+|[\s\S])"
_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LOWER, _UPPER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_PREFIX, _END = r"[^\r\n\p{L}\p{N}]?", r"\s*[\r\n]+|\s+(?!\S)|\s+"

EXPRESSIONS = {
    "lossless": _CHARACTER + " ?",
    "lossless-front": " ?" + _CHARACTER,
    "textbook": _CHARACTER + " ?",
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "gpt4": rf"{_CONTRACTION}|{_PREFIX}\p{{L}}+|\p{{N}}{{1,3}}"
    rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_END}",
    "o200k": rf"{_PREFIX}{_UPPER}*{_LOWER}+{_CONTRACTION}?"
    rf"|{_PREFIX}{_UPPER}+{_LOWER}*{_CONTRACTION}?"
    rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_END}",
    "none": r"[^\n]*\n|[^\n]+",
}
"""Regular expression of a word, by convention; every character of any text is in some match.

"gpt2", "gpt4" (cl100k) and "o200k" are those of OpenAI's tiktoken (tiktoken_ext/openai_public.py).
"""

OURS = ("lossless", "lossless-front", "textbook")
"""Conventions whose counts are those of prose: in NFC, a run of blanks counting as one."""

NAMES = (*EXPRESSIONS, "regex")

_NAME = "0x[0-9A-F]{2}>|unk>"
RESERVED = f"<(?={_NAME})"
"""Regular expression of the first character of ``<0x41>`` and ``<unk>``, which are tokens in the
alphabet of characters: where words could hold such a name, they are cut behind it."""
_INSIDE_NAME = re.compile(f"(?<=<)(?={_NAME})")


@dataclass(frozen=True)
class Convention:
    r"""How a text is cut into words, and in which alphabet they are spelled.

    Attributes
    ----------
    name : str
        ``"lossless"``: a run of letters (and their combining marks), a run of digits, or one other
        character, with the blank after it if there is one.
        ``"lossless-front"``: the same with the blank *before* it.
        ``"textbook"``: lower-case runs of letters; what else is in a text is not counted.  Texts
        are encoded as by "lossless".
        ``"gpt2"``, ``"gpt4"``, ``"o200k"``: the published rules of these tokenizers (``"gpt4"`` is
        cl100k's), made for source code too: blanks and line feeds join in words.
        ``"none"``: a line with its line feed is one word, so that pieces may cross blanks.
        ``"regex"``: ``pattern``.
    pattern : str
        Regular expression of a word, for "regex" only.  What lies between two matches is a word as
        well.  Only what Python and Hugging Face read alike may be in it: no anchors, no ``\w``.
    alphabet : {"characters", "bytes"}
        ``"characters"``: a piece is made of characters, and one that no piece has becomes the
        tokens of its bytes; of our own three names.  A text that says ``<unk>`` or ``<0x41>``, the
        names of such tokens, is cut behind the ``<``.  ``"bytes"``: a piece is made of bytes, all
        256 are pieces, nothing is unknown; of all others.  Trained on a large text, bytes need
        fewer tokens where characters would be half of the pieces or more, as of Chinese in 4,000;
        on a small text, or with more room, characters do (book, evidence of chapter 1).

    Examples
    --------
    >>> list(Convention("gpt4").words("if x:\n    y = 10"))
    ['if', 'Ġx', ':Ċ', 'ĠĠĠ', 'Ġy', 'Ġ=', 'Ġ', '10']
    >>> list(Convention("regex", r"\p{L}+", "characters").words("lower, low"))
    ['lower', ',▁', 'low']
    """

    name: str = "lossless"
    pattern: str = ""
    alphabet: Alphabet | None = None  # that of the name

    def __post_init__(self) -> None:
        one_of(self.name, "convention", NAMES)
        if not isinstance(self.pattern, str):
            raise TypeError(f"pattern must be a str, got {type(self.pattern).__name__}")
        if self.pattern and self.name != "regex":
            raise ValueError(
                f"pattern must be left out unless the convention is 'regex', got {self.pattern!r} "
                f"beside {self.name!r}"
            )
        if self.name == "regex":
            if not self.pattern:
                raise ValueError("pattern must be the regular expression of a word, got ''")
            check_text(self.pattern, "pattern")
            words_of(self.pattern, "")  # refuses what is no expression, or matches nothing at all
        if self.alphabet is None:
            own = "characters" if self.name in OURS else "bytes"
            object.__setattr__(self, "alphabet", own)
        one_of(self.alphabet, "alphabet", ("characters", "bytes"))

    @property
    def expression(self) -> str:
        """Regular expression of a word, as Hugging Face reads it too."""
        return self.pattern or EXPRESSIONS[self.name]

    @property
    def in_bytes(self) -> bool:
        """Whether words are spelled in bytes."""
        return self.alphabet == "bytes"

    @property
    def cuts_names(self) -> bool:
        """Whether words are cut once more, where they hold ``<unk>`` or the name of a byte token.

        In the alphabet of characters, where the rule would let such a name into a word: a text may
        say ``<unk>`` without meaning the token.  No published rule joins all of one.
        """
        return not self.in_bytes and self.name in ("none", "regex")

    def cut(self, text: str) -> list[str]:
        r"""The words of a text as they stand in it: nothing is lost, on end they are the text.

        >>> Convention().cut("low,  lower\n"), Convention("none").cut("a b\nc")
        (['low', ', ', ' ', 'lower', '\n'], ['a b\n', 'c'])
        >>> Convention("none", alphabet="characters").cut("an <unk> word")
        ['an <', 'unk> word']
        """
        check_text(text)
        if self.name == "regex":
            words = words_of(self.pattern, text)
        else:
            words = compiled(self.expression, text).findall(text)
        if self.cuts_names and _INSIDE_NAME.search(text):
            words = [part for word in words for part in names_cut(word)]
        return words

    def words(self, text: str) -> Iterator[str]:
        """The words of a text as they are counted, and spelled as `Vocabulary.segment` takes them.

        By our own three names as in prose (`genopt_core.corpora.pretokenize`), else all that `cut`
        finds.  A U+2581 of the text is a blank for the first; else, in the alphabet of characters,
        it ends a word and is left out, as no piece can have it.
        """
        check_text(text)
        if self.name in OURS:
            words = _prose(text, self.name)
            if not self.in_bytes:
                return words
            return (spelled_in_bytes(word.replace(END_OF_WORD, " ")) for word in words)
        return itertools.chain.from_iterable(map(self._spelled, self.cut(text)))

    def spelled(self, word: str) -> str:
        """A word of `cut` as pieces spell it; in characters it must have no U+2581.

        >>> Convention().spelled("low "), Convention("gpt2").spelled(" é")
        ('low▁', 'ĠÃ©')
        """
        return spelled_in_bytes(word) if self.in_bytes else word.replace(" ", END_OF_WORD)

    def _spelled(self, word: str) -> list[str]:
        if self.in_bytes:
            return [spelled_in_bytes(word)]
        return [part.replace(" ", END_OF_WORD) for part in word.split(END_OF_WORD) if part]

    @cached_property
    def boundary(self) -> re.Pattern[str] | None:
        """Where a text may be cut in two, of which each has its words without the other.

        A cut goes to the end of a match; None: nowhere that is known.  Those of "lossless" and
        "textbook" need to know that something follows.
        """
        if self.name in ("lossless", "textbook"):
            # After a run of blanks, or after a mark that no following character composes with and
            # no rule for lower case looks across (as it would across a full stop, an apostrophe).
            return re.compile(r"(?:\s|[,;!?。、，！？；])(?=[^\s\u2581])")
        if self.name == "lossless-front":
            return re.compile(r"(?<=[^\s\u2581])(?=[\s\u2581])")
        if self.name == "none":
            return re.compile("\n")
        # No published rule joins a letter or a digit with a blank after it, or looks back.
        return None if self.name == "regex" else re.compile(r"[^\W_](?=[ \t\r\n])")


LOSSLESS = Convention()


def names_cut(word: str) -> list[str]:
    """A word, cut behind the ``<`` of each ``<unk>`` and each name of a byte token in it.

    >>> names_cut("low"), names_cut("<unk><0x4A>")
    (['low'], ['<', 'unk><', '0x4A>'])
    """
    return _INSIDE_NAME.split(word)


def as_convention(value: "str | Convention") -> Convention:
    """A convention, given by itself or by its name.

    >>> as_convention("gpt2").in_bytes
    True
    """
    if isinstance(value, Convention):
        return value
    if isinstance(value, str):
        one_of(value, "convention", NAMES)
        if value == "regex":
            raise ValueError(
                "convention must have an expression: Convention('regex', r'...'), got 'regex'"
            )
        return Convention(value)
    raise TypeError(f"convention must be a name or a Convention, got {type(value).__name__}")


def check_text(text: str, name: str = "text") -> None:
    r"""Refuse what is not a string, or has no UTF-8 form: half of a surrogate pair on its own.

    >>> check_text("a\ud800")
    Traceback (most recent call last):
    ValueError: text must have a UTF-8 form, it has the lone surrogate '\ud800'
    """
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a str, got {type(text).__name__}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} must have a UTF-8 form, it has the lone surrogate {text[error.start]!r}"
        ) from None


# Words in bytes -----------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def byte_letters() -> tuple[str, ...]:
    """GPT-2's letter for each byte: printable ones for themselves, the others from U+0100 on.

    >>> byte_letters()[0x20], byte_letters()[0x41]
    ('Ġ', 'A')
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = itertools.count(0x100)
    return tuple(chr(byte if byte in printable else next(others)) for byte in range(256))


@lru_cache(maxsize=1)
def _to_letters() -> dict[int, str]:
    return dict(enumerate(byte_letters()))


def spelled_in_bytes(word: str) -> str:
    """The UTF-8 bytes of a word, one letter each.

    >>> spelled_in_bytes("low é")
    'lowĠÃ©'
    """
    return word.encode("utf-8").decode("latin-1").translate(_to_letters())


# Words of prose -----------------------------------------------------------------------------------


def _prose(text: str, name: str) -> Iterator[str]:
    """The words of our own three conventions, with U+2581 for a blank."""
    text = unicodedata.normalize("NFC", text)
    pattern = _patterns(_marks(text))[name]
    if name == "textbook":
        # Lower-casing may produce a decomposed letter (dotted capital I), hence NFC once more.
        text = unicodedata.normalize("NFC", text.lower())
        return (match.group() + END_OF_WORD for match in pattern.finditer(text))
    blanks = text.replace(END_OF_WORD, " ")
    text = END_OF_WORD.join(blanks.split())
    if name == "lossless-front" and text and blanks[0].isspace():
        text = END_OF_WORD + text
    return (match.group() for match in pattern.finditer(text))


@lru_cache(maxsize=64)
def _patterns(marks: str) -> dict[str, re.Pattern[str]]:
    """Regular expressions of a word, for texts with these combining marks.

    Combining marks, such as the vowel signs of Devanagari, belong to the letters around them; `re`
    has no class for them, so those that occur in the text are spelled out.
    """
    letters = rf"(?:[^\W\d_]|[{re.escape(marks)}])+" if marks else r"[^\W\d_]+"
    # Letters, or digits, or one other character, with the blank beside it if there is one.
    word = rf"(?:{letters}|\d+|[^\w\s{END_OF_WORD}]|_|{END_OF_WORD})"
    front = rf"{END_OF_WORD}?(?:{letters}|\d+|[^\w\s{END_OF_WORD}]|_)"
    return {
        "textbook": re.compile(letters),
        "lossless": re.compile(rf"{word}{END_OF_WORD}?"),
        "lossless-front": re.compile(front),
    }


def _marks(text: str) -> str:
    return "".join(sorted(c for c in set(text) if unicodedata.category(c).startswith("M")))
