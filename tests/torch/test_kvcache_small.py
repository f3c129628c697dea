"""The cache of a model in its smallest cases: codes, runs, groups, cuts and files, by hand."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from oracles.models import tiny
from transformers import FalconConfig, GPT2Config, GPTBigCodeConfig, GPTNeoXConfig, LlamaConfig
from transformers.cache_utils import DynamicSlidingWindowLayer

from genopt_core import attention as room
from genopt_core import kvcache as kv
from genopt_core.torch import kvcache as fast
from genopt_core.torch.kvcache import (
    StaircaseCache,
    calibration,
    choice,
    measure_balance,
    storage,
    window,
)
from genopt_core.torch.kvcache import attention as packed
from genopt_core.torch.kvcache import balance as balancing
from genopt_core.torch.kvcache.codec import (
    Chunks,
    GridCodec,
    Room,
    RotatedCodec,
    codec_of,
    lowered,
    pack,
    unpack,
)
from genopt_core.torch.kvcache.layer import PAGE
from genopt_core.torch.kvcache.settings import Settings, cache_word, decoder_of
from genopt_core.torch.online_softmax import merge_partials

torch.set_num_threads(1)
CONFIG = LlamaConfig(
    hidden_size=32, num_attention_heads=2, num_key_value_heads=1, num_hidden_layers=2, head_dim=16
)
IDS = torch.arange(40)[None] % 7


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def filled(tokens, ladder="16/8/4/2", **options):
    """One layer's cache with random states."""
    cache = StaircaseCache(CONFIG, ladder, **({"chunk": 4, "sink": 2} | options))
    k, v = (torch.randn(1, 1, tokens, 16, generator=seeded(i)) for i in (1, 2))
    for layer in range(2):
        cache.update(k, v, layer)
    return cache


def test_packing_of_each_width_by_hand():
    codes = torch.tensor([[1, 2, 3, 0, 3, 2, 1, 0]], dtype=torch.uint8)
    (plane,) = pack(codes, 2)
    assert plane.tolist() == [[1 | 2 << 2 | 3 << 4, 3 | 2 << 2 | 1 << 4]]
    two, one = pack(codes + 4, 3)
    assert two.tolist() == plane.tolist()
    assert one.tolist() == [[255]]
    assert pack(codes, 8)[0].tolist() == codes.tolist()


def test_room_is_used_where_it_is_large_enough():
    codec = RotatedCodec("value", 32, 4, 0)
    x = torch.randn(1, 1, 4, 32, generator=seeded())
    for bits in (1, 2, 3, 4):
        held = codec.encode(x, bits)
        alone = codec.expand(held).clone()
        room = Room(4 * 32)
        assert codec.expand(held, room).data_ptr() == room.floats.data_ptr()
        assert torch.equal(codec.expand(held, room), alone)
        assert torch.equal(codec.expand(held, Room(1)), alone)
    assert [len(Room(n).floats) for n in (1, 4, 5)] == [4, 4, 8]


def test_chunks_are_lowered_only_where_that_is_less():
    codec = GridCodec("key", 8, 4, 4)
    held = Chunks(16, 16, 1, (torch.randn(1, 1, 4, 8, generator=seeded()),))
    assert lowered(codec, held, 16) is held
    eight = lowered(codec, held, 8)
    assert (eight.bits, eight.packed, held.packed) == (8, True, False)
    assert lowered(codec, eight, 8) is eight
    assert lowered(codec, eight, 16) is eight
    assert lowered(codec, eight, 4).bits == 4


def test_constant_groups_have_no_step():
    for side in ("key", "value"):
        codec = GridCodec(side, 8, 4, 4)
        for value in (0.0, 2.5, -7.0):
            held = codec.encode(torch.full((1, 1, 4, 8), value), 3)
            assert not held.meta[0].any()
            assert (codec.decode(held) == value).all()


@pytest.mark.parametrize("value", [1e-5, -1e-5, 3e-8, -3e-8, 0.1, -0.1, 1000.3, -1000.3])
def test_a_minimum_and_a_step_are_never_rounded_inwards(value):
    """Float16 next below for the minimum and next above for the step, also around 0."""
    x = torch.full((1, 1, 4, 8), value)
    x[..., 1::2, :] = value + abs(value) * 0.37
    for side in ("key", "value"):
        codec = GridCodec(side, 8, 4, 4)
        spec = kv.GridCodec(side, 4).encode(x.numpy(), 4)
        held = codec.encode(x, 4)
        for ours, theirs in zip(held.meta, spec.meta, strict=True):
            np.testing.assert_array_equal(ours.numpy().ravel(), theirs.ravel())
        scale, low = (t.double().flatten()[0].item() for t in held.meta)
        assert low <= x.min().item()
        assert low + 15 * scale >= x[..., : 2 if side == "key" else 1, :].max().item()


def test_small_neighbors_of_one_width_are_one_run():
    codec = GridCodec("value", 16, 4, 4)
    one = codec.encode(torch.randn(1, 1, 4, 16, generator=seeded()), 2)
    other = codec.step(one, 1)
    page = one.map(lambda t: t.repeat(1, 1, PAGE, 1), PAGE)
    runs = list(packed._runs([page, page, one, one, one, other]))
    assert [(r.bits, r.chunks) for r in runs] == [(2, PAGE), (2, PAGE), (2, 3), (1, 1)]
    assert runs[0] is page
    assert runs[-1] is other
    assert torch.equal(runs[2].planes[0], torch.cat([one.planes[0]] * 3, -2))


def test_segments_are_attended_to_in_groups_that_fit(monkeypatch):
    cache = filled(2 + 4 * 30, sink=2)
    segments = cache.stair_layers[0].segments
    assert [s.chunks for s in segments] == [8, 8, 8, 4, 1, 1]  # 28 on the floor, then 4 and 8 bits
    assert [s.key.bits for s in segments] == [2, 2, 2, 2, 4, 8]
    for scores, sizes in ((30, [6]), (29, [5, 1]), (16, [2, 4]), (8, [1, 1, 1, 3]), (1, [1] * 6)):
        monkeypatch.setattr(packed, "SCORES", scores)
        assert [len(g) for g in packed._groups(segments, 1)] == sizes
    mixed = filled(2 + 4 * 3, "16/16/4").stair_layers[0].segments
    monkeypatch.setattr(packed, "SCORES", 100)
    assert [len(g) for g in packed._groups(mixed, 1)] == [1, 1]  # packed ones and one that is not
    assert list(packed._groups((), 1)) == []


def test_masks_over_recent_tokens():
    cpu = torch.device("cpu")
    assert packed._causal(1, 5, 1, cpu) is None
    assert packed._causal(2, 4, 2, cpu).int().tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert packed._causal(1, 4, 3, cpu).int().tolist() == [[1, 1, 0, 0]]
    mask = torch.arange(6).view(1, 1, 2, 3)
    assert torch.equal(packed._grouped_mask(mask, 2, 1), mask.repeat(1, 1, 2, 1))
    assert packed._grouped_mask(mask, 1, 1) is mask
    heads = torch.arange(24).view(1, 4, 2, 3)
    assert torch.equal(packed._grouped_mask(heads, 2, 2), heads.reshape(1, 2, 4, 3))


@pytest.mark.parametrize("crop", [1, 2, 3, 4, 7, 11, 40, 117, 121, 122, 200])
def test_a_cut_leaves_the_oldest_tokens(crop):
    cache = filled(122)
    layer = cache.stair_layers[0]
    none = layer.keys[..., :0, :], layer.values[..., :0, :]
    before = [x.clone() for x in layer.view(*none).restore()]
    layer.crop(-crop)
    left = max(0, 122 - crop)
    assert layer.get_seq_length() == left
    for found, wanted in zip(layer.view(*none).restore(), before, strict=True):
        torch.testing.assert_close(found, wanted[..., :left, :])
    assert layer.get_mask_sizes(3) == (left + 3, 0)
    with pytest.raises(ValueError, match=f"the cache holds {left} tokens, so no new ones came"):
        layer.get_mask_sizes(0)


def test_an_empty_layer_is_nothing():
    cache = StaircaseCache(CONFIG)
    layer = cache.stair_layers[0]
    assert (layer.tensors, layer.stairs("key"), layer.get_seq_length()) == ((), [], 0)
    assert (cache.nbytes(), cache.expected_bytes(), cache.bits_per_element()) == (0, 0.0, 0.0)
    assert (layer.get_max_length(), cache.get_seq_length()) == (-1, 0)
    layer.crop(-3)
    layer.reorder_cache(torch.tensor([0]))
    assert layer.state()[0]["dtype"] is None
    full = filled(30)
    assert full.bits_per_element() == 8 * full.nbytes() / (2 * 2 * 30 * 16)
    full.stair_layers[0].reset()
    assert full.stair_layers[0].get_seq_length() == 0
    assert "2 layers, 16/8/4/2, " in repr(full)


def test_batches_are_chosen_and_repeated():
    cache = StaircaseCache(CONFIG, chunk=4, sink=1)
    k, v = (torch.randn(3, 1, 20, 16, generator=seeded(i)) for i in (1, 2))
    cache.update(k, v, 0)
    layer = cache.stair_layers[0]
    before = [t.clone() for t in layer.tensors]
    layer.batch_repeat_interleave(2)
    assert all(torch.equal(t[::2], b) for t, b in zip(layer.tensors, before, strict=True))
    layer.batch_select_indices(torch.tensor([5, 0]))
    assert all(torch.equal(t, b[[2, 0]]) for t, b in zip(layer.tensors, before, strict=True))
    layer.reorder_cache(torch.tensor([1, 1]))
    assert all(torch.equal(t, b[[0, 0]]) for t, b in zip(layer.tensors, before, strict=True))


def test_windows_and_settings_of_a_configuration():
    assert Settings(CONFIG).head_dim == 16
    assert Settings(LlamaConfig(hidden_size=32, num_attention_heads=4)).head_dim == 8
    assert not Settings(CONFIG).reads_packed
    with pytest.raises(TypeError, match=r"config must be .* got int$"):
        decoder_of(3)
    with pytest.raises(TypeError, match=r"got Model; pass model.config$"):
        decoder_of(type("Model", (), {"config": CONFIG})())
    assert cache_word(type("M", (), {"forward": lambda self, cache: 0})()) == "cache"
    assert cache_word(type("M", (), {"forward": lambda self, x: 0})()) == "past_key_values"


def test_bits_of_ladders_at_a_length_are_means_over_a_chunk_of_lengths():
    settings = Settings(CONFIG, chunk=4, sink=1)
    assert choice._bits((16, 8), 0.5, None, settings) == 8.5
    assert choice._bits((16,), 0.5, None, settings) == 16
    lengths = (7, 8, 9, 10)
    wanted = np.mean([kv.cache_bits(n, (16, 8), 4, metadata=0.5, sink=1) / n for n in lengths])
    assert choice._bits((16, 8), 0.5, 10, settings) == pytest.approx(wanted)


def test_files_of_costs_that_are_torn(tmp_path):
    path = tmp_path / "costs.json"
    about = {"model": 1, "text": 2}
    costs = choice.Costs(((16, 8), (16,)), about).and_one(np.ones((2, 2)), 1.26)
    costs.write(path)
    back, chosen = choice.Costs.read(path)
    assert (back.ladders, back.about, back.seconds, chosen) == (costs.ladders, about, 1.3, None)
    assert costs.and_one(np.ones((2, 2)), 1.0).seconds == 2.26
    assert costs.going_on(path).seconds == 1.3
    with pytest.raises(ValueError, match=r"with another ladders, text$"):
        choice.Costs(((16,),), {"model": 1, "text": 3}).going_on(path)
    content = json.loads(path.read_text())
    for change in ({"format": "x"}, {"costs": [[[1.0]]]}, {"ladders": None}):
        path.write_text(json.dumps(content | change))
        with pytest.raises(ValueError, match="must be a file of calibrate_ladders"):
            choice.Costs.read(path)


def test_few_numbers_of_each_weight_tell_models_apart():
    model = tiny(layers=1)
    told = choice.described(model, IDS, {"b": 1, "a": "x"})
    assert list(told["options"]) == ["a", "b"]
    assert told["text"]["tokens"] == [1, 40]
    weight = model.lm_head.weight
    step = weight.numel() // choice.SAMPLES
    for at, other in ((step, True), (step + 1, False)):
        before = weight.view(-1)[at].item()
        weight.view(-1)[at] = before + 1.0
        changed = choice.described(model, IDS, {"b": 1, "a": "x"})
        assert (changed["model"]["sha256"] != told["model"]["sha256"]) == other
        weight.view(-1)[at] = before


def test_what_belongs_together_comes_in_pairs():
    """Lists that a caller gives and that are walked through side by side are as long."""
    half = (torch.ones(1, 2), torch.zeros(1))
    calls = [
        lambda: merge_partials([half, (*half, half[1])]),
        lambda: room.merge_partials([tuple(x.numpy() for x in half), (1, 2, 3)]),
        lambda: unpack(pack(torch.zeros(1, 8, dtype=torch.uint8), 3)[:1], 3),
        lambda: maps_of(2, 1).maps(2, Settings(CONFIG)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="zip"):
            call()
    assert len(maps_of(2, 2).maps(2, Settings(CONFIG))) == 2
    with pytest.raises(ValueError, match="balance must be of 1 layers"):
        maps_of(2, 2).maps(1, Settings(CONFIG))
    with pytest.raises(ValueError, match=r"with heads of 8 channels, .* got 2 with 16"):
        maps_of(2, 2).maps(2, Settings(LlamaConfig(hidden_size=32, num_attention_heads=4)))
    assert repr(maps_of(2, 2)) == "Balance(2 layers, 1 head of 16 channels)"


def maps_of(keys, values):
    pair = torch.eye(16)[None], torch.eye(16)[None]
    return fast.Balance((pair,) * keys, (pair,) * values)


def window_layer(tokens, **changes):
    layer = DynamicSlidingWindowLayer(sliding_window=4)
    if tokens:
        layer.update(*torch.randn(2, 1, 2, tokens, 8, generator=seeded()))
    vars(layer).update(changes)
    return layer


@pytest.mark.parametrize("tokens", [0, 2, 3, 4, 9])
def test_layers_with_a_window_are_described_and_filled(tokens):
    layer = window_layer(tokens)
    description, held = window.state(layer)
    assert description == {
        "window": 4,
        "tokens": tokens,
        "recording": getattr(layer, "record_past", False),
        "dtype": "torch.float32" if tokens else None,
    }
    assert list(held) == (["k", "v"] if tokens else [])
    assert window.expected_bytes(layer) == 2 * 2 * 8 * 4 * min(tokens, 3)
    other = window_layer(0)
    window.fill(other, description, held)
    assert other.get_seq_length() == tokens
    for a, b in zip(window.tensors(other), window.tensors(layer), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="a window of 5 tokens, the model has one of 4"):
        window.fill(window_layer(0), description | {"window": 5}, held)


def test_a_library_without_recording_records_nothing():
    plain = SimpleNamespace(sliding_window=4, is_initialized=False, get_seq_length=lambda: 0)
    assert window.state(plain)[0]["recording"] is False


def test_digests_of_tensors_know_names_shapes_and_bytes():
    x = {"a": torch.arange(4.0)}
    told = storage.digest(x)
    others = [{"b": x["a"]}, {"a": x["a"].view(2, 2)}, {"a": x["a"] + 1}, {"a": x["a"].int()}, {}]
    assert len({told, *map(storage.digest, others)}) == 6
    two = {"a": x["a"], "b": x["a"] + 1}
    assert storage.digest(two) == storage.digest(dict(reversed(two.items())))


def test_files_of_the_cache_are_whole_or_refused(tmp_path):
    cache = filled(40, full_dtype=torch.float16)
    cache.save(tmp_path / "cache")
    back = StaircaseCache.restore(tmp_path / "cache", CONFIG)
    assert (repr(back), back.settings.full_dtype) == (repr(cache), torch.float16)
    for ours, theirs in zip(back.stair_layers, cache.stair_layers, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours.tensors, theirs.tensors, strict=True))
        assert ours.stairs("value") == theirs.stairs("value")
    tensors, description = storage.read(tmp_path / "cache")
    with pytest.raises(ValueError, match="has 2 layers, the model has 1"):
        StaircaseCache.restore(tmp_path / "cache", LlamaConfig(num_hidden_layers=1))
    wide = LlamaConfig(hidden_size=32, num_attention_heads=1, num_hidden_layers=2)
    with pytest.raises(
        ValueError, match=r"heads are 1 with 32 and 32 channels, got .* with 1 of 16"
    ):
        StaircaseCache.restore(tmp_path / "cache", wide)
    more = LlamaConfig(**(CONFIG.to_dict() | {"torch_dtype": None, "num_key_value_heads": 2}))
    with pytest.raises(
        ValueError, match=r"heads are 2 with 16 and 16 channels, got .* with 1 of 16"
    ):
        StaircaseCache.restore(tmp_path / "cache", more)
    storage.write(tmp_path / "none", {}, description | {"balance": "ab"})
    with pytest.raises(ValueError, match=r"balance must be the one that .*, got none"):
        StaircaseCache.restore(tmp_path / "none", CONFIG)
    content = (tmp_path / "cache").read_bytes()
    (tmp_path / "cache").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match="is damaged: its tensors are not those"):
        storage.read(tmp_path / "cache")
    assert {n.partition(".")[0] for n in tensors} == {"0", "1"}


@pytest.mark.parametrize("queries", [1, 2, 5])
@pytest.mark.parametrize("ladders", [("16/8/2", None), ((16,), (16, 2)), ("16/16/4", None)])
@pytest.mark.parametrize("codec", ["rotated", "grid"])
def test_attention_over_chunks_is_that_over_restored_ones(queries, ladders, codec, monkeypatch):
    """Any number of new tokens, groups of any size, with a mask of the model or none."""
    cache = filled(62, ladders[0], value_ladder=ladders[1], codec=codec, group_size=4)
    g = seeded(7)
    new = torch.randn(2, 1, 1, queries, 16, generator=g)
    q = torch.randn(1, 2, queries, 16, generator=g)
    view = cache.stair_layers[0].view(*new)
    k, v = (x.repeat_interleave(2, 1) for x in view.restore())
    seen = torch.arange(62 + queries) <= torch.arange(62, 62 + queries)[:, None]
    part = seen & (torch.rand(62 + queries, generator=g) < 0.6)
    part[:, 0] = True
    for scores in (1, 40, 2**20):
        monkeypatch.setattr(packed, "SCORES", scores)
        given = ((None, seen), (part[None, None], part), (seen.repeat(1, 2, 1, 1), seen))
        for mask, allowed in given:
            s = (q @ k.mT * 0.2).masked_fill(~allowed, -math.inf)
            found = packed.attend_view(q, view, 0.2, mask)
            torch.testing.assert_close(found, s.softmax(-1) @ v, rtol=1e-4, atol=1e-5)
    if queries > 1:  # the first of them alone, which does not see the others
        first = packed.attend_view(q[:, :, :1], view, 0.2, None, queries)
        torch.testing.assert_close(first, found[:, :, :1], rtol=1e-4, atol=1e-5)


def test_texts_that_are_just_long_enough():
    model = tiny(layers=1)
    ids = torch.randint(3, 128, (1, 200), generator=seeded())
    balance = measure_balance(model, ids[:, :34], chunk=16, sink=2, recall=False)
    assert len(balance.keys) == 1
    with pytest.raises(ValueError, match=r"at least sink \+ 2 chunks, 34 tokens, got 33"):
        measure_balance(model, ids[:, :33], chunk=16, sink=2)
    for name, value in (("chunk", 0), ("sink", -1)):
        with pytest.raises(ValueError, match=f"{name} must be at least"):
            measure_balance(model, ids, **{name: value})
    ladders, options = ((16, 8, 4, 2), (16, 8)), {"chunk": 8, "sink": 2, "decoded": 5}
    fast.layer_costs(model, ids[:, :31], ladders, **options)  # 2 + 3 * 8 + 5
    with pytest.raises(ValueError, match="ids must be at least 31 tokens, got 30: 26 in which"):
        fast.layer_costs(model, ids[:, :30], ladders, **options)
    for decoded, tokens in ((9, 10), (1, 2)):
        cache = StaircaseCache(model.config, (16,), chunk=4)
        found = fast.cache_divergence(model, ids[:, :tokens], cache, decoded=decoded)
        assert found == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="decoded must be less than the 10 tokens"):
        fast.cache_divergence(model, ids[:, :10], cache, decoded=10)


@pytest.mark.parametrize("queries", [1, 5, 512])
def test_moments_are_sums_over_pairs_a_chunk_apart(queries, monkeypatch):
    """Squared weights of old keys, one pair after the other, whatever is held at once."""
    monkeypatch.setattr(balancing, "QUERIES", queries)
    q, k, v = (torch.randn(1, h, 11, 3, generator=seeded(h)).double() for h in (4, 2, 2))
    moments = balancing._Moments([7], 4, 1)
    moments.add(7, q, k, v, 0.5)
    wanted = np.zeros((3, 2, 3, 3))
    for h in range(4):
        g = h // 2
        for t in range(11):
            p = (q[0, h, t] @ k[0, g, : t + 1].T * 0.5).softmax(-1).numpy()
            for j in range(1, min(t - 3, 9)):  # closed chunks are 1 to 4 and 5 to 8
                first = 1 if j < 5 else 5
                key = (k[0, g, j] - k[0, g, first : first + 4].mean(0)).numpy()
                each = key, q[0, h, t].numpy(), v[0, g, j].numpy()
                for row, x in zip(wanted, each, strict=True):
                    row[g] += p[j] ** 2 * np.outer(x, x)
    for found, expected in zip(moments.of(7), wanted, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match=r"model must choose its attention .* layer 8 did not"):
        moments.of(8)


def test_codecs_are_shared_where_they_are_the_same():
    settings = Settings(CONFIG, chunk=4)
    one = codec_of(settings, "key", 16)
    assert codec_of(settings, "key", 16) is one
    assert codec_of(settings, "value", 16) is not one
    assert codec_of(Settings(CONFIG, chunk=4, seed=1), "key", 16) is not one
    assert torch.equal(one.back, one.into.T)
    grid = codec_of(Settings(CONFIG, chunk=4, codec="grid", group_size=4), "value", 16)
    assert (grid.side, grid.dim, grid.chunk, grid.group_size) == ("value", 16, 4, 4)
    into = torch.diag(torch.arange(1.0, 17.0))
    mapped = codec_of(settings, "key", 16, maps=(into, into.inverse()))
    torch.testing.assert_close(mapped.into @ mapped.back, torch.eye(16), atol=1e-5, rtol=0)
    torch.testing.assert_close(mapped.into, into @ one.rotation)


@pytest.mark.parametrize("queries", [1, 3])
def test_a_scale_that_is_not_given_is_that_of_the_channels(queries):
    """Over packed chunks, over none yet, and over another cache."""
    g = seeded(7)
    q = torch.randn(1, 2, queries, 16, generator=g)
    new = torch.randn(2, 1, 1, queries, 16, generator=g)
    config = LlamaConfig(**(CONFIG.to_dict() | {"torch_dtype": None}))
    config._attn_implementation = packed.register()
    for tokens in (2, 40):
        cache = StaircaseCache(config, chunk=4, sink=2)
        k, v = (torch.randn(1, 1, tokens, 16, generator=seeded(i)) for i in (1, 2))
        module = SimpleNamespace(num_key_value_groups=2, is_causal=True, training=False)
        cache.update(k, v, 0)
        handles = cache.update(*new, 0)
        mask = torch.arange(tokens + queries) <= torch.arange(tokens, tokens + queries)[:, None]
        found, given = (
            packed.staircase_attention(module, q, *handles, mask[None, None], scaling=s)[0]
            for s in (None, 0.25)
        )
        torch.testing.assert_close(found, given)


def test_work_left_counts_layers_and_a_head_if_there_is_one():
    model = tiny(layers=3)
    size = sum(p.numel() for p in model.model.layers[0].parameters())
    head = model.lm_head.weight.numel() / size
    assert calibration._work(model).tolist() == pytest.approx([3 + head, 2 + head, 1 + head])
    model.get_output_embeddings = lambda: None
    assert calibration._work(model).tolist() == [3, 2, 1]


@pytest.mark.parametrize(
    ("config", "heads", "dim", "foreign"),
    [
        (GPTNeoXConfig(hidden_size=32, num_attention_heads=2, num_hidden_layers=1), 2, 16, 1),
        (GPTBigCodeConfig(n_embd=32, n_head=2, n_layer=1, multi_query=True), 1, 16, 2),
        (FalconConfig(hidden_size=32, num_attention_heads=2, num_hidden_layers=1), 1, 16, 3),
        (FalconConfig(hidden_size=32, num_attention_heads=2, num_hidden_layers=1,
                      new_decoder_architecture=True, num_kv_heads=1), 2, 16, 3),
        (GPT2Config(n_embd=32, n_head=2, n_layer=1), 2, 16, 4),
    ],
    ids=lambda x: type(x).__name__,
)  # fmt: skip
def test_files_are_compared_with_heads_of_all_kinds_of_models(
    config, heads, dim, foreign, tmp_path
):
    for count in (heads, foreign):
        cache = StaircaseCache(config, "16/8", chunk=4)
        cache.update(*torch.randn(2, 1, count, 9, dim), 0)
        cache.save(tmp_path / f"{count}")
    StaircaseCache.restore(tmp_path / f"{heads}", config)
    with pytest.raises(ValueError, match=f"path must be of a cache of this model.* {foreign} of"):
        StaircaseCache.restore(tmp_path / f"{foreign}", config)
