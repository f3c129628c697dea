"""Chapter 5: a cache that steps down."""

from collections.abc import Iterator

from scoreboard.comparison import Cell, Comparison, results


def rows() -> Iterator[Comparison]:
    for budget in results(5)._quality()["chosen"]:
        yield _divergence(budget)
    yield _copied()
    yield from _times()
    yield from _by_layer()


def _divergence(budget: str) -> Comparison:
    """Against the peers at no more bits; the paper's staircase is none, as on the page."""
    r = results(5)
    ours = r._chosen(budget)
    limit = float(budget) + r.TOLERANCE
    peers = [
        one
        for one in r._scored(2048)
        if not one["family"].startswith("SAQ") and one["limit bits"] <= limit
    ]
    return Comparison(
        chapter=5,
        what=f"Divergence at {budget} bits a number",
        ours="SAQ+ by layer",
        cells=[
            Cell(ours["kl"][text], {r.design_label(p["design"]): p["kl"][text] for p in peers})
            for text in ours["kl"]
        ],
        spread_of=f"{len(ours['kl'])} texts",
        report="by_text",
        section="perplexity-and-how-far-predictions-move",
        claim="layers",
    )


def _copied() -> Comparison:
    r = results(5)
    ours = r.RECALL_DESIGNS["SAQ+ 16/4"]
    cells = []
    for text in r.RECALL_TEXTS:
        found = [row for row in r.recall() if row["text"] == text]
        own = [row for row in found if (row["design"], row["codes"]) == (ours, "balanced")]
        peers = {row["design"]: row for row in found if row["codes"] == "integers"}
        if own and peers:  # not every design was run on every text
            values = {name: row["divergence"].value for name, row in peers.items()}
            cells.append(Cell(own[0]["divergence"].value, values))
    return Comparison(
        chapter=5,
        what="Divergence where old tokens are copied, and on prose",
        ours=f"balanced {ours}",
        cells=cells,
        spread_of=f"{len(cells)} texts",
        report="recall",
        section="old-tokens-that-are-copied",
        claim="balanced",
    )


def _by_layer() -> Iterator[Comparison]:
    for row in results(5).layer_times():
        if row["cache"] == "SAQ+ by layer, 2.85 bits":
            times = row["over full precision"]
            yield Comparison(
                chapter=5,
                what=f"Time of {row['what']}, ladders by layer",
                ours=row["cache"],
                cells=[Cell(times.middle, {"full precision": 1.0})],
                spread_of="quartiles",
                report="layer_times",
                section="time",
                claim="cache",
                interval=(times.smallest, times.largest),
            )


def _times() -> Iterator[Comparison]:
    found = results(5).times()
    for kind, what in (
        ("decoding step", "a decoding step"),
        ("reading a prompt", "reading a prompt"),
    ):
        timed = {row["cache"]: row["milliseconds"] for row in found if row["what"] == kind}
        ours, full = "SAQ+ 16/8/4/2", "full precision"
        yield Comparison(
            chapter=5,
            what=f"Time of {what}",
            ours=ours,
            cells=[Cell(timed[ours], {full: timed[full]})],
            spread_of="one machine",
            report="times",
            section="time",
            claim="cache",
        )
    yield Comparison(
        chapter=5,
        what="Time of attention to the cache",
        ours="from packed codes",
        cells=[
            Cell(row["over full precision"], {"full precision": 1.0})
            for row in found
            if row["cache"] == "from packed codes"
        ],
        spread_of="four widths",
        report="times",
        section="time",
        claim="cache",
    )
