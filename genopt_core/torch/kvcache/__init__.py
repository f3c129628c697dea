"""The staircase cache for models of ``transformers``.

The modules in reading order: ``settings`` (what the layers of a cache share), ``codec`` (packed
chunks), ``layer`` (one layer's keys and values), ``window`` (a layer that forgets by itself),
``storage`` (tensors on disk), ``cache`` (all layers: what ``generate`` takes), ``attention`` (which
reads packed chunks), ``choice`` (the best ladders by costs) and ``calibration`` (what they cost).
"""

from genopt_core.torch.kvcache.attention import register
from genopt_core.torch.kvcache.cache import StaircaseCache
from genopt_core.torch.kvcache.calibration import calibrate_ladders, divergence, layer_costs
from genopt_core.torch.kvcache.choice import LADDERS, Calibration, choose_ladders

__all__ = [
    "LADDERS",
    "Calibration",
    "StaircaseCache",
    "calibrate_ladders",
    "choose_ladders",
    "divergence",
    "layer_costs",
    "register",
]
