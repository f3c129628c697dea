"""Explorer of chapter 4: causal block attention, tile by tile."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from genopt_core.attention import attend
from genopt_core.attention.blocks import (
    DistanceLaw,
    Tile,
    always_kept,
    sample_blocks,
    walk_tiles,
)
from genopt_core.explorers.attention.example import drawn_head
from genopt_core.explorers.panels import true_minus
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice, Seed, Step
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel

BLOCKS, SIZE = 8, 4
TOKENS = BLOCKS * SIZE
TILES = BLOCKS * (BLOCKS + 1) // 2
PATTERNS = {
    "all": "all",
    "window": "a window of 3",
    "sink": "the first, and a window of 2",
    "drawn": "drawn, harmonic law",
}
DENSITY = 0.5  # of the draw
PEAK, SINK = 1.5, 2.0
DONE, NOW, NEXT, OUT = "done", "this tile", "to come", "left out"
TILE_ROLES = {DONE: "c1", NOW: "accent", NEXT: "c3", OUT: "muted"}
CARRIED, ADDED = "carried over", "added by this tile"


def kept_pattern(pattern: str, seed: int) -> np.ndarray:
    """Lower triangle of the tiles that are computed."""
    if pattern == "drawn":
        pi = DistanceLaw.harmonic().inclusion(BLOCKS, DENSITY)
        return sample_blocks(pi, np.random.default_rng(seed))
    sink, near = {"all": (0, BLOCKS), "window": (0, 2), "sink": (1, 1)}[pattern]
    return always_kept(BLOCKS, sink, near)


@dataclass(frozen=True)
class Walk:
    """All tiles in their order, and what full attention gives."""

    kept: np.ndarray
    tiles: Sequence[Tile]
    scores: np.ndarray  # (tokens, tokens), NaN where the key lies ahead
    full: np.ndarray  # (tokens,) output of full attention
    masked: np.ndarray  # (tokens,) of dense attention under the kept pattern


@lru_cache(maxsize=64)
def walked(pattern: str, seed: int) -> Walk:
    """The walk over the tiles of one pattern."""
    head = drawn_head(TOKENS, seed, PEAK, SINK)
    given = head.queries, head.keys, head.values
    kept = kept_pattern(pattern, seed)
    scores = np.full((TOKENS, TOKENS), np.nan)
    for tile in walk_tiles(*given, always_kept(BLOCKS, near=BLOCKS), SIZE):
        rows, columns = (slice(at * SIZE, (at + 1) * SIZE) for at in (tile.row, tile.column))
        scores[rows, columns] = np.where(np.isfinite(tile.scores), tile.scores, np.nan)
    causal = np.tri(TOKENS, dtype=bool)
    allowed = causal & np.kron(kept, np.ones((SIZE, SIZE), bool))
    full, masked = (attend(*given, mask=mask)[0][:, 0] for mask in (causal, allowed))
    return Walk(kept, tuple(walk_tiles(*given, kept, SIZE)), scores, full, masked)


@explorer(
    "attn-tiles",
    Step("step", "Tile", 1, TILES, 12, help="How many tiles have been computed.", interval_ms=900),
    Choice("pattern", "Key blocks kept", PATTERNS, help="Tiles that are not kept are never read."),
    Seed("seed", "Seed", 2, help="Which queries, keys and values, and which tiles are drawn."),
    title="Attention, tile by tile",
    alt=(
        "On the left a lower triangle of tiles, query blocks down and key blocks across, those "
        "done, the current one, those to come and those left out told apart. Beside it, for the "
        "last query of the row: its scores with the running maximum, and bars of its mass after "
        "each tile with its output so far above them, and that of full attention at the end."
    ),
    presets=(
        Preset("The maximum grows", {"step": 12}, "What was summed so far shrinks to a ninth."),
        Preset("The maximum stays", {"step": 14}),
        Preset(
            "The last tile: full attention",
            {"step": TILES},
            "With all tiles kept, every row ends at the output of the whole softmax.",
        ),
        Preset("Half of the tiles, drawn", {"step": 18, "pattern": "drawn"}),
        Preset(
            "Exact steps to another output",
            {"step": 21, "pattern": "window"},
            "Every step is exact, and yet the row does not end where full attention does: what "
            "the window leaves out is missing from both sums.",
            fails=True,
        ),
    ),
)
def attn_tiles(step: int, pattern: str, seed: int) -> Figure:
    """The online softmax (book, eq. attn-running); of each row the last query is shown."""
    walk = walked(pattern, seed)
    count = len(walk.tiles)
    at = min(step, count)
    tile = walk.tiles[at - 1]
    row = [t for t in walk.tiles[:at] if t.row == tile.row]
    ends = tile.step + 1 == int(walk.kept[tile.row].sum())
    query = tile.row * SIZE + SIZE - 1
    return Figure(
        title=f"Tile {at} of {count}: query block {tile.row}, key block {tile.column}",
        panels=[
            _triangle(walk, at),
            _scores(walk, row, query),
            _mass(walk, row, query),
        ],
        readout=_readout(walk, tile, query, ends),
        cost=(
            f"{count} of {TILES} tiles are computed; a query holds a maximum, a mass and an "
            f"output, and never a row of {TOKENS} scores"
        ),
        layout="row",
        limits={"step": (1, count)},
    )


def _readout(walk: Walk, tile: Tile, query: int, ends: bool) -> str:
    rescale, top = float(tile.rescale[-1]), float(tile.top[-1])
    if tile.step == 0:
        said = f"The first tile of the row sets the maximum to {top:.2f}"
    elif rescale < 1:
        said = f"The maximum grows to {top:.2f}, so mass and output so far are times {rescale:.2f}"
    else:
        said = f"The maximum stays at {top:.2f}, so nothing is rescaled"
    output, full = float(tile.output[-1, 0]), float(walk.full[query])
    if not ends:
        text = f"{said}; query {query} now has the mass {tile.mass[-1]:.2f} and the output "
        return true_minus(f"{text}{output:.2f}, on its way to {walk.masked[query]:.2f}.")
    same = np.isclose(output, walk.masked[query], rtol=1e-12, atol=1e-12)
    if np.isclose(output, full, rtol=1e-12, atol=1e-12):
        text = f"{said}; query {query} ends at {output:.2f}, full attention's output to 12 digits."
        return true_minus(text)
    exact = "exact for the kept tiles" if same else "off"
    text = f"{said}; query {query} ends at {output:.2f}, {exact}, where full attention has "
    return true_minus(f"{text}{full:.2f}.")


def _triangle(walk: Walk, at: int) -> Panel:
    places = [(i, j) for i in range(BLOCKS) for j in range(i + 1)]
    order = {(t.row, t.column): n for n, t in enumerate(walk.tiles, 1)}
    states = [
        OUT if n is None else DONE if n < at else NOW if n == at else NEXT
        for n in (order.get(place) for place in places)
    ]
    ticks = [b + 0.5 for b in range(BLOCKS)]
    labels = [str(b) for b in range(BLOCKS)]
    return Panel(
        [
            figure.rect(
                [j for _, j in places],
                [j + 1 for _, j in places],
                [i for i, _ in places],
                [i + 1 for i, _ in places],
                text=[str(order.get(place, "")) for place in places],
                name=[f"query block {i}, key block {j}" for i, j in places],
                z=states,
            )
        ],
        x=Axis("key block", domain=(0, BLOCKS), ticks=ticks, tick_labels=labels),
        y=Axis("query block", domain=(0, BLOCKS), ticks=ticks, tick_labels=labels, reverse=True),
        title="Tiles in the order of their work",
        series=TILE_ROLES,
        height=320,
        table={
            "query block": [i for i, _ in places],
            "key block": [j for _, j in places],
            "order": [order.get(place) for place in places],
            "state": states,
        },
    )


def _scores(walk: Walk, row: Sequence[Tile], query: int) -> Panel:
    tile = row[-1]
    seen = walk.scores[query]
    keys = np.repeat(walk.kept[tile.row], SIZE)
    now = np.arange(tile.column * SIZE, (tile.column + 1) * SIZE)
    first = np.full(BLOCKS, np.nan)
    top = np.full(BLOCKS, np.nan)
    for t in row:
        first[t.column], top[t.column] = t.column * SIZE - 0.5, t.top[-1]
    roles = {"kept": "c1", OUT: "muted", NOW: "accent", "running maximum": "c2"}
    return Panel(
        [
            figure.dot(np.arange(TOKENS), np.where(keys, seen, np.nan), z="kept", size=5),
            figure.dot(np.arange(TOKENS), np.where(keys, np.nan, seen), z=OUT, size=5),
            figure.link(first, top, first + SIZE, top, z="running maximum", width=3, dash="solid"),
            figure.dot(now, seen[now], z=NOW, size=9),
        ],
        x=Axis("key", domain=(-0.7, TOKENS - 0.3), ticks=[*range(0, TOKENS, SIZE)]),
        y=Axis("score", domain=(float(np.nanmin(walk.scores)) - 0.3, np.nanmax(walk.scores) + 0.4)),
        title=f"Scores of query {query}, the last of its block",
        series=roles,
        height=170,
    )


def _mass(walk: Walk, row: Sequence[Tile], query: int) -> Panel:
    mass, carried = np.full((2, BLOCKS), np.nan)
    rescaled, outputs = [""] * BLOCKS, [""] * BLOCKS
    before = 0.0
    for t in row:
        mass[t.column] = t.mass[-1]
        carried[t.column] = before * t.rescale[-1]
        outputs[t.column] = true_minus(f"{t.output[-1, 0]:.2f}")
        if before and t.rescale[-1] < 1:
            rescaled[t.column] = f"× {t.rescale[-1]:.2f}"
        before = float(t.mass[-1])
    most = max(float(t.mass[-1]) for t in walk.tiles)
    at = np.arange(BLOCKS)
    full = true_minus(f"{walk.full[query]:.2f}")
    return Panel(
        [
            figure.bar(at, carried, base=np.where(np.isnan(mass), np.nan, 0.0), z=CARRIED),
            figure.bar(at, mass, base=carried, z=ADDED),
            figure.text(at, np.where(np.isnan(mass), 0, mass), rescaled, dy=-8, size=11),
            figure.text([*at, BLOCKS], [1.4 * most] * (BLOCKS + 1), [*outputs, full], size=11),
        ],
        x=Axis(
            "key block",
            domain=(-0.5, BLOCKS + 0.5),
            ticks=[*range(BLOCKS + 1)],
            tick_labels=[*map(str, range(BLOCKS)), "full"],
        ),
        y=Axis("mass; above it the output", domain=(0, 1.55 * most)),
        title="Its mass and its output so far",
        series={CARRIED: "c1", ADDED: "accent"},
        height=170,
        table={
            "key block": at.tolist(),
            "mass carried over": carried.tolist(),
            "mass": mass.tolist(),
            "output": outputs,
            "full attention": [full] * BLOCKS,
        },
    )
