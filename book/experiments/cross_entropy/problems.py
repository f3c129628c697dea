"""The search problems of chapter 2, frozen before anything was tuned on them.

Two halves: ``DEVELOPMENT`` may be looked at while a method is written, ``HELD_OUT`` is scored once,
after the last change of the method.  Every seed is another instance of its problem: other shifts,
permutations, relabellings and tables, so that nobody gains from starting in the center or at the
first choice.  Everything is minimized; regret is 0 at the optimum and 1 at the median of 400
uniform draws.

A parameter's value is an index (categorical), a level (integer) or a number in ``[low, high]``
(float); a configuration is a dict of the *active* parameters.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from book.experiments.common import places
from book.experiments.common.places import RESULTS

TABLES = {
    "word2vec": places.TABLES / "word2vec_planted.json",
    "trees": RESULTS / "ce_table_trees.json",
    "trees_development": RESULTS / "ce_table_trees_development.json",
    "transformer": RESULTS / "ce_table_transformer.json",
}
Configuration = Mapping[str, float]


@dataclass(frozen=True)
class Parameter:
    """One coordinate; ``when`` = (parent, values of the parent) makes it conditional."""

    name: str
    kind: str  # "categorical" | "integer" | "float"
    size: int = 0  # choices or levels
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    when: tuple[str, tuple[int, ...]] | None = None

    def active(self, chosen: Configuration) -> bool:
        return self.when is None or chosen.get(self.when[0]) in self.when[1]

    def draw(self, rng: np.random.Generator) -> float:
        if self.kind != "float":
            return int(rng.integers(self.size))
        if self.log:
            return float(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        return float(rng.uniform(self.low, self.high))

    def unit(self, value: float) -> float:
        """A float's place in [0, 1], on its own scale."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass
class Problem:
    """One instance.  Calling it returns the observed and the true value."""

    name: str
    family: str
    parameters: Sequence[Parameter]
    true: Callable[[Configuration], float]
    best: float
    seed: int
    noise: float = 0.0  # standard deviation, in standard deviations of uniform draws
    replicate: Callable[[Configuration, np.random.Generator], float] | None = None
    median: float = field(init=False)
    spread: float = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng([12345, self.seed])
        values = [self.true(self.draw(rng)) for _ in range(400)]
        self.median, self.spread = float(np.median(values)), float(np.std(values))
        self._rng = np.random.default_rng([999, self.seed])

    def draw(self, rng: np.random.Generator) -> dict[str, float]:
        chosen: dict[str, float] = {}
        for p in self.parameters:
            if p.active(chosen):
                chosen[p.name] = p.draw(rng)
        return chosen

    def __call__(self, x: Configuration) -> tuple[float, float]:
        true = float(self.true(x))
        if self.replicate is not None:
            return self.replicate(x, self._rng), true
        return true + self.noise * self.spread * float(self._rng.normal()), true

    def regret(self, true: float) -> float:
        return (true - self.best) / (self.median - self.best)


def categorical(name: str, size: int, **kw: Any) -> Parameter:
    return Parameter(name, "categorical", size, **kw)


def integer(name: str, size: int, **kw: Any) -> Parameter:
    return Parameter(name, "integer", size, **kw)


def real(name: str, low: float = 0.0, high: float = 1.0, **kw: Any) -> Parameter:
    return Parameter(name, "float", 0, low, high, **kw)


def values(x: Configuration, names: Sequence[str]) -> np.ndarray:
    return np.array([x[n] for n in names])


# ------------------------------------------------------------------ categories


def category_dominant(
    seed: int,
    sizes: Sequence[int],
    pairs: Sequence[tuple[int, int]],
    decay: float,
    strength: float,
    noise: float = 0.0,
    name: str = "categories",
) -> Problem:
    """Exponential effects of falling size, random interactions of some pairs, two numbers."""
    rng = np.random.default_rng([1, seed, len(sizes)])
    order = rng.permutation(len(sizes))  # which coordinate matters is not its place
    weight = decay ** np.argsort(order)
    effect = [w * rng.exponential(size=n) for w, n in zip(weight, sizes, strict=True)]
    effect = [e - e.min() for e in effect]
    inter = {
        (a, b): strength * rng.normal(size=(sizes[a], sizes[b])) * (weight[a] + weight[b])
        for a, b in pairs
    }
    at = rng.uniform(0.15, 0.85), int(rng.integers(1, 8))
    names = [f"c{i}" for i in range(len(sizes))]
    loose = [i for i in range(len(sizes)) if all(i not in pair for pair in pairs)]
    best = sum(float(effect[i].min()) for i in loose)
    best += sum(float((effect[a][:, None] + effect[b] + t).min()) for (a, b), t in inter.items())

    def true(x: Configuration) -> float:
        c = [int(x[n]) for n in names]
        total = sum(e[i] for e, i in zip(effect, c, strict=True))
        total += sum(t[c[a], c[b]] for (a, b), t in inter.items())
        return float(total + 2.0 * abs(x["u"] - at[0]) + 1.5 * ((x["k"] - at[1]) / 8) ** 2)

    parameters = [*map(categorical, names, sizes), real("u"), integer("k", 9)]
    return Problem(name, "categorical", parameters, true, best, seed, noise)


def nk(seed: int, n: int, k: int, degree: int, name: str) -> Problem:
    """NK landscape: n categories of k choices, each contribution depends on ``degree`` others."""
    rng = np.random.default_rng([2, seed, n])
    near = [
        [i, *rng.choice([j for j in range(n) if j != i], degree, replace=False)] for i in range(n)
    ]
    table = rng.random((n, k ** (degree + 1)))
    power = k ** np.arange(degree + 1)
    everything = np.array(list(itertools.product(range(k), repeat=n)), dtype=np.int32)
    best = float(sum(table[i][everything[:, near[i]] @ power] for i in range(n)).min())
    names = [f"c{i}" for i in range(n)]

    def true(x: Configuration) -> float:
        c = values(x, names).astype(int)
        return float(sum(table[i][c[near[i]] @ power] for i in range(n)))

    return Problem(name, "interactions", [categorical(s, k) for s in names], true, best, seed)


# ------------------------------------------------------------------ mixed, conditional


def smooth_mixed(seed: int, noise: float = 0.0, name: str = "mixed-dev") -> Problem:
    """Two floats on a ridge, two ordinals, three categories; optimum 0."""
    rng = np.random.default_rng([3, seed])
    a, b = rng.uniform(0.2, 0.8, 2), rng.integers(1, 8, 2)
    effect = [rng.permutation([0, 0.06, 0.15, 0.3]) for _ in range(3)]

    def true(x: Configuration) -> float:
        d0, d1 = x["u0"] - a[0], x["u1"] - a[1]
        e0, e1 = (x["k0"] - b[0]) / 8, (x["k1"] - b[1]) / 8
        value = 2 * (d0 + d1) ** 2 + 0.5 * (d0 - d1) ** 2 + 0.8 * e0**2 + 0.5 * e1**2
        value += sum(effect[j][int(x[f"c{j}"])] for j in range(3))
        return float(value + 0.25 * (effect[0][int(x["c0"])] > 0) * abs(d0))

    parameters = [real("u0"), real("u1"), integer("k0", 9), integer("k1", 9)]
    parameters += [categorical(f"c{j}", 4) for j in range(3)]
    return Problem(name, "noisy" if noise else "mixed", parameters, true, 0.0, seed, noise)


def network(seed: int, noise: float = 0.0, name: str = "network") -> Problem:
    """Shaped like tuning a network: the best rate depends on optimizer and batch; optimum 0."""
    rng = np.random.default_rng([4, seed])
    centre, shift = rng.uniform(-3.3, -1.7), rng.uniform(-0.6, 0.6, 4)
    slope = rng.uniform(0.3, 0.6) * rng.choice([-1, 1])
    w_best, b_best = rng.integers(1, 7, 2)
    d_best, drop = rng.integers(1, 7, 3), rng.uniform(0.1, 0.4)
    effect = {
        "optimiser": rng.permutation([0, 0.05, 0.15, 0.4]),
        "activation": rng.permutation([0, 0.04, 0.08, 0.2, 0.3]),
        "norm": rng.permutation([0, 0.06, 0.2]),
    }
    clash = 0.12 * rng.random((4, 5)) * (effect["optimiser"][:, None] + effect["activation"] > 0)

    def true(x: Configuration) -> float:
        opt, act, norm = int(x["optimiser"]), int(x["activation"]), int(x["norm"])
        z = math.log10(x["rate"]) - centre - shift[opt] - slope * (x["batch"] - 3.5) / 3.5
        value = 1.0 - math.exp(-0.5 * (z / (0.45 if z < 0 else 0.25)) ** 2)  # too high: divergence
        value += 0.6 * (x["dropout"] - drop - 0.05 * (x["width"] - w_best)) ** 2
        value += 0.5 * ((x["width"] - w_best) / 7) ** 2 + 0.2 * ((x["batch"] - b_best) / 7) ** 2
        value += 0.5 * ((x["depth"] - d_best[norm]) / 7) ** 2 + clash[opt, act]
        return float(value + sum(effect[n][int(x[n])] for n in effect))

    parameters = [real("rate", 1e-5, 1.0, log=True), real("dropout", 0.0, 0.6)]
    parameters += [integer(n, 8) for n in ("batch", "width", "depth")]
    parameters += [categorical(n, len(e)) for n, e in effect.items()]
    return Problem(name, "noisy" if noise else "mixed", parameters, true, 0.0, seed, noise)


def conditional(seed: int, branches: int, name: str) -> Problem:
    """A first choice decides which parameters exist; the good branch has the narrow basin."""
    rng = np.random.default_rng([5, seed, branches])
    floor = rng.permutation(np.array([0.0, 0.12, 0.2, 0.26])[:branches])
    parameters = [categorical("model", branches)]
    shape: list[dict[str, Any]] = []
    for m in range(branches):
        on = {"when": ("model", (m,))}
        here = [real(f"u{m}", 1e-4, 1.0, log=True, **on), real(f"v{m}", **on)]
        here += [integer(f"k{m}", 8, **on), categorical(f"c{m}", 3 + m % 3, **on)]
        sub = [real(f"w{m}", when=(f"c{m}", (0, 1))), integer(f"j{m}", 6, when=(f"c{m}", (2,)))]
        parameters += [*here, *sub]
        good = int(rng.integers(3))
        cost = rng.uniform(0.05, 0.2, 3 + m % 3)
        cost[good] = 0.0
        narrow = 1.0 if floor[m] > 0 else 2.0
        shape.append(
            {
                "at": rng.uniform(0.15, 0.85, 3),
                "k": rng.integers(8),
                "j": rng.integers(6),
                "cost": cost,
                "narrow": narrow,
            }
        )
    by_name = {p.name: p for p in parameters}

    def true(x: Configuration) -> float:
        m = int(x["model"])
        s = shape[m]
        u = by_name[f"u{m}"].unit(x[f"u{m}"]) - s["at"][0]
        v = x[f"v{m}"] - s["at"][1]
        value = abs(u) + 0.8 * (v + 0.5 * u) ** 2 + 0.4 * ((x[f"k{m}"] - s["k"]) / 7) ** 2
        c = int(x[f"c{m}"])
        value += s["cost"][c]
        if c < 2:
            value += 0.3 * abs(x[f"w{m}"] - s["at"][2])
        elif c == 2:
            value += 0.06 * abs(x[f"j{m}"] - s["j"])
        return float(floor[m] + s["narrow"] * value)

    return Problem(name, "conditional", parameters, true, 0.0, seed)


# ------------------------------------------------------------------ rugged, continuous


def rastrigin(seed: int) -> Problem:
    rng = np.random.default_rng([6, seed])
    at = rng.integers(2, 9, 6)
    names = [f"k{i}" for i in range(6)]

    def true(x: Configuration) -> float:
        z = (values(x, names) - at) * 0.5
        return float((z * z - 10 * np.cos(2 * np.pi * z) + 10).sum())

    return Problem("rastrigin-dev", "rugged", [integer(n, 11) for n in names], true, 0.0, seed)


def rugged_tables(seed: int) -> Problem:
    """Seven ordinals of ten levels, each with its own random table: separable, no smoothness."""
    rng = np.random.default_rng([7, seed])
    weight = rng.permutation(0.75 ** np.arange(7))
    trend = np.abs(np.arange(10)[None] - rng.integers(10, size=7)[:, None]) / 10
    table = weight[:, None] * (rng.exponential(size=(7, 10)) + trend)
    table -= table.min(axis=1, keepdims=True)
    names = [f"k{i}" for i in range(7)]

    def true(x: Configuration) -> float:
        return float(sum(table[i, int(x[n])] for i, n in enumerate(names)))

    return Problem("rugged", "rugged", [integer(n, 10) for n in names], true, 0.0, seed)


# Dixon and Szego (1978)
_A = [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14]]
_A += [[3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
_P = [[1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991]]
_P += [[2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381]]


def hartmann(seed: int) -> Problem:
    rng = np.random.default_rng([8, seed])
    order, flip = rng.permutation(6), rng.random(6) < 0.5
    a, p, c = np.array(_A), 1e-4 * np.array(_P), np.array([1, 1.2, 3, 3.2])
    names = [f"u{i}" for i in range(6)]

    def true(x: Configuration) -> float:
        z = values(x, names)[order]
        z = np.where(flip, 1 - z, z)
        return float(-(c * np.exp(-(a * (z - p) ** 2).sum(1))).sum())

    return Problem("hartmann-dev", "continuous", [real(n) for n in names], true, -3.32236801, seed)


def rosenbrock(seed: int) -> Problem:
    """Five floats, shifted, flipped and permuted; log(1 + f), so that the valley counts."""
    rng = np.random.default_rng([9, seed])
    order, flip = rng.permutation(5), rng.choice([-1.0, 1.0], 5)
    shift = rng.uniform(-0.5, 0.5, 5)
    names = [f"u{i}" for i in range(5)]

    def true(x: Configuration) -> float:
        z = (flip * (values(x, names) * 4 - 2) + shift)[order]
        return math.log1p(float((100 * (z[1:] - z[:-1] ** 2) ** 2 + (1 - z[:-1]) ** 2).sum()))

    return Problem("rosenbrock", "continuous", [real(n) for n in names], true, 0.0, seed)


def ackley(seed: int) -> Problem:
    """Five floats of a shifted, rotated Ackley function and a category that adds an offset."""
    rng = np.random.default_rng([10, seed])
    rotation = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    at = rng.uniform(0.2, 0.8, 5)
    offset = rng.permutation([0.0, 0.4, 0.8, 1.6])
    names = [f"u{i}" for i in range(5)]

    def true(x: Configuration) -> float:
        z = rotation @ ((values(x, names) - at) * 6)
        value = -20 * math.exp(-0.2 * math.sqrt(float((z * z).mean()))) + 20 + math.e
        value -= math.exp(float(np.cos(2 * np.pi * z).mean()))
        return float(value + offset[int(x["c"])])

    parameters = [*map(real, names), categorical("c", 4)]
    return Problem("ackley", "continuous", parameters, true, 0.0, seed)


# ------------------------------------------------------------------ tables of real trainings


@cache
def table(which: str) -> dict[str, Any]:
    """A stored table: axes (name, kind, levels) and scores, the better the larger."""
    content = json.loads(TABLES[which].read_text(encoding="utf-8"))
    axes = content["axes"]
    shape = [len(a["levels"]) for a in axes]
    scores = np.array(content["scores"], dtype=float).reshape(*shape, -1)
    return {"axes": axes, "scores": scores * content.get("unit", 1.0)}


def tabular(seed: int, which: str) -> Problem:
    """Every configuration was really trained; an observation is one of its trainings."""
    stored = table(which)
    scores, axes = stored["scores"], stored["axes"]
    mean = scores.mean(-1)
    rng = np.random.default_rng([11, seed])
    order = []
    for a in axes:
        n = len(a["levels"])
        if a["kind"] == "categorical":
            order.append(rng.permutation(n))
        else:
            order.append(np.arange(n)[:: rng.choice([-1, 1])])
    names = [a["name"] for a in axes]
    kinds = {"categorical": categorical}
    parameters = [kinds.get(a["kind"], integer)(a["name"], len(a["levels"])) for a in axes]

    def at(x: Configuration) -> tuple[int, ...]:
        return tuple(int(o[int(x[n])]) for o, n in zip(order, names, strict=True))

    def replicate(x: Configuration, noise: np.random.Generator) -> float:
        return -float(scores[at(x)][noise.integers(scores.shape[-1])])

    def true(x: Configuration) -> float:
        return -float(mean[at(x)])

    best = -float(mean.max())
    return Problem(which, "table", parameters, true, best, seed, replicate=replicate)


# ------------------------------------------------------------------ the two halves

DEVELOPMENT: dict[str, Callable[[int], Problem]] = {
    "categories-dev": lambda s: category_dominant(
        s, (5, 5, 5, 5, 5, 5), ((0, 1),), 0.65, 0.3, name="categories-dev"
    ),
    "nk-dev": lambda s: nk(s, 8, 4, 1, "nk-dev"),
    "mixed-dev": smooth_mixed,
    "noisy-dev": lambda s: smooth_mixed(s, 0.3, "noisy-dev"),
    "conditional-dev": lambda s: conditional(s, 3, "conditional-dev"),
    "rastrigin-dev": rastrigin,
    "hartmann-dev": hartmann,
    "trees-dev": lambda s: tabular(s, "trees_development"),
}
HELD_OUT: dict[str, Callable[[int], Problem]] = {
    "categories": lambda s: category_dominant(
        s, (3, 4, 5, 6, 7, 4, 5, 6), ((0, 3), (2, 4), (5, 7)), 0.75, 0.4
    ),
    "nk": lambda s: nk(s, 9, 3, 2, "nk"),
    "network": network,
    "conditional": lambda s: conditional(s, 4, "conditional"),
    "noisy-categories": lambda s: category_dominant(
        s, (4, 5, 6, 4, 5), ((0, 2),), 0.7, 0.3, 0.3, "noisy-categories"
    ),
    "noisy-network": lambda s: network(1000 + s, 0.3, "noisy-network"),
    "rugged": rugged_tables,
    "rosenbrock": rosenbrock,
    "ackley": ackley,
    "word2vec": lambda s: tabular(s, "word2vec"),
    "trees": lambda s: tabular(s, "trees"),
    "transformer": lambda s: tabular(s, "transformer"),
}


def problem(name: str, seed: int) -> Problem:
    """Instance ``seed`` of the problem called ``name``."""
    return {**DEVELOPMENT, **HELD_OUT}[name](seed)
