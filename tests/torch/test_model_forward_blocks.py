"""Drawn blocks in NumPy against a step of training in torch, and over a growing cache."""

import numpy as np
import pytest
import torch

from genopt_core.one_model import DrawnBlocks, Forward, ForwardCache, ModelConfig
from genopt_core.one_model.blocks import inclusion_by_pair
from genopt_core.torch.attention import DistanceLaw, near, sample, sink
from genopt_core.torch.model import Decoder
from genopt_core.torch.model.storage import weights_of

torch.set_num_threads(1)
IDS = torch.randint(31, (90,), generator=torch.Generator().manual_seed(1)).numpy()


@torch.no_grad()
@pytest.mark.parametrize("positions", ["rope", "rope+harmonic"])
def test_a_step_of_training_and_the_same_token_by_token(positions):
    config = ModelConfig(vocabulary=31, positions=positions, density=0.5, block=6)
    model = Decoder(config, torch.Generator().manual_seed(2)).train()
    model.embedding.mul_(20)
    wanted = model(torch.from_numpy(IDS)[None])[0].numpy()
    plans = [layer.blocks.plan for layer in model.layers]
    weights = np.stack([plan.log_weights[0].numpy() for plan in plans])
    assert np.isneginf(weights[..., -1, :]).any()
    blocks = DrawnBlocks(6, weights)
    numbers = {name: w.numpy() for name, w in weights_of(model).items()}
    ours = Forward(config, numbers)
    np.testing.assert_allclose(ours.logits(IDS, blocks=blocks), wanted, atol=1e-4)
    cache = ForwardCache(config)
    parts = [ours.logits(part, cache, blocks=blocks) for part in np.split(IDS, [1, 2, 40])]
    np.testing.assert_allclose(np.concatenate(parts), wanted, atol=1e-4)
    assert np.abs(ours.logits(IDS) - wanted).max() > 1e-3  # something was left out


@pytest.mark.parametrize(("blocks", "density"), [(16, 0.5), (15, 0.4), (9, 0.9), (3, 1.0)])
def test_probabilities_are_those_of_training(blocks, density):
    design = sink(1) | near(1) | sample(DistanceLaw.harmonic(), density=density, each="head")
    plan = design.plan(blocks, block=1, heads=4)
    ours = inclusion_by_pair(blocks, density)
    np.testing.assert_allclose(np.tril(ours), np.tril(plan.pi[0, 0].numpy()), atol=1e-12)
