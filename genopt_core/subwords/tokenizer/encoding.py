r"""From a text to token ids and back, losing nothing.

A text is cut into words as by `genopt_core.corpora.Convention.cut`.  Unlike in counting by the
rules of prose, nothing is normalized and no blank is dropped: by "lossless" a second blank is a
word of its own, and so is each line feed.

In the alphabet of characters U+2581 in a piece stands for a blank, U+2581 *in the text* for itself;
so the words below are written with blanks, and a U+2581 of the text is an unknown character like
any other.  An unknown character becomes the bytes of its UTF-8 form, one token each.  In the
alphabet of bytes nothing is unknown; the words below are written with one character a byte.

A text without a UTF-8 form (it has a lone surrogate) is refused, and bytes that are no UTF-8 are
decoded to U+FFFD, so what comes out can always be printed, written and encoded again.
"""

import itertools
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genopt_core.conventions import (
    END_OF_WORD,
    LOSSLESS,
    OURS,
    Convention,
    byte_letters,
    check_text,
)
from genopt_core.subwords.segmentation.corpus import best_paths
from genopt_core.subwords.segmentation.lattice import Lattice

BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))
"""Names of the 256 tokens that stand for one byte each, as in SentencePiece."""

REMEMBERED_WORDS = 1 << 18
"""Words whose ids an encoder keeps before it forgets them all and begins again."""

TOGETHER_FROM = 500
"""New words in one text from which on a common lattice is faster than one word at a time."""

TOGETHER_UP_TO = 256
"""Characters of the longest word in a common lattice, which goes on as deep as that."""

_LETTER, _DIGIT = re.compile(r"[^\W\d_]"), re.compile(r"\d")


def _is_letter(character: str) -> bool:
    """Whether it is a letter, or a combining mark, which belongs to the letters around it."""
    return bool(_LETTER.fullmatch(character)) or unicodedata.category(character)[0] == "M"


def _is_digit(character: str) -> bool:
    return bool(_DIGIT.fullmatch(character))


def word_pattern(pieces: Iterable[str], convention: Convention = LOSSLESS) -> str:
    """Regular expression of one word of a text, for Python and for Hugging Face alike.

    By the rules of prose, in characters, letters and digits are written out: those that occur in
    the pieces.  All others are cut one by one, which changes no segmentation, because a character
    that no piece contains stands by itself anyway; and it makes the words independent of the
    Unicode version of the program.

    >>> word_pattern(["b▁", "abc", "7", "é"])
    '(?:[a-cé]+|[7]+|[\\\\s\\\\S]) ?'
    """
    if convention.in_bytes or convention.name not in OURS:
        return convention.expression
    characters = sorted(set("".join(pieces)))
    classes = []
    for belongs in (_is_letter, _is_digit):
        members = [c for c in characters if belongs(c)]
        if members:
            classes.append(f"[{_ranges(members)}]+|")
    word = rf"(?:{''.join(classes)}[\s\S])"
    return f" ?{word}" if convention.name == "lossless-front" else f"{word} ?"


def special_pattern(specials: Iterable[str]) -> re.Pattern[str] | None:
    """Regular expression of a special token, by which a text is split; None if there are none.

    >>> special_pattern(["<s>", "<s>>"]).split("low<s>>er")
    ['low', '<s>>', 'er']
    """
    longest_first = sorted(specials, key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, longest_first))})") if longest_first else None


class Encoder:
    """Segments texts into pieces at given costs, remembering the words it has met.

    ``costs`` are in nats, by piece; the ids are the places in this mapping, then come, unless all
    is spelled in bytes, 256 bytes and the unknown token, and then ``specials``, names that are one
    token wherever they stand in a text.
    """

    def __init__(
        self,
        costs: Mapping[str, float],
        unknown_cost: float,
        specials: Sequence[str],
        convention: Convention = LOSSLESS,
    ) -> None:
        # As the text has them: with blanks.  A piece cannot be confused with a literal U+2581.
        written = _written_in_bytes if convention.in_bytes else _written_in_characters
        self._arcs = {
            written(piece): (cost, id_) for id_, (piece, cost) in enumerate(costs.items())
        }
        self._lengths = sorted({len(piece) for piece in costs}, reverse=True)
        self._characters = {piece for piece in self._arcs if len(piece) == 1}
        self._unknown_cost = unknown_cost
        self._first_byte = len(costs)
        self._unknown = len(costs) + len(BYTE_TOKENS)
        first = len(costs) if convention.in_bytes else self._unknown + 1
        self._specials = {special: first + i for i, special in enumerate(specials)}
        self._special = special_pattern(specials)
        self._in_bytes = convention.in_bytes
        own = convention.in_bytes or convention.name not in OURS
        self._cut: Callable[[str], list[str]] = (
            convention.cut if own else re.compile(word_pattern(costs, convention)).findall
        )
        self._ids: dict[bool, dict[str, tuple[int, ...]]] = {True: {}, False: {}}

    def encode(
        self, text: str, byte_fallback: bool = True, recognize_specials: bool = True
    ) -> NDArray[np.int32]:
        """Token ids of a text; the arguments are those of `Vocabulary.encode`."""
        check_text(text)
        known = self._ids[byte_fallback]
        if len(known) > REMEMBERED_WORDS:
            known.clear()
        split = self._special is not None and recognize_specials
        parts = self._special.split(text) if split and self._special else [text]
        runs: list[Iterable[tuple[int, ...]]] = []
        for index, part in enumerate(parts):
            if index % 2:  # between two plain parts there is one special token
                runs.append([(self._specials[part],)])
                continue
            words = self._cut(part)
            self._remember(set(words).difference(known), byte_fallback)
            runs.append(map(known.__getitem__, words))
        ids = itertools.chain.from_iterable(itertools.chain.from_iterable(runs))
        return np.fromiter(ids, dtype=np.int32)

    def _remember(self, words: set[str], byte_fallback: bool) -> None:
        """Segment new words: many plain ones together in one lattice, the others one by one."""
        known = self._ids[byte_fallback]
        # The word as the arcs have it, and as the text has it.
        new = {w.encode("utf-8").decode("latin-1"): w for w in words} if self._in_bytes else None
        spelled = words if new is None else new.keys()
        plain = sorted(
            w for w in spelled if len(w) <= TOGETHER_UP_TO and self._characters.issuperset(w)
        )
        if len(plain) < TOGETHER_FROM:
            plain = []
        else:
            names = plain if new is None else map(new.__getitem__, plain)
            known.update(zip(names, self._segment_together(plain), strict=True))
        for word in set(spelled).difference(plain):
            known[word if new is None else new[word]] = self._segment(word, byte_fallback)

    def _segment_together(self, words: list[str]) -> Iterator[tuple[int, ...]]:
        """Ids of the cheapest segmentations of words without unknown characters."""
        lattice = Lattice(words, {piece: cost for piece, (cost, _) in self._arcs.items()})
        into = best_paths(lattice).last_arc[0]
        node, word = lattice.end, np.arange(len(words))
        taken = []  # the last piece of every word, the last but one of those that have one, ...
        while len(node):
            arc = into[node]
            taken.append((word, lattice.piece[arc]))
            node = lattice.source[arc]
            node, word = node[node > 0], word[node > 0]
        owner, piece = (np.concatenate(part) for part in zip(*reversed(taken), strict=True))
        ids = piece[np.argsort(owner, kind="stable")].tolist()
        edges = [0, *np.cumsum(np.bincount(owner)).tolist()]
        return (tuple(ids[first:last]) for first, last in itertools.pairwise(edges))

    def _segment(self, word: str, byte_fallback: bool) -> tuple[int, ...]:
        """Ids of one word's cheapest segmentation."""
        ids: list[int] = []
        for place in cheapest_pieces(word, self._arcs, self._lengths, self._unknown_cost):
            if place.id >= 0:
                ids.append(place.id)
            elif byte_fallback:
                code = word[place.start : place.end].encode("utf-8")
                ids.extend(self._first_byte + byte for byte in code)
            elif not ids or ids[-1] != self._unknown:  # neighbors share one
                ids.append(self._unknown)
        return tuple(ids)


class Place(NamedTuple):
    """A piece in a word, by its id; an unknown character has -1."""

    start: int
    end: int
    id: int


def cheapest_pieces(
    word: str, arcs: Mapping[str, tuple[float, int]], lengths: Sequence[int], unknown_cost: float
) -> list[Place]:
    """Cheapest segmentation of a word: `viterbi_path` with its rule for ties, without its checks.

    ``arcs`` has cost and id of each piece, ``lengths`` those of the pieces, longest first;
    ``unknown_cost`` is that of a character that is no piece.

    >>> arcs = {"a": (1.0, 0), "b": (1.0, 1), "ab": (1.5, 2)}
    >>> [tuple(place) for place in cheapest_pieces("ab?", arcs, (2, 1), 9.0)]
    [(0, 2, 2), (2, 3, -1)]
    """
    best, last = [0.0], [Place(0, 0, -1)]
    for end in range(1, len(word) + 1):
        least, choice = math.inf, last[0]
        for length in lengths:
            if length > end:
                continue
            arc = arcs.get(word[end - length : end])
            # Strictly less: among equals the longest piece stays.
            if arc is not None and best[end - length] + arc[0] < least:
                least, choice = best[end - length] + arc[0], Place(end - length, end, arc[1])
        if word[end - 1] not in arcs and best[end - 1] + unknown_cost < least:
            least, choice = best[end - 1] + unknown_cost, Place(end - 1, end, -1)
        best.append(least)
        last.append(choice)
    found, end = [], len(word)
    while end > 0:
        found.append(last[end])
        end = last[end].start
    return found[::-1]


def _written_in_characters(piece: str) -> str:
    return piece.replace(END_OF_WORD, " ")


def _written_in_bytes(piece: str) -> str:
    """A piece with one character below U+0100 a byte."""
    return piece.translate({ord(letter): byte for byte, letter in enumerate(byte_letters())})


class ByteDecoder:
    """Joins the bytes of token ids: of ``tokens``, so many are ``pieces``, the others are texts."""

    def __init__(self, tokens: Sequence[str], pieces: int) -> None:
        self._codes = [_written_in_bytes(piece).encode("latin-1") for piece in tokens[:pieces]]
        self._codes += [token.encode("utf-8") for token in tokens[pieces:]]

    def decode(self, ids: ArrayLike | Iterable[int]) -> str:
        """The text of these ids, as `Vocabulary.decode`."""
        array = _checked_ids(ids, len(self._codes))
        code = b"".join(map(self._codes.__getitem__, array.tolist()))
        return code.decode("utf-8", "replace")


class Decoder:
    """Joins the texts of token ids, and runs of byte tokens into characters.

    Of ``tokens``, by id, so many are ``pieces``, with U+2581 for a blank; the next 256 are the
    bytes.
    """

    def __init__(self, tokens: Sequence[str], pieces: int) -> None:
        self._texts = [token.replace(END_OF_WORD, " ") for token in tokens[:pieces]]
        self._texts += tokens[pieces:]
        self._first_byte, self._after_bytes = pieces, pieces + len(BYTE_TOKENS)

    def decode(self, ids: ArrayLike | Iterable[int]) -> str:
        """The text of these ids, as `Vocabulary.decode`."""
        array = _checked_ids(ids, len(self._texts))
        is_byte = (array >= self._first_byte) & (array < self._after_bytes)
        if not is_byte.any():
            return "".join(map(self._texts.__getitem__, array.tolist()))
        # Where byte runs begin and end, and so do the plain stretches between them.
        edges = [0, *(np.flatnonzero(np.diff(is_byte)) + 1).tolist(), array.size]
        parts = []
        for first, last in itertools.pairwise(edges):
            run = array[first:last]
            if is_byte[first]:
                parts.append(_from_bytes(bytes((run - self._first_byte).tolist())))
            else:
                parts.append("".join(map(self._texts.__getitem__, run.tolist())))
        return "".join(parts)


def _checked_ids(ids: ArrayLike | Iterable[int], tokens: int) -> NDArray[np.integer]:
    array = np.asarray(ids if isinstance(ids, np.ndarray) else list(ids))  # type: ignore[arg-type]
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise TypeError(f"ids must be a list of whole numbers, got {array.dtype} {array.shape}")
    if array.size and not (array.min() >= 0 and array.max() < tokens):
        wrong = array[(array < 0) | (array >= tokens)][0]
        raise ValueError(f"ids must be in 0..{tokens - 1}, got {wrong}")
    return array


def _from_bytes(code: bytes) -> str:
    try:
        return code.decode("utf-8")
    except UnicodeDecodeError:
        return "\ufffd" * len(code)


def _ranges(characters: Sequence[str]) -> str:
    """Sorted characters as the inside of a character class: runs of neighbors as first-last."""
    runs: list[list[str]] = []
    for character in characters:
        if runs and ord(character) == ord(runs[-1][-1]) + 1:
            runs[-1] = [runs[-1][0], character]
        else:
            runs.append([character])
    return "".join(run[0] if len(run) == 1 else f"{run[0]}-{run[1]}" for run in runs)
