r"""Segmenting words as other tokenizers do: BPE, WordPiece and Unigram, from their stored models.

Plain Python after the models of Hugging Face's ``tokenizers``, so that the book can compare without
that library.  `genopt_core.subwords.tokenizer.tokenizer_json.read_tokenizer` reads their files.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from genopt_core.conventions import byte_letters
from genopt_core.subwords.segmentation.costs import check_word
from genopt_core.subwords.segmentation.paths import UNKNOWN_EXTRA
from genopt_core.subwords.tokenizer.encoding import BYTE_TOKENS, cheapest_pieces


class Peer(ABC):
    """A segmenter made elsewhere.

    Attributes
    ----------
    kind : str
        ``"BPE"``, ``"WordPiece"`` or ``"Unigram"``.
    pieces : tuple of str
        All tokens of the model, by id, written as in its file.
    byte_level : bool
        Whether words are handed over as bytes, each shown as a letter (GPT-2's alphabet).

    Examples
    --------
    >>> class Letters(Peer):
    ...     kind = "letters"
    ...     def _segment(self, word):
    ...         return word
    >>> Letters("low").segment("low")
    ('l', 'o', 'w')
    """

    kind: ClassVar[str]

    def __init__(self, pieces: Iterable[str], byte_level: bool = False) -> None:
        self.pieces, self.byte_level = tuple(pieces), byte_level
        self._known = frozenset(self.pieces)

    def segment(self, word: str) -> tuple[str, ...]:
        """Pieces of one word, from left to right.

        The word is written as the model's own pre-tokenizer would hand it over; only a byte-level
        model gets it otherwise, with a blank in place of U+2581 and as bytes.
        """
        check_word(word)
        if self.byte_level:
            code = word.replace("\u2581", " ").encode("utf-8")
            word = "".join(map(byte_letters().__getitem__, code))
        return tuple(self._segment(word)) if word else ()

    @abstractmethod
    def _segment(self, word: str) -> Iterable[str]: ...


class BPE(Peer):
    """Byte-pair encoding: merges of two neighbors, in the order in which they were learned.

    P. Gage (1994); R. Sennrich, B. Haddow, A. Birch, arXiv 1508.07909.  Quadratic in the length of
    the word.

    Parameters
    ----------
    pieces : iterable of str
        By id.
    merges : sequence of (str, str)
        First learned first.
    unknown : str, optional
        Stands for a character without a piece; without it such a character is dropped.
    prefix, suffix : str
        What marks a character that does not begin the word, and the last one.
    fuse_unknown, byte_fallback, ignore_merges : bool
        Whether neighboring unknown characters share one token; whether they become byte tokens;
        whether a word that is a piece is left whole.

    Examples
    --------
    >>> bpe = BPE(["l", "o", "w", "lo", "low", "ow"], [("l", "o"), ("o", "w"), ("lo", "w")])
    >>> bpe.segment("lowow")
    ('low', 'ow')
    """

    kind = "BPE"

    def __init__(
        self,
        pieces: Iterable[str],
        merges: Sequence[tuple[str, str]],
        unknown: str | None = None,
        *,
        prefix: str = "",
        suffix: str = "",
        fuse_unknown: bool = False,
        byte_fallback: bool = False,
        ignore_merges: bool = False,
        byte_level: bool = False,
    ) -> None:
        super().__init__(pieces, byte_level)
        self.merges = tuple(merges)
        self._rank = {pair: rank for rank, pair in enumerate(self.merges)}
        self._unknown, self._prefix, self._suffix = unknown, prefix, suffix
        self._fuse, self._bytes, self._ignore = fuse_unknown, byte_fallback, ignore_merges

    def _segment(self, word: str) -> list[str]:
        if self._ignore and word in self._known:
            return [word]
        parts = self._characters(word)
        unranked = len(self._rank)
        while len(parts) > 1:
            ranks = [self._rank.get(pair, unranked) for pair in itertools.pairwise(parts)]
            least = min(ranks)
            if least == unranked:
                break
            place = ranks.index(least)  # of equals the leftmost
            second = parts[place + 1].removeprefix(self._prefix)
            parts[place : place + 2] = [parts[place] + second]
        return parts

    def _characters(self, word: str) -> list[str]:
        parts: list[str] = []
        after_unknown = False
        for place, character in enumerate(word):
            name = (self._prefix if place else "") + character
            name += self._suffix if place == len(word) - 1 else ""
            known = name in self._known
            if known:
                parts.append(name)
            elif self._bytes and (code := _byte_tokens(name, self._known)):
                parts += code
                known = True
            elif self._unknown is not None and not (self._fuse and after_unknown):
                parts.append(self._unknown)
            after_unknown = not known
        return parts


class WordPiece(Peer):
    """Longest match first; a word that cannot be finished becomes one unknown token.

    M. Schuster, K. Nakajima (2012), as in BERT.

    Parameters
    ----------
    pieces : iterable of str
        By id.
    unknown : str
        Stands for a whole word.
    prefix : str
        What marks a piece that does not begin the word.
    longest_word : int
        Words of more characters are unknown.

    Examples
    --------
    >>> wordpiece = WordPiece(["low", "##er", "##e", "##r", "l"], "[UNK]")
    >>> wordpiece.segment("lower"), wordpiece.segment("lo")
    (('low', '##er'), ('[UNK]',))
    """

    kind = "WordPiece"

    def __init__(
        self,
        pieces: Iterable[str],
        unknown: str,
        prefix: str = "##",
        longest_word: int = 100,
        byte_level: bool = False,
    ) -> None:
        super().__init__(pieces, byte_level)
        self._longest = max(map(len, self.pieces), default=0)
        self._unknown, self._prefix, self._longest_word = unknown, prefix, longest_word

    def _segment(self, word: str) -> list[str]:
        parts: list[str] = []
        start = 0
        while start < len(word) <= self._longest_word:
            prefix = self._prefix if start else ""
            for end in range(min(len(word), start + self._longest), start, -1):
                if prefix + word[start:end] in self._known:
                    parts.append(prefix + word[start:end])
                    start = end
                    break
            else:
                return [self._unknown]
        return parts or [self._unknown]


class Unigram(Peer):
    """The most probable segmentation under a unigram model; of equals the longest last piece.

    T. Kudo, arXiv 1804.10959.

    Parameters
    ----------
    scores : mapping of str to float
        Piece to log-probability, by id.
    unknown : str, optional
        Stands for neighboring characters without a piece.
    byte_fallback : bool
        Whether they become byte tokens instead.

    Examples
    --------
    >>> unigram = Unigram({"<unk>": 0.0, "a": -1.0, "b": -1.0, "ab": -1.5}, "<unk>")
    >>> unigram.segment("ab??b")
    ('ab', '<unk>', 'b')
    """

    kind = "Unigram"

    def __init__(
        self,
        scores: Mapping[str, float],
        unknown: str | None = None,
        byte_fallback: bool = False,
        byte_level: bool = False,
    ) -> None:
        super().__init__(scores, byte_level)
        self.costs = {piece: -score for piece, score in scores.items()}
        self._arcs = {piece: (cost, id_) for id_, (piece, cost) in enumerate(self.costs.items())}
        self._lengths = sorted({len(piece) for piece in self.pieces}, reverse=True)
        self._unknown, self._bytes = unknown, byte_fallback
        self._unknown_cost = max(self.costs.values()) + UNKNOWN_EXTRA

    def _segment(self, word: str) -> list[str]:
        places = cheapest_pieces(word, self._arcs, self._lengths, self._unknown_cost)
        parts: list[str] = []
        for known, run in itertools.groupby(places, key=lambda place: place.id >= 0):
            stretch = list(run)
            if known:
                parts += [self.pieces[place.id] for place in stretch]
                continue
            text = word[stretch[0].start : stretch[-1].end]
            code = _byte_tokens(text, self._known) if self._bytes else []
            if not code and self._unknown is None:
                raise ValueError(f"no piece and no unknown token for {text!r}")
            parts += code or [str(self._unknown)]
        return parts


def peer_from_json(content: Mapping[str, Any]) -> Peer:
    """The segmenter inside a ``tokenizer.json`` object."""
    model = content["model"]
    kind = model.get("type") or ("BPE" if "merges" in model else None)
    byte_level = _names_byte_level(content.get("pre_tokenizer"))
    if kind == "Unigram":
        scores = {piece: float(score) for piece, score in model["vocab"]}
        unknown = None if model.get("unk_id") is None else model["vocab"][model["unk_id"]][0]
        return Unigram(scores, unknown, bool(model.get("byte_fallback")), byte_level)
    if kind == "WordPiece":
        return WordPiece(
            sorted(model["vocab"], key=model["vocab"].__getitem__),
            model["unk_token"],
            model.get("continuing_subword_prefix", "##"),
            model.get("max_input_chars_per_word", 100),
            byte_level,
        )
    if kind == "BPE":
        # Older files write a merge as one string.
        merges = [m.split(" ") if isinstance(m, str) else m for m in model["merges"]]
        return BPE(
            sorted(model["vocab"], key=model["vocab"].__getitem__),
            [(first, second) for first, second in merges],
            model.get("unk_token"),
            prefix=model.get("continuing_subword_prefix") or "",
            suffix=model.get("end_of_word_suffix") or "",
            fuse_unknown=bool(model.get("fuse_unk")),
            byte_fallback=bool(model.get("byte_fallback")),
            ignore_merges=bool(model.get("ignore_merges")),
            byte_level=byte_level,
        )
    raise ValueError(f"its model must be 'BPE', 'WordPiece' or 'Unigram', got {kind!r}")


def _names_byte_level(part: Mapping[str, Any] | None) -> bool:
    if not part:
        return False
    return part["type"] == "ByteLevel" or any(map(_names_byte_level, part.get("pretokenizers", ())))


def _byte_tokens(text: str, known: frozenset[str]) -> list[str]:
    """Byte tokens of a text; none if the model lacks one of them."""
    code = [BYTE_TOKENS[byte] for byte in text.encode("utf-8")]
    return code if known.issuperset(code) else []
