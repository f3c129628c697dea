"""Explorer of chapter 6: a sentence travels through the trained model, one token a step."""

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from genopt_core.explorers.one_model.pieces import likeliest, lines_of, quoted, written
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice, Step, Text
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel
from genopt_core.kvcache import stairs_by_age
from genopt_core.one_model import Attended, DrawnBlocks, ForwardCache, next_probabilities
from genopt_core.one_model.stored import stored_model

MOST = 24  # tokens of a sentence
LETTERS, ROW = 60, 32  # of it, and of a row of boxes
BLOCK, CHUNK, SINK, DENSITY = 2, 4, 1, 0.6  # small, so that a sentence shows all stairs
LADDER = (16, 8, 4, 2)
SENTENCES = (
    "I thank the Members of Congress and the people",
    "It is the duty of the people of the United States",
)
NOTHING = 12.0  # a score so far below the largest weighs nothing, and is not drawn
SHOWN = 6  # tokens of a distribution
READ, NOW, AHEAD = "read", "this token", "to come"
CONTENT, TURNED, BIASED = "content alone", "turned", "turned and biased"
KEPT, OUT = "block met", "block left out"
FULL, OURS = "all kept", "with stairs and blocks"


class Walk(NamedTuple):
    """What happened at each token of a sentence."""

    ids: list[int]
    steps: list[list[Attended]]  # by token, then by layer
    blocks: DrawnBlocks
    probabilities: np.ndarray  # (tokens, vocabulary) of the next token
    full: np.ndarray  # the same with a full cache and dense attention


@lru_cache(maxsize=8)
def walked(sentence: str) -> Walk:
    """A sentence token by token, over a staircase and drawn blocks."""
    model, tokenizer, *_ = stored_model()
    ids = tokenizer.encode(sentence).tolist()
    if len(ids) > MOST:
        raise ValueError(f"sentence must have at most {MOST} tokens, got {len(ids)}")
    small = replace(model.config, block=BLOCK)
    blocks = DrawnBlocks.draw(small, MOST, DENSITY, np.random.default_rng(0))
    cache = ForwardCache(small, LADDER, chunk=CHUNK, sink=SINK, full_dtype=np.float16)
    steps: list[list[Attended]] = []
    logits = []
    for i in ids:
        steps.append([])
        logits.append(model.logits([i], cache, blocks=blocks, seen=steps[-1])[-1])
    chances = next_probabilities(np.stack(logits))
    return Walk(ids, steps, blocks, chances, next_probabilities(model.logits(ids)))


@explorer(
    "one-travel",
    Text(
        "sentence",
        "Sentence",
        SENTENCES,
        max_length=LETTERS,
        help=f"Any of at most {MOST} tokens.",
    ),
    Step("step", "Token", 1, MOST, 13, help="How many tokens have been read.", interval_ms=900),
    Choice("layer", "Layer", {1: "first", 2: "second"}, start=2, help="Of the two layers."),
    Choice("head", "Head", (1, 2, 3, 4), start=4, help="Of the four query heads."),
    title="A sentence travels through",
    alt=(
        "Four linked panels. A sentence as a row of boxes, a token in each with its share of "
        "attention. Below, over the same letters, the scores of the current token with each "
        "earlier one by content, turned, and biased by distance; then the bits that each token's "
        "keys and values have left, blocks that are left out told apart; and the likeliest next "
        "tokens, beside those with all kept."
    ),
    presets=(
        Preset("All stairs at once", {}),
        Preset("The first layer looks at itself", {"layer": 1}),
        Preset("A name that goes on by itself", {"sentence": SENTENCES[1], "step": 11}),
        Preset(
            "A block that was needed",
            {"step": 9},
            "With all kept this head puts half of its attention on “the▁” and half on “M”. It does "
            "not meet that block, and half of what was likely goes elsewhere.",
            fails=True,
        ),
    ),
)
def one_travel(sentence: str, step: int, layer: int, head: int) -> Figure:
    """All stations of one token (book, eq. one-scores)."""
    walk = walked(sentence)
    tokens = stored_model().tokenizer.tokens
    at = min(step, len(walk.ids)) - 1
    shape = stored_model().model.config
    layer, head = min(layer, shape.layers), min(head, shape.heads)
    pieces = [tokens[i] for i in walk.ids]
    seen = walk.steps[at][layer - 1]
    weights = seen.weights[head - 1, 0]
    met = walk.blocks.kept(layer - 1, head - 1, at)
    stairs = stairs_by_age(at + 1, LADDER, CHUNK, sink=SINK)
    bits = np.array([stair.bits for stair in stairs for _ in range(stair.first, stair.last)])
    best = int(walk.probabilities[at].argmax())
    far = int(weights.argmax())
    which = "itself" if far == at else f"{quoted(pieces[far])}, {at - far} back"
    return Figure(
        title=f"Token {at + 1} of {len(pieces)}, layer {layer}, head {head}",
        panels=[
            _sentence(pieces, at, weights),
            _scores(walk, pieces, at, layer - 1, head - 1),
            _held(pieces, bits, met[np.arange(at + 1) // BLOCK]),
            _next(walk, at),
        ],
        readout=(
            f"{quoted(pieces[at])} gives {100 * weights[far]:.0f} % of its attention to {which}, "
            f"meets {met.sum()} of {len(met)} blocks, the oldest chunk has {bits.min()} bits a "
            f"number, and next comes {quoted(tokens[best])} with "
            f"{100 * walk.probabilities[at, best]:.0f} %, with all kept "
            f"{100 * walk.full[at, best]:.0f} %."
        ),
        cost=(
            f"a block is {BLOCK} tokens here and a chunk {CHUNK}, so that a sentence shows what "
            "32 and 32 do to a page"
        ),
        limits={"step": (1, len(pieces))},
    )


def _edges(pieces: list[str]) -> tuple[np.ndarray, np.ndarray]:
    ends = np.cumsum([len(written(piece)) + 1.5 for piece in pieces])
    return np.concatenate([[0], ends[:-1]]), ends


def _axis(pieces: list[str], label: str = "") -> Axis:
    """Letters of the sentence, named by its tokens."""
    left, right = _edges(pieces)
    names = [written(piece) for piece in pieces]
    return Axis(
        label, domain=(0, float(right[-1])), ticks=((left + right) / 2).tolist(), tick_labels=names
    )


def _sentence(pieces: list[str], at: int, weights: np.ndarray) -> Panel:
    left, right, rows = lines_of([written(piece) for piece in pieces], ROW)
    series = [READ] * at + [NOW] + [AHEAD] * (len(pieces) - at - 1)
    notes = [f"{100 * w:.0f} %" if w >= 0.005 else "" for w in weights]
    top = -np.array(rows)
    return Panel(
        [
            figure.rect(
                left,
                right,
                top - 0.9,
                top,
                text=[written(piece) for piece in pieces],
                note=notes + [""] * (len(pieces) - at - 1),
                z=series,
            )
        ],
        x=Axis(domain=(0, ROW), hidden=True),
        y=Axis(domain=(-max(rows) - 1, 0.1), hidden=True),
        title="The sentence in tokens, and where this one looks",
        series={READ: "c1", NOW: "accent", AHEAD: "muted"},
        height=46 * (max(rows) + 1) + 8,
        table={
            "number": list(range(1, len(pieces) + 1)),
            "token": [quoted(piece) for piece in pieces],
            "attention": [*weights.tolist(), *[None] * (len(pieces) - at - 1)],
        },
    )


def _scores(walk: Walk, pieces: list[str], at: int, layer: int, head: int) -> Panel:
    """Scores by content, turned, and biased; blocks left out have no last one."""
    left, right = _edges(pieces)
    middle = ((left + right) / 2)[: at + 1]
    seen = walk.steps[at][layer]
    shared = seen.query.shape[0] // seen.key.shape[0]
    keys = np.stack([step[layer].key[head // shared, 0] for step in walk.steps[: at + 1]])
    content = keys @ seen.query[head, 0] / np.sqrt(keys.shape[1])
    turned = seen.scores[head, 0]
    biased = np.where(np.isfinite(seen.biased[head, 0]), seen.biased[head, 0], np.nan)
    least = float(min(content.min(), turned.min()))
    most = float(max(content.max(), turned.max()))
    least = min(least, max(float(np.nanmin(biased)), float(np.nanmax(biased)) - NOTHING))
    shown = np.where(biased >= least - 1e-6, biased, np.nan)
    room = 0.06 * (most - least) + 0.1
    return Panel(
        [
            figure.dot(middle, content, z=CONTENT, size=6),
            figure.line(middle, turned, z=TURNED, width=1),
            figure.dot(middle, turned, z=TURNED, size=6),
            figure.dot(middle, shown, z=BIASED, size=8),
            figure.rule(x=middle[-1], dash="dotted"),
        ],
        x=_axis(pieces),
        y=Axis("score", domain=(least - room, most + room)),
        title="Its scores",
        series={CONTENT: "muted", TURNED: "c1", BIASED: "c2"},
        height=170,
        table={
            "token": [quoted(piece) for piece in pieces[: at + 1]],
            CONTENT: content.tolist(),
            TURNED: turned.tolist(),
            BIASED: [None if np.isnan(v) else v for v in biased],
        },
    )


def _held(pieces: list[str], bits: np.ndarray, met: np.ndarray) -> Panel:
    left, right = _edges(pieces)
    count = len(bits)
    series = [KEPT if m else OUT for m in met]
    return Panel(
        [
            figure.rect(
                left[:count],
                right[:count],
                [0] * count,
                bits,
                text=[str(b) for b in bits],
                z=series,
                name=[quoted(piece) for piece in pieces[:count]],
            )
        ],
        x=_axis(pieces),
        y=Axis("bits of a number", domain=(0, 17), ticks=[2, 4, 8, 16]),
        title="Bits of keys and values, and blocks it meets",
        series={KEPT: "c3", OUT: "muted"},
        height=140,
    )


def _next(walk: Walk, at: int) -> Panel:
    return likeliest(
        stored_model().tokenizer.tokens,
        {OURS: walk.probabilities[at], FULL: walk.full[at]},
        SHOWN,
        title="The likeliest next tokens",
        series={OURS: "accent", FULL: "muted"},
        height=190,
    )
