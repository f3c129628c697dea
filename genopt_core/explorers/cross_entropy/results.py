r"""The stored race of searches (chapter 2): what the page prints, computed from the result file.

``book/experiments/cross_entropy/race.py`` ran it, ``book/data/results/cross_entropy.json`` keeps it; nothing
here searches.
"""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Confirmation", "SearchRace", "normalised_regret"]

DRAWN = ("posterior", "plus", "plain", "gp", "tpe", "random")  # the lines that have a colour


def normalised_regret(value: float, best: float, median: float) -> float:
    r"""How far a configuration is from the optimum, in units that suit every problem.

    .. math:: r(x) = \frac{S(x) - S^*}{\operatorname{median}_{z\sim u} S(z) - S^*}

    (book, eq. race-regret): 0 at the optimum, 1 at the median of uniform draws.

    Parameters
    ----------
    value : float
        S(x), to be minimised; of the best *observed* configuration, its true value.
    best, median : float
        The optimum, and the median of uniform draws.

    Raises
    ------
    ValueError
        If ``median`` is not above ``best``, or ``value`` is below ``best`` by more than rounding.

    Examples
    --------
    >>> normalised_regret(3.0, best=1.0, median=5.0)
    0.5
    """
    if not median > best:
        raise ValueError(f"median must be above best = {best}, got {median}")
    if value < best - 1e-9 * max(1.0, abs(best)):
        raise ValueError(f"value must be at least best = {best}, got {value}")
    return (value - best) / (median - best)


def _read(path: str | Path, schema: str, kind: str) -> dict[str, Any]:
    """A result file of one schema."""
    content: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    if content.get("schema") != schema:
        raise ValueError(f"{path} is not {kind}: {content.get('schema')!r}")
    return content


@dataclass(frozen=True)
class SearchRace:
    """The race as tables and one figure; `load` reads the stored one."""

    content: dict[str, Any]

    @classmethod
    def load(cls, path: str | Path) -> "SearchRace":
        """Read a result file.

        Raises ``ValueError`` if the file is of another kind.
        """
        return cls(_read(path, "cross-entropy-race/1", "a race of searches"))

    def label(self, method: str) -> str:
        """The method in words."""
        return str(self._known("method", method, self.content["methods"])["label"])

    def _known(self, kind: str, name: Any, among: Any) -> Any:
        if name not in among:
            raise ValueError(f"{kind} must be one of {', '.join(map(str, among))}, got {name!r}")
        return among[name] if isinstance(among, dict) else name

    def _half(self, half: str, budget: int) -> None:
        self._known("half", half, ("development", "held-out"))
        self._known("budget", budget, (30, 60, 120, 240))

    def problems(self, half: str) -> list[str]:
        """The problems of a half that were run, in their order."""
        self._half(half, 60)
        return [n for n, p in self.content["problems"].items() if p["half"] == half]

    def standings(self, half: str, budget: int) -> str:
        """Mean regret of every method, best first, with its standard error and its runs."""
        self._half(half, budget)
        rows = [s for s in self.content["summary"] if (s["half"], s["budget"]) == (half, budget)]
        lines = ["regret  error  problems  runs  method"]
        for s in sorted(rows, key=lambda s: s["mean"]):
            error = "–" if s["error"] is None else f"{s['error']:.3f}"
            lines.append(
                f"{s['mean']:6.3f}  {error:>5}  {s['problems']:8}  {s['runs']:4}  "
                f"{self.label(s['method'])}"
            )
        return "\n".join(lines)

    def by_problem(self, budget: int, methods: Sequence[str], half: str = "held-out") -> str:
        """Mean regret of each problem (rows) and method (columns)."""
        self._half(half, budget)
        means = {(m, p): v for m, p, b, _, v, _ in self.content["means"] if b == budget}
        for m in methods:
            self.label(m)
        lines = [" " * 17 + " ".join(f"{m:>9}" for m in methods)]
        for p in self.problems(half):
            cells = [means.get((m, p)) for m in methods]
            shown = " ".join("        –" if v is None else f"{v:9.3f}" for v in cells)
            lines.append(f"{p:17}{shown}")
        return "\n".join(lines)

    def duels(self, ours: str, half: str = "held-out") -> str:
        """Wins, ties and losses against every other method, paired by problem and seed.

        p is that of a two-sided sign test, multiplied by Holm's rule for all comparisons of the
        half.
        """
        self._half(half, 60)
        self.label(ours)
        lines = ["evals  wins ties losses  corrected p  difference         against"]
        for c in self.content["comparisons"]:
            if (c["half"], c["ours"]) != (half, ours):
                continue
            error = "" if c["error"] is None else f" ± {1.96 * c['error']:.3f}"
            lines.append(
                f"{c['budget']:5}  {c['wins']:4} {c['ties']:4} {c['losses']:6}  {c['holm']:11.2g}  "
                f"{c['difference']:+.3f}{error:8}  {self.label(c['peer'])}"
            )
        return "\n".join(lines)

    def losses(self, ours: str, half: str = "held-out") -> str:
        """Every problem on which another method's mean regret is smaller."""
        self._half(half, 60)
        self.label(ours)
        lines = []
        for c in self.content["comparisons"]:
            if (c["half"], c["ours"]) == (half, ours) and c["worse_on"]:
                names = ", ".join(c["worse_on"])
                lines.append(f"{c['budget']:4}  {self.label(c['peer'])}: {names}")
        return "\n".join(lines)

    def recommendations(self, ours: str, budget: int) -> str:
        """Mean regret of the luckiest draw and of the recommended trial, on problems with noise."""
        self._half("held-out", budget)
        self.label(ours)
        columns = self.content["columns"]
        best, told = columns.index(f"r{budget}"), columns.index(f"rec{budget}")
        unit = self.content["unit"]
        lines = ["luckiest  recommended  problem"]
        for row in self.content["rows"]:
            family = self.content["problems"][row[1]]["family"]
            if row[0] != ours or (family not in ("noisy", "table") and "noisy" not in row[1]):
                continue
            pairs = [
                (a, b)
                for a, b in zip(row[best], row[told], strict=False)
                if a is not None and b is not None
            ]
            if pairs:
                lucky, chosen = (unit * sum(v) / len(pairs) for v in zip(*pairs, strict=True))
                lines.append(f"{lucky:8.3f}  {chosen:11.3f}  {row[1]}")
        return "\n".join(lines)

    def at_half_the_budget(self, ours: str, other: str = "random") -> str:
        """Ours after 60 evaluations against another method after 120, held-out problems."""
        self.label(ours), self.label(other)
        columns, unit, tie = self.content["columns"], self.content["unit"], self.content["tie"]
        rows = {(row[0], row[1]): row for row in self.content["rows"]}
        lines = ["ours at 60  other at 120  wins ties losses  problem"]
        for p in self.problems("held-out"):
            if (ours, p) not in rows or (other, p) not in rows:
                continue
            a, b = (
                dict(zip(rows[m, p][2], rows[m, p][columns.index(f"r{n}")], strict=False))
                for m, n in ((ours, 60), (other, 120))
            )
            pairs = [
                (unit * a[s], unit * b[s]) for s in a if a[s] is not None and b.get(s) is not None
            ]
            if not pairs:
                continue
            wins = sum(x < y - tie for x, y in pairs)
            losses = sum(x > y + tie for x, y in pairs)
            x, y = (sum(v) / len(pairs) for v in zip(*pairs, strict=True))
            ties = len(pairs) - wins - losses
            lines.append(f"{x:10.3f}  {y:12.3f}  {wins:4} {ties:4} {losses:6}  {p}")
        return "\n".join(lines)

    def costs(self) -> str:
        """Median processor time of one suggestion, fastest first, in milliseconds."""
        found: dict[str, list[float]] = {}
        for row in self.content["rows"]:
            found.setdefault(row[0], []).append(row[-1])
        middle = {m: sorted(v)[len(v) // 2] for m, v in found.items()}
        lines = [
            f"{middle[m]:7.1f} ms  {self.label(m)}" for m in sorted(middle, key=lambda m: middle[m])
        ]
        return "\n".join(lines)

    def cost_ratios(self, of: str, budget: int = 120) -> str:
        """Processor time of a suggestion in the timed runs, and over that of one method.

        Those runs took the methods in turn on the same problem and seed, so that a ratio compares
        neighbours in time; its median and range are over these pairs.
        """
        self.label(of)
        cost = {(m, p, s): ms for m, p, s, b, ms in self.content["costs"] if b == budget}
        lines = ["milliseconds  pairs   ratio (smallest, largest)  method"]
        for m in self.content["methods"]:
            own = sorted(ms for (name, _, _), ms in cost.items() if name == m)
            pairs = [ms / cost[of, p, s] for (n, p, s), ms in cost.items() if n == m]
            if own:
                ratio = f"{statistics.median(pairs):.2f} ({min(pairs):.2f}, {max(pairs):.2f})"
                line = f"{statistics.median(own):12.1f}  {len(pairs):5}   {ratio:25}"
                lines.append(f"{line}  {self.label(m)}")
        return "\n".join(lines)

    def figure(self, half: str = "held-out") -> Any:
        """Mean regret over the evaluations: six methods in colour, the others in grey."""
        self._half(half, 60)
        from genopt_core.figures import plots

        fig, axes = plots.subplots(figsize=(6.4, 4.2))
        curves = {m: (b, v) for h, m, b, v in self.content["mean_curves"] if h == half}
        style = list(zip(plots.COLORS, plots.DASHES, strict=True))
        for m in sorted(curves, key=lambda m: m in DRAWN):
            x, y = curves[m]
            if m in DRAWN:
                color, dash = style[DRAWN.index(m)]
                axes.plot(x, y, color=color, linestyle=dash, label=self.label(m))
            else:
                axes.plot(x, y, color="0.7", linewidth=1, linestyle="-")
                axes.annotate(m, (x[-1], y[-1]), fontsize=7, color="0.4", va="center")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks([5, 10, 20, 30, 60, 120], ["5", "10", "20", "30", "60", "120"])
        axes.minorticks_off()
        ticks = [
            t
            for t in (0.05, 0.1, 0.2, 0.3, 0.5, 0.8)
            if t >= 0.9 * min(min(curves[m][1]) for m in curves)
        ]
        axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
        axes.set_xlabel("evaluations")
        axes.set_ylabel("mean regret")
        axes.legend(fontsize=8)
        return fig


@dataclass(frozen=True)
class Confirmation:
    """What searches on the word2vec tables found, trained again with fresh seeds."""

    content: dict[str, Any]

    @classmethod
    def load(cls, path: str | Path) -> "Confirmation":
        """Read a result file of ``book/experiments/cross_entropy/confirm.py``.

        Raises ``ValueError`` if the file is of another kind.
        """
        return cls(_read(path, "word2vec-confirmation/1", "a confirmation"))

    def scores(self) -> dict[str, dict[str, dict[int, float]]]:
        """Each score of each method by the seed of its search."""
        found: dict[str, dict[str, dict[int, float]]] = {}
        for _, method, seed, _, _, scores, _ in self.content["rows"]:
            for name, value in scores.items():
                found.setdefault(name, {}).setdefault(method, {})[seed] = value
        return found

    def table(self, ours: str, other: str = "random") -> str:
        """Mean and standard deviation of both, and their paired difference with its 95 % interval.

        The interval (Student's) is that of another search and another training, not of other words.
        Raises ``ValueError`` for a method that was not run.
        """
        from scipy.stats import t

        lines = [f"{'score':12} {other:>15} {ours:>17}  difference        better worse"]
        for name, by_method in self.scores().items():
            for m in (ours, other):
                if m not in by_method:
                    raise ValueError(f"method must be one of {sorted(by_method)}, got {m!r}")
            a, b = (list(by_method[m].values()) for m in (other, ours))
            gain = [y - x for x, y in zip(a, b, strict=True)]
            width = t.ppf(0.975, len(gain) - 1) * statistics.stdev(gain) / len(gain) ** 0.5
            mean = f"{statistics.fmean(gain):+.3f} ± {width:.3f}"
            wins, losses = sum(g > 0 for g in gain), sum(g < 0 for g in gain)
            lines.append(
                f"{name:12} {_mean_and_spread(a):>15} {_mean_and_spread(b):>17}  {mean}  "
                f"{wins:6} {losses:5}"
            )
        return "\n".join(lines)

    def beyond_the_grid(self) -> str:
        """The planted optimum beyond the edge of its grid: mean and standard deviation."""
        found: dict[str, list[float]] = {}
        for name, _, value in self.content["border"]:
            found.setdefault(name, []).append(value)
        return "\n".join(f"{_mean_and_spread(v)}  {name}" for name, v in found.items())


def _mean_and_spread(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.3f} ± {statistics.stdev(values):.3f}"
