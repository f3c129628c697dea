"""Positions, blocks and the staircase cache in one model, in any order, saved and copied."""

import copy

import pytest
import torch
from transformers import (
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
)

from genopt_core.integrations import attention, positions
from genopt_core.torch.attention import near
from genopt_core.torch.kvcache import StaircaseCache, register
from genopt_core.torch.positions import DistanceBias, Encoding, encoding

torch.set_num_threads(1)
SIZES = {
    "vocab_size": 101, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0,
}  # fmt: skip
IDS = torch.randint(3, 100, (1, 90), generator=torch.Generator().manual_seed(0))
PACKED = register()


def llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES)).eval().requires_grad_(False)


def logits(model, ids=IDS, **options):
    return model(ids, **options).logits


@pytest.mark.parametrize("other", [PACKED, "eager", "sdpa"])
def test_no_attention_leaves_a_bias_out_in_silence(other):
    model = llama()
    stock = logits(model)
    positions.use(model, encoding("alibi", 4))
    biased = logits(model)
    model.set_attn_implementation(other)
    with pytest.raises(ValueError, match=rf"attention must be 'genopt_positions' .* got '{other}'"):
        model(IDS)
    with pytest.raises(ValueError, match="attention must be 'genopt_positions'"):
        model(IDS, past_key_values=StaircaseCache(model.config, "16"))
    model.set_attn_implementation(positions.NAME)
    assert torch.equal(logits(model), biased)
    again = copy.deepcopy(model)
    again.set_attn_implementation(other)
    with pytest.raises(ValueError, match="attention must be 'genopt_positions'"):
        again(IDS)
    positions.use(again, encoding("rope", 4))  # without a bias, any attention will do
    again.set_attn_implementation(other)
    torch.testing.assert_close(logits(again), stock, atol=1e-5, rtol=0)
    model.set_attn_implementation(other)
    positions.use(model, None)
    torch.testing.assert_close(logits(model), stock, atol=1e-5, rtol=0)


@pytest.mark.parametrize("other", [PACKED, "sdpa", positions.NAME])
def test_no_attention_leaves_a_plan_out_in_silence(other):
    model = llama()
    stock = logits(model)
    with attention.use(model, near(1), block=16):
        model.set_attn_implementation(other)
        with pytest.raises(ValueError, match=rf"attention must be 'genopt_blocks' .* '{other}'"):
            model(IDS)
    torch.testing.assert_close(logits(model), stock, atol=1e-5, rtol=0)


def test_a_bias_that_comes_while_blocks_are_drawn_goes_back_to_what_was_before():
    model = llama()
    with attention.use(model, near(1), block=16):
        positions.use(model, encoding("alibi", 4))
    assert model.config._attn_implementation == positions.NAME
    positions.use(model, None)
    assert model.config._attn_implementation == "sdpa"


def test_sinks_that_a_model_learned_are_refused():
    sizes = {"head_dim": 32, "num_local_experts": 2, "num_experts_per_tok": 1}
    model = GptOssForCausalLM(
        GptOssConfig(**SIZES, **sizes, layer_types=["full_attention"] * 2)
    ).eval()
    model.set_attn_implementation("eager")
    positions.use(model, Encoding(1.0, DistanceBias([0.0] * 4)))
    with pytest.raises(ValueError, match="s_aux must be None with attention 'genopt_positions'"):
        model(IDS)
    positions.use(model, None)
    with (
        attention.use(model, near(100), block=16),
        pytest.raises(ValueError, match="s_aux must be None with attention 'genopt_blocks'"),
    ):
        model(IDS)
    assert model(IDS).logits.isfinite().all()


# ------------------------------------------------------------------ copies of a cache


def begun(model, **options):
    cache = StaircaseCache(model.config, "16/8", chunk=16, **options)
    model(IDS[:, :60], past_key_values=cache)
    return cache


def test_a_copy_of_a_cache_follows_the_attention_of_its_model():
    model = llama()
    model.set_attn_implementation(PACKED)
    cache = begun(model)
    kept = copy.deepcopy(cache)
    expected = logits(model, IDS[:, 60:], past_key_values=cache)
    assert torch.equal(logits(model, IDS[:, 60:], past_key_values=copy.deepcopy(kept)), expected)
    model.set_attn_implementation("sdpa")
    found = logits(model, IDS[:, 60:], past_key_values=kept)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("other", ["sdpa", "eager"])
def test_a_cache_of_another_config_is_refused_by_an_attention_that_cannot_read_it(other, tmp_path):
    model, second = llama(), llama()
    model.set_attn_implementation(PACKED)
    second.set_attn_implementation(other)
    torch.save(begun(model), tmp_path / "cache.pt")
    loaded = torch.load(tmp_path / "cache.pt", weights_only=False)
    for cache in (loaded, begun(model), StaircaseCache(model.config, "16/8", chunk=16)):
        with pytest.raises(
            RuntimeError, match=r"'genopt_staircase' has to read this .* own config"
        ):
            second(IDS[:, 60:], past_key_values=cache)
    again = torch.load(tmp_path / "cache.pt", weights_only=False)
    second.set_attn_implementation(PACKED)
    expected = logits(model, IDS[:, 60:], past_key_values=begun(model))
    assert torch.equal(logits(second, IDS[:, 60:], past_key_values=again), expected)


@pytest.mark.parametrize("fullgraph", [False, True])
def test_a_compiled_model_has_its_bias(fullgraph):
    model = llama()
    positions.use(model, encoding("alibi", 4))
    expected = logits(model, use_cache=False)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=fullgraph)
    torch.testing.assert_close(logits(compiled, use_cache=False), expected, atol=1e-6, rtol=0)
    torch._dynamo.reset()


def test_a_compiled_model_does_not_attend_to_nothing_in_silence():
    model, second = llama(), llama()
    model.set_attn_implementation(PACKED)
    cache = begun(model)
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.TorchRuntimeError, match="fake tensor"):
        torch.compile(second, backend="eager")(IDS[:, 60:], past_key_values=cache)
    torch._dynamo.reset()


def test_no_tensor_is_made_of_what_is_handed_over():
    model = llama()
    model.set_attn_implementation(PACKED)
    keys, values = begun(model).update(*torch.zeros(2, 1, 2, 1, 16).unbind(), 0)
    assert keys.contiguous() is keys
    assert keys.to(keys.dtype) is keys
    for make in (torch.clone, lambda k: k.split(1, 1), lambda k: k.unbind(0), lambda k: k[..., :1]):
        for handed in (keys, values):
            with pytest.raises(RuntimeError, match=r"has to read this staircase cache"):
                make(handed)


# ------------------------------------------------------------------ saved


def test_a_configuration_that_cannot_be_saved_so_is_named_before_training(tmp_path):
    torch.manual_seed(0)
    model = Phi3ForCausalLM(Phi3Config(**SIZES)).eval()
    stock = logits(model)
    with pytest.warns(
        UserWarning, match=r"Phi3Config cannot be saved .* use\(model, None\) before"
    ):
        positions.use(model, Encoding(0.5))
    assert not torch.allclose(logits(model), stock)
    positions.use(model, None)
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(Phi3ForCausalLM.from_pretrained(tmp_path).eval()), stock)


def test_what_a_model_lacks_is_named():
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    model = GPTNeoXForCausalLM(
        GPTNeoXConfig(vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                      num_attention_heads=2)
    )  # fmt: skip
    with pytest.raises(ValueError, match="GPTNeoXForCausalLM without num_key_value_groups"):
        positions.use(model, Encoding(0.5))
    with pytest.raises(ValueError, match="attention modules that have num_key_value_groups"):
        attention.use(model, near(1), block=4)
