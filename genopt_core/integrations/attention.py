r"""PrFlashAttention of chapter 4 in models of ``transformers``.

`use` lets the attention of a decoder compute the blocks of a plan only, while a prompt is read or
a text is scored or learned; single tokens, and pieces that follow others in a cache, see all keys.
It works with the encodings of :mod:`genopt_core.integrations.positions`, with left or right
padding, and with the staircase cache of :mod:`genopt_core.torch.kvcache`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from genopt_core.attention.blocks.estimators import ESTIMATORS, Estimator
from genopt_core.checks import one_of, whole
from genopt_core.integrations import positions
from genopt_core.torch.attention import (
    Design,
    Plan,
    expected_attention,
    pr_flash_attention,
    rounds_attention,
    stack_heads,
)
from genopt_core.torch.attention.attention import PATHS, SHORT, Path
from genopt_core.torch.attention.draws import checked_generator
from genopt_core.torch.kvcache.layer import taken_from
from genopt_core.torch.kvcache.settings import READERS

__all__ = ["NAME", "Draw", "InUse", "block_attention", "register", "use"]

Evaluate = Literal["sample", "expected", "full"]
NAME = "genopt_blocks"
"""Under which ``transformers`` knows the attention and the mask function."""

Draw = Design | Plan | Sequence[Design] | Callable[[Tensor, Tensor, torch.Generator | None], Plan]
"""One design, or one a head, or a plan, or what makes a plan of queries and keys."""


@dataclass(frozen=True)
class _Settings:
    """What `use` was told, on each attention module that computes blocks."""

    draw: Draw
    estimator: Estimator
    block: int | None
    generator: torch.Generator | None
    rounds: int
    path: Path
    evaluate: Evaluate


def register() -> str:
    """Make the attention and its mask function known to ``transformers``; returns `NAME`.

    >>> register()
    'genopt_blocks'
    """
    AttentionInterface.register(NAME, block_attention)
    # which tokens are padding, or a square of what is more than causal
    AttentionMaskInterface.register(NAME, AttentionMaskInterface()[positions.register()])
    READERS.add(NAME)
    positions.ADDERS.add(NAME)
    return NAME


class InUse:
    """What `use` gives back: at the end of a ``with`` block the model is as it was before."""

    def __init__(self, model: Any, before: list[tuple[nn.Module, Any]], implementation: str):
        self._model, self._before, self._implementation = model, before, implementation

    def __enter__(self) -> "InUse":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for layer, settings in self._before:
            _set(layer, settings)
        _give_back(self._model, self._implementation)


def use(
    model: Any,
    design: Draw | Mapping[int, Draw] | None,
    *,
    estimator: Estimator = "self-normalized",
    block: int | None = None,
    generator: torch.Generator | None = None,
    rounds: int = 1,
    evaluate: Evaluate = "sample",
    path: Path = "auto",
) -> InUse:
    r"""Let the attention of a model compute the blocks of a plan, or all of them again by ``None``.

    Each call of a layer draws anew, in training too: there it is attention dropout by blocks, whose
    backward pass uses the same draw.

    Parameters
    ----------
    model : model of transformers
        A causal decoder with attention functions, as Llama, Mistral or Qwen2.
    design : Design, Plan, callable, sequence of Design, or a mapping from layers to these
        A sequence has a design a query head, such as of different densities.  A callable gets
        queries (batch, heads, tokens, dim), keys (batch, key_heads, tokens, dim) and the generator,
        and gives a plan, as :func:`genopt_core.torch.attention.plan_rows` makes it.  A plan serves
        its own number of tokens alone.  Layers that a mapping does not name see everything.
    estimator : {"plain", "self-normalized", "difference"}
        As in :func:`genopt_core.torch.attention.pr_flash_attention`.
    block : int, optional
        Tokens of a block, for a design; a callable and a plan have their own.
    generator : ``torch.Generator``, optional
        Of the draws, on the CPU; by default PyTorch's own.  With it and gradient checkpointing the
        pass that computes again would draw again: leave it out then.
    rounds : int
        Draws that are pooled, as by :func:`genopt_core.torch.attention.rounds_attention`.
    evaluate : {"sample", "expected", "full"}
        What a model in evaluation does: it draws as well; or it takes what draws come to on
        average, :func:`genopt_core.torch.attention.expected_attention` for plain dropping and else
        full attention; or full attention.
    path : {"auto", "diagonal", "rows", "flex", "dense"}
        How it is computed.  On a GPU "auto" gathers rows, and is dense below 4,096 tokens; neither
        has been timed there.

    Returns
    -------
    InUse
        A context that ends it: ``with use(model, design): model(ids)``.  Nothing has to be done
        with it if the model shall stay so.

    Notes
    -----
    Rows of a batch with padding are attended to one group of equal padding after the other, as if
    the padding were not there, and the padding's own output is 0.  Where padding lies between
    tokens, or where a mask is more than causal, an error says so: a layer with a sliding window
    takes texts that are no longer than the window.

    Examples
    --------
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> from genopt_core.torch.attention import DistanceLaw, near, sample, sink
    >>> small = LlamaConfig(vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=2,
    ...                     num_attention_heads=2, num_key_value_heads=1)
    >>> model, ids = LlamaForCausalLM(small), torch.arange(64).view(1, -1) % 9
    >>> design = sink(1) | near(1) | sample(DistanceLaw.harmonic(), 2)
    >>> with use(model, design, block=4):
    ...     tuple(model(ids).logits.shape)
    (1, 64, 9)
    """
    register()
    layers = _layers(model)
    before = [(layer, getattr(layer, "genopt_blocks", None)) for layer in layers]
    implementation = model.config._attn_implementation
    one_of(estimator, "estimator", [name for name in ESTIMATORS if name != "horvitz-thompson"])
    one_of(path, "path", [name for name in PATHS if name != "sdpa"])
    if block is not None:
        whole(block, "block")
    whole(rounds, "rounds")
    checked_generator(generator)
    one_of(evaluate, "evaluate", ("sample", "expected", "full"))
    if design is None:
        each: Mapping[int, Draw] = {}
    elif isinstance(design, Mapping):
        each = design
    else:
        each = {layer.layer_idx: design for layer in layers}
    unknown = [i for i in each if i not in {layer.layer_idx for layer in layers}]
    if unknown:
        raise ValueError(f"design must name layers from 0 to {len(layers) - 1}, got {unknown[0]!r}")
    for draw in each.values():
        _check(draw, model.config.get_text_config(decoder=True).num_attention_heads)
    for layer in layers:
        chosen = None
        if layer.layer_idx in each:
            draw = each[layer.layer_idx]
            chosen = _Settings(draw, estimator, block, generator, rounds, path, evaluate)
        _set(layer, chosen)
    if each:
        if implementation != NAME:
            model._genopt_attention = implementation
        model.set_attn_implementation(NAME)
    elif implementation == NAME:
        _give_back(model, model._genopt_attention)
    return InUse(model, before, implementation)


def block_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention function of ``transformers``: ``(batch, queries, heads, dim)`` output, no weights.

    A call whose queries are all the tokens there are computes the blocks of a plan; others, and
    layers without a design, are those of :func:`genopt_core.integrations.positions`.
    """
    settings: _Settings | None = getattr(module, "genopt_blocks", None)
    view = taken_from(key)
    first = view is None or not view.segments
    how = "full" if settings is None else "sample" if module.training else settings.evaluate
    if how == "expected" and settings is not None and settings.estimator != "plain":
        how = "full"
    if settings is None or how == "full" or query.shape[2] == 1 or not first:
        return positions.positioned_attention(
            module, query, key, value, attention_mask, scaling, dropout, **kwargs
        )
    k, v = (key, value) if view is None else view.unpacked()
    if query.shape[2] != k.shape[2]:  # a further piece of a prompt
        return positions.positioned_attention(
            module, query, key, value, attention_mask, scaling, dropout, **kwargs
        )
    positions.refuse_extras(kwargs, NAME)
    if dropout:
        raise ValueError(
            f"dropout must be 0 with attention {NAME!r}, whose plan is the dropout, got {dropout}; "
            "set the model's attention_dropout to 0"
        )
    bias = getattr(module, "genopt_bias", None)
    if attention_mask is None:
        out = _over_blocks(settings, query, k, v, bias, scaling, how)
    else:
        out = torch.zeros_like(query)
        for rows, start, stop in _spans(attention_mask, _place(module, kwargs)):
            q1, k1, v1 = (x[rows, :, start:stop] for x in (query, k, v))
            part = _over_blocks(settings, q1, k1, v1, bias, scaling, how)
            out[rows, :, start:stop] = part
    return out.transpose(1, 2).contiguous(), None


def _over_blocks(
    settings: _Settings,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Any,
    scaling: float | None,
    how: Evaluate,
) -> Tensor:
    tokens = q.shape[2]
    table = None if bias is None else bias(tokens, q.device)
    if table is not None and table.shape[0] != q.shape[1]:
        raise ValueError(f"bias must have {q.shape[1]} heads, got {table.shape[0]}")
    if how == "expected":
        sure = replace(settings, generator=torch.Generator().manual_seed(0))
        return expected_attention(q, k, v, _drawn(sure, q, k), bias=table, scale=scaling)
    plans = (_drawn(settings, q, k) for _ in range(settings.rounds))
    options: dict[str, Any] = {
        "bias": table,
        "estimator": settings.estimator,
        "scale": scaling,
        "path": settings.path,
    }
    if settings.path == "auto" and q.device.type != "cpu" and tokens >= SHORT:
        options["path"] = "rows"  # each call has a plan of its own: none is worth compiling
    if settings.rounds > 1:
        *_, (out, _) = rounds_attention(q, k, v, plans, **options)
        return out
    return pr_flash_attention(q, k, v, next(plans), **options)  # type: ignore[return-value]


def _drawn(settings: _Settings, q: Tensor, k: Tensor) -> Plan:
    draw, tokens, generator = settings.draw, q.shape[2], settings.generator
    if isinstance(draw, Plan):
        return draw.to(q.device)
    if isinstance(draw, Design):
        plan = draw.plan(
            tokens, block=settings.block, heads=q.shape[1], batch=len(q), generator=generator
        )
        return plan.to(q.device)
    if callable(draw):
        with torch.no_grad():
            plan = draw(q.detach(), k.detach(), generator)
        if not isinstance(plan, Plan):
            raise TypeError(f"design must give a Plan when it is called, got {plan!r}")
        return plan.to(q.device)
    options = {"block": settings.block, "batch": len(q), "generator": generator}
    return stack_heads([one.plan(tokens, **options) for one in draw]).to(q.device)  # type: ignore[arg-type]


def _place(layer: Any, given: Mapping[str, Any]) -> str:
    """Which layer it is, and its window, for a message."""
    window = given.get("sliding_window") or getattr(layer, "sliding_window", None)
    words = f" with a window of {window} tokens" if window else ""
    return f"layer {layer.layer_idx}{words}"


def _spans(mask: Tensor, place: str) -> list[tuple[Tensor, int, int]]:
    """Rows of equal padding, with the first token and the one after the last."""
    if mask.dim() != 2:
        raise ValueError(
            f"attention_mask must be padding alone with attention {NAME!r}, (batch, tokens), got "
            f"{tuple(mask.shape)} in {place}: a mask that is more than causal has no blocks to "
            "choose from; let design map the other layers alone, or take a text that fits the "
            "window"
        )
    seen = mask.bool()
    count, start = seen.sum(1), seen.int().argmax(1)
    at = torch.arange(seen.shape[1], device=seen.device)
    stop = start + count
    if not torch.equal(seen, (at >= start[:, None]) & (at < stop[:, None])):
        raise ValueError(
            "attention_mask must have its padding at the left or right of each row with attention "
            f"{NAME!r}, got padding between tokens"
        )
    groups: dict[tuple[int, int], list[int]] = {}
    for row, span in enumerate(zip(start.tolist(), stop.tolist(), strict=True)):
        if span[1] > span[0]:
            groups.setdefault(span, []).append(row)
    return [
        (torch.tensor(rows, device=mask.device), first, last)
        for (first, last), rows in groups.items()
    ]


def _layers(model: Any) -> list[Any]:
    """The attention modules of a decoder."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    layers = [m for m in modules if hasattr(m, "num_key_value_groups") and hasattr(m, "layer_idx")]
    if not layers or not hasattr(model, "set_attn_implementation"):
        raise ValueError(
            "model must be a causal decoder of transformers with set_attn_implementation and "
            "attention modules that have num_key_value_groups, as Llama's, got "
            f"{type(model).__name__}"
        )
    return layers


def _check(draw: Any, heads: int) -> None:
    if isinstance(draw, Design | Plan):
        return
    if isinstance(draw, Sequence) and not isinstance(draw, str):
        if len(draw) != heads or not all(isinstance(one, Design) for one in draw):
            raise ValueError(
                f"design must have a Design for each of {heads} query heads, got {draw!r}"
            )
        return
    if not callable(draw):
        raise TypeError(
            "design must be a Design, a Plan, a Design for each query head, a callable that gives "
            f"a Plan, or a mapping from layers to these, got {draw!r}"
        )


def _give_back(model: Any, implementation: str) -> None:
    """The attention from before, unless layers have got a bias since that it would not add."""
    biased = any(getattr(layer, "genopt_bias", None) is not None for layer in _layers(model))
    adds = implementation in (NAME, positions.NAME)
    model.set_attn_implementation(positions.NAME if biased and not adds else implementation)


def _set(layer: Any, settings: _Settings | None) -> None:
    positions.watch(layer, "_genopt_drawn", None if settings is None else _is_drawn)
    if settings is not None:
        layer.genopt_blocks = settings
    elif hasattr(layer, "genopt_blocks"):
        del layer.genopt_blocks


def _is_drawn(layer: Any, args: Any) -> None:
    """Refuse an attention function that knows nothing of blocks."""
    attention = getattr(getattr(layer, "config", None), "_attn_implementation", None)
    if attention not in (None, NAME):  # None: a module that does not tell
        raise ValueError(
            f"attention must be {NAME!r} while use(model, design) is on, got {attention!r}, which "
            f"computes all blocks: call model.set_attn_implementation({NAME!r}), which reads "
            "packed staircase caches as well, or use(model, None)"
        )
