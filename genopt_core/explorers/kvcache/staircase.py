"""Explorer of chapter 5: the staircase of a growing cache over time."""

from collections.abc import Sequence
from functools import cache

from genopt_core.explorers.kvcache.ladders import ladder_choice, sink_choice
from genopt_core.explorers.panels import bars
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Step
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Mark, Panel
from genopt_core.kvcache import FULL, Stair, cache_bits, changed_chunks, parse_ladder, stairs_by_age

# SmolLM2-135M: 30 layers, 3 key/value heads of 64 channels, keys and values.
CHANNELS = 30 * 3 * 64 * 2
TOKENS_A_STEP = 16
LAST_STEP = 64
CHUNK = 64
GRID_BITS = 1.0  # of metadata: two float16 for each group of 32
LADDERS = ((16, 8, 4, 2), (16, 4, 4, 3, 3, 2), (16, 8, 4), (16, 2))


@cache
def _held_bits(ladder: tuple[int, ...], sink: int) -> list[float]:
    """Bits per element after each step (eq. kv-memory)."""
    lengths = [step * TOKENS_A_STEP for step in range(1, LAST_STEP + 1)]
    return [cache_bits(n, ladder, CHUNK, metadata=GRID_BITS, sink=sink) / n for n in lengths]


@explorer(
    "kv-staircase",
    Step("step", "Time", 0, LAST_STEP, 42, help="16 tokens arrive at each step.", interval_ms=400),
    ladder_choice(
        "ladder",
        "Ladder",
        LADDERS,
        "16/8/4/2",
        "Bits from the newest tokens to the oldest. 16/2 is KIVI.",
        "c1",
    ),
    sink_choice(0),
    title="The staircase over time",
    code=(
        "from genopt_core.kvcache import cache_bits, parse_ladder\n"
        f"length = {TOKENS_A_STEP} * {{step}}\n"
        f"cache_bits(length, parse_ladder({{ladder}}), {CHUNK}, metadata={GRID_BITS}, "
        "sink={sink}) / max(length, 1)"
    ),
    alt=(
        "Above, blocks over the token's place: their height is the bits of each number of that "
        "token, low for old tokens on the left, 16 for the newest. Below, the bits per number of "
        "the whole cache as it grows, and the bytes now, beside a full cache and KIVI at 2 bits."
    ),
    presets=(
        Preset("The paper's ladder", {"step": 42}),
        Preset(
            "Just before a chunk closes",
            {"step": 43},
            "48 tokens wait in full precision. One step on, three chunks go down at once.",
        ),
        Preset(
            "Stairs where attention is",
            {"step": 40, "ladder": "16/4/4/3/3/2", "sink": 4},
            "Fewer bits for the newest chunk, more for the next four.",
        ),
        Preset(
            "A short text: nothing saved yet",
            {"step": 8},
            "Nothing has reached the floor: a staircase saves only when it is long enough.",
            fails=True,
        ),
    ),
)
def kv_staircase(step: int, ladder: str, sink: int) -> Figure:
    """A growing cache, its stairs (book, eq. kv-stairs) and its bytes (book, eq. kv-memory)."""
    widths = parse_ladder(ladder)
    length = step * TOKENS_A_STEP
    stairs = stairs_by_age(length, widths, CHUNK, sink=sink)
    bits = {
        "full": 16.0,
        "KIVI 16/2": _held_bits((16, 2), 0)[step - 1] if step else 16.0,
        "this ladder": _held_bits(widths, sink)[step - 1] if step else 16.0,
    }
    size = {name: value * length * CHANNELS / 8 / 1e6 for name, value in bits.items()}
    moved = changed_chunks(max(0, length - TOKENS_A_STEP), length, widths, CHUNK, sink=sink)
    happened = (
        f"a chunk of {CHUNK} has just been closed and {moved} "
        f"{'chunk changes its' if moved == 1 else 'chunks change their'} width"
        if moved
        else "no width changes at this step"
    )
    end = LAST_STEP * TOKENS_A_STEP
    at = [TOKENS_A_STEP * s for s in range(1, LAST_STEP + 1)]
    roles = {"full": "muted", "KIVI 16/2": "c2", "this ladder": "c1"}
    curves = Panel(
        [
            figure.line([at[0], end], [16, 16], z="full"),
            figure.line(at, _held_bits((16, 2), 0), z="KIVI 16/2"),
            figure.line(at, _held_bits(widths, sink), z="this ladder"),
            figure.rule(x=length, dash="dotted"),
        ],
        x=Axis("tokens in the cache", domain=(0, end)),
        y=Axis("bits per number", domain=(0, 17), ticks=[2, 4, 8, 16]),
        title="Bits per number, metadata included",
        series=roles,
        height=170,
    )
    most = 1.15 * 16 * end * CHANNELS / 8e6
    meter = bars(
        size,
        Axis("megabytes, all layers and heads", domain=(0, most)),
        z=list(size),
        numbers=[f"{value:.2f} MB" for value in size.values()],
        horizontal=True,
        title="Bytes now",
        series=roles,
        height=130,
    )
    return Figure(
        title=f"{length} tokens on the ladder {ladder}",
        panels=[_stairs_panel(stairs, length, end, sink), curves, meter],
        readout=(
            f"After {length} tokens {happened}; the cache holds {bits['this ladder']:.2f} bits a "
            f"number, {size['this ladder']:.2f} MB instead of {size['full']:.2f} "
            f"(KIVI at 2 bits {size['KIVI 16/2']:.2f})."
        ),
        cost=(
            f"a flush touches at most {len(widths) - 1} chunks of {CHUNK} tokens, "
            "however long the cache is"
        ),
    )


def _stairs_panel(stairs: Sequence[Stair], length: int, end: int, sink: int) -> Panel:
    kinds = ["full precision" if stair.bits == FULL else "quantized" for stair in stairs]
    marks: list[Mark] = [figure.rule(x=length, dash="dotted")]
    if stairs:
        marks.append(
            figure.rect(
                [stair.first for stair in stairs],
                [stair.last for stair in stairs],
                [0] * len(stairs),
                [stair.bits for stair in stairs],
                text=[str(s.bits) if s.last - s.first > 30 else "" for s in stairs],
                z=kinds,
                tip=[f"tokens {s.first} to {s.last - 1}: {s.bits} bits" for s in stairs],
            )
        )
    return Panel(
        marks,
        x=Axis("token, oldest first", domain=(0, end)),
        y=Axis("bits of a code", domain=(0, 17), ticks=[2, 4, 8, 16]),
        title="The cache, token by token" + (f" (the first {sink} are sinks)" if sink else ""),
        series={"full precision": "c3", "quantized": "c1"},
        height=200,
    )
