r"""Chapter 2: the cross-entropy method, plain and improved, for spaces of mixed parameters.

The modules read in this order:

- :mod:`~genopt_core.cross_entropy.rare_event`: where the method comes from
- :mod:`~genopt_core.cross_entropy.parameters`, :mod:`~genopt_core.cross_entropy.space`: what is
  searched
- :mod:`~genopt_core.cross_entropy.plain`: elites, frequencies, moments, smoothing
- :mod:`~genopt_core.cross_entropy.drift`: why it sharpens without a signal
- :mod:`~genopt_core.cross_entropy.kernels`, :mod:`~genopt_core.cross_entropy.plus`: all evaluations
  count, NumPy only
- ``genopt_core.cross_entropy.surrogate``, ``genopt_core.cross_entropy.posterior``: the elite's
  probability given the data (imported on demand, with SciPy)
- :mod:`~genopt_core.cross_entropy.trials`, :mod:`~genopt_core.cross_entropy.optimizer`: ask and
  tell, without a state
- :mod:`~genopt_core.cross_entropy.loop`: the whole search, on any executor

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
