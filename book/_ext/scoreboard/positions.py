"""Chapter 3: positions."""

from collections.abc import Iterator

from genopt_core.explorers.positions import methods
from scoreboard.comparison import Cell, Comparison, around, cell, least, results

TASKS = ("one key", "copy", "four keys")


def rows() -> Iterator[Comparison]:
    for place in methods.stored_places():
        if place != "development":  # whose seeds chose the reading
            yield _losses(place)
    yield _recall("within", "near")
    yield _recall("beyond", "far")


def _chosen() -> str:
    return methods.label(methods.CHOSEN)


def _losses(place: str) -> Comparison:
    r = results(3)
    peers = [name for name in r._ranked(place) if methods.is_peer(name)]
    one = Cell(r._mean(place, methods.CHOSEN), {methods.label(n): r._mean(place, n) for n in peers})
    best = least(one.peers)
    (duel,) = (
        row
        for row in r.duels()
        if (row["run"], row["against"]) == (r.run_name(place), f"{best} (best peer)")
    )
    return Comparison(
        chapter=3,
        what=f"Loss at 4 to 16 times the length, {r.run_name(place)}",
        ours=_chosen(),
        cells=[one],
        spread_of=f"95 %, {len(methods.losses(place)[methods.CHOSEN])} seeds",
        report="duels",
        section="loss-against-length",
        claim="steep",
        interval=around(one, duel["difference"], best),
    )


def _recall(where: str, column: str) -> Comparison:
    names = {methods.label(name): name for name in methods.recall("copy")[1]}

    def is_peer(label: str) -> bool:
        return methods.is_peer(names[label]) or names[label] in methods.LATER

    return Comparison(
        chapter=3,
        what=f"Recall {where} the trained length",
        ours=_chosen(),
        cells=[
            cell(results(3).recalls(), "method", f"{task}, {column}", _chosen(), is_peer)
            for task in TASKS
        ],
        spread_of="three tasks",
        report="recalls",
        section="recall-against-distance",
        claim="steep",
        more=True,
    )
