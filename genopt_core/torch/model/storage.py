"""A model's file: safetensors, whole or not at all, and with the tokenizer it belongs to."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from genopt_core.files import whole_file
from genopt_core.one_model import ModelConfig
from genopt_core.one_model.tokens import check_digest
from genopt_core.torch.model.decoder import Decoder
from genopt_core.torch.tensor_file import read_tensors

MODEL = "genopt-model-1"


def weights_of(model: Decoder) -> dict[str, Tensor]:
    """The learned numbers by name, on the CPU."""
    return {name: p.detach().cpu().contiguous() for name, p in model.named_parameters()}


@torch.no_grad()
def put_weights(model: Decoder, tensors: Mapping[str, Tensor], where: Any) -> None:
    """Give a model the numbers of a file, all of them and no others."""
    own = dict(model.named_parameters())
    if own.keys() != tensors.keys():
        raise ValueError(
            f"{where} must have the weights of its configuration, got others: "
            f"{sorted(own.keys() ^ tensors.keys())}"
        )
    for name, weight in own.items():
        if weight.shape != tensors[name].shape:
            raise ValueError(
                f"{where} must have {name} of shape {tuple(weight.shape)}, "
                f"got {tuple(tensors[name].shape)}"
            )
        weight.copy_(tensors[name])


def save_model(
    path: str | os.PathLike[str],
    model: Decoder,
    tokenizer: str = "",
    *,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a model's weights and configuration: completely, or the file that was there stays.

    Parameters
    ----------
    path : path
    model : Decoder
    tokenizer : str
        :func:`genopt_core.one_model.tokenizer_digest` of the tokenizer it was trained with.
    dtype : torch.dtype, optional
        Such as ``torch.float16``, for half the bytes; by default that of the weights.

    Examples
    --------
    >>> import tempfile
    >>> from genopt_core.one_model import Forward, ModelConfig
    >>> model = Decoder(ModelConfig(vocabulary=10)).eval()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(f"{folder}/model.safetensors", model)
    ...     same = Forward.load(f"{folder}/model.safetensors")
    >>> same.config == model.config
    True
    """
    tensors = {name: w.to(dtype or w.dtype) for name, w in weights_of(model).items()}
    content = {"config": model.config.to_json(), "tokenizer": check_digest(tokenizer)}
    write(path, tensors, MODEL, content)


def load_model(path: str | os.PathLike[str], tokenizer: str = "") -> Decoder:
    """The model of a file, in evaluation, in float32 on the CPU.

    With the digest of a tokenizer, a file of another one is refused.

    Raises
    ------
    FileNotFoundError
        If there is no such file.

    Examples
    --------
    >>> import tempfile
    >>> from genopt_core.one_model import ModelConfig
    >>> model = Decoder(ModelConfig(vocabulary=10)).eval()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(f"{folder}/model.safetensors", model)
    ...     same = load_model(f"{folder}/model.safetensors")
    >>> bool((same(torch.tensor([[1, 2]])) == model(torch.tensor([[1, 2]]))).all())
    True
    """
    tensors, content = read(path, MODEL)
    check_tokenizer(path, content["tokenizer"], tokenizer)
    model = Decoder(ModelConfig.from_json(content["config"]))
    put_weights(model, tensors, path)
    return model.eval()


def check_tokenizer(path: Any, held: str, tokenizer: str) -> None:
    """Refuse a file of another tokenizer than the one at hand, if one is."""
    if check_digest(tokenizer) and held != tokenizer:
        raise ValueError(
            f"tokenizer must be the one {path} was trained with, of digest {held[:12] or 'none'}, "
            f"got {tokenizer[:12]}"
        )


def write(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], kind: str, content: Any
) -> None:
    """Write tensors and what JSON makes of ``content``, whole or not at all."""
    metadata = {"format": kind, "content": json.dumps(content)}
    with whole_file(path) as file:
        file.write(save(dict(tensors), metadata=metadata))


def read(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, Tensor], Any]:
    """What `write` wrote."""
    tensors, metadata = read_tensors(path, kind)
    return tensors, json.loads(metadata["content"])
