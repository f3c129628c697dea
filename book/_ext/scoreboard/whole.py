"""Chapter 6: one model with all five methods."""

from collections.abc import Iterator
from statistics import fmean

from genopt_core.explorers.one_model import grid
from genopt_core.explorers.reports import Estimate
from scoreboard.comparison import Cell, Comparison, around, from_both, results

BASE = "the base"


def rows() -> Iterator[Comparison]:
    for budget, label in grid.with_all_five().items():
        yield _bits(budget, label)
    yield from _costs()
    yield _search()
    yield _golf()


def _bits(budget: str, label: str) -> Comparison:
    found = grid.scores(budget, grid.TRAINED)
    gain = grid.paired(found[grid.ALL], found[grid.BASE])
    one = Cell(fmean(found[grid.ALL]), {BASE: fmean(found[grid.BASE])})
    return Comparison(
        chapter=6,
        what=f"Bits a byte at {label}",
        ours="all five",
        cells=[one],
        spread_of=f"95 %, {len(found[grid.ALL])} seeds",
        report="chosen",
        section="each-alone-all-all-but-one",
        claim="five",
        interval=around(one, Estimate(gain.mean, gain.half), BASE),
    )


def _costs() -> Iterator[Comparison]:
    found = {row["switched on"]: row for row in results(6).costs("tokens")}
    ours, base = found["all five"], found["the base"]
    times = ours["seconds to train"], base["seconds to train"]
    yield Comparison(
        chapter=6,
        what="Time to train, equal tokens",
        ours="all five",
        cells=[Cell(times[0].value, {BASE: times[1].value})],
        spread_of="95 %, errors of both",
        report="costs",
        section="what-it-costs",
        claim="five",
        interval=from_both(*times),
    )
    for column, what, how in (
        ("thousand bytes written", "Time to write a thousand bytes", "one machine"),
        ("share", "Bytes of the cache for the same text, at 2,048 tokens", "counted"),
    ):
        yield Comparison(
            chapter=6,
            what=what,
            ours="all five",
            cells=[Cell(ours[column], {BASE: base[column]})],
            spread_of=how,
            report="costs",
            section="what-it-costs",
            claim="five",
        )


def _search() -> Comparison:
    best = {row["search"]: row["best"] for row in results(6).searches()}
    return Comparison(
        chapter=6,
        what="Bits a byte with settings that were found",
        ours="CE posterior, twelve trials",
        cells=[Cell(best["posterior"], {"random search": best["random"]})],
        spread_of="one search each",
        report="searches",
        section="what-it-costs",
        claim="five",
    )


def _golf() -> Comparison:
    best = {row["entry"]: row["best"] for row in results(6).golf()}
    return Comparison(
        chapter=6,
        what="Bits a byte within a megabyte",
        ours="all, larger",
        cells=[Cell(best["all, larger"], {"base, larger": best["base, larger"]})],
        spread_of="one run each",
        report="golf",
        section="within-a-megabyte",
        claim="five",
    )
