"""Stored results as the pages report them: read once, as rows, shown as tables.

The reports of a chapter are in ``results.py`` beside its evidence page and return rows; `table`
shows them.  One rule for all: the middle of several numbers is ``statistics.median``, and ± is half
the width of Student's 95 % interval of a mean unless a column says *standard error* or *deviation*.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from genopt_core import corpora
from genopt_core.figures.table import Column, Table

Row = dict[str, Any]
OPTUNA = "https://optuna.readthedocs.io/en/stable/reference/samplers/generated/optuna.samplers"
PEERS = {
    "random search": f"{OPTUNA}.RandomSampler.html",
    "quasi-random": f"{OPTUNA}.QMCSampler.html",
    "TPE": f"{OPTUNA}.TPESampler.html",
    "Gaussian process": f"{OPTUNA}.GPSampler.html",
    "CMA-ES": f"{OPTUNA}.CmaEsSampler.html",
    "NSGA-II": f"{OPTUNA}.NSGAIISampler.html",
    "CatCMA": "https://github.com/CyberAgentAILab/cmaes",
    "NGOpt": "https://github.com/facebookresearch/nevergrad",
    "SMAC": "https://github.com/automl/SMAC3",
    **dict.fromkeys(
        (
            "HF BPE",
            "HF WordPiece",
            "HF WordPiece, no prefix",
            "HF Unigram",
            "HF Unigram, front marker",
            "HF Unigram, front marker, 4 sub-iterations",
        ),
        "https://huggingface.co/docs/tokenizers/api/models",
    ),
    **dict.fromkeys(
        (
            f"sentencepiece{reads}{marker}{tuned}"
            for reads in ("", ", word counts")
            for marker in ("", ", front marker")
            for tuned in ("", ", tuned")
        ),
        "https://github.com/google/sentencepiece",
    ),
    "rustbpe (tiktoken style)": "https://github.com/karpathy/rustbpe",
    "GreedTok": "https://github.com/PreferredAI/pcatt",
    "PathPiece (emulated)": "https://arxiv.org/abs/2402.18376",
    "MinGram (emulated)": "https://arxiv.org/abs/2606.27019",
    "MinGram, cut by increase (emulated)": "https://arxiv.org/abs/2606.27019",
    "ConvexTok (emulated)": "https://arxiv.org/abs/2605.22821",
    **dict.fromkeys(
        (f"KIVI, {bits} bits, groups of {group}" for bits in (2, 4) for group in (32, 64)),
        "https://arxiv.org/abs/2402.02750",
    ),
    **dict.fromkeys(
        (f"HQQ, {bits} bits, groups of 64" for bits in (2, 4)), "https://github.com/mobiusml/hqq"
    ),
    **dict.fromkeys(
        (f"Quanto, {bits} bits, groups of 64" for bits in (2, 4)),
        "https://github.com/huggingface/optimum-quanto",
    ),
}
"""Where the methods of others are described, by the names that reports give them.

:meta hide-value:
"""


class Estimate(NamedTuple):
    """A number and what stands behind ±, None where that is not known.

    >>> f"{Estimate(0.25, 0.01):+.2f}"
    '+0.25 ± 0.01'
    """

    value: float
    error: float | None

    def __format__(self, spec: str) -> str:
        if self.error is None:
            return format(self.value, spec)
        return f"{self.value:{spec}} ± {self.error:{spec.lstrip('+')}}"


class Spread(NamedTuple):
    """A middle value with the smallest and the largest.

    >>> f"{Spread.of([3.0, 1.0, 4.0]):.1f}"
    '3.0 (1.0–4.0)'
    >>> f"{Spread(-11, -12, -10):d}"
    '-11 (-12 to -10)'
    """

    middle: float
    smallest: float
    largest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Median and range."""
        return cls(statistics.median(values), min(values), max(values))

    def __format__(self, spec: str) -> str:
        to = " to " if self.smallest < 0 else "–"
        return f"{self.middle:{spec}} ({self.smallest:{spec}}{to}{self.largest:{spec}})"


@cache
def read(name: str, schema: str | None) -> Any:
    """The stored result ``name`` of the book (``book/data/results``), which must have this schema.

    Raises ``FileNotFoundError`` if the book's data folder, or the file in it, is not there.

    >>> "provenance" in read("kv_quality.json", "kv-quality/2")
    True
    """
    content = json.loads(corpora.data_path(f"results/{name}").read_text(encoding="utf-8"))
    if content.get("schema") != schema:
        raise ValueError(f"{name} must be of schema {schema!r}, got {content.get('schema')!r}")
    return content


def half_interval(error: float, count: int) -> float:
    """Half the width of Student's 95 % interval of a mean of ``count`` with a standard error.

    >>> round(half_interval(1.0, 12), 3)
    2.201
    """
    from scipy.stats import t  # not at import: Python in a page has no SciPy

    return float(t.ppf(0.975, count - 1)) * error


def mean_with_interval(values: Sequence[float]) -> Estimate:
    """The mean and half its interval.

    >>> f"{mean_with_interval([0.0, 0.2]):.3f}"
    '0.100 ± 1.271'
    """
    error = statistics.stdev(values) / len(values) ** 0.5
    return Estimate(statistics.fmean(values), half_interval(error, len(values)))


def mean_with_deviation(values: Sequence[float]) -> Estimate:
    """The mean and the standard deviation of a single value.

    >>> mean_with_deviation([1.0, 3.0])
    Estimate(value=2.0, error=1.4142135623730951)
    """
    return Estimate(statistics.fmean(values), statistics.stdev(values))


def table(
    rows: Sequence[Row], columns: Mapping[str, str | Column] | None = None, **more: Any
) -> Table:
    """Rows as a `Table`, in which the `PEERS` lead to where they come from.

    Its text is aligned columns, which a notebook test compares; a page shows a table that sorts.

    Parameters
    ----------
    rows : sequence of dict
        The columns are the keys of all rows in the order in which they come.
    columns : mapping of str to str or Column, optional
        Format specifications, or more, by column.
    **more
        ``caption``, ``first``, ``sort``, ``across`` and ``own`` of `Table`.

    Examples
    --------
    >>> rows = [{"tokens": 1.25, "by": "ours"}, {"tokens": None, "by": "BPE"}]
    >>> print(table(rows, {"tokens": ".2f"}))
    tokens  by
      1.25  ours
         –  BPE
    """
    return Table(rows, columns, links=PEERS, **more)
