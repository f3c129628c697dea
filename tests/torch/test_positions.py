"""Rotation, biases and attention with them on tensors, against NumPy and two stock models."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import flex_attention

from genopt_core import positions as formulas
from genopt_core.positions.bias import DISTANCES
from genopt_core.torch.positions import (
    DistanceBias,
    LearnedSlopes,
    attention,
    biased_attention,
    encoding,
    rotary_angles,
    rotate,
    score_mod,
    with_linear_bias,
)

torch.set_num_threads(1)
KINDS = DISTANCES


@pytest.fixture
def small_rows(monkeypatch):
    """Blocks of few queries, so that short texts have many."""
    monkeypatch.setattr(attention, "ROWS", 5)


def states(heads=4, shared=2, queries=23, tokens=23, dim=8, batch=2, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)
    sizes = (heads, queries), (shared, tokens), (shared, tokens)
    return [torch.randn(batch, h, n, dim, generator=g).to(dtype) for h, n in sizes]


def dense(q, k, v, table, scale=None, mask=None):
    """Attention by its definition, in NumPy and float64."""
    q, k, v = (x.detach().double().numpy() for x in (q, k, v))
    repeats = q.shape[1] // k.shape[1]
    k, v = (np.repeat(x, repeats, 1) for x in (k, v))
    tokens, queries = k.shape[2], q.shape[2]
    logits = q @ k.swapaxes(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    logits = logits + formulas.by_pairs(table[:, :tokens], queries)
    if mask is not None:
        mask = mask.numpy()
        logits = np.where(mask[:, None, None] if mask.ndim == 2 else mask, logits, -np.inf)
    top = logits.max(-1, keepdims=True)
    weight = np.exp(logits - np.where(np.isfinite(top), top, 0))
    total = weight.sum(-1, keepdims=True)
    return weight / np.where(total == 0, 1, total) @ v


# ------------------------------------------------------------------ rotation


@given(
    seed=st.integers(0, 10**6),
    tokens=st.integers(1, 9),
    pairs=st.integers(1, 6),
    still=st.integers(0, 3),
    offset=st.integers(0, 100_000),
    layout=st.sampled_from(["half", "interleaved"]),
)
def test_rotation_is_that_of_numpy(seed, tokens, pairs, still, offset, layout):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, 3, tokens, 2 * (pairs + still))).astype(np.float32)
    omega = formulas.inverse_frequencies(2 * pairs)
    at = offset + np.arange(tokens)
    angles = rotary_angles(torch.from_numpy(at), omega)
    np.testing.assert_array_equal(angles, formulas.rotary_angles(at, omega))
    expected = formulas.rotate(x, formulas.rotary_angles(at, omega), layout)
    turned = rotate(torch.from_numpy(x), angles, layout)
    np.testing.assert_allclose(turned, expected, atol=1e-5)
    half = rotate(torch.from_numpy(x).bfloat16(), angles, layout)
    assert half.dtype == torch.bfloat16
    np.testing.assert_allclose(half.float(), expected, atol=0.05)


@pytest.mark.parametrize("layout", ["half", "interleaved"])
def test_gradients_of_rotation(layout):
    x = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    angles = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: rotate(a, b, layout), (x, angles))


# ------------------------------------------------------------------ tables


@pytest.mark.parametrize("windows", [None, (0, 3, 300, 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_tables_are_those_of_numpy_fixed_and_learned(kind, windows):
    m, a = np.array([2.0, 0.5, 0.1, 0.01]), np.array([0.3, 1.0, 1.5, 0.7])
    expected = formulas.bias_by_distance(m, 400, kind, a, windows=windows)
    fixed = DistanceBias(m, kind, a, windows=windows)
    learned = DistanceBias(LearnedSlopes(4, m), kind, LearnedSlopes(4, a), windows=windows)
    assert learned.learned
    assert not fixed.learned
    for table in (fixed(400), learned(400)):
        np.testing.assert_allclose(table.detach(), expected, rtol=2e-6, atol=1e-6)
    with torch.no_grad():
        np.testing.assert_allclose(learned(400), expected, rtol=2e-6, atol=1e-6)


def test_kept_table_grows_and_follows_what_is_learned():
    bias = DistanceBias(LearnedSlopes(2))
    q, k, v = states(2, 2)
    with torch.no_grad():
        before = biased_attention(q, k, v, bias)
        line, size = bias.line(23, q.device, q.dtype)
        assert bias.line(size, q.device, q.dtype)[0] is line
        assert bias.line(size + 1, q.device, q.dtype)[1] == 2 * size
        bias.strengths.raw += 1
        after = biased_attention(q, k, v, bias)
        np.testing.assert_allclose(after, dense(q, k, v, bias(23).numpy()), atol=1e-5)
    assert (before - after).abs().max() > 1e-3
    twin = copy.deepcopy(bias)
    with torch.no_grad():
        twin.strengths.raw -= 1
    torch.testing.assert_close(biased_attention(q, k, v, twin).detach(), before)
    torch.testing.assert_close(biased_attention(q, k, v, bias).detach(), after)


@pytest.mark.parametrize(("start", "total"), [("harmonic", None), ("geometric", 3.0)])
def test_learned_slopes_start_as_told_and_stay_positive(start, total):
    learned = LearnedSlopes(6, start, total=total, free=2)
    expected = np.append(formulas.slopes(4, start, total=total), [0, 0])
    np.testing.assert_allclose(learned().detach(), expected, rtol=1e-5)
    optimizer = torch.optim.SGD(learned.parameters(), lr=100.0)
    learned().sum().backward()
    optimizer.step()
    assert (learned()[:4] >= 0).all()
    assert (learned()[4:] == 0).all()


# ------------------------------------------------------------------ attention


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shared=st.integers(1, 3),
    groups=st.integers(1, 3),
    queries=st.integers(1, 30),
    before=st.integers(0, 30),
    rows=st.sampled_from([1, 4, 7, 256]),
    kind=st.sampled_from(KINDS),
    windowed=st.sampled_from(["no", "some", "all"]),
    masked=st.sampled_from(["no", "padding", "square"]),
    size=st.sampled_from([0.1, 1, 4]),
)
def test_attention_is_its_definition(
    seed, shared, groups, queries, before, rows, kind, windowed, masked, size
):
    rng = np.random.default_rng(seed)
    heads, tokens = shared * groups, queries + before
    q, k, v = states(heads, shared, queries, tokens, seed=seed)
    q, k = q * size, k * size
    least = {"no": 0, "some": 0, "all": 1}[windowed]
    windows = None if windowed == "no" else rng.integers(least, 12, heads)
    m, parameter = rng.uniform(0.01, 2, heads), rng.uniform(0.1, 2)
    bias = DistanceBias(m, kind, parameter, windows=windows)
    learned = DistanceBias(LearnedSlopes(heads, m), kind, parameter, windows=windows)
    mask = None
    if masked == "padding":
        mask = torch.arange(tokens) >= torch.tensor([[0], [seed % tokens]])
    elif masked == "square":
        mask = torch.from_numpy(rng.random((2, 1, queries, tokens)) < 0.7)
    expected = dense(q, k, v, bias._fixed(tokens), 0.3, mask)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "ROWS", rows)
        for given_bias in (bias, bias(tokens + 3), learned):
            out = biased_attention(q, k, v, given_bias, scale=0.3, mask=mask)
            np.testing.assert_allclose(out.detach(), expected, atol=1e-5)


@pytest.mark.parametrize("tokens", [300, 2048])
def test_steep_slopes_are_exact_far_from_the_start(tokens):
    """Positions in the thousands times a slope, next to scores of size 1, in float32."""
    q, k, v = states(2, 1, tokens, tokens, dim=64, batch=1)
    m = np.array([1.0, 0.5])
    expected = dense(q, k, v, formulas.bias_by_distance(m, tokens))
    learned = DistanceBias(LearnedSlopes(2, m))
    for bias in (DistanceBias(m), learned):
        out = biased_attention(q, k, v, bias)
        np.testing.assert_allclose(out.detach(), expected, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("small_rows")
def test_gradients_reach_states_slopes_and_parameter(kind, masked):
    q, k, v = states(2, 1, 11, 11, dim=2, batch=1, dtype=torch.float64)
    mask = torch.arange(11)[None] >= 2 if masked else None
    windows = [0, 4] if kind == "log" else None
    bias = DistanceBias(
        LearnedSlopes(2), kind, LearnedSlopes(2, [0.7, 1.3]), windows=windows
    ).double()

    def call(q, k, v, *_):
        return biased_attention(q, k, v, bias, mask=mask)

    inputs = [x.requires_grad_() for x in (q, k, v)]
    assert torch.autograd.gradcheck(call, (*inputs, *bias.parameters()))
    fixed = DistanceBias([0.5, 0.2], kind)
    assert torch.autograd.gradcheck(
        lambda q, k, v: biased_attention(q, k, v, fixed, mask=mask), inputs
    )


@pytest.mark.parametrize("queries", [9, 4])
def test_two_more_channels_are_a_linear_bias(queries):
    q, k, _ = states(4, 4, queries, 9)
    m = torch.tensor([1.0, 0.5, 0.0, 0.1])
    a, b = with_linear_bias(q, k, m)
    scores = a @ b.mT * 8**-0.5 - q @ k.mT * 8**-0.5
    i = torch.arange(9)
    expected = (-m[:, None, None] * (i[9 - queries :, None] - i)).expand_as(scores)
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)


def widths(call, monkeypatch):
    """How many keys each block looks at."""
    seen, attend = [], attention._attend
    monkeypatch.setattr(attention, "_attend", lambda *a: seen.append(a[1].shape[2]) or attend(*a))
    call()
    return seen


@pytest.mark.usefixtures("small_rows")
def test_keys_that_cannot_weigh_anything_are_not_looked_at(monkeypatch):
    q, k, v = states(2, 1, 200, 200, batch=1)
    steep, free = DistanceBias([4.0, 2.0]), DistanceBias([4.0, 0.0])
    assert max(widths(lambda: biased_attention(q, k, v, steep), monkeypatch)) < 60
    assert max(widths(lambda: biased_attention(q, k, v, free), monkeypatch)) == 200
    windows = DistanceBias([0.0, 0.0], windows=[3, 7])
    assert max(widths(lambda: biased_attention(q, k, v, windows), monkeypatch)) == 5 + 6
    # the worst case: far keys along the query, near ones against it, as long as they come
    q[:], k[:], v[:] = 1.0, -1.0, 0.0
    k[:, :, :100], v[:, :, :100] = 1.0, 1.0
    for size, scale in ((1.0, None), (3.0, None), (5.0, None), (1.0, 3.0), (1.0, -3.0)):
        for bias in (steep, DistanceBias(LearnedSlopes(2, [4.0, 2.0]))):
            out = biased_attention(q * size, k * size, v, bias, scale=scale).detach()
            expected = dense(q * size, k * size, v, steep._fixed(200), scale)
            np.testing.assert_allclose(out, expected, atol=1e-5)


def test_a_line_that_stays_above_a_share_of_rounding_is_left_as_it_is():
    """e⁻²⁰ is above a 64th of it, though the last 28 keys together are not."""
    q = torch.zeros(1, 1, 64, 4)
    line = torch.full((1, 64), -20.0)
    line[:, 63] = 0.0
    kept, reach = attention._without_far(q, q, line, 64, None)
    assert kept is line
    assert reach == 64
    kept, reach = attention._without_far(q, q, line - 60 * (line < 0), 64, None)
    assert reach == torch.isfinite(kept).sum() == 1


def test_a_mask_may_leave_far_keys_alone():
    q, k, v = states(2, 1, 200, 200, batch=1, dtype=torch.float64)
    mask = (torch.arange(200) < 2)[None].expand(200, 200)[None, None]
    steep = DistanceBias([4.0, 2.0])
    out = biased_attention(q, k, v, steep, mask=mask)
    np.testing.assert_allclose(out, dense(q, k, v, steep._fixed(200), mask=mask), atol=1e-5)


def kept(call):
    """Bytes that autograd holds after a call, each storage once."""
    held = {}

    def pack(t):
        held[t.untyped_storage().data_ptr()] = t.untyped_storage()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        call()
    return sum(storage.nbytes() for storage in held.values())


@pytest.mark.parametrize("case", ["fixed", "padded", "learned", "learned log", "half", "windows"])
def test_memory_held_for_the_way_back_is_linear_in_length(case):
    def bytes_at(tokens):
        states_ = states(2, 1, tokens, tokens, dim=4, batch=1)
        q, k, v = (x.requires_grad_() for x in states_)
        bias = DistanceBias([1.0, 0.5], windows=[0, 9] if case == "windows" else None)
        if "learned" in case:
            bias = DistanceBias(LearnedSlopes(2), "log" if "log" in case else "linear")
        mask = torch.arange(tokens)[None] >= 3 if case == "padded" else None
        if case == "half":
            q, k, v = (x.bfloat16() for x in (q, k, v))
        return kept(lambda: biased_attention(q, k, v, bias, mask=mask))

    small, large = bytes_at(512), bytes_at(2048)
    assert large <= 4.2 * small, (small, large)
    assert large < 2048 * 2048  # a byte for each pair, of which there are two heads


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("queries", [1, 300])
def test_other_dtypes(dtype, queries):
    q, k, v = states(4, 2, queries, 300, dtype=dtype)
    tolerance = {torch.bfloat16: 0.03, torch.float16: 4e-3, torch.float64: 1e-12}[dtype]
    m = LearnedSlopes(4).double()
    fixed, learned = DistanceBias(m().detach(), "harmonic"), DistanceBias(m)
    for bias in (fixed, learned):
        out = biased_attention(q, k, v, bias).detach()
        assert out.dtype == dtype
        np.testing.assert_allclose(out.double(), dense(q, k, v, bias._fixed(300)), atol=tolerance)


def test_dropout_leaves_the_mean():
    torch.manual_seed(0)
    q, k, v = states(2, 2, 40, 40)
    bias = DistanceBias([1.0, 0.0])
    outs = torch.stack([biased_attention(q, k, v, bias, dropout=0.5) for _ in range(400)])
    assert outs.var(0).mean() > 0.01
    np.testing.assert_allclose(outs.mean(0), biased_attention(q, k, v, bias), atol=0.4)


# ------------------------------------------------------------------ stock models


@pytest.mark.parametrize("heads", [4, 6])
def test_alibi_is_that_of_bloom(heads):
    from transformers import BloomConfig
    from transformers.models.bloom.modeling_bloom import BloomAttention, build_alibi_tensor

    torch.manual_seed(0)
    config = BloomConfig(hidden_size=8 * heads, n_head=heads, hidden_dropout=0.0)
    theirs = BloomAttention(config, layer_idx=0).eval()
    x = torch.randn(2, 17, 8 * heads)
    alibi = build_alibi_tensor(torch.ones(2, 17), heads, torch.float32)
    future = torch.full((17, 17), -1e9).triu(1)[None, None]
    with torch.no_grad():
        expected = theirs(x, torch.zeros_like(x), alibi, future)[0]
        qkv = theirs.query_key_value(x).view(2, 17, heads, 3, 8)
        q, k, v = (t.transpose(1, 2) for t in qkv.unbind(3))
        out = biased_attention(q, k, v, encoding("alibi", heads).bias)
        ours = theirs.dense(out.transpose(1, 2).flatten(2))
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("heads", [4, 8])
def test_alibi_is_that_of_mpt(heads):
    from transformers import MptConfig
    from transformers.models.mpt.modeling_mpt import MptAttention, build_mpt_alibi_tensor

    torch.manual_seed(0)
    theirs = MptAttention(MptConfig(d_model=8 * heads, n_heads=heads), layer_idx=0).eval()
    x = torch.randn(2, 17, 8 * heads)
    alibi = build_mpt_alibi_tensor(heads, 17)
    future = torch.ones(17, 17, dtype=torch.bool).triu(1)[None, None]
    with torch.no_grad():
        expected = theirs(x, position_bias=alibi, attention_mask=future)[0]
        q, k, v = (t.view(2, 17, heads, 8).transpose(1, 2) for t in theirs.Wqkv(x).chunk(3, dim=2))
        out = biased_attention(q, k, v, encoding("alibi", heads).bias)
        ours = theirs.out_proj(out.transpose(1, 2).flatten(2))
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


# ------------------------------------------------------------------ flex_attention


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("before", [0, 6])
def test_score_mod_is_the_same_attention(before):
    q, k, v = states(4, 2, 10, 10 + before)
    bias = DistanceBias(formulas.slopes(4), "log", windows=[0, 0, 4, 0])
    add = score_mod(bias(64), torch.tensor(before))
    out = flex_attention(q, k, v, score_mod=add, enable_gqa=True)
    torch.testing.assert_close(out, biased_attention(q, k, v, bias), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_score_mod_is_compiled_once_for_all_lengths_and_strengths():
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    counter = CompileCounterWithBackend("inductor")
    compiled = torch.compile(flex_attention, backend=counter, dynamic=True)
    table = torch.zeros(4, 512)
    add = score_mod(table, offset := torch.tensor(0))
    with torch.no_grad():
        # lengths that are equal in the first call are compiled as one, so it has two
        for tokens, before, kind in ((333, 40, "harmonic"), (128, 0, "linear"), (200, 0, "log")):
            bias = DistanceBias(formulas.slopes(4), kind)
            table.copy_(bias(512))
            offset.fill_(before)
            q, k, v = states(4, 4, tokens - before, tokens, dim=16)
            out = compiled(q, k, v, score_mod=add)
            torch.testing.assert_close(out, biased_attention(q, k, v, bias), atol=1e-5, rtol=0)
    assert counter.frame_count == 1


# ------------------------------------------------------------------ names and refusals


def test_encodings_by_name():
    assert encoding("rope", 4).bias is None
    assert encoding("rope", 4).rotated == 1
    assert encoding("nope", 4).bias is None
    assert encoding("nope", 4).rotated == 0
    assert encoding("rope+alibi", 4, rotated=0.5).rotated == 0.5
    np.testing.assert_allclose(encoding("alibi", 6).bias(2)[:, 1], -formulas.slopes(6))
    matched = encoding("rope+harmonic", 8, total="geometric").bias(2)[:, 1]
    assert matched.sum().item() == pytest.approx(-formulas.slopes(8).sum())
    kerple = encoding("kerple-log", 4, learned=True)
    assert kerple.bias.distance == "log"
    assert len(list(kerple.parameters())) == 2
    mix = encoding("rope+windows", 4, free=2).bias(9)
    assert (mix == 0).sum(1).tolist() == [2, 4, 9, 9]
    assert encoding("rope+harmonic", 4, free=4).bias is None


A = rotary_angles([0, 1], [1.0])


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: rotate(torch.ones(2, 7), A), "head_dim must be even, got 7"),
        (lambda: rotate(torch.ones(3, 4), A), "angles must have the shape"),
        (lambda: rotate(torch.ones(2, 4, dtype=torch.long), A), "x must be floating-point"),
        (lambda: rotate(torch.ones(2, 4), A, "other"), "layout must be one of"),
        (lambda: rotary_angles([-1], [1.0]), "positions must not be negative"),
        (lambda: LearnedSlopes(0), "heads must be at least 1"),
        (lambda: LearnedSlopes(2, free=2), "free must be below 2"),
        (lambda: LearnedSlopes(2, [1.0, -1.0]), "start must be 2 positive numbers"),
        (lambda: LearnedSlopes(2, "none"), "start must be 2 positive numbers"),
        (lambda: DistanceBias([-1.0]), "strengths must be finite and not negative"),
        (lambda: DistanceBias([]), "strengths must have the shape"),
        (lambda: DistanceBias([1.0], "power", 3.0), "parameter must be in"),
        (lambda: DistanceBias([1.0, 1.0], windows=[1]), "windows must be 2 whole numbers"),
        (lambda: encoding("rope+nope", 4), "name must be one of"),
        (lambda: encoding("other", 4), "name must be one of"),
        (lambda: encoding("rope", 0), "heads must be at least 1"),
        (lambda: encoding("alibi", 4, free=5), "free must be at most 4"),
        (lambda: encoding("alibi", 4, total=-1.0), "total must not be negative"),
        (lambda: encoding("rope", 4, rotated=2.0), "rotated must be in"),
        (lambda: biased_attention(*states(), DistanceBias([1.0])), "bias must have 4 heads"),
        (lambda: biased_attention(*states(3), DistanceBias([1.0] * 3)), "heads that divide 3"),
        (
            lambda: biased_attention(*states(queries=24), DistanceBias([1.0] * 4)),
            "query must have 1 to 23 tokens",
        ),
        (lambda: biased_attention(*states(), torch.zeros(4, 22)), "bias must reach 23"),
        (
            lambda: biased_attention(*states(), torch.zeros(4, 23), mask=torch.ones(2, 23)),
            "mask must be bool over 23 tokens",
        ),
    ],
)
def test_bad_arguments_are_named(call, word):
    with pytest.raises(ValueError, match=word):
        call()


def test_positions_beyond_exact_angles_are_refused():
    with pytest.raises(OverflowError, match="positions must be below"):
        rotary_angles(torch.tensor([2**32]), [1.0])
    assert math.isfinite(rotary_angles([2**32 - 1], [1.0]).item())


@pytest.mark.parametrize(
    ("given", "free", "sizes"),
    [
        ((), 0, [2, 4, 8, 16]),
        ((), 2, [2, 4, 0, 0]),
        ([3], 0, [3, 0, 0, 0]),
        ([2, 3], 0, [2, 3, 0, 0]),
        ([2], 2, [2, 0, 0, 0]),
        (np.array([5, 6, 7, 8]), 0, [5, 6, 7, 8]),
    ],
)
def test_windows_are_those_of_the_first_heads(given, free, sizes):
    bias = encoding("rope+windows", 4, windows=given, free=free).bias
    assert bias.windows.tolist() == sizes
    for row, size in zip(bias(20), sizes, strict=True):
        seen = size or 20
        assert (row[:seen] == 0).all()
        assert (row[seen:] == -torch.inf).all()


@pytest.mark.parametrize(
    ("windows", "error", "words"),
    [
        ([0], ValueError, "windows must be at least 1, got 0"),
        ([4, -1], ValueError, "windows must be at least 1, got -1"),
        ([1.5], TypeError, "windows must be a whole number, got 1.5"),
        ([True], TypeError, "windows must be a whole number, got True"),
        ("ab", TypeError, "windows must be a sequence of whole numbers, got 'ab'"),
        (3, TypeError, "windows must be a sequence of whole numbers, got 3"),
        (None, TypeError, "windows must be a sequence of whole numbers, got None"),
        ([1, 2, 3, 4], ValueError, "windows must be at most 3, the heads that may .*, got 4"),
    ],
)
def test_windows_that_are_none_are_refused(windows, error, words):
    with pytest.raises(error, match=words):
        encoding("windows", 4, windows=windows, free=1)
