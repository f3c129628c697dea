"""Balanced codes in the torch cache, the recall probe, and what a cache costs on a text."""

import numpy as np
import pytest
import torch
from oracles.models import alternating, tiny
from transformers import AttentionInterface, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from genopt_core import kvcache as kv
from genopt_core.torch.kvcache import (
    Balance,
    StaircaseCache,
    cache_divergence,
    calibrate_ladders,
    divergence,
    measure_balance,
    recall_probe,
    register,
)
from genopt_core.torch.kvcache.codec import RotatedCodec

torch.set_num_threads(1)

SMALL = {"chunk": 16, "sink": 2}


def text(rows=1, tokens=120):
    return torch.randint(3, 97, (rows, tokens), generator=torch.Generator().manual_seed(3))


def maps(heads=2, dim=16, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, heads, 3 * dim, dim)) * np.exp(rng.standard_normal(dim))
    return kv.balanced_map(*(np.swapaxes(y, -1, -2) @ y for y in x))


# ------------------------------------------------------------------ codec and cache


@pytest.mark.parametrize("side", ["key", "value"])
def test_codec_with_maps_is_the_specification(side):
    into, back = maps()
    x = torch.randn(2, 2, 16, 16, generator=torch.Generator().manual_seed(1))
    ours = RotatedCodec(
        side, 16, 16, 0, maps=(torch.from_numpy(into).float(), torch.from_numpy(back).float())
    )
    rotation = kv.hadamard_rotation(16, np.random.default_rng(0))
    spec = kv.RotatedCodec(side, rotation, maps=(into, back))
    a, b = ours.encode(x, 4), spec.encode(x.numpy(), 4)
    for bits in (None, 2):
        if bits:
            a, b = ours.step(a, bits), spec.step(b, bits)
        np.testing.assert_allclose(ours.decode(a).numpy(), spec.decode(b), atol=2e-2)
        same = [(p.numpy() == s).mean() for p, s in zip(a.planes, b.planes, strict=True)]
        assert min(same) > 0.99  # but for ties of float32


@pytest.mark.parametrize("make", [tiny, alternating])
def test_packed_attention_with_maps_is_attention_over_restored_keys(make):
    model, ids = make(), text(rows=2)
    balance = measure_balance(model, ids, **SMALL)
    outputs = []
    for name in ("sdpa", register()):
        model.set_attn_implementation(name)
        cache = StaircaseCache(model.config, "16/4/2", balance=balance, **SMALL)
        model(ids[:, :90], past_key_values=cache)
        steps = [model(x, past_key_values=cache).logits for x in ids[:, 90:].split(1, 1)]
        outputs.append(torch.cat(steps, 1))
    torch.testing.assert_close(*outputs, atol=2e-4, rtol=1e-3)


def test_maps_are_no_part_of_the_bytes_and_make_others_of_the_codes():
    model, ids = tiny(), text()
    balance = measure_balance(model, ids, **SMALL)
    caches = [StaircaseCache(model.config, "16/4/2", balance=b, **SMALL) for b in (None, balance)]
    for cache in caches:
        model(ids, past_key_values=cache)
    plain, balanced = caches
    assert plain.nbytes() == balanced.nbytes() == balanced.expected_bytes()
    pairs = zip(plain.stair_layers[0].tensors, balanced.stair_layers[0].tensors, strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)


def test_a_balanced_cache_is_saved_and_wants_its_maps_again(tmp_path):
    model, ids = tiny(), text()
    balance = measure_balance(model, ids, **SMALL)
    balance.save(tmp_path / "balance.safetensors")
    same = Balance.load(tmp_path / "balance.safetensors")
    assert same.digest == balance.digest
    cache = StaircaseCache(model.config, "16/4/2", balance=balance, **SMALL)
    model(ids, past_key_values=cache)
    cache.save(tmp_path / "cache")
    again = StaircaseCache.restore(tmp_path / "cache", model.config, same)
    new = ids[:, :1]
    expected = model(new, past_key_values=cache).logits
    assert torch.equal(model(new, past_key_values=again).logits, expected)
    other = measure_balance(model, ids.flip(1), **SMALL)
    for wrong, got in ((None, "none"), (other, "another")):
        with pytest.raises(ValueError, match=f"balance must be the one .* got {got}"):
            StaircaseCache.restore(tmp_path / "cache", model.config, wrong)
    with pytest.raises(ValueError, match="must have the format genopt-balance-1"):
        Balance.load(tmp_path / "cache")


def test_maps_of_another_model_or_codec_are_refused():
    model = tiny()
    balance = measure_balance(model, text(), **SMALL)
    with pytest.raises(ValueError, match="codec 'rotated', got 'grid'"):
        StaircaseCache(model.config, "16/4", codec="grid", group_size=16, balance=balance)
    short = Balance(balance.keys[:1], balance.values[:1])
    with pytest.raises(ValueError, match=r"balance must be of 3 layers .* got 1"):
        StaircaseCache(model.config, "16/4", balance=short)


# ------------------------------------------------------------------ measured moments


def test_moments_are_those_of_plain_attention():
    """Oracle: all attention weights at once, by loops."""
    model, ids = tiny(), text(rows=2)
    seen = []

    def watch(module, query, key, value, mask, **given):
        seen.append([x.double().numpy() for x in (query, key, value)])
        return sdpa_attention_forward(module, query, key, value, mask, **given)

    AttentionInterface.register("test_watch", watch)
    model.set_attn_implementation("test_watch")
    model(ids, use_cache=False)
    model.set_attn_implementation("sdpa")
    found = measure_balance(model, ids, recall=False, **SMALL)
    assert model.config._attn_implementation == "sdpa"
    q, k, v = seen[1]
    heads, tokens, dim = k.shape[1:]
    sums = np.zeros((3, heads, dim, dim))
    for b in range(2):
        for h in range(q.shape[1]):
            g = h // (q.shape[1] // heads)
            s = q[b, h] @ k[b, g].T / np.sqrt(dim)
            s[np.triu_indices(tokens, 1)] = -np.inf
            p = np.exp(s - s.max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
            for j in range(2, 2 + (tokens - 2) // 16 * 16):
                first = 2 + (j - 2) // 16 * 16
                centered = k[b, g, j] - k[b, g, first : first + 16].mean(0)
                for t in range(j + 16, tokens):
                    for row, x in zip(sums, (centered, q[b, h, t], v[b, g, j]), strict=True):
                        row[g] += p[t, j] ** 2 * np.outer(x, x)
    keys, queries, values = (kv.ridged(x) for x in sums)
    even = kv.ridged(np.broadcast_to(np.eye(dim), values.shape))
    for pair, other in (
        (found.keys[1], kv.balanced_map(keys, queries)),
        (found.values[1], kv.balanced_map(values, even)),
    ):
        for a, b in zip(pair, other, strict=True):
            np.testing.assert_allclose(a.numpy(), b, rtol=2e-3, atol=2e-4 * np.abs(b).max())


def test_measuring_refuses_and_leaves_the_model_as_it_was():
    model = tiny()
    with pytest.raises(ValueError, match="34 tokens, got 30"):
        measure_balance(model, text(tokens=30), **SMALL)
    with pytest.raises(ValueError, match="ids must be a"):
        measure_balance(model, [1, 2])
    with pytest.raises(ValueError, match=r"call model.eval\(\)"):
        measure_balance(tiny().train(), text(), **SMALL)
    model.model.layers[0].self_attn.k_proj.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="finite keys"):
        measure_balance(model, text(), **SMALL)
    assert model.config._attn_implementation == "sdpa"


# ------------------------------------------------------------------ recall


def test_a_probe_can_only_be_copied():
    ids = text(rows=3, tokens=200)
    probe = recall_probe(ids, 5, seed=1)
    assert probe.shape == ids.shape
    assert torch.equal(probe[:, 40:160], ids[:, :120])
    for row, given in zip(probe, ids, strict=True):
        front, again = (x.view(5, 8).tolist() for x in (row[:40], row[160:]))
        assert sorted(front) == sorted(again)
        assert set(row.tolist()) <= set(given.tolist())
    assert not torch.equal(probe[0, :40], recall_probe(ids, 5)[0, :40])
    assert torch.equal(recall_probe(ids, 5, seed=1), probe)
    assert torch.equal(recall_probe(ids)[:, 64 // 2 : 168], ids[:, : 168 - 32])  # a sixth: 4 pairs
    with pytest.raises(ValueError, match="ids must be at least 208 tokens, got 200"):
        recall_probe(ids, 13)


def test_calibration_asks_for_recall_unless_told_otherwise():
    model, ids = tiny(), text(tokens=160)
    run = {"decoded": 24, "progress": False, "ladders": ((16, 4, 1), (16, 8)), **SMALL}
    asked, plain = (calibrate_ladders(model, ids, 5.0, recall=r, **run) for r in (True, False))
    probe = recall_probe(ids, 1)
    same = calibrate_ladders(model, probe, 5.0, recall=False, **run)
    np.testing.assert_array_equal(asked.measured.costs, same.measured.costs)
    assert not np.array_equal(asked.measured.costs, plain.measured.costs)
    assert asked.measured.about["text"] == same.measured.about["text"]


def test_calibration_measures_with_maps(tmp_path):
    model, ids = tiny(), text(tokens=160)
    balance = measure_balance(model, ids, **SMALL)
    run = {"decoded": 24, "progress": False, "ladders": ((16, 4, 1), (16, 8)), **SMALL}
    store = tmp_path / "ladders.json"
    with_maps = calibrate_ladders(model, ids, 5.0, store=store, balance=balance, **run)
    assert with_maps.measured.about["options"]["balance"] == balance.digest
    plain = calibrate_ladders(model, ids, 5.0, **run)
    assert not np.array_equal(with_maps.measured.costs, plain.measured.costs)
    with pytest.raises(ValueError, match=r"another balance \([0-9a-f]{64}, not None\)"):
        calibrate_ladders(model, ids, 5.0, store=store, **run)


# ------------------------------------------------------------------ what a cache costs


@pytest.mark.parametrize("make", [tiny, alternating])
def test_cost_of_a_cache_is_that_of_decoding_by_hand(make):
    model, ids = make(), text(rows=2)
    model.set_attn_implementation(register())
    cache = StaircaseCache(model.config, "16/4/2", **SMALL)
    cost = cache_divergence(model, ids, cache, decoded=24)
    assert cache.get_seq_length() == 0
    assert cost == cache_divergence(model, ids, cache, decoded=24)

    def run(one):
        model(ids[:, :-24], past_key_values=one)
        steps = [model(x, past_key_values=one).logits for x in ids[:, -24:].split(1, 1)]
        return torch.cat(steps, 1).log_softmax(-1)

    exact = run(DynamicCache(config=model.config))
    assert cache_divergence(model, ids, StaircaseCache(model.config, "16"), decoded=24) < 1e-9
    # the same by hand: the prompt goes in at once, then steps of a chunk
    held, full = StaircaseCache(model.config, "16/4/2", **SMALL), DynamicCache(config=model.config)
    model(ids[:, :-24], past_key_values=full)
    for i, layer in enumerate(full.layers):
        if held.layers[i] in held.stair_layers:
            held.update(layer.keys, layer.values, i)
        else:
            held.layers[i] = layer
    steps = [model(x, past_key_values=held).logits for x in ids[:, -24:].split(16, 1)]
    alone = divergence(exact, torch.cat(steps, 1).log_softmax(-1)).mean().item()
    assert cost == pytest.approx(alone, rel=1e-3)


def test_cost_refuses():
    model = tiny()
    cache = StaircaseCache(model.config, "16/4", **SMALL)
    with pytest.raises(ValueError, match="decoded must be less than the 120 tokens"):
        cache_divergence(model, text(), cache, decoded=120)
    model(text(), past_key_values=cache)
    with pytest.raises(ValueError, match="cache must be empty, got one of 120 tokens"):
        cache_divergence(model, text(), cache, decoded=24)


# ------------------------------------------------------------------ torch.compile


def test_a_compiled_model_leaves_the_cache_out_and_predicts_the_same():
    model, ids = tiny(), text(tokens=40)
    model.set_attn_implementation(register())
    compiled = torch.compile(model, backend="eager")
    outputs = []
    for run in (model, compiled):
        cache = StaircaseCache(model.config, "16/4/2", **SMALL)
        parts = [run(x, past_key_values=cache).logits for x in (ids[:, :36], ids[:, 36:])]
        outputs.append(torch.cat(parts, 1))
    assert torch.equal(*outputs)
    whole = torch.compile(model, backend="eager", fullgraph=True)
    with pytest.raises(RuntimeError, match="fullgraph must be False"):
        whole(ids, past_key_values=StaircaseCache(model.config, "16/4/2", **SMALL))
