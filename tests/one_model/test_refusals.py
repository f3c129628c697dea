"""Combinations that cannot be are refused where they are set, by the name of the argument."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from genopt_core.one_model import Forward, ForwardCache, ModelConfig
from genopt_core.torch.model import Decoder, load_model
from genopt_core.torch.model.serving import ModelCache

CONFIG = ModelConfig(vocabulary=9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 4, "key_heads": 3}, "key_heads must divide 4, the number of heads, got 3"),
        ({"width": 60}, r"width must give heads an even number of .*, got 60 / 4 = 15"),
        ({"width": 62}, "width must be a multiple of 4, the number of heads, got 62"),
    ],
)
def test_heads_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(vocabulary=9, **changes)


@pytest.mark.parametrize("cache", [ForwardCache, ModelCache])
@pytest.mark.parametrize(
    ("ladder", "message"),
    [
        ((16, 6, 2), r"ladder must have the widths 16, 8, 4, 3, 2, 1 alone .* got \(16, 6, 2\)"),
        ((16, 12), r"ladder must start at 16 and go on with widths of 8 to 1 .* got \(16, 12\)"),
        ((8, 4), r"ladder must start at 16 .* got \(8, 4\)"),
        ((16, 2, 4), r"ladder must start at 16 .* that never rise, .* got \(16, 2, 4\)"),
        ((), r"ladder must start at 16 .* got \(\)"),
    ],
)
def test_a_ladder_of_a_refused_width(cache, ladder, message):
    with pytest.raises(ValueError, match=message):
        cache(CONFIG, ladder)


def test_a_ladder_may_be_one_a_layer_and_a_grid_has_more_widths():
    ModelCache(CONFIG, [(16, 8), (16, 2)])
    with pytest.raises(ValueError, match="ladder must have the widths"):
        ModelCache(CONFIG, [(16, 8), (16, 5)])
    ForwardCache(CONFIG, (16, 6, 2), codec="grid")
    narrow = ModelConfig(vocabulary=9, width=24, heads=2)  # 12 channels
    ForwardCache(narrow, (16, 4, 2))
    with pytest.raises(ValueError, match=r"width must give heads channels .* 3 bits, got 24 / 2"):
        ForwardCache(narrow, (16, 3))


def test_a_checkpoint_of_another_tokenizer(tmp_path):
    path = tmp_path / "model.safetensors"
    weights = {n: p.detach().numpy() for n, p in Decoder(CONFIG).named_parameters()}
    content = json.dumps({"config": CONFIG.to_json(), "tokenizer": "ab" * 32})
    save_file(weights, path, {"format": "genopt-model-1", "content": content})
    for load in (Forward.load, load_model):
        with pytest.raises(ValueError, match=r"tokenizer must be the one .* abab.*, got cdcd"):
            load(path, "cd" * 32)
        load(path, "ab" * 32)
    model = Forward.load(path)
    with pytest.raises(ValueError, match=r"ids must be in \[0, 9\), got 9"):
        model.logits(np.array([9]))
    assert torch.is_tensor(load_model(path).embedding)
