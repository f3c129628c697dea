"""Explorer of chapter 1: one text cut by four tokenizers, side by side."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from genopt_core import tables
from genopt_core.corpora import END_OF_WORD
from genopt_core.explorers.panels import BITS, Row, bars, counted, strips
from genopt_core.explorers.subwords.words import typed_words
from genopt_core.figures.controls import Text
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel
from genopt_core.subwords.tokenizer.encoding import BYTE_TOKENS
from genopt_core.subwords.tokenizer.peers import BPE, Unigram, WordPiece
from genopt_core.subwords.tokenizer.vocabulary import Vocabulary
from genopt_core.subwords.training.em import fitted_costs

BYTE_BITS = 8.0
LONGEST_TEXT = 60
UNKNOWN = "[UNK]"
WORDPIECE_PREFIX = "##"  # of a piece inside a word; not shown, since its place says the same
OURS = ("ours", "ours, λ = 5")


@dataclass(frozen=True)
class Cut:
    """A piece at its place; ``bytes`` is 0 for a known piece, else what it takes as raw bytes."""

    start: int
    shown: str
    bits: float
    bytes: int = 0

    @property
    def tokens(self) -> int:
        """One, or one a byte."""
        return self.bytes or 1


@dataclass(frozen=True)
class Model:
    """A tokenizer with byte fallback, and its own unigram code in bits."""

    segment: Callable[[str], Sequence[str]]
    bits: dict[str, float]
    corpus: tuple[float, float]  # tokens and bits per word of the whole corpus
    front: bool = False  # whether the marker stands before a word

    def cut(self, words: list[str]) -> list[Cut]:
        """All pieces of a text, each at the letter at which it begins."""
        cuts: list[Cut] = []
        at = 0
        for word in words:
            start = at - 1 if self.front else at
            for piece, unknown in self._named(END_OF_WORD + word[:-1] if self.front else word):
                if unknown:
                    size = len(piece.replace(END_OF_WORD, " ").encode())
                    cuts.append(Cut(start, piece, BYTE_BITS * size, size))
                else:
                    cuts.append(Cut(start, piece.removeprefix(WORDPIECE_PREFIX), self.bits[piece]))
                start += len(cuts[-1].shown)
            at += len(word)
        return cuts

    def _named(self, word: str) -> Iterable[tuple[str, bool]]:
        """Pieces of a word, and whether they are unknown: byte tokens as the letters they spell."""
        for is_byte, run in itertools.groupby(self.segment(word), key=_BYTES.__contains__):
            if is_byte:
                yield from ((c, True) for c in bytes(_BYTES[token] for token in run).decode())
            else:
                yield from ((word, True) if s == UNKNOWN else (s, False) for s in run)


_BYTES = {token: byte for byte, token in enumerate(BYTE_TOKENS)}


@explorer(
    "subword-peers",
    Text(
        "text",
        "Word or sentence",
        (
            "technologies of our neighborhoods",
            "the railroad reached missouri and louisiana",
            "philadelphia",
            "unconstitutional amendments",
            "naïve café",
            "московский университет",
        ),
        max_length=LONGEST_TEXT,
        help="Any script; small letters are used, as in training.",
    ),
    title="The same text, cut by four tokenizers",
    alt=(
        "One strip of sub-words for each tokenizer (BPE, WordPiece, Unigram, ours, ours with a "
        "token penalty), aligned letter by letter, each with its number of tokens and its bits; "
        "bars below compare the bits."
    ),
    presets=(
        Preset(
            "BPE picks a poor merge",
            {"text": "technologies of our neighborhoods"},
            "BPE merges what is frequent, one pair at a time, and never goes back.",
        ),
        Preset(
            "A sentence",
            {"text": "the railroad reached missouri and louisiana"},
            "Frequent words are one sub-word everywhere; the rare ones decide.",
        ),
        Preset(
            "A name",
            {"text": "philadelphia"},
            "Twelve mentions earn it a place for likelihood, but not at 5 nats per token.",
        ),
        Preset(
            "Ours loses to BPE and Unigram",
            {"text": "unconstitutional amendments"},
            "Better on average is not better on every word: here BPE and Unigram are cheaper.",
            fails=True,
        ),
        Preset(
            "A foreign script: raw bytes only",
            {"text": "московский университет"},
            "No letter is in any of the vocabularies: all fall back to bytes, two a letter.",
            fails=True,
        ),
    ),
)
def subword_peers(text: str) -> Figure:
    """Segmentations under vocabularies of 2,000 pieces, each with its own unigram code."""
    words = typed_words(text, "text")
    rows = {name: model.cut(words) for name, model in models().items()}
    bits = {name: sum(c.bits for c in cuts) for name, cuts in rows.items()}
    tokens = {name: sum(c.tokens for c in cuts) for name, cuts in rows.items()}
    return Figure(
        title=f"{' '.join(w.rstrip(END_OF_WORD) for w in words)} in 2,000 sub-words",
        panels=[
            _strips(words, rows, bits, tokens),
            bars(
                bits,
                Axis("bits", domain=(0, 1.2 * max(bits.values()))),
                z=["ours" if name in OURS else "peer" for name in bits],
                tip=[f"{name}: {value:.1f} bits" for name, value in bits.items()],
                numbers=[f"{value:.1f}" for value in bits.values()],
                title="Cost",
                series={"peer": "c1", "ours": "accent"},
                height=150,
            ),
        ],
        readout=_readout(words, rows, bits, tokens),
        cost=(
            "Bits: each tokenizer's own unigram code, from how often it uses its sub-words on the "
            "State of the Union; an unknown letter goes through as bytes, 8 bits and one token each"
        ),
    )


@cache
def models() -> dict[str, Model]:
    """The tokenizers by name, ours last."""
    table = tables.load("subword_peers")
    bpe, wordpiece, unigram = (table[name] for name in ("bpe", "wordpiece", "unigram"))
    merges = [tuple(merge.split(" ")) for merge in bpe["merges"]]
    merged = [*bpe["alphabet"], *map("".join, merges)]
    bytes_last = dict.fromkeys(BYTE_TOKENS, 0.0)
    known = {
        "BPE": (BPE([*merged, *BYTE_TOKENS], merges, byte_fallback=True), merged, bpe),
        "WordPiece": (WordPiece(wordpiece["pieces"], UNKNOWN), wordpiece["pieces"], wordpiece),
        "Unigram": (
            Unigram(dict(unigram["scores"]) | bytes_last, byte_fallback=True),
            dict(unigram["scores"]),
            unigram,
        ),
    }
    found = {
        name: Model(
            peer.segment,
            *_own_code(pieces, kept["counts"], table["words"]),
            front=name == "Unigram",
        )
        for name, (peer, pieces, kept) in known.items()
    }
    for name, vocabulary in zip(OURS, stored_vocabularies().values(), strict=True):
        own = _own_code(vocabulary.pieces, vocabulary.counts, table["words"])
        found[name] = Model(_tokens_of(vocabulary), *own)
    return found


def _tokens_of(vocabulary: Vocabulary) -> Callable[[str], Sequence[str]]:
    """Its tokens of a word: pieces, and bytes for unknown characters."""

    def tokens(word: str) -> list[str]:
        return [vocabulary.tokens[id_] for id_ in vocabulary.encode(word.replace(END_OF_WORD, " "))]

    return tokens


@cache
def stored_vocabularies() -> dict[str, Vocabulary]:
    """Our stored vocabularies of 2,000 pieces: for likelihood, and at 5 nats per token."""
    table = tables.load("subword_vocabulary")
    found = {}
    for name, kept in table["vocabularies"].items():
        counts = np.array(kept["counts"], dtype=float)
        logs, penalty = -fitted_costs(counts, 0.0), kept["length_cost"]
        found[name] = Vocabulary(
            tuple(kept["pieces"]), logs, counts, dict(table["origin"]), penalty
        )
    return found


def _own_code(
    pieces: Iterable[str], counts: ArrayLike, words: int
) -> tuple[dict[str, float], tuple[float, float]]:
    """Bits of every piece under the tokenizer's own use, and tokens and bits per word."""
    used = np.array(counts, dtype=float)
    bits = fitted_costs(used, 0.0) * BITS
    mean = (float(used.sum()) / words, float(used @ bits) / words)
    return dict(zip(pieces, bits.tolist(), strict=True)), mean


def _strips(
    words: list[str],
    rows: Mapping[str, list[Cut]],
    bits: Mapping[str, float],
    tokens: Mapping[str, int],
) -> Panel:
    drawn = []
    for name, cuts in rows.items():
        known = "our sub-word" if name in OURS else "peer's sub-word"
        drawn.append(
            Row(
                f"{name}: {counted(tokens[name], 'token')}, {bits[name]:.1f} bits",
                [c.shown for c in cuts],
                [c.start for c in cuts],
                [_tip(name, c) for c in cuts],
                ["unknown" if c.bytes else known for c in cuts],
                bold=name in OURS,
                note=[f"{c.bits:.1f}" for c in cuts],
            )
        )
    used = {z for row in drawn for z in row.z}
    every = [(name, c) for name, cuts in rows.items() for c in cuts]
    series = {"peer's sub-word": "c1", "our sub-word": "accent", "unknown": "warn"}
    return strips(
        drawn,
        sum(map(len, words)),
        row_height=60,
        title=f"Sub-words and their bits ({END_OF_WORD}: blank after a word, Unigram's before it)",
        series={name: role for name, role in series.items() if name in used},
        table={
            "tokenizer": [name for name, _ in every],
            "sub-word": [c.shown for _, c in every],
            "tokens": [c.tokens for _, c in every],
            "bits": [c.bits for _, c in every],
        },
    )


def _tip(name: str, cut: Cut) -> str:
    if cut.bytes:
        return f"{name}: {cut.shown} is unknown, {counted(cut.bytes, 'byte')}, {cut.bits:.0f} bits"
    return f"{name}: {cut.shown}, {cut.bits:.1f} bits"


def _readout(
    words: list[str],
    rows: Mapping[str, list[Cut]],
    bits: Mapping[str, float],
    tokens: Mapping[str, int],
) -> str:
    length = sum(map(len, words)) - len(words)
    # The fewest foreign letters of all rows: no vocabulary has these.
    lost = min(sum(len(c.shown) for c in cuts if c.bytes) for cuts in rows.values())
    if lost >= length:
        return (
            f"None of the {counted(length, 'character')} is in any vocabulary: ours needs "
            f"{tokens[OURS[0]]} tokens and {bits[OURS[0]]:.0f} bits, nearly all of them raw bytes."
        )
    peers = [name for name in rows if name not in OURS]
    text = (
        f"Ours takes {counted(tokens[OURS[0]], 'token')} and {bits[OURS[0]]:.1f} bits, with a "
        f"token penalty {tokens[OURS[1]]} and {bits[OURS[1]]:.1f}; "
        + ", ".join(f"{name} {tokens[name]} and {bits[name]:.1f}" for name in peers)
    )
    foreign = dict.fromkeys(c.shown for c in rows[OURS[0]] if c.bytes)
    if foreign:
        text += f"; unknown: {', '.join(foreign)}"
    mean = {name: model.corpus[1] for name, model in models().items()}
    best = min(peers, key=mean.__getitem__)
    return text + (
        f"; over the whole corpus ours takes {mean[OURS[0]]:.2f} bits per word and the best of "
        f"these peers, {best}, {mean[best]:.2f}."
    )
