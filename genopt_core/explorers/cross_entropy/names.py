"""What chapter 2's figures and tables call methods and problems."""

from collections.abc import Sequence

BUDGETS = (30, 60, 120, 240)
PROBLEMS = {
    "categories": "categories",
    "nk": "NK landscape",
    "network": "network settings",
    "conditional": "conditional space",
    "noisy-categories": "noisy categories",
    "noisy-network": "noisy network settings",
    "rugged": "rugged levels",
    "rosenbrock": "Rosenbrock",
    "ackley": "Ackley",
    "word2vec": "word2vec",
    "trees": "boosted trees",
    "transformer": "small transformers",
    "mixed": "mixed kinds",
    "noisy": "noisy mixed kinds",
    "rastrigin": "Rastrigin",
    "hartmann": "Hartmann",
}
OURS = {"posterior": "CE posterior", "plus": "CE plus", "plain": "plain CE"}
METHODS = OURS | {
    "gp": "Gaussian process",
    "tpe": "TPE",
    "catcma": "CatCMA",
    "smac": "SMAC",
    "cma": "CMA-ES",
    "nevergrad": "NGOpt",
    "nsga2": "NSGA-II",
    "qmc": "quasi-random",
    "random": "random search",
}
"""Every method of the comparison in words that fit a row of a figure."""


def listed(names: Sequence[str]) -> str:
    """Names as a sentence has them.

    >>> listed(["TPE"]), listed(["TPE", "SMAC", "NGOpt"])
    ('TPE', 'TPE, SMAC and NGOpt')
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def in_words(chance: float) -> str:
    """A probability as a table has it.

    >>> in_words(3e-5), in_words(0.0123), in_words(1.0)
    ('< 0.001', '0.012', '1')
    """
    return "< 0.001" if chance < 0.001 else f"{chance:.2g}"


def problem_label(problem: str) -> str:
    """A problem in words.

    >>> problem_label("nk"), problem_label("nk-dev")
    ('NK landscape', 'NK landscape (development)')
    """
    label = PROBLEMS[problem.removesuffix("-dev")]
    return f"{label} (development)" if problem.endswith("-dev") else label
