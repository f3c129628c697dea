"""Explorer of chapter 6: the trained model goes on with the reader's own words."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from genopt_core import tables
from genopt_core.explorers.one_model.pieces import likeliest, lines_of, quoted, written
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice, Seed, Slider, Text
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Mark, Panel
from genopt_core.kvcache import parse_ladder
from genopt_core.one_model import (
    Continued,
    DrawnBlocks,
    ForwardCache,
    continued,
    divergence,
    drawn,
    next_probabilities,
)
from genopt_core.one_model.stored import stored_model

NEW = 12  # tokens of a continuation
BLOCK, MOST = 16, 512  # tokens of a block, and of all texts together
TOP_P = 0.9
OWN = 40  # of the reader's own words
LETTERS = 44  # of a row of chips
SHOWN = 7  # tokens of a distribution
LADDERS = ("16", "16/8/4/2", "16/2/1")
YOURS, SAME, OTHER = "your words", "drawn alike", "drawn otherwise"
FULL, SWITCHED = "all kept", "switched"


class Read(NamedTuple):
    """A text in a cache, and what may come next."""

    logits: np.ndarray
    cache: ForwardCache
    blocks: DrawnBlocks | None


def _prompt(prompt: str, name: str) -> list[int]:
    """Tokens of the reader's words: in the base a blank begins a token, else it ends one."""
    words = f" {prompt.strip()}" if name == "base" else f"{prompt.strip()} "
    ids = stored_model(name).tokenizer.encode(words).tolist()
    if len(ids) > OWN:
        raise ValueError(f"prompt must have at most {OWN} tokens, got {len(ids)}")
    return ids


@lru_cache(maxsize=16)
def _read(prompt: str, name: str, ladder: str, density: float) -> Read:
    """The stored passage and then the reader's words."""
    model, tokenizer, _, chunk, _ = stored_model(name)
    cache = ForwardCache(model.config, parse_ladder(ladder), chunk=chunk, full_dtype=np.float16)
    if ladder != "16":
        logits, full, blocks = _read(prompt, name, "16", density)
        cache.take(full)
        return Read(logits, cache, blocks)
    blocks = None
    if density < 1:
        small = replace(model.config, block=BLOCK)
        blocks = DrawnBlocks.draw(small, MOST, density, np.random.default_rng(0))
    passage = tables.load("one_model_page")["passage"].strip()
    before = passage if name == "base" else f"{passage} "
    ids = [*tokenizer.encode(before).tolist(), *_prompt(prompt, name)]
    return Read(model.logits(ids, cache, blocks=blocks)[-1], cache, blocks)


@lru_cache(maxsize=32)
def _continued(
    prompt: str,
    name: str,
    ladder: str,
    density: float,
    drawing: tuple[float, int],
    follow: tuple[int, ...] | None = None,
) -> Continued:
    """The continuation under one setting, or what it says of another one's tokens."""
    temperature, seed = drawing
    logits, cache, blocks = _read(prompt, name, ladder, density)
    return continued(
        stored_model(name).model,
        logits,
        copy.deepcopy(cache),
        NEW,
        rng=np.random.default_rng(seed),
        follow=follow,
        blocks=blocks,
        temperature=temperature,
        top_p=TOP_P,
    )


@explorer(
    "one-generate",
    Text(
        "prompt",
        "Your words",
        ("The people", "Let us build"),
        max_length=80,
        help="The model has read a passage of an address before; these words follow it.",
    ),
    Choice(
        "model",
        "Model",
        {"all": "all five", "base": "the base"},
        help="With all five methods, or BPE, RoPE, dense attention and default settings.",
    ),
    Choice("ladder", "Bits of the cache", LADDERS, "16/8/4/2", help="From new tokens to old ones."),
    Slider(
        "density",
        "Blocks of keys met",
        0.25,
        1.0,
        0.5,
        step=0.05,
        grid=(0.5, 1.0),
        help="Share of all pairs of blocks; 1 is dense attention.",
    ),
    Slider(
        "temperature",
        "Temperature",
        0.0,
        1.5,
        0.8,
        step=0.1,
        grid=(0.0, 0.8),
        help="0 takes the likeliest token each time. Otherwise one of the fewest likeliest that "
        f"have {TOP_P:.0%} together (top-p) is drawn.",
    ),
    Seed("seed", "Seed", 2, help="Both continuations draw with the same random numbers."),
    title="Your words, continued",
    alt=(
        "Two texts in rows of boxes, a token in each: the continuation with all kept and the one "
        "with the switches, tokens that differ told apart. Below, how many bits the two settings "
        "are apart at each token, the likeliest tokens of both where they first differ, and the "
        "bytes of both caches."
    ),
    presets=(
        Preset("All five, both switches", {}),
        Preset("The likeliest token each time", {"temperature": 0.0}),
        Preset("The base, the staircase alone", {"model": "base", "density": 1.0}),
        Preset(
            "The base, both switches",
            {"model": "base"},
            "Without a bias far tokens are missed.",
            fails=True,
        ),
    ),
)
def one_generate(
    prompt: str,
    model: str,
    ladder: str,
    density: float,
    temperature: float,
    seed: int,
) -> Figure:
    """A continuation with all kept and one with the switches (book, eq. one-departure)."""
    drawing = (temperature, seed) if temperature else (0.0, 0)
    full = _continued(prompt, model, "16", 1.0, drawing)
    along = _continued(prompt, model, ladder, density, drawing, tuple(full.ids))
    ours = along
    if not _draws_alike(along, drawing):
        ours = _continued(prompt, model, ladder, density, drawing)
    apart = divergence(full.probabilities, along.probabilities)
    pairs = zip(full.ids, ours.ids, strict=True)
    first = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
    tokens = stored_model(model).tokenizer.tokens
    switched = f"{SWITCHED}: bits {ladder}, {100 * density:.0f} % of the blocks"
    panels = [
        _chips(_prompt(prompt, model), tokens, (full, ours), first, switched),
        _next(tokens, full, ours, NEW - 1 if first is None else first),
        _apart(apart, first),
        _bytes(full, ours, ladder),
    ]
    share = ours.nbytes[-1] / full.nbytes[-1]
    alike = NEW if first is None else first
    said = f"{alike} of {NEW} tokens {'is' if alike == 1 else 'are'} drawn alike"
    return Figure(
        title=f"{NEW} tokens after “{prompt.strip()}”",
        panels=panels,
        readout=(
            f"{said}; along the text with all kept the switches are {apart.mean():.3f} bits a "
            f"token away, and the cache takes {100 * share:.0f} % of the bytes."
        ),
        cost=(
            f"{ours.nbytes[-1]:,} bytes of cache beside {full.nbytes[-1]:,}; "
            f"{100 * density:.0f} % of all pairs of blocks"
        ),
    )


def _draws_alike(along: Continued, drawing: tuple[float, int]) -> bool:
    """Whether these probabilities draw the tokens that they were made to follow."""
    temperature, seed = drawing
    logits = np.log(np.maximum(along.probabilities, 1e-300))
    chances = next_probabilities(logits, temperature=temperature, top_p=TOP_P)
    return drawn(chances, np.random.default_rng(seed)) == along.ids


def _chips(
    mine: list[int],
    tokens: Sequence[str],
    both: tuple[Continued, Continued],
    first: int | None,
    switched: str,
) -> Panel:
    full, ours = both
    marks: list[Mark] = []
    row = 0
    for name, made, z in ((FULL, full, SAME), (switched, ours, OTHER)):
        pieces = [written(tokens[i]) for i in (*mine, *made.ids)]
        parted = len(pieces) if first is None else len(mine) + first
        series = [YOURS] * len(mine) + [SAME] * (parted - len(mine))
        series += [OTHER if z == OTHER else SAME] * (len(pieces) - parted)
        chances = made.probabilities[np.arange(NEW), made.ids]
        tips = ["your words"] * len(mine) + [f"{100 * chance:.1f} %" for chance in chances]
        x1, x2, rows = lines_of(pieces, LETTERS)
        marks.append(figure.text([0], [-row - 0.2], [name], anchor="start", bold=True))
        y = np.array(rows) + row + 0.5
        marks.append(figure.rect(x1, x2, -y - 0.8, -y, text=pieces, z=series, tip=tips))
        row += max(rows) + 2
    return Panel(
        marks,
        x=Axis(domain=(0, LETTERS), hidden=True),
        y=Axis(domain=(-row + 0.1, 0.3), hidden=True),
        title="The continuation, token by token",
        series={YOURS: "muted", SAME: "c1", OTHER: "c2"},
        height=min(800, 24 * row + 10),
        table={
            "number": list(range(1, NEW + 1)),
            FULL: [quoted(tokens[i]) for i in full.ids],
            SWITCHED: [quoted(tokens[i]) for i in ours.ids],
        },
    )


def _next(tokens: Sequence[str], full: Continued, ours: Continued, at: int) -> Panel:
    """The likeliest tokens of both where they first differ."""
    return likeliest(
        tokens,
        {FULL: full.probabilities[at], SWITCHED: ours.probabilities[at]},
        SHOWN,
        title=f"Likeliest tokens, number {at + 1}",
        series={FULL: "c1", SWITCHED: "c2"},
        height=210,
    )


def _apart(apart: np.ndarray, first: int | None) -> Panel:
    at = np.arange(1, NEW + 1)
    marks = [figure.line(at, apart), figure.dot(at, apart, size=5)]
    if first is not None:
        marks.append(figure.rule(x=first + 1, dash="dotted", label="drawn otherwise"))
    return Panel(
        marks,
        x=Axis("token", domain=(0.5, NEW + 0.5)),
        y=Axis("bits", domain=(0, max(0.1, 1.15 * float(apart.max())))),
        title="Bits between the two, along the upper text",
        height=150,
    )


def _bytes(full: Continued, ours: Continued, ladder: str) -> Panel:
    sizes = {FULL: full.nbytes[-1] / 1000, SWITCHED: ours.nbytes[-1] / 1000}
    return Panel(
        [
            figure.bar(list(sizes.values()), list(sizes), z=list(sizes), horizontal=True),
            figure.text(
                list(sizes.values()),
                list(sizes),
                [f"{size:.1f} kB" for size in sizes.values()],
                anchor="start",
                dx=5,
            ),
        ],
        x=Axis("kilobytes", domain=(0, 1.2 * max(sizes.values()))),
        y=Axis(type="band", domain=list(sizes)),
        title=f"Bytes of the cache, bits {ladder}",
        series={FULL: "c1", SWITCHED: "c2"},
        legend=False,
        height=110,
    )
