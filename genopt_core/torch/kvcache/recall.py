r"""A text with something in it that must be copied from afar.

On prose old tokens are cheap: hardly anything depends on one of them.  Where a model finds a name,
a number or a line again, it copies from the oldest tokens that it has, and a cache that was chosen
on prose alone has let go of them.  So calibration asks for both.
"""

from typing import Any

import torch
from torch import Tensor

from genopt_core.checks import whole
from genopt_core.torch.kvcache.settings import decoder_of

KEY, VALUE = 3, 5
"""Tokens of a pair: by the first the model finds it again, the others it copies."""


def recall_probe(ids: Tensor, pairs: int | None = None, *, seed: int = 0) -> Tensor:
    r"""``ids`` with random pairs in front that come again, in another order, at the end.

    The result has the shape of ``ids``: pairs, then ``ids`` as far as there is room, then the pairs
    again.  A pair is eight tokens, drawn evenly from the different tokens of its row.  After the
    first three of them the other five can be known only from the front of the text.  No
    tokenizer is needed.

    Parameters
    ----------
    ids : (batch, tokens) int tensor
        A text.
    pairs : int, optional
        How many; by default a sixth of the tokens are pairs for the first time, a sixth again.
    seed : int
        Of the draw.

    Examples
    --------
    >>> probe = recall_probe(torch.arange(100)[None], pairs=2)
    >>> probe.shape, sorted(probe[0, :16].tolist()) == sorted(probe[0, -16:].tolist())
    (torch.Size([1, 100]), True)
    >>> probe[0, 16:84].tolist() == list(range(68))
    True
    """
    text = checked_ids(ids)
    each, tokens = KEY + VALUE, text.shape[1]
    count = max(1, tokens // (6 * each)) if pairs is None else whole(pairs, "pairs")
    if 2 * count * each > tokens:
        raise ValueError(f"ids must be at least {2 * count * each} tokens, got {tokens}")
    draw = torch.Generator().manual_seed(seed)
    rows = []
    for row in text:
        words = row.unique()
        drawn = torch.randint(len(words), (count, each), generator=draw).to(words.device)
        front = words[drawn]
        again = front[torch.randperm(count, generator=draw).to(words.device)]
        rows.append(torch.cat([front.flatten(), row[: tokens - 2 * count * each], again.flatten()]))
    return torch.stack(rows)


def checked_ids(ids: Tensor, model: Any = None) -> Tensor:
    """``ids``, if they are rows of token numbers, of the vocabulary of ``model`` if it is given."""
    if not isinstance(ids, Tensor) or ids.ndim != 2:
        shape = tuple(ids.shape) if isinstance(ids, Tensor) else type(ids).__name__
        raise ValueError(f"ids must be a (batch, tokens) tensor of the tokenizer's, got {shape}")
    if ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"ids must be of torch.int64 or torch.int32, got {ids.dtype}")
    if not ids.numel():
        raise ValueError(f"ids must hold tokens, got none in the shape {tuple(ids.shape)}")
    words = None if model is None else getattr(decoder_of(model.config), "vocab_size", None)
    least, most = int(ids.min()), int(ids.max())
    if least < 0 or (words is not None and most >= words):
        accepted = "0 or more" if words is None else f"0 to {words - 1}, the model's vocabulary"
        raise ValueError(f"ids must be {accepted}, got {least if least < 0 else most}")
    return ids


def checked_model(model: Any) -> Any:
    """``model``, if it is one of transformers."""
    missing = [name for name in ("config", "device", "training") if not hasattr(model, name)]
    if missing:
        raise TypeError(
            f"model must be a model of transformers, got {type(model).__name__} without "
            f"{' and '.join(missing)}"
        )
    return model


def evaluated(model: Any) -> Any:
    """``model``, if it is one of transformers in evaluation mode."""
    if checked_model(model).training:
        raise ValueError("model must be in evaluation mode, call model.eval() first")
    return model
