"""Models that cache one latent for all heads and expand it afterwards (MLA)."""

import pytest
import torch
from transformers import (
    DeepseekV2Config,
    DeepseekV2ForCausalLM,
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    DynamicCache,
)

from genopt_core.torch.kvcache import (
    StaircaseCache,
    cached_channels,
    calibrate_ladders,
    choose_ladders,
    register,
)

torch.set_num_threads(1)
SIZES = {
    "vocab_size": 97, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 32,
    "qk_rope_head_dim": 16, "qk_nope_head_dim": 16, "v_head_dim": 16, "n_routed_experts": 2,
    "first_k_dense_replace": 4, "bos_token_id": 1, "eos_token_id": None, "pad_token_id": 0,
}  # fmt: skip
KINDS = {
    "V2": (DeepseekV2Config, DeepseekV2ForCausalLM),
    "V3": (DeepseekV3Config, DeepseekV3ForCausalLM),
}


def small(version, **changes):
    torch.manual_seed(0)
    config, model = KINDS[version]
    return model(config(**(SIZES | changes))).eval().requires_grad_(False)


def padded():
    x = torch.randint(3, 97, (2, 90), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(x)
    mask[0, :6] = 0
    return x.masked_fill(mask == 0, 0), mask


def generated(model, reader, cache):
    model.set_attn_implementation(reader)
    x, mask = padded()
    options = {"max_new_tokens": 12, "do_sample": False}
    return model.generate(x, attention_mask=mask, past_key_values=cache, **options)


@pytest.mark.parametrize("rank", [32, 16])
@pytest.mark.parametrize("version", KINDS)
def test_with_either_attention_as_the_library_s_cache(version, rank):
    model = small(version, kv_lora_rank=rank)
    expected = generated(model, "sdpa", DynamicCache(config=model.config))
    for reader in ("sdpa", register()):
        cache = StaircaseCache(model.config, "16", chunk=16)
        assert torch.equal(generated(model, reader, cache), expected)
        assert cache.nbytes() == cache.expected_bytes()


@pytest.mark.parametrize("version", KINDS)
def test_packed_latents_are_restored_alike(version, tmp_path):
    model, found = small(version), []
    for reader in ("sdpa", register()):
        cache = StaircaseCache(model.config, "16/8/4", chunk=16)
        found.append(generated(model, reader, cache))
        assert cache.nbytes() == cache.expected_bytes()
        assert [x.shape[1::2] for x in (cache.layers[0].keys, cache.layers[0].values)] == [
            (1, 32), (1, 16)
        ]  # fmt: skip
    assert torch.equal(*found)
    cache.save(tmp_path / "cache")
    back = StaircaseCache.restore(tmp_path / "cache", model.config)
    assert all(map(torch.equal, back.layers[0].tensors, cache.layers[0].tensors))
    with pytest.raises(
        ValueError, match=r"1 with 64 and 16 or 4 with .* got .* with 1 of 32 and 16"
    ):
        StaircaseCache.restore(tmp_path / "cache", small(version, kv_lora_rank=64).config)
    # one mean of 16 channels' worth a chunk of keys, one gain a token on each side
    keys, values = 4 + 16 / 32 + 16 / 16, 4 + 16 / 16
    assert cache.limit_bits() == pytest.approx((32 * keys + 16 * values) / 48)


def test_bits_come_near_their_limit():
    model = small("V3")
    cache = StaircaseCache(model.config, "16/4", chunk=16)
    k, v = torch.randn(1, 1, 16 * 400 + 4, 32), torch.randn(1, 1, 16 * 400 + 4, 16)
    for layer in range(2):
        cache.update(k, v, layer)
    assert cache.bits_per_element() == pytest.approx(cache.limit_bits(), rel=0.01)


@pytest.mark.parametrize("version", KINDS)
def test_a_budget_counts_keys_and_values_by_their_channels(version):
    model = small(version, kv_lora_rank=64)
    assert cached_channels(model) == (64, 16)
    ids, ladders = padded()[0][:, :80], [(16, 2), (16, 4), (16, 8)]
    options = {"chunk": 16, "sink": 2}
    for budget in (4.0, 5.0, 7.0):
        found = calibrate_ladders(
            model, ids, budget, ladders, decoded=16, recall=False, progress=False, **options
        )
        cache = StaircaseCache(model.config, *found, **options)
        for layer in range(2):
            cache.update(torch.randn(1, 1, 40, 64), torch.randn(1, 1, 40, 16), layer)
        assert budget - 2 < cache.limit_bits() <= budget
    # as heads of 16 channels each, more would be given to the wide side than there is
    costs, budget = torch.tensor([[[9.0, 0.0], [0.1, 0.0]]] * 2), 6.5
    spent = {}
    for channels in (None, (64, 16)):
        found = choose_ladders(
            model.config, costs, budget, [(16, 2), (16, 8)], channels=channels, **options
        )
        cache = StaircaseCache(model.config, *found, **options)
        for layer in range(2):
            cache.update(torch.randn(1, 1, 40, 64), torch.randn(1, 1, 40, 16), layer)
        spent[channels] = cache.limit_bits()
    assert spent[64, 16] <= budget < spent[None]
    for wrong, error in (((64,), ValueError), ((64, 0), ValueError), ((64, "16"), TypeError)):
        with pytest.raises(error, match="channels must be"):
            choose_ladders(model.config, costs, budget, [(16, 2), (16, 8)], channels=wrong)
