"""The fast form of :mod:`genopt_core.positions`, on any device, with gradients.

The modules in reading order: ``rotary`` (turning queries and keys), ``bias`` (what each head takes
off at each distance, fixed or learned), ``attention`` (with such a bias and no square of it) and
``encoding`` (rotation and bias by name).  :mod:`genopt_core.integrations.positions` puts them into
models of ``transformers``.
"""

from genopt_core.torch.positions.attention import biased_attention, with_linear_bias
from genopt_core.torch.positions.bias import DistanceBias, LearnedSlopes, score_mod
from genopt_core.torch.positions.encoding import ENCODINGS, Encoding, encoding
from genopt_core.torch.positions.rotary import rotary_angles, rotate

__all__ = [
    "ENCODINGS",
    "DistanceBias",
    "Encoding",
    "LearnedSlopes",
    "biased_attention",
    "encoding",
    "rotary_angles",
    "rotate",
    "score_mod",
    "with_linear_bias",
]
