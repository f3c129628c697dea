"""Chapter 4: attention by chance."""

from collections.abc import Iterator

from genopt_core.explorers.attention import (
    evidence,
    evidence_needles,
    evidence_speed,
    evidence_training,
)
from genopt_core.explorers.reports import Estimate, half_interval, read
from scoreboard.comparison import Cell, Comparison, around, cell, from_both, least, results

OURS, WINDOW = evidence.OURS, "window + sink"
NORMAL = 1.96  # a 95 % interval in standard errors
SHARES = {12: "an eighth", 23: "a quarter", 49: "half"}  # densities of chapter 4, about


def plural(count: int, word: str) -> str:
    return f"one {word}" if count == 1 else f"{count} {word}s"


def rows() -> Iterator[Comparison]:
    yield from _errors()
    yield from _predictions()
    yield from _needles()
    yield from _training()
    yield from _on_a_processor()
    yield _on_a_gpu()


def _peers() -> list[str]:
    """Designs of others that can be used: what looks at all scores first is an oracle."""
    designs = results(4)._quality()["designs"]
    kinds = ("data-independent", "data-dependent")
    return [name for name, design in designs.items() if design["family"] in kinds]


def _errors() -> Iterator[Comparison]:
    stored = results(4)._quality()
    texts = [each for name, each in stored["texts"].items() if name != stored["calibration"]]
    for i, kept in enumerate(results(4).KEPT):
        yield Comparison(
            chapter=4,
            what=f"Output error, {evidence.DENSITIES[kept]} of the blocks",
            ours=OURS,
            cells=[
                Cell(text["error"][OURS][i], {n: text["error"][n][i] for n in _peers()})
                for text in texts
            ],
            spread_of="three texts",
            report="errors",
            section="error-at-equal-blocks",
            claim="oracle",
        )


def _predictions() -> Iterator[Comparison]:
    r = results(4)
    for kept, share in ((7, "23 %"), (r.HALF, "half")):
        moved = {row["design"]: row["divergence"] for row in r.predictions(kept)}
        one = Cell(moved[OURS].value, {n: moved[n].value for n in _peers() if n in moved})
        yield Comparison(
            chapter=4,
            what=f"Divergence of predictions, {share} of the blocks",
            ours=OURS,
            cells=[one],
            spread_of="95 %, windows of three texts",
            report="predictions",
            section="predictions-of-the-whole-model",
            claim="oracle",
            interval=from_both(moved[OURS], moved[least(one.peers)], NORMAL),
        )


def _needles() -> Iterator[Comparison]:
    r = results(4)
    found = [row for row in r.needles() if row["kept"] == r.KEPT[-1] and row["computed"] < 50]
    yield Comparison(
        chapter=4,
        what="Needles found in 4,096 tokens, 43 % of the blocks",
        ours=OURS,
        cells=[cell(found, "design", "exact", OURS, lambda name: name in _peers())],
        spread_of="ten prompts",
        report="needles",
        section="a-needle",
        claim="irreproducible",
        more=True,
    )
    every = [
        {row["name"]: row for row in evidence_needles.told(place)}
        for place in evidence_needles.ASKED
    ]
    (one,) = (of for of in every if of[WINDOW]["told"])
    (asked,) = {of[WINDOW]["asked"] for of in every}
    yield Comparison(
        chapter=4,
        what=(
            "Needles found in 512 tokens, 43 % of the blocks (at 23 % the peer finds "
            f"none of {asked})"
        ),
        ours=OURS,
        cells=[Cell(one[OURS]["told"], {WINDOW: one[WINDOW]["told"]})],
        spread_of=f"{asked} questions",
        report="attn-needles",
        section="a-needle",
        claim="irreproducible",
        more=True,
    )


def _training() -> Iterator[Comparison]:
    r = results(4)
    for place, text in (("whole text", "all text"), ("a tenth of the text", "a tenth of it")):
        losses = {row["method"]: row["loss, full"] for row in r.trained(place)}
        peers = {n: x for n, x in losses.items() if "harmonic" not in n and "50 %" not in n}
        best = least(peers)
        for law in ("plain harmonic", "sink + near + harmonic"):
            ours = f"{law}, 25 %"
            ends = [evidence_training.final(place, name, "full") for name in (ours, best)]
            gain = r._paired(ends[0] - ends[1])
            seeds = len(ends[0])
            one = Cell(losses[ours], peers)
            yield Comparison(
                chapter=4,
                what=f"Loss early in training on {text}",
                ours=ours,
                cells=[one],
                spread_of=f"95 %, {seeds} seeds",
                report="trained",
                section="as-dropout-in-training",
                claim="dropout",
                interval=around(
                    one, Estimate(gain.value, half_interval(gain.error or 0.0, seeds)), best
                ),
            )


def _on_a_processor() -> Iterator[Comparison]:
    timed = [row for row in results(4).cpu_times() if not row["plan"].startswith("rows")]
    for density, share in SHARES.items():
        near = [row for row in timed if abs(row["density"] - density) < 3]
        # how many times as fast ours is: the time of dense attention where ours takes 1
        cells = [
            Cell(1.0, {"dense attention": max(r["both"] for r in near if r["tokens"] == n)})
            for n in sorted({row["tokens"] for row in near})
        ]
        yield Comparison(
            chapter=4,
            what=f"Time on one CPU thread, both ways, {share} of the blocks",
            ours="one plan for all rows",
            cells=cells,
            spread_of="two lengths",
            report="cpu_times",
            section="time",
            claim="saved-time",
        )
    stored = read("attention_speed.json", None)["flex"]["rows"]
    yield Comparison(
        chapter=4,
        what="Time on one CPU thread, forward, the same plans",
        ours="one plan for all rows",
        cells=[
            Cell(row["forward ms"], {"compiled flex_attention": row["flex forward ms"]})
            for row in stored
        ],
        spread_of="three plans",
        report="bars",
        section="time",
        claim="saved-time",
    )


def _on_a_gpu() -> Comparison:
    call = "pr_flash_attention"
    found = [
        row
        for row in results(4).gpu_times()
        if row["tokens"] == 16384
        and row["density"] < 30
        and row["call"].startswith(call)
        and row["both"]
    ]
    return Comparison(
        chapter=4,
        what="Time on a GPU, both ways, a quarter of the blocks",
        ours=f"{call}, {evidence_speed.BEFORE}",
        cells=[Cell(1.0, {"FlashAttention": row["both"]}) for row in found],
        spread_of=plural(len(found), "call"),
        report="gpu_times",
        section="time",
        claim="saved-time",
    )
