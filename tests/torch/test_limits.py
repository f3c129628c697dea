"""Positions, cache and model: last value accepted, first refused, what is assumed, small cases."""

import inspect
import math

import numpy as np
import pytest
import torch
from oracles.limits import accepts_and_refuses, numbers_assumed
from transformers import LlamaConfig

from genopt_core import kvcache as kv
from genopt_core import positions as formulas
from genopt_core.one_model import ModelConfig
from genopt_core.torch import kvcache as fast
from genopt_core.torch import positions as pos
from genopt_core.torch.kvcache import StaircaseCache, calibration, choice, recall
from genopt_core.torch.kvcache import attention as packed
from genopt_core.torch.kvcache import balance as balancing
from genopt_core.torch.kvcache.codec import GridCodec, RotatedCodec
from genopt_core.torch.kvcache.layer import PAGE, StaircaseLayer
from genopt_core.torch.kvcache.settings import Settings
from genopt_core.torch.model import Decoder, Run, serving, train
from genopt_core.torch.model import decoder as decoders
from genopt_core.torch.model.serving import ModelCache, generate
from genopt_core.torch.online_softmax import attend, merge_partials, softmax_partial

torch.set_num_threads(1)
TINY = 1e-9
CONFIG = LlamaConfig(
    hidden_size=32, num_attention_heads=2, num_key_value_heads=1, num_hidden_layers=2, head_dim=16
)
SHAPE = ModelConfig(vocabulary=7, layers=1, width=8, heads=2, key_heads=1, hidden=4)
IDS = torch.arange(40)[None] % 7


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def states(tokens, heads=2, shared=1, dim=8, dtype=torch.float64):
    g, each = seeded(), (heads, shared, shared)
    return [torch.randn(1, h, tokens, dim, generator=g, dtype=dtype) for h in each]


def choose(**options):
    return fast.choose_ladders(CONFIG, np.ones((2, 2, 1)), 16, [(16, 8)], chunk=4, **options)


def run(**changes):
    return Run(**({"model": SHAPE, "steps": 4, "rate": 0.01} | changes))


def small(seed=0):
    return Decoder(SHAPE, seeded(seed)).eval()


def batch(step):
    return (torch.arange(9) * (step + 1) + torch.tensor([[0], [3]])) % 7


def filled(tokens, ladder="16/8/4/2", **options):
    """One layer's cache with random states."""
    cache = StaircaseCache(CONFIG, ladder, **({"chunk": 4, "sink": 2} | options))
    k, v = (torch.randn(1, 1, tokens, 16, generator=seeded(i)) for i in (1, 2))
    for layer in range(2):
        cache.update(k, v, layer)
    return cache


Q3 = states(3)[0]


@pytest.mark.parametrize(
    ("name", "call", "inside", "outside"),
    [
        ("heads", pos.LearnedSlopes, [1, 2], [0]),
        ("free", lambda x: pos.LearnedSlopes(2, free=x), [0, 1], [-1, 2]),
        (
            "start",
            lambda x: pos.LearnedSlopes(1, x),
            [[TINY], [9.0]],
            [[0.0], [-1.0], [math.inf], [1, 1]],
        ),
        ("rotated", pos.Encoding, [0.0, TINY, 1.0], [-TINY, -0.5, 1 + TINY]),
        ("heads", lambda x: pos.encoding("rope", x), [1], [0]),
        ("free", lambda x: pos.encoding("alibi", 2, free=x), [0, 1, 2], [-1, 3]),
        ("rotated", lambda x: pos.encoding("rope", 2, rotated=x), [0.0, 1.0], [-TINY, 1 + TINY]),
        (
            "name",
            lambda x: pos.encoding(x, 2),
            ["rope", "nope", "rope+alibi", "windows"],
            ["rope+", "rope+rope", "rope+nope", "nope+alibi", ""],
        ),
        ("head_dim", lambda x: pos.rotate(torch.ones(1, x), torch.ones(1, 1)), [2, 4], [3, 5]),
        (
            "x",
            lambda x: pos.rotate(x, torch.ones(1, 1)),
            [torch.ones(1, 2), torch.ones(3, 1, 2)],
            [torch.ones(2)],
        ),
        (
            "angles",
            lambda x: pos.rotate(torch.ones(3, 4), x),
            [torch.ones(3, 2), torch.ones(3, 1)],
            [torch.ones(3, 3), torch.ones(2, 2), torch.ones(3)],
        ),
        (
            "query",
            lambda x: pos.biased_attention(states(x)[0], *states(3)[1:], torch.zeros(2, 3)),
            [1, 3],
            [4],
        ),
        (
            "query",
            lambda x: pos.biased_attention(Q3[:, :, :x], *states(3)[1:], torch.zeros(2, 3)),
            [1, 3],
            [0],
        ),
        (
            "bias",
            lambda x: pos.biased_attention(*states(3), torch.zeros(x)),
            [(2, 3), (2, 9)],
            [(2, 2), (1, 3)],
        ),
        (
            "key and value",
            lambda x: pos.biased_attention(*states(3, 2, x), torch.zeros(2, 3)),
            [1, 2],
            [3],
        ),
        (
            "mask",
            lambda x: pos.biased_attention(*states(3), torch.zeros(2, 3), mask=x),
            [torch.ones(1, 3) > 0],
            [torch.ones(1, 2) > 0, torch.ones(1, 3)],
        ),
        ("chunk", lambda x: Settings(CONFIG, chunk=x), [1], [0]),
        ("seed", lambda x: Settings(CONFIG, seed=x), [0], [-1]),
        ("group_size", lambda x: Settings(CONFIG, group_size=x), [1], [0]),
        ("sink", lambda x: Settings(CONFIG, sink=x), [0], [-1]),
        ("codec", lambda x: Settings(CONFIG, codec=x), ["grid", "rotated"], ["none"]),
        (
            "full_dtype",
            lambda x: Settings(CONFIG, full_dtype=x),
            [None, torch.float16, torch.bfloat16, torch.float32, torch.float64],
            [torch.int8, torch.float8_e4m3fn, torch.complex64, "float16", 16],
        ),
        (
            "ladder",
            lambda x: StaircaseCache(CONFIG, x),
            [(16,), "16/8", [(16,), (16, 8)]],
            [(8,), [(16,)], [(16,)] * 3, ()],
        ),
        (
            "value_ladder",
            lambda x: StaircaseCache(CONFIG, (16,), x),
            [None, (16, 2)],
            [(2,), [(16,)] * 3],
        ),
        ("group_size", lambda x: GridCodec("key", 16, 4, x), [1, 4], [0, 3, 8]),
        ("pairs", lambda x: fast.recall_probe(IDS, x), [1, 2, None], [0]),
        ("ids", lambda x: fast.recall_probe(IDS, x), [2], [3]),
        ("ids", fast.recall_probe, [IDS, IDS[:, :16]], [IDS[0], IDS[:, :15], [1]]),
        (
            "length",
            lambda x: choose(length=x),
            [4, 5, None],
            [3],
        ),
        (
            "costs",
            lambda x: fast.choose_ladders(CONFIG, np.ones(x), 16, [(16,)]),
            [(2, 2, 1)],
            [(2, 2, 2), (1, 2, 1), (2, 1)],
        ),
        (
            "budget",
            lambda x: fast.choose_ladders(CONFIG, np.ones((2, 2, 1)), x, [(16,)]),
            [16],
            [15.9],
        ),
        (
            "other",
            lambda x: fast.divergence(torch.zeros(2, 3), torch.zeros(x)),
            [(2, 3)],
            [(3, 2), (2, 1)],
        ),
        ("tokens_to_remove", lambda x: filled(5).stair_layers[0].crop(x), [0, -1, -5, -9], [1]),
        ("side", lambda x: filled(5).stairs(0, x), ["key", "value"], ["query"]),
        ("steps", lambda x: run(steps=x), [1], [0]),
        ("seed", lambda x: run(seed=x), [0], [-1]),
        ("rate", lambda x: run(rate=x), [TINY, 0.5], [0.0, -0.5]),
        ("clip", lambda x: run(clip=x), [TINY, 0.5], [0.0, -0.5]),
        ("warm_up", lambda x: run(warm_up=x), [0.0, 1.0], [-TINY, 1 + TINY]),
        ("last", lambda x: run(last=x), [0.0, 1.0], [-TINY, 1 + TINY]),
        ("decay", lambda x: run(decay=x), [0.0, TINY, 2.0], [-TINY, -0.5]),
        ("beta", lambda x: run(beta=x), [0.0, 1 - TINY], [-TINY, -0.5, 1.0]),
        ("tokenizer", lambda x: run(tokenizer=x), ["", "ab" * 32], ["ab", "AB" * 32, "ab" * 33]),
        ("every", lambda x: train(run(steps=1), batch, every=x), [1], [0]),
        ("tokens", lambda x: generate(small(), IDS[:, :3], x), [1], [0]),
        (
            "temperature",
            lambda x: generate(small(), IDS[:, :3], 1, temperature=x),
            [0.0, 0.5],
            [-TINY, -0.5],
        ),
        ("partials", merge_partials, [[(torch.ones(1, 2), torch.zeros(1))]], [[]]),
    ],
)  # fmt: skip
def test_the_last_that_is_accepted_and_the_first_that_is_not(name, call, inside, outside):
    accepts_and_refuses(call, inside, outside, f"^{name}.* must ")


@pytest.mark.parametrize(
    ("function", "call", "defaults"),
    [
        (
            pos.biased_attention,
            lambda: pos.biased_attention(*states(2), torch.zeros(2, 2)),
            {"dropout": 0.0},
        ),
        (pos.LearnedSlopes, lambda: pos.LearnedSlopes(1)(), {"free": 0}),
        (pos.DistanceBias, lambda: pos.DistanceBias([1.0])(2), {"parameter": 1.0}),
        (pos.score_mod, lambda: pos.score_mod(torch.zeros(1, 2)), {"offset": 0}),
        (pos.Encoding, pos.Encoding, {"rotated": 1.0}),
        (
            pos.encoding,
            lambda: pos.encoding("rope", 1),
            {"free": 0, "rotated": 1.0, "learned": False},
        ),
        (
            packed.staircase_attention,
            lambda: packed.register(),
            {"dropout": 0.0, "compiled": False},
        ),
        (
            fast.measure_balance,
            lambda: recall.checked_ids(IDS),
            {"chunk": 128, "sink": 4, "recall": True},
        ),
        (StaircaseCache, lambda: filled(1), {"chunk": 128, "sink": 4, "group_size": 32, "seed": 0}),
        (StaircaseCache.stairs, lambda: filled(1).stairs(), {"layer": 0}),
        (
            calibration.cache_divergence,
            lambda: fast.divergence(torch.zeros(1, 2), torch.zeros(1, 2)),
            {"decoded": 508},
        ),
        (fast.layer_costs, lambda: calibration.DECODED, {"decoded": 508}),
        (fast.calibrate_ladders, lambda: calibration.PREFILL, {"recall": True, "progress": True}),
        (
            choice.Costs,
            lambda: choice.Costs(((16,),), {}).and_one(np.ones((2, 1)), 1.0),
            {"seconds": 0.0},
        ),
        (
            RotatedCodec,
            lambda: RotatedCodec("key", 8, 4, 0).encode(torch.ones(1, 1, 4, 8), 2),
            {"norm_correction": True},
        ),
        (fast.recall_probe, lambda: fast.recall_probe(IDS), {"seed": 0}),
        (
            Settings,
            lambda: Settings(CONFIG).head_dim,
            {"chunk": 128, "sink": 4, "group_size": 32, "seed": 0},
        ),
        (ModelCache.full_bytes, lambda: ModelCache.full_bytes(SHAPE, 1), {"each": 4}),
        (generate, lambda: generate(small(), IDS[:, :2], 1), {"temperature": 1.0}),
        (Run, lambda: run().rate_at(0), {
            "seed": 0, "rate": 3e-3, "warm_up": 0.05, "last": 0.1, "decay": 0.1, "clip": 1.0,
            "beta": 0.95,
        }),
        (train, lambda: train(run(steps=1), batch), {"every": 50, "progress": False}),
    ],
)  # fmt: skip
@pytest.mark.restates
def test_what_is_assumed(function, call, defaults):
    call()
    assert numbers_assumed(function) == defaults


@pytest.mark.restates
def test_what_is_documented_as_so_many():
    """Sizes that bound memory, and menus; stored results were made with them."""
    fast.divergence(torch.zeros(1, 2), torch.zeros(1, 2))
    choice.Costs(((16,),), {}).and_one(np.ones((2, 1)), 1.0)
    pos.biased_attention(*states(2), torch.zeros(2, 2))
    filled(9)
    packed._causal(1, 1, 1, torch.device("cpu"))
    balancing._Moments([0], 4, 0).add(0, *states(5, dtype=torch.float32), 1.0)
    assert (calibration.PREFILL, calibration.DECODED, calibration.BLOCK) == (512, 508, 65_536)
    assert (packed.QUERIES, packed.SCORES, balancing.QUERIES) == (512, 1_048_576, 512)
    assert (choice.SAMPLES, PAGE, pos.attention.ROWS) == (64, 8, 256)
    assert (recall.KEY, recall.VALUE) == (3, 5)
    assert [kv.format_ladder(x) for x in choice.LADDERS] == [
        "16/4/4/3/3/2/2/1", "16/4/4/4/4/3/3/2", "16/4/4/4/4/3", "16/8/8/4", "16/8"
    ]  # fmt: skip
    assert small().norm.eps == decoders.EPS == 1e-6
    assert ModelCache(SHAPE).tokens == 0
    assert serving.FURTHEST == -60.0
    flags = ("is_compileable", "is_croppable", "is_sliding", "supports_early_init")
    assert [getattr(StaircaseLayer, name) for name in flags] == [False, True, False, False]
    assert GridCodec("key", 8, 4, 4).meta_count == 2
    assert [RotatedCodec(s, 8, 4, 0).meta_count for s in ("key", "value")] == [2, 1]


# ------------------------------------------------------------------ positions


def test_bias_tables_are_kept_and_grow_by_doubling():
    learned = pos.LearnedSlopes(2)
    bias = pos.DistanceBias(learned)
    cpu = torch.device("cpu")
    with torch.no_grad():
        line, size = bias.line(3, cpu, torch.float32)
        assert (size, line.shape) == (256, (2, 512))
        assert bias.line(256, cpu, torch.float32)[0] is line
        assert bias.line(257, cpu, torch.float32)[1] == 512
        assert bias.line(513, cpu, torch.float32)[1] == 1024
        assert bias.line(2, cpu, torch.float64)[0].dtype == torch.float64
        held = bias.line(2, cpu, torch.float32)[0]
        learned.raw.add_(1.0)
        assert not torch.equal(bias.line(2, cpu, torch.float32)[0], held)
    np.testing.assert_allclose(line[0, :256].flip(0), -np.arange(256.0), rtol=1e-6)
    assert (line[:, 256:] == -math.inf).all()
    assert bias.line(3, cpu, torch.float32)[1] == 3  # with gradients it is as long as it has to be
    assert (bias.learned, bias.linear, bias.heads) == (True, True, 2)
    assert not pos.DistanceBias([1.0], "log").linear


def test_score_mod_reads_the_distance_and_hides_what_lies_ahead():
    table = -torch.arange(8.0).view(2, 4)
    zero, at = torch.tensor(0.0), torch.tensor
    for offset in (0, 1):
        add = pos.score_mod(table, offset)
        for head, query, key in ((0, 2, 1), (1, 0, 0), (1, 1, 2), (0, 0, 2)):
            distance = query + offset - key
            wanted = table[head, distance] if distance >= 0 else -math.inf
            assert add(zero, at(0), at(head), at(query), at(key)) == wanted
    assert pos.score_mod(table)(zero, at(0), at(0), at(1), at(0)) == -1


def test_encodings_give_each_head_its_number():
    windows = pos.encoding("windows", 3).bias
    assert windows.windows.tolist() == [2, 4, 8]
    assert pos.encoding("windows", 3, free=1, windows=[5, 6]).bias.windows.tolist() == [5, 6, 0]
    assert pos.encoding("rope", 2).rotated == 1.0
    assert pos.encoding("alibi", 2, rotated=0.5).rotated == 0.0
    for name, kind, law in (("alibi", "geometric", "linear"), ("kerple-log", "harmonic", "log")):
        bias = pos.encoding(name, 3, free=1).bias
        wanted = formulas.bias_by_distance([*formulas.slopes(2, kind), 0.0], 5, law)
        np.testing.assert_allclose(bias(5, dtype=torch.float64), wanted, rtol=1e-12)
    assert pos.encoding("harmonic", 2, distance="power").bias.distance == "power"
    learned = pos.encoding("kerple-log", 2, learned=True).bias
    np.testing.assert_allclose(learned.parameter().detach(), [1.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose(learned.strengths().detach(), [1.0, 0.5], rtol=1e-6)
    assert pos.encoding("alibi", 2, free=2).bias is None


@pytest.mark.parametrize("rows", [1, 3, 256])
@pytest.mark.parametrize("queries", [1, 4, 7])
def test_short_texts_with_a_bias_by_their_definition(rows, queries, monkeypatch):
    monkeypatch.setattr(pos.attention, "ROWS", rows)
    q, k, v = states(7, 4, 2)
    q = q[:, :, 7 - queries :]
    table = torch.from_numpy(formulas.bias_by_distance([0.5, 0.1, 2.0, 0.0], 9, "log"))
    distance = torch.arange(7 - queries, 7)[:, None] - torch.arange(7)
    for scale in (None, 0.3, -0.3):
        s = q @ k.repeat_interleave(2, 1).mT * (8**-0.5 if scale is None else scale)
        s = s + torch.where(distance >= 0, table[:, distance.clamp_min(0)], -math.inf)
        wanted = s.softmax(-1) @ v.repeat_interleave(2, 1)
        torch.testing.assert_close(pos.biased_attention(q, k, v, table, scale=scale), wanted)
        seen = torch.tensor([[True, False, True, True, False, True, True]])
        part = s.masked_fill(~seen, -math.inf)
        alone = pos.biased_attention(q, k, v, table, scale=scale, mask=seen)
        torch.testing.assert_close(
            alone, part.softmax(-1) @ v.repeat_interleave(2, 1), equal_nan=True
        )


def test_one_piece_merges_to_itself_and_an_empty_one_to_nothing():
    out, lse = torch.randn(2, 3, generator=seeded()), torch.tensor([0.5, -math.inf])
    one = merge_partials([(out, lse)])
    assert torch.equal(one[0], out)
    assert torch.equal(one[1], lse)
    weights, mass = softmax_partial(torch.zeros(2, 0))
    assert (weights.shape, mass.tolist()) == ((2, 0), [-math.inf] * 2)
    weights, mass = softmax_partial(torch.tensor([[0.0, math.log(3.0)]]))
    torch.testing.assert_close(weights, torch.tensor([[0.25, 0.75]]))
    assert mass.item() == pytest.approx(math.log(4))


def test_ladders_that_are_assumed():
    filled(9)
    ModelCache(SHAPE).nbytes()
    for function, ladder in ((StaircaseCache, (16, 8, 4, 2)), (ModelCache, (16,))):
        assert inspect.signature(function).parameters["ladder"].default == ladder
    assert StaircaseCache(CONFIG).stair_layers[0].ladders["key"] == (16, 8, 4, 2)
    assert ModelCache(SHAPE).held.stair_layers[0].ladders["value"] == (16,)
    for function in (fast.layer_costs, fast.choose_ladders, fast.calibrate_ladders):
        assert inspect.signature(function).parameters["ladders"].default is choice.LADDERS


@pytest.mark.parametrize("scale", [None, 0.5, -0.8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_line_ends_where_all_beyond_weighs_half_a_rounding_error(scale, dtype):
    """By the bound of chapter 3 for the longest query and key of each head."""
    q, k, _ = states(90, 4, 2, dtype=dtype)
    table = formulas.bias_by_distance([3.0, 1.5, 0.9, 2.0], 100)
    line = pos.bias.as_line(torch.from_numpy(table).to(dtype))
    found, reach = pos.attention._without_far(q, k, line, 100, scale)
    lengths = [x.double().norm(dim=-1).amax((0, 2)).numpy() for x in (q, k)]
    longest = lengths[0] * (1 if scale is None else abs(scale) * 8**0.5)
    rounding = torch.finfo(dtype).eps
    bound = formulas.tail_bound(table[:, :90], longest, lengths[1].repeat(2), 8)
    wanted = (bound > rounding / 2).sum(1)
    assert wanted.max() < 90
    assert reach == wanted.max()
    kept = found.isfinite().sum(1)
    assert kept.tolist() == wanted.tolist()
    assert torch.equal(found[found.isfinite()], line[found.isfinite()])
    flat = pos.bias.as_line(torch.zeros(4, 100, dtype=dtype))
    same, all_of_it = pos.attention._without_far(q, k, flat, 100, scale)
    assert same is flat
    assert all_of_it == 90
    one = pos.bias.as_line(torch.from_numpy(table * [[1], [0], [1], [1]]).to(dtype))
    assert pos.attention._without_far(q, k, one, 100, scale)[1] == 90  # a head that sees all
    assert pos.attention._without_far(q * math.inf, k, line, 100, scale) == (line, 90)


@pytest.mark.parametrize(("queries", "tokens"), [(1, 1), (1, 4), (2, 2), (2, 3), (3, 4), (4, 4)])
def test_dense_attention_of_the_last_queries(queries, tokens):
    q, k, v = states(tokens, 4, 2)
    found = decoders.dense_attention(q[:, :, tokens - queries :], k, v, None)
    s = q @ k.repeat_interleave(2, 1).mT * 8**-0.5
    s = s.masked_fill(torch.ones(tokens, tokens).triu(1) > 0, -math.inf)
    wanted = s.softmax(-1) @ v.repeat_interleave(2, 1)
    torch.testing.assert_close(found, wanted[:, :, tokens - queries :])


@pytest.mark.parametrize("axes", [2, 3, 4])
def test_a_piece_of_attention_has_any_number_of_axes(axes):
    q, k, v = (torch.randn(2, 3, n, 4, generator=seeded(n)) for n in (5, 6, 6))
    q, k, v = (t[(0,) * (4 - axes)] for t in (q, k, v))
    out, lse = attend(q, k, v)
    s = q @ k.mT / 2
    torch.testing.assert_close(out, s.softmax(-1) @ v)
    torch.testing.assert_close(lse, s.logsumexp(-1))
