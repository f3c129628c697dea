"""Chapter 2: searches for hyperparameters."""

from collections.abc import Iterator

from scoreboard.comparison import Cell, Comparison, around, cell, least, results

OURS = "posterior"
BUDGETS = (30, 60, 120, 240)


def rows() -> Iterator[Comparison]:
    yield from _regrets()
    yield _half_the_budget()
    yield from _trained_again()
    yield _several_objectives()
    yield _suggestions()


def _name() -> str:
    return str(results(2).METHODS[OURS])


def _is_peer(name: str) -> bool:
    return name not in results(2).OURS.values()


def _regrets() -> Iterator[Comparison]:
    r = results(2)
    race = r.race()
    for budget in BUDGETS:
        means = [
            {"method": row["method"], "regret": row[f"after {budget}"].value}
            for row in r.standings(race)
            if row[f"after {budget}"]
        ]
        one = cell(means, "method", "regret", _name(), _is_peer)
        best = least(one.peers)
        (duel,) = (
            row
            for row in r.duels(race, OURS)
            if (row["against"], row["evaluations"]) == (best, budget)
        )
        yield Comparison(
            chapter=2,
            what=f"Mean regret after {budget} evaluations",
            ours=_name(),
            cells=[one],
            spread_of="95 %, between problems",
            report="duels",
            section="the-standings",
            claim="posterior",
            interval=around(one, duel["difference"], best),
        )


def _half_the_budget() -> Comparison:
    r = results(2)
    cells = [
        Cell(row[f"{_name()} at 60"], {"random search at 120": row["random search at 120"]})
        for row in r.at_half_the_budget(r.race(), OURS)
    ]
    return Comparison(
        chapter=2,
        what="Mean regret at half of the budget",
        ours=f"{_name()} at 60",
        cells=cells,
        spread_of=f"{len(cells)} problems",
        report="at_half_the_budget",
        section="half-the-budget-of-random-search",
        claim="posterior",
    )


def _trained_again() -> Iterator[Comparison]:
    r = results(2)
    for row in r.confirmed(r.confirmation(), OURS):
        one = Cell(row["found by it"].value, {"random search": row["by random search"].value})
        yield Comparison(
            chapter=2,
            what=f"word2vec trained again, {row['score']}",
            ours=f"{_name()}, half the time",
            cells=[one],
            spread_of=f"95 %, {row['better'] + row['worse']} searches",
            report="confirmed",
            section="half-the-budget-of-random-search",
            claim="overfitting",
            more=True,
            interval=around(one, row["difference"], "random search", more=True),
        )


def _several_objectives() -> Comparison:
    r = results(2)
    found = r.missing_volume(r.several())
    means = [{**row, "missing": row["at 100"].value} for row in found]
    problems = dict.fromkeys(row["problem"] for row in means)
    cells = [
        cell([m for m in means if m["problem"] == p], "method", "missing", _name(), _is_peer)
        for p in problems
    ]
    return Comparison(
        chapter=2,
        what="Missing hypervolume after 100 trials",
        ours=_name(),
        cells=cells,
        spread_of=f"{len(cells)} problems",
        report="missing_volume",
        section="several-objectives",
        claim="objectives",
    )


def _suggestions() -> Comparison:
    r = results(2)
    costs = r.cost_ratios(r.race(), OURS)
    one = cell(costs, "method", "time", _name(), _is_peer)
    (row,) = (row for row in costs if row["method"] == least(one.peers))
    times = row[f"times that of {_name()}"]
    return Comparison(
        chapter=2,
        what="Processor time of a suggestion",
        ours=_name(),
        cells=[one],
        spread_of=f"{row['problems']} problems",
        report="cost_ratios",
        section="what-a-suggestion-costs",
        claim="posterior",
        interval=(1 / times.largest, 1 / times.smallest),
    )
