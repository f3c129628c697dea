"""The last value that is accepted, the first that is not, and what is assumed if none is given."""

import copy
import inspect
import json
import math

import numpy as np
import pytest
from oracles.limits import accepts_and_refuses, numbers_assumed
from safetensors.numpy import save_file

from genopt_core.one_model import (
    DrawnBlocks,
    Forward,
    ForwardCache,
    ModelConfig,
    bits_per_byte,
    drawn,
    forward,
    generation,
    next_probabilities,
)
from genopt_core.one_model import budget as bd
from genopt_core.one_model import factorial as ft
from genopt_core.one_model.blocks import inclusion_by_pair

TINY = 1e-9
UNIT = {"rate": 1, "bandwidth": 1, "memory": 1}
CONFIG = ModelConfig(vocabulary=9, layers=1, width=8, heads=2, key_heads=1, hidden=4, block=2)
MODEL = Forward.random(CONFIG, np.random.default_rng(0))
Z = [0.0, 1.0, 2.0]


def rng():
    return np.random.default_rng(0)


def config(name):
    return lambda x: ModelConfig(**({"vocabulary": 9, "key_heads": 1, "heads": 1} | {name: x}))


def biased(name):
    return lambda x: ModelConfig(vocabulary=9, positions="alibi", **{name: x})


def serving(name):
    return lambda x: bd.Serving(**({"size": 1} | {name: x}))


def methods(method, name, **other):
    return lambda x: bd.with_methods(CONFIG, bd.Serving(size=99), {method}, **{name: x}, **other)


def continued(tokens, **options):
    cache = ForwardCache(CONFIG)
    return generation.continued(MODEL, MODEL.logits([1], cache)[-1], cache, tokens, **options)


@pytest.mark.parametrize(
    ("name", "call", "inside", "outside"),
    [
        *((n, config(n), [1], [0]) for n in ("vocabulary", "layers", "hidden", "block")),
        ("width", config("width"), [2], [0, 1]),
        ("heads", config("heads"), [1], [0]),
        ("key_heads", config("key_heads"), [1], [0, 2]),
        ("theta", config("theta"), [1 + TINY, 1.5], [1.0, 0.5, -1.0]),
        ("slopes", biased("slopes"), [None, TINY, 0.5], [0.0, -0.5]),
        ("slopes", config("slopes"), [None], [1.0]),
        ("learned", biased("learned"), [False, True], [1, None]),
        ("learned", config("learned"), [False], [True]),
        ("density", config("density"), [None, TINY, 1.0], [0.0, 1 + TINY, 1.5]),
        ("width", lambda x: ModelConfig(vocabulary=9, positions="nope", width=x), [60], [62]),
        ("tokens", lambda x: DrawnBlocks.draw(CONFIG, x, 1.0, rng()), [1], [0]),
        ("density", lambda x: inclusion_by_pair(2, x), [1.0], [0.99]),
        ("density", lambda x: inclusion_by_pair(3, x), [1.0], [1 + TINY, 0.0]),
        ("density", lambda x: inclusion_by_pair(4, x), [0.9, 0.95], [0.9 - 1e-6, 0.5]),
        *((n, serving(n), [1], [0]) for n in ("size", "batch")),
        *(
            (n, serving(n), [TINY, 0.5], [0.0, -0.5])
            for n in ("bytes_per_token", "weight_bits", "cache_bits")
        ),
        ("density", serving("density"), [TINY, 1.0], [0.0, 1 + TINY]),
        *(
            (n, lambda x, n=n: bd.Machine(**(UNIT | {n: x})), [TINY, 0.5], [0.0, -0.5])
            for n in ("rate", "bandwidth", "memory")
        ),
        ("tokens", lambda x: bd.weight_flops(CONFIG, x), [0], [-1]),
        ("predicted", lambda x: bd.weight_flops(CONFIG, 1, predicted=x), [0], [-1]),
        ("tokens", lambda x: bd.attention_flops(CONFIG, x), [0], [-1]),
        ("before", lambda x: bd.attention_flops(CONFIG, 1, before=x), [0], [-1]),
        ("density", lambda x: bd.attention_flops(CONFIG, 1, density=x), [TINY, 1.0], [0, 1 + TINY]),
        ("tokens", lambda x: bd.cache_bytes(CONFIG, x), [0], [-1]),
        ("bits", lambda x: bd.cache_bytes(CONFIG, 1, bits=x), [TINY, 0.5], [0.0, -0.5]),
        ("size", lambda x: bd.text_tokens(x, 1.0), [0], [-1]),
        ("bytes_per_token", lambda x: bd.text_tokens(1, x), [TINY, 0.5], [0.0, -0.5]),
        ("flops", lambda x: bd.roofline_seconds(x, 0, bd.MACHINES["A100"]), [0.0], [-TINY, -0.5]),
        ("moved", lambda x: bd.roofline_seconds(0, x, bd.MACHINES["A100"]), [0.0], [-TINY, -0.5]),
        ("strengths", lambda x: bd.bias_window(x, 1, 0.1), [[0.0]], [[-TINY], [math.inf], 1.0]),
        ("bound", lambda x: bd.bias_window([1.0], x, 0.1), [0.0], [-TINY, -0.5]),
        ("eps", lambda x: bd.bias_window([1.0], 1, x), [TINY, 1 - TINY], [0.0, 1.0]),
        ("windows", lambda x: bd.window_density(x, 9), [[1]], [[1 - TINY], [0], [], 1, [math.nan]]),
        ("tokens", lambda x: bd.window_density([1], x), [1], [0]),
        ("fewer_tokens", methods("tokenizer", "fewer_tokens"), [0.0, 1 - TINY], [-TINY, -0.5, 1.0]),
        ("density", methods("attention", "density"), [TINY, 1.0], [0.0, 1 + TINY]),
        ("free_heads", methods("positions", "free_heads"), [0.0, 1.0], [-TINY, 1 + TINY]),
        ("count", ft.half_normal, [1], [0]),
        ("freedom", lambda x: ft.student_p(1.0, x), [1], [0]),
        ("level", lambda x: ft.student_interval(Z, x), [TINY, 1 - TINY], [0.0, 1.0]),
        ("values", ft.student_interval, [[1.0]], [[], [math.nan]]),
        ("values", ft.yates, [[1, 2], np.ones((2, 2))], [1.0, [1.0], [1, 2, 3], np.ones((2, 3))]),
        ("ids", MODEL.logits, [[0], [8], [0, 8]], [[-1], [9], [], [[1]], [0.5], 1]),
        ("temperature", lambda x: next_probabilities(Z, temperature=x), [0.0, TINY], [-TINY, -0.5]),
        ("top_k", lambda x: next_probabilities(Z, top_k=x), [1, 9], [0]),
        ("top_p", lambda x: next_probabilities(Z, top_p=x), [TINY, 1.0], [0.0, 1 + TINY]),
        ("tokens", continued, [1], [0]),
        ("follow", lambda x: continued(2, follow=x), [[1, 2], [1, 2, 3]], [[1], []]),
        ("lengths", lambda x: bits_per_byte([1.0], [x]), [1], [0, -1, 0.5]),
        ("nats", lambda x: bits_per_byte([x], [1]), [0.0, TINY], [-TINY, -0.5, math.inf]),
        ("full_dtype", lambda x: ForwardCache(CONFIG, full_dtype=x), ["float16"], ["int32"]),
        ("ladder", lambda x: ForwardCache(CONFIG, x), [(16, 8), (16, 2)], [(16, 5), (16, 9)]),
        (
            "width",
            lambda x: ForwardCache(CONFIG, x, codec="grid"),
            [(16, 8), (16, 2)],
            [(16, 1), (16, 3)],
        ),
        ("chunk", lambda x: ForwardCache(CONFIG, chunk=x), [1], [0]),
        ("sink", lambda x: ForwardCache(CONFIG, sink=x), [0], [-1]),
    ],
)  # fmt: skip
def test_the_last_that_is_accepted_and_the_first_that_is_not(name, call, inside, outside):
    accepts_and_refuses(call, inside, outside, f"^{name} must ")


@pytest.mark.parametrize(
    ("function", "call", "defaults"),
    [
        (
            ModelConfig,
            lambda: ModelConfig(vocabulary=9).head_dim,
            {
                "layers": 2, "width": 64, "heads": 4, "key_heads": 2, "hidden": 176,
                "theta": 10_000.0, "learned": False, "block": 16,
            },
        ),
        (bd.parameters, lambda: bd.parameters(CONFIG), {"tied": False}),
        (bd.weight_flops, lambda: bd.weight_flops(CONFIG, 1), {"predicted": 1}),
        (bd.attention_flops, lambda: bd.attention_flops(CONFIG, 1), {"density": 1.0, "before": 0}),
        (bd.cache_bytes, lambda: bd.cache_bytes(CONFIG, 1), {"bits": 16.0}),
        (
            bd.Serving,
            lambda: bd.Serving(size=1),
            {
                "bytes_per_token": 4.0, "batch": 1, "weight_bits": 16.0, "cache_bits": 16.0,
                "density": 1.0,
            },
        ),
        (
            bd.with_methods,
            lambda: bd.with_methods(CONFIG, bd.Serving(size=1), bd.METHODS),
            {
                "fewer_tokens": 0.0, "free_heads": 0.5, "strength": 4.0, "bound": 50.0,
                "eps": 1e-3, "density": 0.25, "cache_bits": 3.0,
            },
        ),
        (ft.student_interval, lambda: ft.student_interval(Z), {"level": 0.95}),
        (ForwardCache, lambda: ForwardCache(CONFIG).nbytes(), {"chunk": 32, "sink": 4}),
        (next_probabilities, lambda: next_probabilities(Z), {"temperature": 1.0}),
        (generation.continued, lambda: continued(1), {"temperature": 1.0}),
    ],
)  # fmt: skip
@pytest.mark.restates
def test_what_is_assumed(function, call, defaults):
    call()
    assert numbers_assumed(function) == defaults


def test_machines_are_those_of_the_data_sheets():
    """GFLOP/s at 16 bits without sparsity, GB/s and GB, as NVIDIA prints them for SXM."""
    sheets = {"H100": (989_400, 3350, 80), "A100": (312_000, 2039, 80), "laptop": (1000, 100, 32)}
    assert bd.MACHINES.keys() == sheets.keys()
    for name, sheet in sheets.items():
        machine = bd.MACHINES[name]
        bd.roofline_seconds(1.0, 1.0, machine)
        assert machine == bd.Machine(*(1e9 * giga for giga in sheet))
    assert inspect.signature(bd.Serving).parameters["machine"].default is bd.MACHINES["H100"]


# ------------------------------------------------------------------ small and exact


def test_each_head_is_cut_at_the_window_of_its_slope():
    """Two heads of which one is free: windows by the formula of the summed bound."""
    far = math.log1p(math.exp(2 * 3.0 + math.log(0.9 / 0.1)))
    window = math.ceil(far / 2.0)
    seen = sum(q - k < window for q in range(99) for k in range(q + 1)) / (99 * 100 / 2)
    found = bd.with_methods(
        CONFIG, bd.Serving(size=99, bytes_per_token=1.0), {"positions"},
        strength=2.0, bound=3.0, eps=0.1,
    )  # fmt: skip
    assert found.density == pytest.approx((seen + 1) / 2)
    narrow = bd.with_methods(
        CONFIG, bd.Serving(size=99, bytes_per_token=1.0, density=0.2), {"positions"},
        strength=2.0, bound=3.0, eps=0.1,
    )  # fmt: skip
    assert narrow.density == 0.2
    assert found.machine is bd.MACHINES["H100"]


def test_machines_needed_are_whole():
    budget = bd.Budget(1, 60e9, 20e9, 0.0, 0.0, 0.0, 0.0)
    for memory, count in ((80e9, 1), (79e9, 2), (40e9, 2), (39e9, 3)):
        assert budget.machines(bd.Machine(1, 1, memory)) == count


def test_a_token_is_drawn_where_the_sum_passes_the_number_and_the_last_if_none_does():
    class Fixed:
        def __init__(self, *numbers):
            self.numbers = np.array(numbers)

        def random(self, size):
            assert size == len(self.numbers)
            return self.numbers

    p = [[0.25, 0.0, 0.75, 0.0]] * 5
    assert drawn(p, Fixed(0.0, 0.249, 0.25, 0.5, 0.999)) == [0, 0, 2, 2, 2]
    short = [[0.25, 0.0, 0.5, 0.0], [0.0, 0.5, 0.0, 0.0], [0.1, 0.2, 0.3, 0.3]]  # sums below 1
    assert drawn(short, Fixed(0.9, 0.9, 0.99)) == [2, 1, 3]


def test_cuts_by_count_and_by_share_at_their_ties():
    p = np.array([0.5, 0.25, 0.125, 0.125])
    z = np.log(p)
    for share, kept in ((0.5, 1), (0.5 + TINY, 2), (0.75, 2), (0.76, 3), (0.875, 3), (1.0, 4)):
        expected = np.where(np.arange(4) < kept, p, 0) / p[:kept].sum()
        np.testing.assert_allclose(next_probabilities(z, top_p=share), expected, rtol=1e-12)
        np.testing.assert_allclose(next_probabilities(z, top_k=kept), expected, rtol=1e-12)
    both = next_probabilities(np.stack([z, z[::-1]]), top_p=0.9, top_k=2)
    np.testing.assert_allclose(both, [[2 / 3, 1 / 3, 0, 0], [0, 0, 1 / 3, 2 / 3]], rtol=1e-12)
    cold = next_probabilities([[0.0, 3.0], [5.0, 1.0]], temperature=0)
    assert cold.tolist() == [[0, 1], [1, 0]]
    warm = next_probabilities([0.0, math.log(4.0)], temperature=2)
    np.testing.assert_allclose(warm, [1 / 3, 2 / 3])
    assert np.isfinite(next_probabilities([0.0, 1e6])).all()
    assert generation.divergence([1.0, 0.0], [0.25, 0.75]) == 2.0
    assert generation.divergence([0.5, 0.5], [0.5, 0.5]) == 0.0


def test_a_model_of_nothing_has_weights_of_unit_gain():
    """Norms are 1; a matrix keeps the size of what it is given: its rows have length about 1."""
    wide = ModelConfig(vocabulary=300, width=64, hidden=96, positions="alibi", learned=True)
    for name, w in Forward.random(wide, rng()).weights.items():
        if w.ndim == 1:
            assert (w == 1).all(), name
        else:
            assert w.std() * w.shape[1] ** 0.5 == pytest.approx(1, abs=0.06), name
    again = Forward.random(wide, rng())
    np.testing.assert_array_equal(
        again.weights["embedding"], Forward.random(wide, rng()).weights["embedding"]
    )
    assert "_slopes" not in repr(again)


def test_a_norm_divides_by_the_root_mean_square_and_a_millionth():
    x = np.array([[3.0, 4.0], [0.0, 0.0], [1e-3, -1e-3]], dtype=np.float32)
    found = forward._norm(x, np.array([1.0, 2.0], dtype=np.float32))
    np.testing.assert_allclose(found[0], [3 / 12.5**0.5, 8 / 12.5**0.5], rtol=1e-6)
    np.testing.assert_allclose(found[1:], [[0, 0], [0.5**0.5, -(2**0.5)]], rtol=1e-6)


def test_learned_slopes_are_softplus_and_others_have_their_law():
    learned = ModelConfig(
        vocabulary=9, width=8, heads=2, key_heads=1, hidden=4, positions="alibi", learned=True
    )
    raw = np.array([0.0, -2.0], dtype=np.float32)
    weights = dict(Forward.random(learned, rng()).weights)
    weights["layers.1.bias.strengths.raw"] = raw
    model = Forward(learned, weights)
    np.testing.assert_allclose(model._slopes[1], np.log1p(np.exp(raw.astype(float))))
    np.testing.assert_allclose(model._slopes[0], np.log1p(np.e))
    assert Forward.random(CONFIG, rng())._slopes == [None]
    other = ModelConfig(vocabulary=9, positions="rope+harmonic", slopes=3.0)
    found = Forward.random(other, rng())._slopes[0]
    np.testing.assert_allclose(found, 3.0 / np.arange(1, 5) / (1 / np.arange(1, 5)).sum())
    alibi = ModelConfig(vocabulary=9, positions="rope+alibi")
    np.testing.assert_allclose(Forward.random(alibi, rng())._slopes[0], 4.0 ** -np.arange(1, 5))
    missing = {n: w for n, w in weights.items() if "raw" not in n}
    with pytest.raises(ValueError, match=r"got others: \['layers.0.bias.strengths.raw', "):
        Forward(learned, missing)
    with pytest.raises(ValueError, match=r"got others: \['more'\]"):
        Forward(learned, weights | {"more": raw})
    with pytest.raises(ValueError, match=r"got others: \['norm.weight'\]"):
        Forward(learned, weights | {"norm.weight": raw})


def test_blocks_that_are_drawn_by_hand():
    pi = inclusion_by_pair(5, 12.5 / 15)
    lower = np.tril(np.ones((5, 5)))
    sure = lower.astype(bool) & ((np.arange(5) < 1) | (np.subtract.outer(range(5), range(5)) <= 1))
    assert (pi[sure] == 1).all()
    assert (pi[lower == 0] == 0).all()
    assert pi.sum() == pytest.approx(12.5)  # 12 pairs are sure; 2 of distance 2 and one of 3
    assert pi[3, 1] == pi[4, 2] == pytest.approx(pi[4, 1] * (1 / 3) / (1 / 4))
    blocks = DrawnBlocks(2, np.log(np.array([[[[1.0, 1.0], [0.5, 1.0]]]])))
    assert blocks.kept(0, 0, 1).tolist() == [True]
    assert blocks.kept(0, 0, 2).tolist() == [True, True]
    found = np.exp(blocks.between(0, 2, 3))  # tokens 1 and 2, of blocks 0 and 1
    assert found.tolist() == [[[1.0, 1.0, 1.0], [0.5, 0.5, 1.0]]]
    blocks.between(0, 1, 4)
    with pytest.raises(ValueError, match="tokens must be at most 4"):
        blocks.between(0, 1, 5)


def test_weights_of_drawn_blocks_are_one_over_their_probability():
    shape = ModelConfig(vocabulary=9, layers=2, width=16, heads=4, block=2)
    pi = inclusion_by_pair(8, 0.8)
    found = DrawnBlocks.draw(shape, 15, 0.8, rng())
    assert (found.block, found.log_weights.shape) == (2, (2, 4, 8, 8))
    kept = np.isfinite(found.log_weights)
    for weights in found.log_weights.reshape(-1, 8, 8):
        seen = np.isfinite(weights)
        np.testing.assert_allclose(weights[seen], -np.log(pi[seen]))
    for heads in kept.reshape(-1, 8, 8):
        distances = {i - j for i, j in zip(*np.nonzero(heads), strict=True) if j > 0}
        wanted = [[i - j in distances or j == 0 for j in range(i + 1)] for i in range(8)]
        for i in range(8):
            assert heads[i, : i + 1].tolist() == wanted[i]


def test_files_of_weights_that_are_none(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": np.ones((2, 3), np.float16), "b": np.arange(2.0)}, path, {"format": "x"})
    found, metadata = forward.read_safetensors(path)
    assert metadata == {"format": "x"}
    assert found["a"].tolist() == [[1, 1, 1]] * 2
    assert found["b"].tolist() == [0, 1]
    assert found["b"].dtype == np.float32
    with pytest.raises(ValueError, match="must have the format genopt-model-1, got x"):
        Forward.load(path)
    for torn in (b"", path.read_bytes()[:40], path.read_bytes()[:-1]):
        path.write_bytes(torn)
        with pytest.raises(ValueError, match="is torn or not a safetensors file of floats"):
            forward.read_safetensors(path)
    with pytest.raises(FileNotFoundError, match="there is no file at"):
        forward.read_safetensors(tmp_path / "none")
    content = {"config": CONFIG.to_json(), "tokenizer": ""}
    save_file(dict(MODEL.weights), path, {"format": forward.FORMAT, "content": json.dumps(content)})
    loaded = Forward.load(path)
    assert (loaded.config, loaded.tokenizer) == (CONFIG, "")
    np.testing.assert_array_equal(loaded.logits([1, 2]), MODEL.logits([1, 2]))
    with pytest.raises(ValueError, match=r"of digest none, got abababababab$"):
        Forward.load(path, "ab" * 32)


def test_an_interval_by_hand():
    """Three values: Student's t with two degrees is 4.3027 at 95 %."""
    found = ft.student_interval([1.0, 2.0, 3.0])
    assert found.half == pytest.approx(4.302652729911275 / 3**0.5, rel=1e-9)
    assert found.mean == 2.0
    assert ft.student_interval([1.0, 2.0, 3.0], 0.5).half == pytest.approx(
        0.816496580927726 / 3**0.5
    )
    assert math.isnan(ft.student_interval([2.0]).p)
    assert ft.student_p(1e9, 3) == pytest.approx(0.0, abs=1e-15)
    assert ft.student_p(0.0, 3) == 1.0


def test_lengths_of_nothing_cost_nothing():
    assert bits_per_byte([math.log(2), 5.0], [2, 0]) == 0.5
    assert bits_per_byte([math.log(2), math.inf], [1, 0]) == 1.0


def test_a_cache_of_another_model_is_refused():
    two = ModelConfig(vocabulary=9, layers=2, width=8, heads=2, key_heads=2, hidden=4)
    full = ForwardCache(two)
    Forward.random(two, rng()).logits([1, 2, 3], full)
    for other in (CONFIG, ModelConfig(vocabulary=9, layers=2, width=8, heads=2, key_heads=1)):
        with pytest.raises(ValueError, match="zip"):
            ForwardCache(other).take(full)
    with pytest.raises(ValueError, match="zip"):
        MODEL.logits([1], ForwardCache(two))
    same = ForwardCache(two)
    same.take(full)
    assert (same.tokens, same.nbytes()) == (3, full.nbytes())


def test_a_cache_that_loses_nothing_is_assumed():
    assert ForwardCache(CONFIG).stairs[0][0].ladder == (16,)
    cache = ForwardCache(CONFIG)
    MODEL.logits([1, 2, 3], cache)
    assert cache.nbytes() == bd.cache_bytes(CONFIG, 3, bits=32)
    assert cache.full_dtype == np.float32


def test_chunks_are_restored_once_and_a_copy_restores_its_own(monkeypatch):
    shape = ModelConfig(vocabulary=9, layers=1, width=16, heads=2, key_heads=1, hidden=4)
    model = Forward.random(shape, rng())
    cache = ForwardCache(shape, (16, 4), chunk=4, sink=1)
    seen, restore = [], forward._Stairs._sides
    monkeypatch.setattr(
        forward._Stairs, "_sides", lambda self: [Spy(s, seen) for s in restore(self)]
    )
    model.logits(np.arange(9), cache)
    for step in range(6):
        model.logits([step], cache)
    assert len(seen) == len(set(seen)) == 2 * 3  # keys and values of three closed chunks
    other = copy.deepcopy(cache)
    np.testing.assert_array_equal(model.logits([1], cache), model.logits([1], other))
    assert len(seen) == 4 * 3


class Spy:
    """One side of a cache that says which of its chunks were restored."""

    def __init__(self, side, seen):
        self.__dict__.update(side=side, seen=seen)

    def __getattr__(self, name):
        return getattr(self.side, name)

    def __setattr__(self, name, value):
        setattr(self.side, name, value)

    def restore(self, chunk):
        self.seen.append(id(chunk))
        return self.side.restore(chunk)
