"""The figures of the book that move: a folder a chapter, a file a figure or a small family.

An explorer is a pure function ``f(**params) -> Figure`` with declared controls.  One function
serves four readers: a notebook kernel calls it through :func:`genopt_core.explore`, the book build
sweeps its controls into *frames* for a page without any Python, a worker in the reader's browser
runs this very package, and the tests call it as it is.

>>> from genopt_core import explorers
>>> [control.name for control in explorers.get("subword-lattice").controls]
['word', 'size', 'k']
>>> explorers.draw("subword-lattice", k=2).title
'republic▁ in at most 2 sub-words of 2,000'
"""

import json
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from genopt_core.figures import frames as _frames
from genopt_core.figures.registry import REGISTRY, Explorer
from genopt_core.figures.schema import Figure

# Every explorer and the module that defines it, in reading order.  A module is imported when one of
# its figures is asked for, so a page pays for what it shows.
MODULES = {
    "subword-lattice": "subwords.lattice",
    "subword-steps": "subwords.steps",
    "subword-peers": "subwords.peers",
    "subword-training": "subwords.training",
    "subword-collapse": "subwords.collapse",
    "subword-frontier": "subwords.frontier",
    "subword-languages": "subwords.languages",
    "subword-texts": "subwords.texts",
    "subword-across": "subwords.across",
    "subword-growth": "subwords.growth",
    "subword-models": "subwords.models",
    "subword-costs": "subwords.costs",
    "cem-generations": "cross_entropy.generations",
    "cem-drift": "cross_entropy.drift",
    "cem-race": "cross_entropy.race",
    "cem-noise": "cross_entropy.noise",
    "w2v-neighbours": "cross_entropy.neighbours",
    "search-duels": "cross_entropy.evidence",
    "search-costs": "cross_entropy.evidence",
    "search-tunings": "cross_entropy.tunings",
    "pos-rotate": "positions.rotation",
    "pos-decay": "positions.decay",
    "pos-length": "positions.length",
    "pos-recall": "positions.recall",
    "pos-skip": "positions.skipping",
    "pos-coins": "positions.coins",
    "pos-untrained": "positions.untrained",
    "attn-tiles": "attention.tiles",
    "attn-triangle": "attention.triangle",
    "attn-rounds": "attention.rounds",
    "attn-promise": "attention.promise",
    "attn-bridge": "attention.bridge",
    "attn-error": "attention.evidence",
    "attn-perplexity": "attention.evidence",
    "attn-needle": "attention.evidence_needle",
    "attn-needles": "attention.evidence_needles",
    "attn-training": "attention.evidence_training",
    "attn-speed": "attention.evidence_speed",
    "kv-channel": "kvcache.channel",
    "kv-nested": "kvcache.nested",
    "kv-staircase": "kvcache.staircase",
    "kv-designer": "kvcache.designer",
    "kv-layers": "kvcache.layers",
    "kv-objections": "kvcache.objections",
    "kv-quality": "kvcache.quality",
    "kv-recall": "kvcache.recall",
    "kv-away": "kvcache.away",
    "kv-times": "kvcache.times",
    "one-travel": "one_model.travel",
    "one-generate": "one_model.generation",
    "one-build": "one_model.build",
    "one-subsets": "one_model.subsets",
    "one-interactions": "one_model.interactions",
    "one-recall": "one_model.recall",
    "one-budget": "one_model.budget",
    "one-scaling": "one_model.scaling",
}


def names() -> list[str]:
    """The names of all explorers, in reading order.

    >>> names()[:2]
    ['subword-lattice', 'subword-steps']
    """
    return list(MODULES)


def get(name: str) -> Explorer:
    """The explorer ``name``.  Raises ``KeyError`` with the names there are.

    >>> get("kv-staircase").title
    'The staircase over time'
    """
    if name not in MODULES:
        raise KeyError(f"no explorer {name!r}; there are {', '.join(MODULES)}")
    import_module(f"{__name__}.{MODULES[name]}")
    return REGISTRY[name]


def draw(name: str, **params: Any) -> Figure:
    """The figure of explorer ``name`` at ``params``; what is not given stands at its default.

    Raises ``ValueError`` or ``TypeError`` for settings the explorer cannot show.

    >>> type(draw("kv-staircase")).__name__
    'Figure'
    """
    return get(name).draw(**params)


def run(name: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """The explorer's answer as plain data, see `Explorer.run`.

    >>> list(run("kv-staircase", {}))
    ['figure']
    """
    return get(name).run(params)


def run_json(name: str, params: str) -> str:
    """:func:`run` with JSON text in and out, for a worker in a browser.

    >>> json.loads(run_json("kv-staircase", '{"chunk": -1}'))["error"]
    "kv-staircase has no control 'chunk'; there are step, ladder, sink"
    """
    return json.dumps(run(name, json.loads(params)), ensure_ascii=False)


def describe(name: str) -> dict[str, Any]:
    """What the front end needs to build the controls of explorer ``name``.

    >>> sorted(describe("kv-staircase"))
    ['alt', 'code', 'controls', 'free', 'name', 'presets', 'title']
    """
    return get(name).describe()


def frames(name: str) -> dict[str, Any]:
    """All figures of explorer ``name`` over the grid of its controls, packed for a static page.

    >>> sorted(frames("w2v-neighbours"))
    ['explorer', 'grid', 'packed']
    """
    return _frames.frames(get(name))
