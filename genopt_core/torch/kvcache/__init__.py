"""The staircase cache for models of ``transformers``.

The modules read in this order: ``codec`` (packed chunks of a layer), ``layer`` (one layer's keys and
values), ``storage`` (a cache on disk), ``cache`` (all layers: what ``generate`` takes), ``attention``
(attention that reads packed chunks) and ``calibration`` (which ladder each layer gets).
"""

from genopt_core.torch.kvcache.cache import StaircaseCache

__all__ = ["StaircaseCache"]
