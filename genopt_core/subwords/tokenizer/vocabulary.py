"""A trained vocabulary: pieces and their probabilities, and what can be asked of them.

`segment`, `n_best`, `sample` and `log_marginal` take one word, spelled as
`genopt_core.corpora.pretokenize` gives it, with U+2581 where a blank follows; `encode` and `decode`
take any text and lose nothing (`genopt_core.subwords.tokenizer.encoding` says how).
"""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genopt_core.checks import real
from genopt_core.conventions import (
    LOSSLESS,
    Convention,
    as_convention,
    byte_letters,
    check_text,
)
from genopt_core.subwords.segmentation import sampling
from genopt_core.subwords.segmentation.arrays import Float
from genopt_core.subwords.segmentation.costs import check_limit, check_word
from genopt_core.subwords.segmentation.paths import (
    UNKNOWN,
    UNKNOWN_EXTRA,
    Path,
    shortest_path,
    viterbi_path,
)
from genopt_core.subwords.tokenizer.encoding import BYTE_TOKENS, ByteDecoder, Decoder, Encoder

DECIMALS = 10
"""Digits that log-probabilities keep behind the point: a decimal file gives back the same number,
whichever program reads it, and the last bit of a platform's logarithm does not show."""


@dataclass(frozen=True, eq=False, repr=False)
class Vocabulary:
    r"""Pieces with log-probabilities, and the exact answers about words segmented with them.

    A token id counts through `tokens`: first the pieces, then one token ``<0xNN>`` per byte, for
    characters that no piece covers, then ``<unk>`` (never used while there are bytes), then
    the special tokens.  A character that is no piece of its own may always stand as unknown, at 10
    nats more than the costliest piece (the rule of SentencePiece and of Hugging Face).  So every
    word has a path when there is no step limit.

    Attributes
    ----------
    pieces : tuple of str
        Distinct and non-empty; a blank is written U+2581.  In the alphabet of characters none is
        ``<unk>`` or ``<0xNN>``.
    log_probabilities : (pieces,) float array
        :math:`\ln p(s)` in nats, at most 0 and finite, rounded to ten decimals.
    counts : (pieces,) float array
        How often each piece was used in training, at least 0.
    provenance : dict
        Whatever JSON can hold: corpus, objective, version.
    length_cost : float
        Token penalty :math:`\lambda` in nats, at least 0: a path costs :math:`\lambda - \ln p(s)`
        per piece (book, eq. swe-tradeoff).  Probabilities (`log_marginal`, `sample`) are without.
    specials : tuple of str
        Special tokens, such as ``<|endoftext|>``.
    convention : Convention
        How a text is cut into words, and in which alphabet they are spelled; also by its name.
        In the alphabet of bytes all 256 are pieces, and the special tokens follow on the pieces.

    Examples
    --------
    >>> vocabulary = Vocabulary(
    ...     pieces=("l", "o", "w", "e", "r", "▁", "low", "er▁"),
    ...     log_probabilities=np.log([0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.2]),
    ...     counts=[1, 1, 1, 1, 1, 1, 2, 2],
    ... )
    >>> vocabulary
    Vocabulary(8 pieces, 'l' to 'er▁')
    >>> list(vocabulary.segment("lower▁"))
    ['low', 'er▁']
    >>> ids = vocabulary.encode("lower low é")
    >>> [vocabulary.tokens[i] for i in ids]
    ['low', 'er▁', 'low', '▁', '<0xC3>', '<0xA9>']
    >>> vocabulary.decode(ids)
    'lower low é'
    >>> [list(path) for path in vocabulary.n_best("lower▁", 2)]
    [['low', 'er▁'], ['low', 'e', 'r', '▁']]
    >>> round(vocabulary.log_marginal("low▁"), 3)
    -3.907
    >>> list(vocabulary.sample("low▁", 1.0, np.random.default_rng(0)))
    ['low', '▁']
    >>> vocabulary.with_specials(["<end>"]).tokens[-1]
    '<end>'
    """

    pieces: tuple[str, ...]
    log_probabilities: Float
    counts: Float
    provenance: dict[str, Any] = field(default_factory=dict)
    length_cost: float = 0.0
    specials: tuple[str, ...] = ()
    convention: Convention = LOSSLESS

    def __post_init__(self) -> None:
        convention = as_convention(self.convention)
        reserved = () if convention.in_bytes else names_taken(convention)
        pieces = _checked_pieces(self.pieces, reserved)
        if convention.in_bytes:
            _check_bytes(pieces)
        logs = np.round(
            _piece_numbers(self.log_probabilities, "log_probabilities", pieces), DECIMALS
        )
        if (logs > 0).any():
            worst = int(np.argmax(logs))
            raise ValueError(
                f"log_probabilities must be at most 0, got {logs[worst]} for the piece "
                f"{pieces[worst]!r} (give logarithms, not probabilities)"
            )
        counts = _piece_numbers(self.counts, "counts", pieces).copy()
        if (counts < 0).any():
            worst = int(np.argmin(counts))
            raise ValueError(
                f"counts must be at least 0, got {counts[worst]} for {pieces[worst]!r}"
            )
        length_cost = round(real(self.length_cost, "length_cost"), DECIMALS)
        if length_cost < 0:
            raise ValueError(f"length_cost must be at least 0, got {self.length_cost!r}")
        logs.setflags(write=False)
        counts.setflags(write=False)
        checked = {
            "pieces": pieces,
            "log_probabilities": logs,
            "counts": counts,
            "provenance": _checked_provenance(self.provenance),
            "length_cost": length_cost,
            "specials": check_specials(self.specials, (*pieces, *reserved)),
            "convention": convention,
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)  # how a frozen dataclass is written to

    def __len__(self) -> int:
        """Number of pieces."""
        return len(self.pieces)

    def __repr__(self) -> str:
        parts = [f"{len(self)} pieces, {self.pieces[0]!r} to {self.pieces[-1]!r}"]
        parts += [f"length_cost={self.length_cost:g}"] if self.length_cost else []
        parts += [f"specials={len(self.specials)}"] if self.specials else []
        if self.convention != LOSSLESS:
            parts += [f"{self.convention.name!r} in {self.convention.alphabet}"]
        return f"Vocabulary({', '.join(parts)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        arrays = (self.log_probabilities, other.log_probabilities), (self.counts, other.counts)
        plain = ("pieces", "provenance", "length_cost", "specials", "convention")
        return all(getattr(self, name) == getattr(other, name) for name in plain) and all(
            np.array_equal(mine, theirs) for mine, theirs in arrays
        )

    __hash__ = None  # type: ignore[assignment]  # arrays have none

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickled without what was remembered, and made again: checked, and its arrays read-only.
        return Vocabulary, tuple(getattr(self, name) for name in self.__dataclass_fields__)

    @cached_property
    def costs(self) -> dict[str, float]:
        r"""Piece to :math:`\lambda - \ln p(s)` in nats, what `shortest_path` and `Lattice` take."""
        costs = np.round(self.length_cost - self.log_probabilities, DECIMALS)
        return dict(zip(self.pieces, costs.tolist(), strict=True))

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """What each id stands for: pieces, 256 bytes, ``<unk>``, special tokens.

        In the alphabet of bytes: pieces, special tokens.
        """
        if self.convention.in_bytes:
            return (*self.pieces, *self.specials)
        return (*self.pieces, *BYTE_TOKENS, UNKNOWN, *self.specials)

    def with_specials(self, specials: Iterable[str]) -> "Vocabulary":
        """The same vocabulary with these special tokens, whose ids come last."""
        return replace(self, specials=specials)  # type: ignore[arg-type]

    # One word ------------------------------------------------------------------------------------

    def segment(self, word: str, k: int | None = None) -> Path:
        r"""Cheapest segmentation of a word, with at most k pieces if k is given.

        (book, eq. swe-bellman), with ties as in `viterbi_path` without k and as in
        `shortest_path` with it.  The path has ``<unk>`` for each unknown character, and infinite
        cost if k pieces do not suffice.  O(arcs) time without k, min(k, characters) times that
        with it.
        """
        check_word(word)
        limit = check_limit(k)
        if not word:
            return Path((), (0,), 0.0, limit)
        costs = self._word_costs(word)
        found = viterbi_path(word, costs) if limit is None else shortest_path(word, costs, limit)
        return self._with_unknowns(found)

    def n_best(self, word: str, n: int, k: int | None = None) -> list[Path]:
        """The n cheapest segmentations of a word, cheapest first; `n_best_paths` has the rule.

        Fewer than n if the word has no more.  The first is that of `segment`.
        """
        check_word(word)
        costs = self._word_costs(word)
        return [self._with_unknowns(p) for p in sampling.n_best_paths(word, costs, n, k)]

    def log_marginal(self, word: str, k: int | None = None) -> float:
        r"""Log-likelihood of a word summed over all its segmentations, in nats.

        See `genopt_core.subwords.log_marginal` (book, eq. swe-marginal).  Without :math:`\lambda`.
        """
        check_word(word)
        return sampling.log_marginal(word, self._word_costs(word, self.length_cost), k)

    def sample(
        self, word: str, temperature: float, rng: np.random.Generator, k: int | None = None
    ) -> Path:
        r"""A random segmentation of a word: sub-word regularization.

        See `sample_path` (book, eq. swe-sample).  Drawn by probability, without :math:`\lambda`;
        the cost of the path is with it, as everywhere.
        """
        check_word(word)
        costs = self._word_costs(word, self.length_cost)
        path = sampling.sample_path(word, costs, temperature, rng, k)
        return self._with_unknowns(replace(path, cost=path.cost + self.length_cost * path.steps))

    # Whole texts ---------------------------------------------------------------------------------

    def encode(
        self, text: str, *, byte_fallback: bool = True, recognize_specials: bool = True
    ) -> NDArray[np.int32]:
        """Token ids of a text, (tokens,) int32 array; `decode` gives the text back, whatever it is.

        The exported tokenizer (`genopt_core.integrations.huggingface`) gives the same.

        Parameters
        ----------
        text : str
            Any that has a UTF-8 form: nothing is normalized, no blank is dropped.
        byte_fallback : bool
            Whether an unknown character becomes its UTF-8 bytes; otherwise it becomes ``<unk>``
            and is lost.
        recognize_specials : bool
            Whether a special token's name in the text becomes that token.  Turn it off for text
            from strangers.
        """
        return self._encoder.encode(text, byte_fallback, recognize_specials)

    def decode(self, ids: ArrayLike | Iterable[int]) -> str:
        """The text that these token ids stand for.

        A run of bytes that is not UTF-8 becomes one U+FFFD per byte; in the alphabet of bytes one
        for each stretch that no character begins with, the rule of Unicode.

        >>> vocabulary = Vocabulary(("a",), np.zeros(1), np.ones(1))
        >>> text = " a  \\u2581 \\n"
        >>> vocabulary.decode(vocabulary.encode(text)) == text
        True
        """
        return self._decoder.decode(ids)

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder(self.costs, self._unknown_cost, self.specials, self.convention)

    @cached_property
    def _decoder(self) -> Decoder | ByteDecoder:
        kind = ByteDecoder if self.convention.in_bytes else Decoder
        return kind(self.tokens, len(self.pieces))

    @cached_property
    def _unknown_cost(self) -> float:
        return max(self.costs.values()) + UNKNOWN_EXTRA

    @cached_property
    def _lengths(self) -> tuple[int, ...]:
        return tuple(sorted({len(piece) for piece in self.pieces}))

    def _word_costs(self, word: str, less: float = 0.0) -> dict[str, float]:
        """Costs of the pieces that occur in a word, and of its unknown characters."""
        costs = {c: self.costs.get(c, self._unknown_cost) for c in set(word)}
        for length in self._lengths:
            for start in range(len(word) - length + 1):
                piece = word[start : start + length]
                if piece in self.costs:
                    costs[piece] = self.costs[piece]
        return {s: round(c - less, DECIMALS) for s, c in costs.items()} if less else costs

    def _with_unknowns(self, path: Path) -> Path:
        pieces = tuple(s if s in self.costs else UNKNOWN for s in path.pieces)
        return replace(path, pieces=pieces)


def _checked_pieces(pieces: Iterable[str], reserved: Collection[str]) -> tuple[str, ...]:
    """The pieces as a tuple, refused unless distinct, non-empty, free of blanks and of names."""
    if isinstance(pieces, str):
        raise TypeError(f"pieces must be a tuple of strings, got the str {pieces!r}")
    pieces = tuple(pieces)
    if not pieces:
        raise ValueError("pieces is empty; a vocabulary needs at least one piece")
    reserved = set(reserved)
    for piece in pieces:
        if not isinstance(piece, str):
            raise TypeError(f"pieces must be strings, got {piece!r}")
        if not piece:
            raise ValueError("pieces contains the empty piece ''; pieces need a character")
        if " " in piece:
            raise ValueError(f"pieces must write a blank as '▁' (U+2581), got {piece!r}")
        if piece in reserved:
            raise ValueError(f"pieces must not contain the reserved name {piece!r}")
    if len(set(pieces)) < len(pieces):
        twice = next(p for i, p in enumerate(pieces) if p in pieces[:i])
        raise ValueError(f"pieces must be distinct, {twice!r} occurs twice")
    check_text("".join(pieces), "pieces")
    return pieces


def _check_bytes(pieces: tuple[str, ...]) -> None:
    """Refuse pieces that are not spelled in bytes, or a byte that is no piece."""
    letters = byte_letters()
    if wrong := set("".join(pieces)).difference(letters):
        piece = next(p for p in pieces if wrong.intersection(p))
        raise ValueError(
            "pieces must be spelled in bytes, with GPT-2's letters (the convention's alphabet is "
            f"'bytes'), got {piece!r}"
        )
    known = set(pieces)
    for byte, letter in enumerate(letters):
        if letter not in known:
            raise ValueError(
                f"pieces must have all 256 bytes (the convention's alphabet is 'bytes'), "
                f"{letter!r} for 0x{byte:02X} is not there"
            )


def names_taken(convention: Convention) -> tuple[str, ...]:
    """Names of tokens that each vocabulary of a convention has: no special token can have one.

    >>> names_taken(Convention("lossless"))[:2], "<unk>" in names_taken(Convention("gpt2"))
    (('<unk>', '<0x00>'), False)
    """
    return byte_letters() if convention.in_bytes else (UNKNOWN, *BYTE_TOKENS)


def check_specials(specials: Iterable[str], others: Iterable[str] = ()) -> tuple[str, ...]:
    """The special tokens as a tuple, refused if empty or the name of one of the other tokens."""
    if isinstance(specials, str):
        raise TypeError(f"specials must be a list of strings, got the str {specials!r}")
    if not isinstance(specials, Iterable):
        raise TypeError(f"specials must be a list of strings, got {specials!r}")
    specials, taken = tuple(specials), set(others)
    for special in specials:
        if not isinstance(special, str):
            raise TypeError(f"specials must be strings, got {special!r}")
        if not special:
            raise ValueError("specials must not be empty, got ''")
        if special in taken:
            raise ValueError(
                f"specials must differ from each other and from all tokens, got {special!r}"
            )
        taken.add(special)
    check_text("".join(specials), "specials")
    return specials


def _piece_numbers(values: ArrayLike, name: str, pieces: tuple[str, ...]) -> Float:
    """Finite numbers, one per piece, as an array."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be numbers, one per piece, got {values!r}") from None
    if array.shape != (len(pieces),):
        raise ValueError(f"{name} must have shape ({len(pieces)},), got {array.shape}")
    if not np.isfinite(array).all():
        worst = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(
            f"{name} must be finite, got {array[worst]} for the piece {pieces[worst]!r}; "
            "leave out a piece that is never used, or give it a small probability"
        )
    return array


def _checked_provenance(provenance: dict[str, Any]) -> dict[str, Any]:
    """A copy of the provenance as a file would give it back, so that saving changes nothing."""
    if not isinstance(provenance, dict):
        raise TypeError(f"provenance must be a dict, got {type(provenance).__name__}")
    try:
        copy: dict[str, Any] = json.loads(json.dumps(provenance, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(f"provenance must be what JSON can hold: {error}") from None
    return copy
