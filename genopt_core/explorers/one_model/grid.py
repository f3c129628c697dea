"""The stored factorial of chapter 6, as its figures and reports read it."""

import itertools
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from genopt_core import tables
from genopt_core.one_model.factorial import Interval, student_interval

LEVELS = {
    "tokenizer": {"bpe": "BPE", "swe": "SWE"},
    "positions": {"rope": "RoPE", "harmonic": "RoPE + harmonic"},
    "attention": {"dense": "dense", "blocks": "drawn blocks"},
    "settings": {"default": "default", "found": "found"},
    "cache": {"full": "full", "staircase": "staircase"},
}
"""The five switches, off and on, as readers see them."""
FACTORS = tuple(LEVELS)
SHORT = {
    "tokenizer": "SWE",
    "positions": "harmonic",
    "attention": "blocks",
    "settings": "found",
    "cache": "staircase",
}
"""What each switch brings when it is on."""
BUDGETS = {"tokens": "equal tokens", "bytes": "equal text", "seconds": "equal time"}
"""What is the same for all trainings."""
CONTEXTS = (512, 1024, 2048)
"""Lengths in tokens at which all was scored, the trained one first."""
TRAINED = CONTEXTS[0]
BUDGET_HELP = "As many tokens, as many bytes, or as many seconds of one core."
LEVEL = 0.01  # an effect is called real below this p


class Build(NamedTuple):
    """A choice for each switch, False for off."""

    tokenizer: bool
    positions: bool
    attention: bool
    settings: bool
    cache: bool

    @property
    def cell(self) -> str:
        """Name of its training."""
        levels = zip(FACTORS[:4], self[:4], strict=True)
        return ".".join(list(LEVELS[name])[on] for name, on in levels)

    @property
    def held(self) -> str:
        """Its cache."""
        return list(LEVELS["cache"])[self.cache]

    @property
    def label(self) -> str:
        """What is switched on, in words."""
        return with_on([name for name, on in zip(FACTORS, self, strict=True) if on])


def with_on(names: Sequence[str]) -> str:
    """Some switches in words.

    >>> with_on(["tokenizer", "cache"]), with_on([])
    ('SWE, staircase', 'the base')
    """
    if len(names) == len(FACTORS):
        return "all five"
    return ", ".join(SHORT[name] for name in names) or "the base"


BASE, ALL = Build(*(False,) * 5), Build(*(True,) * 5)
BUILDS = [Build(*on) for on in itertools.product((False, True), repeat=5)]


def table() -> Mapping[str, Any]:
    """The stored table."""
    return tables.load("one_model")


def budgets(least: int = len(BUILDS)) -> dict[str, str]:
    """Budgets at which so many builds were scored, by default all, with their names."""
    return {
        budget: label
        for budget, label in BUDGETS.items()
        if all(len(scores(budget, context)) >= least for context in CONTEXTS)
    }


def with_all_five() -> dict[str, str]:
    """Budgets at which the base and all five were trained."""
    return {b: label for b, label in budgets(2).items() if {BASE, ALL} <= set(scores(b, TRAINED))}


def nearest_budget(budget: str, builds: Sequence[Build]) -> tuple[str, str]:
    """The budget if all the builds were trained with it, else equal tokens; and a word on it."""
    if set(builds) <= set(scores(budget, TRAINED)):
        return budget, ""
    return "tokens", f"Not trained with {BUDGETS[budget]}; with {BUDGETS['tokens']}: "


def build_of(cell: str, held: str) -> Build:
    """The switches of a stored cell and cache.

    >>> build_of("swe.rope.dense.default", "staircase").label
    'SWE, staircase'
    """
    levels = [*cell.split("."), held]
    named = zip(LEVELS.values(), levels, strict=True)
    return Build(*(list(known).index(level) == 1 for known, level in named))


@cache
def scores(budget: str, context: int) -> dict[Build, tuple[float, ...]]:
    """Bits a byte of each build, seed by seed; builds that were not scored are missing."""
    return {
        build_of(row["cell"], row["cache"]): row["each"]
        for row in tables.records(table()["scores"], "rows", "columns")
        if (row["budget"], row["context"]) == (budget, context)
    }


@cache
def seconds(budget: str) -> dict[Build, tuple[float, ...]]:
    """Processor seconds of each training, seed by seed; the cache changes nothing.

    A training that would be the same as at equal tokens is stored there.
    """
    found: dict[str, dict[int, float]] = {}
    rows = tables.records(table()["trainings"], "rows", "columns")
    for wanted in ("tokens", budget):
        for row in rows:
            if row["budget"] == wanted:
                found.setdefault(row["cell"], {})[row["seed"]] = row["cpu_seconds"]
    return {
        build: tuple(found[build.cell][seed] for seed in sorted(found[build.cell]))
        for build in BUILDS
        if build.cell in found
    }


def cache_per_byte(build: Build, context: int) -> float:
    """Bytes of the cache for each byte of a text that fills the context."""
    (row,) = (
        row
        for row in tables.records(table()["cache_bytes"], "rows", "columns")
        if row["context"] == context
    )
    spelled = table()["scale"]["bytes_a_token"][list(LEVELS["tokenizer"])[build.tokenizer]]
    return row[build.held] / context / spelled


def decoding(build: Build) -> float | None:
    """Seconds of one core to write a thousand bytes, token by token; None if not measured."""
    for row in tables.records(table()["speed"], "rows", "columns"):
        level = list(LEVELS["positions"])[build.positions]
        if (row["what"], row["positions"], row["cache"]) == ("decoding", level, build.held):
            spelled = table()["scale"]["bytes_a_token"][list(LEVELS["tokenizer"])[build.tokenizer]]
            return 1000 / spelled / row["value"]
    return None


def best(budget: str, context: int) -> Build:
    """The build with the least bits a byte."""
    found = scores(budget, context)
    return min(found, key=lambda build: float(np.mean(found[build])))


@cache
def interval(budget: str, context: int, build: Build) -> Interval:
    """Mean bits a byte of a build over seeds; half its interval is NaN with a single one."""
    return student_interval(scores(budget, context)[build])


def paired(values: Sequence[float], base: Sequence[float]) -> Interval:
    """Differences seed by seed, with their interval."""
    return student_interval([v - b for v, b in zip(values, base, strict=True)])


def p_told(p: float) -> str:
    """A p as readers see it.

    >>> p_told(0.0000012), p_told(0.0312)
    ('p < 0.001', 'p = 0.031')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
