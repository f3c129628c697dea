"""The staircase cache for models of ``transformers``.

The modules in reading order: ``settings`` (what the layers of a cache share), ``codec`` (packed
chunks), ``recall`` (a text that must be copied), ``balance`` (maps in which codes lose less),
``layer`` (one layer's keys and values), ``window`` (a layer that forgets by itself),
``storage`` (tensors on disk), ``cache`` (all layers: what ``generate`` takes), ``compiled``
(kernels for one token), ``attention`` (which reads packed chunks), ``choice`` (the best ladders by
costs) and ``calibration`` (what they cost).
"""

from genopt_core.torch.kvcache.attention import register
from genopt_core.torch.kvcache.balance import Balance, measure_balance
from genopt_core.torch.kvcache.cache import StaircaseCache
from genopt_core.torch.kvcache.calibration import (
    cache_divergence,
    calibrate_ladders,
    divergence,
    layer_costs,
)
from genopt_core.torch.kvcache.choice import (
    LADDERS,
    Calibration,
    cached_channels,
    choose_ladders,
)
from genopt_core.torch.kvcache.recall import recall_probe

__all__ = [
    "LADDERS",
    "Balance",
    "Calibration",
    "StaircaseCache",
    "cache_divergence",
    "calibrate_ladders",
    "cached_channels",
    "choose_ladders",
    "divergence",
    "layer_costs",
    "measure_balance",
    "recall_probe",
    "register",
]
