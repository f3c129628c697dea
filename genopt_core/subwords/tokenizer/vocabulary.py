"""A trained vocabulary: pieces and their probabilities, and what can be asked of them.

`segment`, `n_best`, `sample` and `log_marginal` take one word, with U+2581 where a blank follows;
`encode` and `decode` take any text and lose nothing (`genopt_core.subwords.tokenizer.encoding` says how).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genopt_core.subwords.segmentation import sampling
from genopt_core.subwords.segmentation.costs import check_limit, check_word
from genopt_core.subwords.segmentation.lattice import Float
from genopt_core.subwords.segmentation.paths import (
    UNKNOWN,
    UNKNOWN_EXTRA,
    Path,
    shortest_path,
    viterbi_path,
)
from genopt_core.subwords.tokenizer.encoding import BYTE_TOKENS, Decoder, Encoder
from genopt_core.subwords.tokenizer.fields import (
    check_specials,
    checked_pieces,
    checked_provenance,
    piece_numbers,
)

DECIMALS = 10
"""Digits that log-probabilities keep behind the point: a decimal file gives back the same number,
whichever program reads it, and the last bit of a platform's logarithm does not show."""


@dataclass(frozen=True, eq=False)
class Vocabulary:
    r"""Pieces with log-probabilities, and the exact answers about words spelled with them.

    A token id counts through `tokens`: first the pieces, then one token ``<0xNN>`` per byte, for
    characters that no piece spells, then ``<unk>`` (never used while there are bytes), then
    the special tokens.

    Attributes
    ----------
    pieces : tuple of str
        Distinct and non-empty; a blank is written U+2581.
    log_probabilities : (pieces,) float array
        In nats, at most 0 and finite, rounded to ten decimals.  A price per token
        (a trade-off's weight) may be in them: then they do not sum to 1 as probabilities.
    counts : (pieces,) float array
        How often each piece was used in training, at least 0.
    provenance : dict
        Whatever JSON can hold: corpus, objective, version.  ``provenance["specials"]``, a list
        of str, are the special tokens; `with_specials` sets it.

    Raises
    ------
    TypeError, ValueError
        If a field is not of this form; the message names the entry.

    Notes
    -----
    A character that is no piece of its own may always be spelled as unknown, at 10 nats more than
    the dearest piece (the rule of SentencePiece and of Hugging Face).  So every word has a
    path when there is no step limit.

    Examples
    --------
    >>> vocabulary = Vocabulary(
    ...     pieces=("l", "o", "w", "e", "r", "▁", "low", "er▁"),
    ...     log_probabilities=np.log([0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2, 0.2]),
    ...     counts=[1, 1, 1, 1, 1, 1, 2, 2],
    ... )
    >>> vocabulary.segment("lower▁").pieces
    ('low', 'er▁')
    >>> ids = vocabulary.encode("lower low é")
    >>> [vocabulary.tokens[i] for i in ids]
    ['low', 'er▁', 'low', '▁', '<0xC3>', '<0xA9>']
    >>> vocabulary.decode(ids)
    'lower low é'
    """

    pieces: tuple[str, ...]
    log_probabilities: Float
    counts: Float
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A frozen dataclass is written to this way while it is being made.
        object.__setattr__(self, "pieces", checked_pieces(self.pieces))
        logs = np.round(
            piece_numbers(self.log_probabilities, "log_probabilities", self.pieces), DECIMALS
        )
        if (logs > 0).any():
            worst = int(np.argmax(logs))
            raise ValueError(
                f"log_probabilities must be at most 0, got {logs[worst]} for the piece "
                f"{self.pieces[worst]!r} (give logarithms, not probabilities)"
            )
        counts = piece_numbers(self.counts, "counts", self.pieces).copy()
        if (counts < 0).any():
            worst = int(np.argmin(counts))
            raise ValueError(
                f"counts must be at least 0, got {counts[worst]} for {self.pieces[worst]!r}"
            )
        logs.setflags(write=False)
        counts.setflags(write=False)
        object.__setattr__(self, "log_probabilities", logs)
        object.__setattr__(self, "counts", counts)
        object.__setattr__(self, "provenance", checked_provenance(self.provenance))
        check_specials(self.specials, self.pieces)

    def __len__(self) -> int:
        """Number of pieces."""
        return len(self.pieces)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        return (
            self.pieces == other.pieces
            and np.array_equal(self.log_probabilities, other.log_probabilities)
            and np.array_equal(self.counts, other.counts)
            and self.provenance == other.provenance
        )

    __hash__ = None  # type: ignore[assignment]  # arrays have none

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickled without what was remembered, and made anew: checked, and its arrays read-only.
        return Vocabulary, (self.pieces, self.log_probabilities, self.counts, self.provenance)

    @cached_property
    def costs(self) -> dict[str, float]:
        """Piece to cost in nats, the form that `shortest_path`, `Lattice` and the others take."""
        return dict(zip(self.pieces, (0.0 - self.log_probabilities).tolist(), strict=True))

    @property
    def specials(self) -> tuple[str, ...]:
        """The special tokens, such as ``<|endoftext|>``."""
        return tuple(self.provenance.get("specials", ()))

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """What each id stands for: pieces, 256 bytes, ``<unk>``, special tokens."""
        return (*self.pieces, *BYTE_TOKENS, UNKNOWN, *self.specials)

    def with_specials(self, specials: Iterable[str]) -> "Vocabulary":
        """The same vocabulary with these special tokens, whose ids come last.

        Raises
        ------
        TypeError, ValueError
            If they are not distinct non-empty strings, or one is a piece already.
        """
        if isinstance(specials, str):
            raise TypeError(f"specials must be a list of strings, got the str {specials!r}")
        return replace(self, provenance={**self.provenance, "specials": list(specials)})

    # One word ------------------------------------------------------------------------------------

    def segment(self, word: str, k: int | None = None) -> Path:
        r"""Cheapest spelling of a word, with at most k pieces if k is given.

        (book, eq. swe-bellman), with ties as in `viterbi_path` without k and as in
        `shortest_path` with it.

        Parameters
        ----------
        word : str
            With U+2581 where a blank follows.
        k : int, optional
            Most pieces allowed.

        Returns
        -------
        Path
            With ``<unk>`` for each unknown character.  Of infinite cost if k pieces do not
            suffice.

        Raises
        ------
        TypeError, ValueError
            If ``word`` is not a string or ``k`` not a whole number of at least 1.

        Notes
        -----
        O(arcs) time without k, min(k, characters) times that with it.
        """
        check_word(word)
        limit = check_limit(k)
        if not word:
            return Path((), (0,), 0.0, limit)
        costs = self._word_costs(word)
        found = viterbi_path(word, costs) if limit is None else shortest_path(word, costs, limit)
        return self._with_unknowns(found)

    def n_best(self, word: str, n: int, k: int | None = None) -> list[Path]:
        """The n cheapest spellings of a word, cheapest first; `n_best_paths` has the rule.

        Fewer than n if the word has no more.  The first is that of `segment`.

        Raises
        ------
        TypeError, ValueError
            If an argument is not of the form `segment` accepts, or n is below 1.
        """
        check_word(word)
        costs = self._word_costs(word)
        return [self._with_unknowns(p) for p in sampling.n_best_paths(word, costs, n, k)]

    def log_marginal(self, word: str, k: int | None = None) -> float:
        """Log-likelihood of a word summed over all its spellings, in nats.

        See `genopt_core.subwords.log_marginal` (book, eq. swe-marginal).
        """
        check_word(word)
        return sampling.log_marginal(word, self._word_costs(word), k)

    def sample(
        self, word: str, temperature: float, rng: np.random.Generator, k: int | None = None
    ) -> Path:
        """A random spelling of a word: sub-word regularization.

        See `sample_path` (book, eq. swe-sample).  The same generator state gives the same
        spelling.
        """
        check_word(word)
        costs = self._word_costs(word)
        return self._with_unknowns(sampling.sample_path(word, costs, temperature, rng, k))

    # Whole texts ---------------------------------------------------------------------------------

    def encode(
        self, text: str, *, byte_fallback: bool = True, recognize_specials: bool = True
    ) -> NDArray[np.int32]:
        """Token ids of a text; `decode` gives the text back, whatever the text is.

        Parameters
        ----------
        text : str
            Any string: nothing is normalized, no blank is dropped.
        byte_fallback : bool
            Whether an unknown character becomes its UTF-8 bytes; otherwise it becomes ``<unk>``
            and is lost.
        recognize_specials : bool
            Whether a special token's name in the text becomes that token.  Turn it off for text
            from strangers.

        Returns
        -------
        (tokens,) int32 array

        Raises
        ------
        TypeError
            If ``text`` is not a string.

        Notes
        -----
        Each distinct word is spelled once and remembered.  The exported tokenizer gives the same
        ids (`genopt_core.integrations.huggingface`).
        """
        return self._encoder.encode(text, byte_fallback, recognize_specials)

    def decode(self, ids: ArrayLike | Iterable[int]) -> str:
        """The text that these token ids stand for.

        A run of bytes that is not UTF-8 becomes one U+FFFD per byte.

        Raises
        ------
        TypeError, ValueError
            If an id is not a whole number, or has no token.

        Examples
        --------
        >>> vocabulary = Vocabulary(("a",), np.zeros(1), np.ones(1))
        >>> text = " a  \\u2581 \\n"
        >>> vocabulary.decode(vocabulary.encode(text)) == text
        True
        """
        return self._decoder.decode(ids)

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder(self.costs, self._unknown_cost, self.specials)

    @cached_property
    def _decoder(self) -> Decoder:
        return Decoder(self.tokens, len(self.pieces))

    @cached_property
    def _unknown_cost(self) -> float:
        return max(self.costs.values()) + UNKNOWN_EXTRA

    @cached_property
    def _lengths(self) -> tuple[int, ...]:
        return tuple(sorted({len(piece) for piece in self.pieces}))

    def _word_costs(self, word: str) -> dict[str, float]:
        """Costs of the pieces that occur in a word, and of its unknown characters."""
        costs = {c: self.costs.get(c, self._unknown_cost) for c in set(word)}
        for length in self._lengths:
            for start in range(len(word) - length + 1):
                piece = word[start : start + length]
                if piece in self.costs:
                    costs[piece] = self.costs[piece]
        return costs

    def _with_unknowns(self, path: Path) -> Path:
        pieces = tuple(s if s in self.costs else UNKNOWN for s in path.pieces)
        return replace(path, pieces=pieces)
