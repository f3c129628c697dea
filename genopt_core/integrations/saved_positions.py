"""How a model of transformers keeps an encoding of positions: in its configuration and its weights.

The configuration describes the encodings as JSON; what they learn lies with the weights, each once
however many layers share it.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor
from transformers.utils import cached_file

from genopt_core.torch.positions import DistanceBias, Encoding, LearnedSlopes

SAVED = "genopt_encoding"
"""What a configuration calls the encoding of its model."""
LEARNED = "genopt_learned"
"""What a decoder calls the `LearnedSlopes` of all its layers: part of the names of weights."""


def described(each: Sequence[Encoding]) -> tuple[dict[str, Any], list[LearnedSlopes]]:
    """Encodings of all layers as JSON holds them, and what of them is learned, each once."""
    distinct = list({id(one): one for one in each}.values())
    learned: list[LearnedSlopes] = []

    def numbers(given: Any) -> Any:
        if not isinstance(given, LearnedSlopes):
            return np.asarray(given, dtype=np.float64).tolist()
        if not any(given is one for one in learned):
            learned.append(given)
        return {"learned": next(i for i, one in enumerate(learned) if one is given)}

    rows = []
    for one in distinct:
        row: dict[str, Any] = {"rotated": one.rotated, "bias": None}
        if (bias := one.bias) is not None:
            row["bias"] = {
                "strengths": numbers(bias.strengths),
                "distance": bias.distance,
                "parameter": numbers(bias.parameter),
                "windows": None if bias.windows is None else bias.windows.tolist(),
            }
        rows.append(row)
    layers = [next(i for i, one in enumerate(distinct) if one is given) for given in each]
    free = [{"heads": len(one.raw) + one.free, "free": one.free} for one in learned]
    return {"encodings": rows, "layers": layers, "learned": free}, learned


def encodings(saved: Mapping[str, Any], raw: Mapping[int, Tensor], where: str) -> list[Encoding]:
    """What `described` described, with learned numbers of a file."""
    learned = []
    for i, row in enumerate(saved["learned"]):
        shape = (row["heads"] - row["free"],)
        if i not in raw or raw[i].shape != shape:
            got = f"one of {tuple(raw[i].shape)}" if i in raw else "none"
            raise ValueError(
                f"folder must hold {LEARNED}.{i}.raw of {shape}, got {got} in {where}; who saves a "
                "model again before use_saved loses it"
            )
        learned.append(LearnedSlopes(row["heads"], free=row["free"]))
        with torch.no_grad():
            learned[i].raw.copy_(raw[i])

    def numbers(given: Any) -> Any:
        return learned[given["learned"]] if isinstance(given, dict) else given

    rows = []
    for row in saved["encodings"]:
        bias = row["bias"]
        if bias is not None:
            given = numbers(bias["strengths"]), bias["distance"], numbers(bias["parameter"])
            bias = DistanceBias(*given, windows=bias["windows"])
        rows.append(Encoding(row["rotated"], bias))
    return [rows[i] for i in saved["layers"]]


def learned_numbers(where: str, version: str | None) -> dict[int, Tensor]:
    """Learned numbers in the weights of a folder, or of a model on the Hub."""
    names = ["model.safetensors"]
    found_there = partial(cached_file, where, revision=version)
    if found_there(names[0], _raise_exceptions_for_missing_entries=False) is None:
        index = found_there(f"{names[0]}.index.json")
        assert index is not None  # or the line before has raised
        held = json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"]
        names = sorted({part for name, part in held.items() if f"{LEARNED}." in name})
    found = {}
    for name in names:
        with safe_open(found_there(name), framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118  # it is no mapping
                if f"{LEARNED}." in key:
                    found[int(key.split(".")[-2])] = tensors.get_tensor(key)
    return found
