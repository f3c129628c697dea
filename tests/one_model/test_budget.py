"""Budgets on paper against counting, trained weights and the numbers that were published."""

import itertools
import math

import numpy as np
import pytest

from genopt_core.one_model import Forward, ForwardCache, ModelConfig
from genopt_core.one_model import budget as bd
from genopt_core.positions import bias_by_distance, skippable

SMALL = ModelConfig(vocabulary=11, layers=3, width=12, heads=6, key_heads=2, hidden=5)
# Totals of the files of weights, as their publishers print them.
TOTALS = {
    "Llama-2-7B": 6_738_415_616,
    "Mistral-7B": 7_241_732_096,
    "Qwen2.5-7B": 7_615_616_512,
    "Llama-3-8B": 8_030_261_248,
    "Qwen2.5-32B": 32_763_876_352,
    "Llama-3-70B": 70_553_706_496,
}


def matrices(c):
    """Shapes (out, in) of the matrices of one layer, written down one by one."""
    dim = c.width // c.heads
    return [
        (c.heads * dim, c.width),
        (c.key_heads * dim, c.width),
        (c.key_heads * dim, c.width),
        (c.width, c.heads * dim),
        (c.hidden, c.width),
        (c.hidden, c.width),
        (c.width, c.hidden),
    ]


@pytest.mark.parametrize("name", bd.PUBLISHED)
def test_parameters_are_those_of_the_published_weights(name):
    c = bd.PUBLISHED[name]
    biases = c.layers * (c.width + 2 * c.key_heads * c.head_dim)  # Qwen's alone
    assert bd.parameters(c) + name.startswith("Qwen") * biases == TOTALS[name]


def test_parameters_are_those_of_the_decoder_that_is_trained():
    weights = Forward.random(SMALL, np.random.default_rng(0)).weights
    assert bd.parameters(SMALL, tied=True) == sum(w.size for w in weights.values())


@pytest.mark.parametrize(("tokens", "predicted"), [(0, 0), (1, 1), (7, 1), (4, 4)])
def test_weight_flops_by_counting_products(tokens, predicted):
    products = 0
    for _ in range(tokens):
        for _ in range(SMALL.layers):
            products += sum(rows * columns for rows, columns in matrices(SMALL))
    products += predicted * SMALL.vocabulary * SMALL.width
    assert bd.weight_flops(SMALL, tokens, predicted=predicted) == 2 * products


@pytest.mark.parametrize(("tokens", "before"), [(0, 3), (1, 0), (5, 0), (1, 9), (4, 6)])
def test_attention_flops_by_counting_pairs(tokens, before):
    products = 0
    for _, _, query in itertools.product(range(SMALL.layers), range(SMALL.heads), range(tokens)):
        for _ in range(before + query + 1):
            products += 2 * SMALL.head_dim  # a score, and a value times its weight
    assert bd.attention_flops(SMALL, tokens, before=before) == 2 * products
    assert bd.attention_flops(SMALL, tokens, before=before, density=0.25) == products / 2


@pytest.mark.parametrize("tokens", [1, 9, 64])
def test_cache_bytes_are_those_of_a_cache_that_is_filled(tokens):
    shape = ModelConfig(vocabulary=11, layers=3, width=32, heads=4, key_heads=2, hidden=5)
    cache = ForwardCache(shape)
    Forward.random(shape, np.random.default_rng(0)).logits(np.zeros(tokens, int), cache)
    each = cache.nbytes() / (2 * shape.layers * shape.key_heads * shape.head_dim * tokens)
    assert bd.cache_bytes(shape, tokens, bits=8 * each) == cache.nbytes()
    stored = sum(
        a.size for layer in cache.stairs for head in layer for a in (head.keys, head.values)
    )
    assert bd.cache_bytes(shape, tokens) == 2 * stored


def test_tokens_of_a_text_cover_it():
    for size, each in itertools.product((0, 1, 999, 1000), (1.0, 3.7, 1000.0)):
        tokens = bd.text_tokens(size, each)
        assert tokens * each >= size
        assert size == 0 or (tokens - 1) * each < size


def test_a_roofline_is_the_longer_of_two_times():
    machine = bd.Machine(rate=10.0, bandwidth=2.0, memory=1.0)
    assert bd.roofline_seconds(100.0, 2.0, machine) == 10.0
    assert bd.roofline_seconds(1.0, 8.0, machine) == 4.0
    assert bd.roofline_seconds(0.0, 0.0, machine) == 0.0


@pytest.mark.parametrize("eps", [0.3, 1e-3])
@pytest.mark.parametrize("bound", [0.0, 0.7, 4.0])
def test_windows_are_those_that_the_summed_bound_says(bound, eps):
    """Against sums over a long table; the text without end of the formula is as long."""
    m = np.array([2.0, 0.5, 0.25])
    table = -m[:, None] * np.arange(2000)
    # the bound's worst case: every far score is +c, every near one -c
    found = []
    for row in table:
        far = np.exp(row + bound)[::-1].cumsum()[::-1]
        near = np.concatenate([[0.0], np.exp(row - bound).cumsum()[:-1]])
        found.append(int(np.argmax(far / (far + near) <= eps)))
    assert bd.bias_window(m, bound, eps).tolist() == found
    long = bias_by_distance(m, 2000)
    assert skippable(long, bound, 1.0, 1, eps).tolist() == found


def test_a_head_without_a_bias_skips_nothing():
    assert bd.bias_window([0.0], 1.0, 0.5).tolist() == [math.inf]
    assert bd.window_density([math.inf], 100) == 1.0


@pytest.mark.parametrize("tokens", [1, 5, 12])
def test_density_of_windows_by_counting_pairs(tokens):
    windows = [1, 3, 40]
    seen = sum(q - k < w for w in windows for q in range(tokens) for k in range(q + 1))
    every = len(windows) * tokens * (tokens + 1) / 2
    assert bd.window_density(windows, tokens) == pytest.approx(seen / every)


def test_a_budget_is_made_of_its_parts():
    config, machine = bd.PUBLISHED["Qwen2.5-7B"], bd.MACHINES["A100"]
    serving = bd.Serving(size=10**6, batch=3, weight_bits=8, density=0.5, machine=machine)
    found = bd.budget_of(config, serving)
    assert found.tokens == 250_000
    assert found.weight_bytes == TOTALS["Qwen2.5-7B"] - 28 * (3584 + 2 * 512)  # without biases
    flops = 3 * (2 * 250_000 * 28 * sum(a * b for a, b in matrices(config)) + 2 * 152_064 * 3584)
    assert found.weight_flops == flops
    pairs = 250_000 * 250_001 / 2
    assert found.attention_flops == pytest.approx(3 * 0.5 * 4 * 28 * 3584 * pairs)
    total = found.weight_flops + found.attention_flops
    assert found.prefill_seconds == pytest.approx(total / 312e12)  # arithmetic is the longer part
    moved = found.weight_bytes + found.cache_bytes
    assert found.step_seconds == pytest.approx(moved / 2.039e12)  # memory is
    assert found.machines(machine) == math.ceil(moved / 80e9)


def test_each_method_changes_its_own_part_only():
    config, base = bd.PUBLISHED["Llama-3-8B"], bd.Serving(size=400_000)
    options = {"fewer_tokens": 0.1, "cache_bits": 2.5, "density": 0.125}
    alone = {m: bd.with_methods(config, base, {m}, **options) for m in bd.METHODS}
    assert alone["settings"] == base == bd.with_methods(config, base, ())
    assert alone["tokenizer"].bytes_per_token == pytest.approx(4 / 0.9)
    assert alone["cache"].cache_bits == 2.5
    assert alone["attention"].density == 0.125
    assert 0.5 < alone["positions"].density < 0.51  # half of the heads see everything
    together = bd.with_methods(config, base, bd.METHODS, **options)
    assert together.density == 0.125  # the smaller share, not the product
    narrow = bd.with_methods(config, base, {"positions"}, free_heads=0.0)
    assert narrow.density < 0.01


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: bd.weight_flops(SMALL, -1), "tokens must be at least 0, got -1"),
        (lambda: bd.attention_flops(SMALL, 5, density=0.0), r"density must be in \(0, 1\], got 0"),
        (lambda: bd.cache_bytes(SMALL, 5, bits=0), "bits must be positive, got 0"),
        (lambda: bd.text_tokens(5, 0.0), "bytes_per_token must be positive, got 0.0"),
        (lambda: bd.roofline_seconds(-1, 0, bd.MACHINES["H100"]), "flops must be at least 0"),
        (lambda: bd.Machine(1.0, 0.0, 1.0), "bandwidth must be positive, got 0.0"),
        (lambda: bd.bias_window([-1.0], 1.0, 0.1), "strengths must be finite and not negative"),
        (lambda: bd.bias_window([1.0], -1.0, 0.1), "bound must be at least 0, got -1.0"),
        (lambda: bd.bias_window([1.0], 1.0, 1.0), r"eps must be in \(0, 1\), got 1.0"),
        (lambda: bd.window_density([], 5), "windows must be at least 1 each"),
        (lambda: bd.Serving(size=5, cache_bits=-1), "cache_bits must be positive, got -1"),
        (
            lambda: bd.with_methods(SMALL, bd.Serving(size=5), {"luck"}),
            r"methods must be among tokenizer, .*, got \['luck'\]",
        ),
        (
            lambda: bd.with_methods(SMALL, bd.Serving(size=5), {"tokenizer"}, fewer_tokens=1),
            r"fewer_tokens must be in \[0, 1\), got 1",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(call, says):
    with pytest.raises(ValueError, match=says):
        call()
