"""Ladders, memory, the staircase cache of one head, and bits by age: genopt_core.kvcache."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.kvcache import Kivi, real

from genopt_core import kvcache as kv

LADDERS = st.lists(st.sampled_from([16, 8, 7, 6, 5, 4, 3, 2, 1]), max_size=5).map(
    lambda rest: (16, *sorted(rest, reverse=True))
)


def stream(tokens, dim=32, seed=5, dtype=np.float16):
    rng = np.random.default_rng(seed)
    return tuple((rng.normal(size=(tokens, dim)) * 3).astype(dtype) for _ in range(3))


# ------------------------------------------------------------------ an independent KIVI


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_two_stairs_are_kivi_bit_for_bit(bits):
    k, v, _ = stream(75)
    reference = Kivi(bits, group=8, residual=16)
    cache = kv.Staircase((16, bits), chunk=16, group_size=8, values="window")
    for t in range(len(k)):
        reference.decode(k[t], v[t])
        cache.append(k[t : t + 1], v[t : t + 1])
        for ours, closed, open_ in (
            (cache.keys, reference.keys, reference.new_keys),
            (cache.values, reference.values, reference.new_values),
        ):
            expected = np.array([*closed, *open_], np.float32)
            np.testing.assert_array_equal(ours.astype(np.float32), expected)


# ------------------------------------------------------------------ the paper, literally


def literal_saq(tokens, ladder, chunk, quantize, step):
    """Algorithm Q-1 with the paper's own tests and slices; returns widths and chunks."""
    q_n = len(ladder)
    packed, residual = [], []  # (chunk, bits), oldest first
    for token in tokens:
        residual.append(token)
        if len(residual) != chunk:
            continue
        new = (quantize(np.array(residual), ladder[1]), ladder[1])
        s_n = len(packed)
        done = []
        for i in range(1, (s_n if s_n <= q_n - 2 else q_n - 2) + 1):
            held, bits = packed[-i]
            assert bits == ladder[i]  # dequantized at B_{i+1} ...
            done.insert(0, (step(held, bits, ladder[i + 1]), ladder[i + 1]))  # ... at B_{i+2}
        tail = [] if s_n <= q_n - 2 else packed[: s_n - (q_n - 2)]
        assert all(bits == ladder[-1] for _, bits in tail)
        packed, residual = [*tail, *done, new], []
    return packed, residual


@settings(max_examples=40, deadline=None)
@given(ladder=LADDERS.filter(lambda x: len(x) > 1 and x[1] < 16), tokens=st.integers(1, 60))
def test_staircase_follows_the_paper(ladder, tokens):
    k, v, _ = stream(tokens, dim=8)
    cache = kv.Staircase(ladder, chunk=4, group_size=4)
    cache.append(k, v)
    codec = kv.GridCodec("key", 4)
    packed, residual = literal_saq(
        k, ladder, 4, codec.encode, lambda held, _, to: codec.step(held, to)
    )
    expected = [codec.decode(held) for held, _ in packed] + [np.array(residual).reshape(-1, 8)]
    np.testing.assert_array_equal(cache.keys, np.concatenate(expected).astype(np.float32))
    widths = [stair.bits for stair in cache.stairs() for _ in range(stair.first, stair.last, 4)]
    assert widths[: len(packed)] == [bits for _, bits in packed]


@settings(max_examples=60, deadline=None)
@given(
    ladder=LADDERS,
    values=st.none() | LADDERS,
    tokens=st.integers(1, 70),
    sink=st.integers(0, 5),
    chunk=st.sampled_from([4, 8, 16]),
)
def test_bytes_and_stairs_are_those_of_the_formula(ladder, values, tokens, sink, chunk):
    k, v, _ = stream(tokens, dim=16)
    cache = kv.Staircase(ladder, value_ladder=values, chunk=chunk, sink=sink, group_size=4)
    cache.append(k, v)
    assert cache.nbytes() == cache.expected_bytes()
    assert cache.stairs() == kv.stairs_by_age(tokens, ladder, chunk, sink=sink)
    assert cache.stairs("value") == kv.stairs_by_age(tokens, values or ladder, chunk, sink=sink)
    assert len(cache) == len(cache.keys) == len(cache.values) == tokens
    np.testing.assert_array_equal(cache.keys[:sink], k[:sink])
    newest = cache.stairs()[-1]
    if newest.bits == 16:
        np.testing.assert_array_equal(cache.keys[newest.first :], k[newest.first :])


@settings(deadline=None)
@given(ladder=LADDERS, tokens=st.integers(0, 300), sink=st.integers(0, 9))
def test_memory_formula_is_the_sum_over_tokens(ladder, tokens, sink):
    """Against counting every token, with metadata on quantized ones."""
    total = 0.0
    kept = min(sink, tokens)
    residual = (tokens - kept) % 16
    for t in range(tokens):
        age = 0 if t < kept or t >= tokens - residual else (tokens - residual - 1 - t) // 16 + 1
        width = 16 if t < kept else kv.width_at(age, ladder)
        total += width + (0.75 if width < 16 else 0)
    assert kv.cache_bits(tokens, ladder, 16, metadata=0.75, sink=sink) == pytest.approx(total)


@settings(deadline=None)
@given(ladder=LADDERS, tokens=st.integers(0, 200), more=st.integers(0, 60), sink=st.integers(0, 5))
def test_changed_chunks_are_those_whose_tokens_have_another_width(ladder, tokens, more, sink):
    def widths(length):
        return [
            stair.bits
            for stair in kv.stairs_by_age(length, ladder, 4, sink=sink)
            for _ in range(stair.first, stair.last)
        ]

    later = widths(tokens + more)
    before = widths(tokens) + [16] * more  # new tokens come in full precision
    changed = {(t - sink) // 4 for t in range(sink, len(later)) if before[t] != later[t]}
    assert kv.changed_chunks(tokens, tokens + more, ladder, 4, sink=sink) == len(changed)


@settings(deadline=None)
@given(keys=LADDERS, values=LADDERS, tokens=st.integers(1, 120), sink=st.integers(0, 5))
def test_bits_of_a_design_are_those_held(keys, values, tokens, sink):
    k, v, _ = stream(tokens, dim=16)
    cache = kv.Staircase(keys, value_ladder=values, chunk=8, sink=sink, group_size=4)
    cache.append(k, v)
    designed = kv.design_bits(
        keys, values, tokens, 8, key_metadata=8.0, value_metadata=8.0, sink=sink
    )
    assert designed == pytest.approx(cache.bits_per_element())


def test_ladders_are_written_and_read():
    for ladder in ((16,), (16, 8, 4, 2), (4, 3, 2)):
        assert kv.parse_ladder(kv.format_ladder(ladder)) == ladder
        if ladder[0] == 16:
            assert kv.check_ladder(kv.format_ladder(ladder)) == kv.check_ladder(ladder) == ladder


@pytest.mark.parametrize(
    ("ladder", "mean"), [((16, 2), 2.401), ((16, 8, 4, 2), 3.265), ((16, 4, 2), 2.617)]
)
def test_memory_formula_on_published_numbers(ladder, mean):
    assert kv.cache_bits(593, ladder, 64) / 593 == pytest.approx(mean, abs=5e-4)


@settings(deadline=None)
@given(ladder=LADDERS)
def test_memory_tends_to_its_limit(ladder):
    limit = kv.limit_bits(ladder, ladder, key_metadata=1, value_metadata=1)
    long = kv.cache_bits(10**8, ladder, 128, metadata=1, sink=4) / 10**8
    assert long == pytest.approx(limit, rel=1e-3)


# ------------------------------------------------------------------ what else the cache promises


@pytest.mark.parametrize("values", ["flush", "window"])
@pytest.mark.parametrize("codec", ["grid", "rotated"])
def test_lossless_ladder_is_exact_attention(codec, values):
    k, v, q = stream(50)
    cache = kv.Staircase((16,), chunk=8, sink=2, codec=codec, group_size=8, values=values)
    outputs = cache.append(k, v, q)
    for t in range(50):
        score = q[t].astype(float) @ k[: t + 1].astype(float).T / np.sqrt(32)
        weight = np.exp(score - score.max())
        np.testing.assert_allclose(outputs[t], weight @ v[: t + 1] / weight.sum(), rtol=1e-9)
    np.testing.assert_array_equal(cache.keys, k)


@pytest.mark.parametrize("values", ["flush", "window"])
@pytest.mark.parametrize("sink", [0, 3])
@pytest.mark.parametrize("ladder", [(16, 8, 4, 2), (16, 2), (16, 8), (16, 4, 4, 2, 1)])
def test_prefill_gives_nested_ladders_the_same_codes(ladder, sink, values):
    k, v, _ = stream(70, dtype=np.float32)
    for meta, share in ((np.float32, 0.0), (np.float16, 0.01)):
        options = {"chunk": 8, "sink": sink, "group_size": 8, "values": values}
        one, two = (kv.Staircase(ladder, meta_dtype=meta, **options) for _ in range(2))
        one.append(k, v)
        two.prefill(k, v)
        for side in ("key", "value"):
            assert one.stairs(side) == two.stairs(side)
        # with float16 steps, rounded at another width, a number near a threshold may go over
        for a, b in ((one.keys, two.keys), (one.values, two.values)):
            assert (np.abs(a - b) > 0.05).mean() <= share
    two.append(k[:30], v[:30])
    assert len(two) == 100
    with pytest.raises(ValueError, match="empty"):
        two.prefill(k, v)


def test_window_values_have_the_width_of_their_age():
    k, v, _ = stream(60)
    ladder = (16, 8, 4, 2)
    cache = kv.Staircase(ladder, chunk=8, group_size=8, values="window")
    for t in range(60):
        cache.append(k[t : t + 1], v[t : t + 1])
        held = [bits for first, last, bits in cache.stairs("value") for _ in range(first, last)]
        assert held == [ladder[min(3, age // 8)] for age in range(t, -1, -1)]


def test_error_grows_down_the_stairs_and_sinks_stay():
    k, v = (real(side)[1, 0].astype(np.float16) for side in "KV")
    cache = kv.Staircase((16, 8, 4, 2), chunk=64, sink=4, codec="rotated")
    cache.append(k, v)
    error = {}
    for first, last, bits in cache.stairs():
        part = slice(first, last)
        exact = k[part].astype(float)
        error[bits] = np.linalg.norm(cache.keys[part] - exact) / np.linalg.norm(exact)
    assert error[16] == 0
    assert 0 < error[8] < error[4] / 3 < error[2] / 9


def test_saq_plus_beats_kivi_on_real_attention_at_fewer_bits():
    """Layers 12 and 27 of SmolLM2, the last query: bar 1 of the chapter in small."""
    total = {}
    limits = {}
    for name, options in {
        "kivi": {"ladder": (16, 2), "codec": "grid", "values": "window"},
        "saq": {"ladder": (16, 8, 4, 2), "codec": "grid"},
        "saq+": {"ladder": (16, 8, 4, 2), "codec": "rotated", "sink": 4},
    }.items():
        error = []
        for layer, head in itertools.product((1, 2), range(3)):
            k, v = (real(side)[layer, head, -498:].astype(np.float16) for side in "KV")
            k[:4], v[:4] = (real(side)[layer, head, :4] for side in "KV")  # the real sinks
            cache = kv.Staircase(chunk=32, **options)
            cache.prefill(k, v)
            q = real("Q")[layer, 3 * head : 3 * head + 3, -1]
            exact = kv.attend(q, k, v)[0]
            error.append(np.linalg.norm(cache.attend(q) - exact) / np.linalg.norm(exact))
        total[name] = np.mean(error)
        meta = [
            kv.metadata_bits(options["codec"], side, dim=64, chunk=32) for side in ("key", "value")
        ]
        ladder = options["ladder"]
        limits[name] = kv.limit_bits(ladder, ladder, key_metadata=meta[0], value_metadata=meta[1])
    assert limits["saq+"] < limits["kivi"] == limits["saq"]
    assert total["saq+"] < 0.6 * total["kivi"]
    assert total["saq+"] < total["saq"]


def test_channels_and_tokens_as_the_chapter_says():
    """Keys have outlier channels; V per channel has less error and worse attention."""
    k, v = real("K")[1:], real("V")[1:]

    def outliers(x):
        size = np.abs(x).mean(-2)
        return (size.max(-1) / np.median(size, -1)).mean()

    assert outliers(k) > 2 * outliers(v)

    def error(x, per):
        back = kv.dequantize_groups(*kv.quantize_groups(x, 2, 32, per=per), per=per)
        return np.linalg.norm(back - x) / np.linalg.norm(x)

    assert error(k, "channel") < 0.5 * error(k, "token")
    assert error(v, "channel") < error(v, "token")


@pytest.mark.parametrize(
    ("word", "options"),
    [
        ("ladder", {"ladder": ()}),
        ("ladder", {"ladder": (8, 4)}),
        ("ladder", {"ladder": (16, 4, 8)}),
        ("ladder", {"ladder": (16, 12)}),
        ("ladder", {"ladder": (16, 0)}),
        ("ladder", {"ladder": (16, 2.5)}),
        ("value_ladder", {"value_ladder": (2,)}),
        ("chunk", {"chunk": 0}),
        ("sink", {"sink": -1}),
        ("codec", {"codec": "zip"}),
        ("values", {"values": "later"}),
    ],
)
def test_cache_refuses_options(word, options):
    with pytest.raises(ValueError, match=word):
        kv.Staircase(**options)


@pytest.mark.parametrize(
    ("word", "options", "shape"),
    [
        ("group_size", {"group_size": 24}, (4, 32)),
        ("group_size", {"group_size": 32}, (4, 48)),
        ("multiple of 8", {"ladder": (16, 3), "group_size": 4}, (4, 4)),
        ("widths", {"ladder": (16, 5), "codec": "rotated"}, (4, 32)),
        ("filled", {}, (0, 32)),
        ("filled", {}, (4, 2, 32)),
    ],
)
def test_cache_refuses_shapes_that_do_not_fit(word, options, shape):
    x = np.zeros(shape, np.float32)
    with pytest.raises(ValueError, match=word):
        kv.Staircase(**options).append(x, x)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("codec", ["grid", "rotated"])
def test_bad_numbers_leave_the_cache_as_it_was(bad, codec):
    k, v, _ = stream(40, dtype=np.float32)
    cache = kv.Staircase(chunk=8, codec=codec, group_size=8)
    cache.append(k, v)
    before = cache.keys.copy()
    k[3, 3] = bad
    with pytest.raises(ValueError, match=r"finite|exceed"):
        cache.append(k, v)
    np.testing.assert_array_equal(cache.keys, before)
    cache.append(v, v)  # and goes on


def test_cache_refuses_what_does_not_continue_it():
    k, v, q = stream(10)
    cache = kv.Staircase(chunk=8, group_size=8)
    for call in (cache.stairs, lambda: cache.keys, lambda: cache.attend(q)):
        with pytest.raises(ValueError, match="empty"):
            call()
    assert len(cache) == cache.nbytes() == 0
    cache.append(k, v)
    for wrong in ((k[:, :8], v), (k.astype(np.float32), v), (k[:5], v)):
        with pytest.raises(ValueError, match=r"continue|as many"):
            cache.append(*wrong)
    with pytest.raises(TypeError, match="floating"):
        cache.append(k.astype(int), v)
    with pytest.raises(ValueError, match="queries"):
        cache.append(k, v, q[:3])
    for call in (
        lambda: kv.width_at(-1, (16, 2)),
        lambda: kv.stairs_by_age(-1, (16, 2), 4),
        lambda: kv.cache_bits(4, (16, 2), 0),
        lambda: kv.metadata_bits("grid", "query", dim=64, chunk=128),
        lambda: kv.metadata_bits("none", "key", dim=64, chunk=128),
    ):
        with pytest.raises(ValueError, match=r"segment|length|chunk|side|codec"):
            call()


# ------------------------------------------------------------------ pieces (kv-softmax)


@settings(deadline=None)
@given(
    seed=st.integers(0, 99), cuts=st.lists(st.integers(0, 20), max_size=4), size=st.floats(0, 60)
)
def test_partials_merge_to_the_whole_softmax(seed, cuts, size):
    rng = np.random.default_rng(seed)
    q, k, v = (size * rng.normal(size=(n, 8)) for n in (3, 20, 20))
    score = q @ k.T / np.sqrt(8)
    p = np.exp(score - score.max(1, keepdims=True))
    expected = p @ v / p.sum(1, keepdims=True)
    at = [0, *sorted(cuts), 20]
    pieces = [(k[a:b], v[a:b]) for a, b in itertools.pairwise(at)]
    np.testing.assert_allclose(kv.attend_segments(q, pieces), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(kv.attend_segments(q, pieces[::-1]), expected, rtol=1e-9, atol=1e-9)


@settings(deadline=None)
@given(seed=st.integers(0, 99), cuts=st.lists(st.integers(0, 20), max_size=4), added=st.booleans())
def test_masked_partials_merge_to_attention_over_what_is_seen(seed, cuts, added):
    rng = np.random.default_rng(seed)
    q, k, v = (rng.normal(size=(n, 8)) for n in (3, 20, 20))
    mask = rng.random((3, 20)) > 0.4
    mask[0] = False  # a query that sees nothing
    laid = np.where(mask, 0.0, -np.inf) if added else mask
    parts = [
        kv.attend(q, k[a:b], v[a:b], scale=0.3, mask=laid[:, a:b])
        for a, b in itertools.pairwise([0, *sorted(cuts), 20])
    ]
    out, lse = kv.merge_partials(parts)
    for i in range(1, 3):
        weight = np.exp(0.3 * q[i] @ k[mask[i]].T)
        np.testing.assert_allclose(out[i], weight @ v[mask[i]] / weight.sum())
        np.testing.assert_allclose(lse[i], np.log(weight.sum()))
    assert not out[0].any()
    assert lse[0] == -np.inf


def test_attention_refuses():
    with pytest.raises(ValueError, match="partials"):
        kv.merge_partials([])
    with pytest.raises(ValueError, match="segments"):
        kv.attend_segments(np.zeros((1, 2)), [])
    with pytest.raises(ValueError, match="query"):
        kv.attend(np.zeros((1, 2)), np.zeros((3, 4)), np.zeros((3, 4)))
    empty = kv.attend(np.zeros((1, 2)), np.zeros((0, 2)), np.zeros((0, 2)))
    out, lse = kv.merge_partials([empty, empty])
    assert not out.any()
    assert lse == -np.inf


# ------------------------------------------------------------------ bits by age (kv-allocation)


@settings(deadline=None)
@given(mass=st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=8), mean=st.floats(-2, 10))
def test_ideal_bits_are_stationary(mass, mean):
    bits = kv.ideal_bits(mass, mean)
    assert bits.mean() == pytest.approx(mean, abs=1e-9)
    slopes = np.array(mass) * 4.0**-bits
    np.testing.assert_allclose(slopes, slopes[0], rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    mass=st.lists(st.integers(0, 1000).map(float), min_size=1, max_size=4),
    widths=st.sampled_from([(1, 2, 4, 8), (2, 3, 4, 8, 16), (2, 4)]),
    extra=st.floats(0, 6),
)
def test_allocation_is_optimal_for_what_it_spends(mass, widths, extra):
    """Brute force: nothing non-increasing that costs no more has less error."""
    budget = widths[0] + extra
    chosen = kv.allocate_widths(mass, budget, widths)
    assert np.mean(chosen) <= budget * (1 + 1e-9)
    assert list(chosen) == sorted(chosen, reverse=True)
    pooled = kv.monotone_mass(mass)

    def error(bits):
        return (pooled * 4.0 ** -np.array(bits)).sum()

    every = itertools.product(sorted(widths, reverse=True), repeat=len(mass))
    falling = [b for b in every if list(b) == sorted(b, reverse=True)]
    best = min(error(b) for b in falling if sum(b) <= sum(chosen))
    largest_step = max(b - a for a, b in itertools.pairwise(sorted(widths)))
    loose = (
        min(error(b) for b in falling if sum(b) <= sum(chosen) - largest_step)
        if any(sum(b) <= sum(chosen) - largest_step for b in falling)
        else np.inf
    )
    # optimal on the hull; between two hull points no worse than with one upgrade less to spend
    assert error(chosen) <= max(best, min(loose, error([widths[0]] * len(mass)))) * (1 + 1e-9)


def test_allocation_follows_a_power_law_by_geometric_stairs():
    age = np.arange(1, 65)
    bits = kv.ideal_bits(age**-2.0, 4.0)
    drops = [bits[i] - bits[2 * i + 1] for i in (0, 1, 3, 7, 15)]
    np.testing.assert_allclose(drops, 1.0)  # one bit for each doubling of age
    decay = kv.ideal_bits(np.exp(-0.5 * age), 4.0)
    np.testing.assert_allclose(np.diff(decay), decay[1] - decay[0])  # linear


def test_squared_mass_by_age_counts_every_pair():
    rng = np.random.default_rng(5)
    p = rng.random((5, 12))
    at = np.arange(7, 12)
    mass = kv.squared_mass_by_age(p, at, chunk=3, ages=4, sink=2)
    expected = np.zeros(4)
    for row, t in enumerate(at):
        for j in range(2, t + 1):
            expected[(t - j) // 3] += p[row, j] ** 2 / 5
    np.testing.assert_allclose(mass, expected)


@settings(deadline=None)
@given(seed=st.integers(0, 99), tokens=st.integers(30, 60), sink=st.integers(0, 4))
def test_predicted_terms_are_sums_over_tokens_at_their_width(seed, tokens, sink):
    rng = np.random.default_rng(seed)
    ladder, chunk = (16, 8, 4, 2), 8
    by_token = {bits: rng.random(tokens) for bits in (8, 4, 2)}
    edges = [*([0] if sink else []), *range(sink, tokens, 4), tokens]
    errors = {b: [e[i:j].sum() for i, j in itertools.pairwise(edges)] for b, e in by_token.items()}
    width = [
        stair.bits
        for stair in kv.stairs_by_age(tokens, ladder, chunk, sink=sink)
        for _ in range(stair.first, stair.last)
    ]
    expected = sum(by_token[w][t] for t, w in enumerate(width) if w != 16)
    terms = kv.predicted_terms(errors, edges, ladder, chunk, sink=sink)
    assert len(terms) == len(edges) - 1
    assert sum(terms) == pytest.approx(expected)
    with pytest.raises(ValueError, match="edges"):
        kv.predicted_terms(errors, [0, tokens], ladder, chunk, sink=sink)


@settings(deadline=None)
@given(seed=st.integers(0, 99), options=st.integers(1, 4), extra=st.floats(0, 3))
def test_uniform_allocation_is_the_best_pair_and_never_beats_the_free_one(seed, options, extra):
    rng = np.random.default_rng(seed)
    costs = rng.random((5, 2, options))
    bits = rng.integers(1, 9, (2, options)).astype(float)
    budget = bits.min(axis=1).mean() + extra
    k, v = kv.allocate_uniform(costs, bits, budget)
    assert (bits[0, k] + bits[1, v]) / 2 <= budget + 1e-9
    spent = costs[:, 0, k].sum() + costs[:, 1, v].sum()
    for i, j in itertools.product(range(options), repeat=2):
        if (bits[0, i] + bits[1, j]) / 2 <= budget:
            assert spent <= costs[:, 0, i].sum() + costs[:, 1, j].sum() + 1e-12
    flat = costs.reshape(10, options)
    free = kv.allocate_layers(flat, np.tile(bits, (5, 1)), budget)
    assert np.take_along_axis(flat, np.array(free)[:, None], 1).sum() <= spent + 1e-9


@pytest.mark.parametrize(
    ("word", "call"),
    [
        ("costs", lambda: kv.allocate_uniform(np.zeros((3, 2)), [[2, 4]], 3)),
        ("budget", lambda: kv.allocate_uniform(np.zeros((3, 1, 2)), [[2, 4]], 1.5)),
        ("mass", lambda: kv.ideal_bits([1.0, 0.0], 4)),
        ("mass", lambda: kv.monotone_mass([])),
        ("mass", lambda: kv.monotone_mass([-1.0])),
        ("tokens", lambda: kv.monotone_mass([1.0], [0.0])),
        ("budget", lambda: kv.allocate_widths([1.0], 1.0)),
        ("widths", lambda: kv.allocate_widths([1.0], 3.0, (2, 2))),
        ("distortion", lambda: kv.allocate_widths([1.0], 3.0, (2, 4), distortion=[1.0])),
        ("weights", lambda: kv.squared_mass_by_age(np.zeros(3), [1], 1, 1)),
        ("chunk", lambda: kv.squared_mass_by_age(np.zeros((1, 3)), [1], 0, 1)),
    ],
)
def test_allocation_refuses(word, call):
    with pytest.raises(ValueError, match=word):
        call()
