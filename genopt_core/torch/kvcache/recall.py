r"""A text with something in it that must be copied from afar.

On prose old tokens are cheap: hardly anything depends on one of them.  Where a model finds a name,
a number or a line again, it copies from the oldest tokens that it has, and a cache that was chosen
on prose alone has let go of them.  So calibration asks for both.
"""

import torch
from torch import Tensor

from genopt_core.checks import whole

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


def checked_ids(ids: Tensor) -> Tensor:
    """``ids``, if they are rows of token numbers."""
    if not isinstance(ids, Tensor) or ids.ndim != 2:
        shape = tuple(ids.shape) if isinstance(ids, Tensor) else type(ids).__name__
        raise ValueError(f"ids must be a (batch, tokens) tensor of the tokenizer's, got {shape}")
    return ids
