"""One small language model with all five methods of the book, each a switch.

The modules in reading order: ``decoder`` (the model), ``storage`` (its file), ``training`` and
``serving`` (token by token, with a full or a staircase cache; needs ``transformers``, so it is
imported by itself).  Its shape is a :class:`genopt_core.one_model.ModelConfig`.
"""

from genopt_core.torch.model.decoder import Decoder
from genopt_core.torch.model.storage import load_model, save_model
from genopt_core.torch.model.training import Run, Trained, token_nats, train

__all__ = ["Decoder", "Run", "Trained", "load_model", "save_model", "token_nats", "train"]
