"""Explorer of chapter 1: one text cut by four tokenizers, side by side."""

import math
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from genopt_core import tables
from genopt_core.corpora import END_OF_WORD
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Text
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel
from genopt_core.subwords.tokenizer.peers import BPE, Peer, Unigram, WordPiece
from genopt_core.subwords.tokenizer.vocabulary import Vocabulary
from genopt_core.subwords.training.em import prices

BITS = 1 / math.log(2)  # per nat
BYTE_BITS = 8.0
LONGEST_TEXT = 60
WORDPIECE_PREFIX = "##"  # of a piece inside a word; not shown, since its place says the same
OURS = ("ours", "ours, λ = 5")


@dataclass(frozen=True)
class _Cut:
    """A piece at its place; ``bytes`` is 0 for a known piece, else what it takes as raw bytes."""

    start: int
    end: int
    shown: str
    bits: float
    bytes: int = 0

    @property
    def tokens(self) -> int:
        return self.bytes or 1


@dataclass(frozen=True)
class _Model:
    """A segmenter with its own unigram prices in bits."""

    segment: Callable[[str], Iterable[str]]
    bits: dict[str, float]
    corpus: tuple[float, float]  # tokens and bits per word of the whole corpus
    front: bool = False  # whether the marker stands before a word
    all_or_nothing: bool = False  # whether one foreign character loses the whole word

    def cut(self, words: list[str]) -> list[_Cut]:
        """All pieces of a text, each with the characters it covers."""
        cuts: list[_Cut] = []
        start = 0
        for word in words:
            shape = END_OF_WORD + word[:-1] if self.front else word
            at = start - 1 if self.front else start
            cuts += self._word(shape, at)
            start += len(word)
        return cuts

    def _word(self, word: str, at: int) -> Iterable[_Cut]:
        if self.all_or_nothing:
            pieces = tuple(self.segment(word))
            if not self.bits.keys() >= set(pieces):
                return [_as_bytes(word, at)]
            return self._placed(pieces, at)
        # A character without a piece stands between two stretches that are cut on their own.
        cuts: list[_Cut] = []
        stretch = 0
        for place, character in enumerate(word):
            if character not in self.bits:
                cuts += self._placed(self.segment(word[stretch:place]), at + stretch)
                cuts.append(_as_bytes(character, at + place))
                stretch = place + 1
        return cuts + self._placed(self.segment(word[stretch:]), at + stretch)

    def _placed(self, pieces: Iterable[str], at: int) -> list[_Cut]:
        cuts = []
        for piece in pieces:
            shown = piece.removeprefix(WORDPIECE_PREFIX)
            end = at + len(shown)
            cuts.append(_Cut(at, end, shown, self.bits[piece]))
            at = end
        return cuts


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
        "One strip of pieces for each tokenizer (BPE, WordPiece, Unigram, ours, ours with a price "
        "per token), aligned letter by letter, each with its number of tokens and its bits; bars "
        "below compare the bits."
    ),
    presets=(
        Preset(
            "BPE goes astray",
            {"text": "technologies of our neighborhoods"},
            "BPE merges what is frequent, one pair at a time, and never goes back.",
        ),
        Preset(
            "A sentence",
            {"text": "the railroad reached missouri and louisiana"},
            "Frequent words are one piece everywhere; the rare ones decide.",
        ),
        Preset(
            "A name",
            {"text": "philadelphia"},
            "Twelve mentions earn it a piece of its own for likelihood, not at 5 nats per token.",
        ),
        Preset(
            "Ours loses",
            {"text": "unconstitutional amendments"},
            "Better on average is not better on every word: here BPE and Unigram are cheaper.",
            fails=True,
        ),
        Preset(
            "A foreign script",
            {"text": "московский университет"},
            "No letter is in any of the vocabularies: all fall back to bytes, two a letter.",
            fails=True,
        ),
    ),
)
def subword_peers(text: str) -> Figure:
    """Segmentations under vocabularies of 2,000 pieces, each priced by its own unigram code."""
    words = _words(text)
    rows = {name: model.cut(words) for name, model in _models().items()}
    bits = {name: sum(c.bits for c in cuts) for name, cuts in rows.items()}
    tokens = {name: sum(c.tokens for c in cuts) for name, cuts in rows.items()}
    return Figure(
        title=f"{' '.join(w.rstrip(END_OF_WORD) for w in words)} in 2,000 pieces",
        panels=[_strips(words, rows, bits, tokens), _bits_panel(bits)],
        readout=_peers_readout(words, rows, bits, tokens),
        cost=(
            "Bits: each tokenizer's own unigram code, from how often it uses its pieces on the "
            "State of the Union; an unknown letter goes through as bytes, 8 bits and one token each"
        ),
    )


def _words(text: str) -> list[str]:
    """What the reader typed as words with the end-of-word symbol, in small letters."""
    small = unicodedata.normalize("NFC", text.lower()).replace(END_OF_WORD, " ")
    words = [word + END_OF_WORD for word in small.split()]
    if not words:
        raise ValueError("text needs at least one character besides blanks")
    return words


def _as_bytes(characters: str, at: int) -> _Cut:
    size = len(characters.replace(END_OF_WORD, " ").encode("utf-8", "surrogatepass"))
    return _Cut(at, at + len(characters), characters, BYTE_BITS * size, size)


@lru_cache(maxsize=1)
def _models() -> dict[str, _Model]:
    table = tables.load("subword_peers")
    merges = [merge.split(" ") for merge in table["bpe"]["merges"]]
    made = [first + second for first, second in merges]
    peers: dict[str, tuple[Peer, Mapping[str, Any]]] = {
        "BPE": (
            BPE([*table["bpe"]["alphabet"], *made], [(a, b) for a, b in merges]),
            table["bpe"],
        ),
        "WordPiece": (WordPiece(table["wordpiece"]["pieces"], "[UNK]"), table["wordpiece"]),
        "Unigram": (Unigram(dict(table["unigram"]["scores"])), table["unigram"]),
    }
    models = {
        name: _Model(
            peer.segment,
            *_own_prices(peer.pieces, kept["counts"], table["words"]),
            front=name == "Unigram",
            all_or_nothing=name == "WordPiece",
        )
        for name, (peer, kept) in peers.items()
    }
    for name, vocabulary in zip(OURS, stored_vocabularies().values(), strict=True):
        own = _own_prices(vocabulary.pieces, vocabulary.counts, table["words"])
        models[name] = _Model(_pieces_of(vocabulary), *own)
    return models


def _pieces_of(vocabulary: Vocabulary) -> Callable[[str], Iterable[str]]:
    return lambda word: vocabulary.segment(word).pieces


@lru_cache(maxsize=1)
def stored_vocabularies() -> dict[str, Vocabulary]:
    """Our stored vocabularies of 2,000 pieces: for likelihood, and at 5 nats per token."""
    table = tables.load("subword_vocabulary")
    found = {}
    for name, kept in table["vocabularies"].items():
        counts = np.array(kept["counts"], dtype=float)
        logs = -prices(counts, kept["length_cost"])
        found[name] = Vocabulary(tuple(kept["pieces"]), logs, counts, dict(table["origin"]))
    return found


def _own_prices(
    pieces: Iterable[str], counts: ArrayLike, words: int
) -> tuple[dict[str, float], tuple[float, float]]:
    """Bits of every piece under the tokenizer's own use, and tokens and bits per word."""
    used = np.array(counts, dtype=float)
    bits = prices(used, 0.0) * BITS
    mean = (float(used.sum()) / words, float(used @ bits) / words)
    return dict(zip(pieces, bits.tolist(), strict=True)), mean


def _strips(
    words: list[str],
    rows: Mapping[str, list[_Cut]],
    bits: Mapping[str, float],
    tokens: Mapping[str, int],
) -> Panel:
    length = sum(map(len, words))
    marks = []
    for row, (name, cuts) in enumerate(rows.items()):
        known = "our piece" if name in OURS else "peer's piece"
        marks.append(
            figure.rect(
                [c.start for c in cuts],
                [c.end for c in cuts],
                [-row - 0.55] * len(cuts),
                [-row] * len(cuts),
                text=[c.shown for c in cuts],
                tip=[_tip(name, c) for c in cuts],
                z=["unknown" if c.bytes else known for c in cuts],
            )
        )
        told = f"{name}: {_count(tokens[name], 'token')}, {bits[name]:.1f} bits"
        marks.append(figure.text([-1], [-row + 0.17], [told], anchor="start", bold=name in OURS))
    series = {"peer's piece": "c1", "our piece": "accent", "unknown": "warn"}
    used = {z for mark in marks for z in mark.columns.get("z", [])}
    return Panel(
        marks,
        x=Axis(domain=(-1, length), hidden=True),
        y=Axis(domain=(-len(rows) + 0.3, 0.4), hidden=True),
        title=f"Pieces ({END_OF_WORD} is the blank after a word; Unigram has it before)",
        series={name: role for name, role in series.items() if name in used},
        height=60 * len(rows),
    )


def _tip(name: str, cut: _Cut) -> str:
    if cut.bytes:
        return f"{name}: {cut.shown} is unknown, {_count(cut.bytes, 'byte')}, {cut.bits:.0f} bits"
    return f"{name}: {cut.shown}, {cut.bits:.1f} bits"


def _bits_panel(bits: Mapping[str, float]) -> Panel:
    names = list(bits)
    return Panel(
        [
            figure.bar(
                names,
                list(bits.values()),
                z=["ours" if name in OURS else "peer" for name in names],
                tip=[f"{name}: {value:.1f} bits" for name, value in bits.items()],
            )
        ],
        x=Axis(type="band", domain=names),
        y=Axis("bits", domain=(0, 1.05 * max(bits.values()))),
        title="Cost",
        series={"peer": "c1", "ours": "accent"},
        height=150,
        legend=False,
    )


def _peers_readout(
    words: list[str],
    rows: Mapping[str, list[_Cut]],
    bits: Mapping[str, float],
    tokens: Mapping[str, int],
) -> str:
    length = sum(map(len, words)) - len(words)
    # The fewest foreign letters of all rows: no vocabulary spells these.
    lost = min(sum(c.end - c.start for c in cuts if c.bytes) for cuts in rows.values())
    if lost >= length:
        return (
            f"None of the {_count(length, 'character')} is in any vocabulary: ours needs "
            f"{tokens[OURS[0]]} tokens and {bits[OURS[0]]:.0f} bits, nearly all of them raw bytes."
        )
    peers = [name for name in rows if name not in OURS]
    text = (
        f"Ours takes {_count(tokens[OURS[0]], 'token')} and {bits[OURS[0]]:.1f} bits, with a price "
        f"per token {tokens[OURS[1]]} and {bits[OURS[1]]:.1f}; "
        + ", ".join(f"{name} {tokens[name]} and {bits[name]:.1f}" for name in peers)
    )
    foreign = dict.fromkeys(c.shown for c in rows[OURS[0]] if c.bytes)
    if foreign:
        text += f"; unknown: {', '.join(foreign)}"
    mean = {name: model.corpus[1] for name, model in _models().items()}
    best = min(peers, key=mean.__getitem__)
    return text + (
        f"; over the whole corpus ours takes {mean[OURS[0]]:.2f} bits per word and the best of "
        f"these peers, {best}, {mean[best]:.2f}."
    )


def padded(values: Iterable[float]) -> tuple[float, float]:
    """The range of an axis around these values."""
    values = list(values)
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 0.1
    return low - room, high + room


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
