r"""Chapter 2: the cross-entropy method, plain and improved, for spaces of mixed parameters.

The modules read in this order:

- ``rare_event``: where the method comes from
- ``parameters``, ``space``: what is searched
- ``plain``: elites, frequencies, moments, smoothing; ``drift``: why it sharpens without a signal
- ``pareto``, ``outcomes``: the order of trials with several objectives or constraints
- ``kernels``, ``plus``: all evaluations count, NumPy only
- ``steps``, ``surrogate``, ``gains``, ``posterior``: the elite's probability given the data
  (SciPy, on demand)
- ``trials``, ``prefix``, ``proposals``, ``optimizer``: ask and tell
- ``loop``: the whole search, on any executor
- ``tabular``, ``table_search``, ``regret``, ``noise``: searches on objectives whose answer is known

Source: arXiv 2410.18441 (Fulu Li 2024) names the method and word2vec; the formulas of the plain
method are the standard ones.
"""

from genopt_core.cross_entropy.drift import drift_law
from genopt_core.cross_entropy.loop import Confirmation, Result, minimize
from genopt_core.cross_entropy.optimizer import CrossEntropy
from genopt_core.cross_entropy.parameters import Categorical, Float, Integer
from genopt_core.cross_entropy.plain import (
    dynamic_smoothing,
    elite_frequencies,
    elite_moments,
    elite_set,
)
from genopt_core.cross_entropy.rare_event import RareEvent, rare_event
from genopt_core.cross_entropy.space import SearchSpace
from genopt_core.cross_entropy.table_search import TableSearch, search_table
from genopt_core.cross_entropy.tabular import TabularObjective
from genopt_core.cross_entropy.trials import Generation, Trial

__all__ = [
    "Categorical",
    "Confirmation",
    "CrossEntropy",
    "Float",
    "Generation",
    "Integer",
    "RareEvent",
    "Result",
    "SearchSpace",
    "TableSearch",
    "TabularObjective",
    "Trial",
    "drift_law",
    "dynamic_smoothing",
    "elite_frequencies",
    "elite_moments",
    "elite_set",
    "minimize",
    "rare_event",
    "search_table",
]
