"""The forward pass in NumPy against torch: whole, token by token, and over a staircase."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file

from genopt_core.one_model import POSITIONS, Forward, ForwardCache, ModelConfig
from genopt_core.one_model.forward import read_safetensors
from genopt_core.torch.model import Decoder, save_model
from genopt_core.torch.model.serving import ModelCache

torch.set_num_threads(1)
SHAPES = [{"positions": name} for name in POSITIONS]
SHAPES += [
    {"positions": "rope+harmonic", "slopes": 8.0, "learned": True},
    {"positions": "alibi", "learned": True, "key_heads": 1, "layers": 3},
    {"density": 0.5, "key_heads": 4, "theta": 500.0},
]


def both(tmp_path, **changes):
    config = ModelConfig(**{"vocabulary": 31, "width": 32, "hidden": 48, **changes})
    model = Decoder(config, torch.Generator().manual_seed(2)).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():  # norms and slopes as if they had been learned
            if p.dim() < 2:
                p.add_(torch.linspace(-0.3, 0.4, len(p)))
            elif name == "embedding":
                p.mul_(20)
    save_model(tmp_path / "model.safetensors", model, "ab" * 32)
    return model, Forward.load(tmp_path / "model.safetensors", "ab" * 32)


def text(tokens=90):
    return torch.randint(31, (tokens,), generator=torch.Generator().manual_seed(1)).numpy()


@torch.no_grad()
def theirs(model, ids, cache=None):
    return model(torch.from_numpy(ids)[None], cache)[0].numpy()


@pytest.mark.parametrize("changes", SHAPES)
def test_it_is_torch_s(tmp_path, changes):
    model, ours = both(tmp_path, **changes)
    wanted = theirs(model, text())
    assert wanted.std() > 1
    np.testing.assert_allclose(ours.logits(text()), wanted, atol=1e-4)
    cache = ForwardCache(ours.config)
    parts = np.split(text(), [1, 2, 40])
    found = np.concatenate([ours.logits(part, cache) for part in parts])
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert cache.tokens == 90
    assert cache.nbytes() == ModelCache.full_bytes(model.config, 90)


@pytest.mark.parametrize("positions", ["rope", "rope+harmonic"])
@pytest.mark.parametrize("ladder", [(16, 8), (16, 8, 4, 2)])
def test_over_a_staircase_too(tmp_path, positions, ladder):
    """A prompt, then token by token: codes, bytes and logits of both caches."""
    model, ours = both(tmp_path, positions=positions)
    half = {"full_dtype": "float16"} if positions == "rope" else {}
    cache = ForwardCache(ours.config, ladder, chunk=16, sink=2, **half)
    half = {name: getattr(torch, value) for name, value in half.items()}
    other = ModelCache(model.config, ladder, chunk=16, sink=2, **half)
    for part in np.split(text(110), [50, *range(51, 110)]):
        wanted = theirs(model, part, other)
        np.testing.assert_allclose(ours.logits(part, cache), wanted, atol=1e-4)
    assert cache.nbytes() == other.nbytes() < ModelCache.full_bytes(model.config, 110)
    assert np.abs(wanted - theirs(model, text(110))[-1]).max() > 1e-3  # bits were lost


def test_half_precision_files_and_wrong_ones(tmp_path):
    model, _ = both(tmp_path)
    path = tmp_path / "half.safetensors"
    save_model(path, model, "ab" * 32, dtype=torch.float16)
    weights, metadata = read_safetensors(path)
    for name, tensor in load_file(path).items():
        assert np.array_equal(weights[name], tensor.float().numpy())
    assert metadata["format"] == "genopt-model-1"
    with pytest.raises(ValueError, match=r"tokenizer must be the one .* of digest abab.* got cdcd"):
        Forward.load(path, "cd" * 32)
    with pytest.raises(FileNotFoundError, match="there is no file at"):
        Forward.load(tmp_path / "none")
    content = path.read_bytes()
    for torn in (b"", content[:5], content[:900], content[:-2], b"\xff" * 50):
        path.write_bytes(torn)
        with pytest.raises(ValueError, match="is torn or not a safetensors file"):
            Forward.load(path)
    save_file({"x": np.ones(3, np.float32)}, path)
    with pytest.raises(ValueError, match="must have the format genopt-model-1, got None"):
        Forward.load(path)
    content = {"config": ModelConfig(vocabulary=3).to_json(), "tokenizer": ""}
    metadata = {"format": "genopt-model-1", "content": json.dumps(content)}
    save_file({"x": np.ones(3, np.float32)}, path, metadata)
    with pytest.raises(ValueError, match="weights must be those of the configuration, got others"):
        Forward.load(path)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "ids must be whole numbers in a row"),
        ([[1]], "ids must be whole numbers in a row"),
        ([1.5], "ids must be whole numbers in a row"),
        ([31], r"ids must be in \[0, 31\), got 31"),
        ([-1], r"ids must be in \[0, 31\), got -1"),
    ],
)
def test_wrong_ids_are_refused(ids, message):
    model = Forward.random(ModelConfig(vocabulary=31), np.random.default_rng(0))
    with pytest.raises(ValueError, match=message):
        model.logits(ids)
