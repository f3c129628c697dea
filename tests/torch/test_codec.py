"""genopt_core.torch: codecs and online softmax against the NumPy specification."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genopt_core import kvcache as kv
from genopt_core.torch.kvcache import codec as codec_module
from genopt_core.torch.kvcache.codec import GridCodec, RotatedCodec, join, pack, unpack
from genopt_core.torch.online_softmax import attend, merge_partials, softmax_partial

torch.set_num_threads(1)


def chunks(count=1, tokens=16, dim=32, seed=5, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    shape = (2, 3, tokens * count, dim)
    return (torch.randn(shape, generator=g) * 3 + torch.randn(dim, generator=g)).to(dtype)


def same_planes(ours, spec):
    for a, b in zip(ours, spec, strict=True):
        np.testing.assert_array_equal(a.numpy(), b)


@settings(deadline=None)
@given(bits=st.integers(1, 8), seed=st.integers(0, 99))
def test_packing_is_that_of_the_specification(bits, seed):
    codes = np.random.default_rng(seed).integers(0, 2**bits, (2, 3, 8)).astype(np.uint8)
    planes = pack(torch.from_numpy(codes), bits)
    same_planes(planes, kv.pack_codes(codes, bits))
    np.testing.assert_array_equal(unpack(planes, bits).numpy(), codes)


@pytest.mark.parametrize("side", ["key", "value"])
@pytest.mark.parametrize("path", [(8, 4, 2), (4, 3, 2), (7, 5, 1), (2,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_grid_is_the_specification_bit_for_bit(side, path, dtype):
    x = chunks(dtype=dtype)
    ours, spec = GridCodec(side, 32, 16, 8), kv.GridCodec(side, 8)
    a, b = ours.encode(x, path[0]), spec.encode(x.numpy(), path[0])
    for bits in (*path[1:], None):
        same_planes(a.planes, b.planes)
        np.testing.assert_array_equal(ours.decode(a).numpy(), spec.decode(b))
        if bits:
            a, b = ours.step(a, bits), spec.step(b, bits)
    assert sum(t.nbytes for t in a.tensors) == b.nbytes
    assert 8 * b.nbytes / x.numel() == path[-1] + ours.metadata_bits()


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 99),
    bits=st.integers(1, 8),
    exponent=st.integers(-45, 38),
    side=st.sampled_from(["key", "value"]),
    special=st.sampled_from([None, 0.0, -0.0, 1e-40, float("nan"), float("inf"), 65504.0]),
)
def test_grid_bound_holds_or_the_error_is_clear(seed, bits, exponent, side, special):
    x = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) * 10.0**exponent
    if special is not None:
        x[0, 0, 3, 2] = special
    codec = GridCodec(side, 8, 8, 4)
    if not torch.isfinite(x).all():
        with pytest.raises(ValueError, match="finite"):
            codec.encode(x, bits)
        return
    try:
        packed = codec.encode(x, bits)
    except ValueError as error:
        if x.abs().max() < 1.6e4 or not any(w in str(error) for w in ("float16", "finite")):
            raise
        return
    step = packed.meta[0].double().unsqueeze(-2 if side == "key" else -1)
    error, _ = codec._groups((codec.decode(packed) - x).abs().double())
    slack = 4 * torch.finfo(torch.float32).eps * (x.abs().max() + step * 2**bits) + 1e-44
    assert (error <= step / 2 + slack).all()


@pytest.mark.parametrize("side", ["key", "value"])
@pytest.mark.parametrize("path", [(8, 4, 2), (4, 3), (8, 3, 1), (2,)])
@pytest.mark.parametrize("corrected", [True, False])
def test_rotated_agrees_with_the_specification(side, path, corrected):
    x = chunks()
    ours = RotatedCodec(side, 32, 16, seed=7, norm_correction=corrected)
    R = kv.hadamard_rotation(32, np.random.default_rng(7))
    spec = kv.RotatedCodec(side, R, norm_correction=corrected)
    a, b = ours.encode(x, path[0]), spec.encode(x.numpy(), path[0])
    for bits in path[1:]:
        a, b = ours.step(a, bits), spec.step(b, bits)
    # products are summed in another order, so a number on a threshold may go over
    assert (unpack(a.planes, a.bits).numpy() != b.codes).mean() < 2e-3
    far = np.abs(ours.decode(a).numpy() - spec.decode(b)).max(-1) > 2e-2
    assert far.mean() < 0.05
    assert sum(t.nbytes for t in a.tensors) == b.nbytes


@pytest.mark.parametrize("bits", kv.ROTATED_BITS)
def test_one_lookup_a_byte_gives_all_levels(bits):
    codec = RotatedCodec("key", 32, 16, seed=0)
    packed = codec.encode(chunks(), bits)
    expected = kv.levels(bits)[unpack(packed.planes, bits).numpy()].astype(np.float32)
    np.testing.assert_array_equal(codec.expand(packed).numpy(), expected)
    if bits < 8:  # the other way to read the table, for devices that are no processors
        entries = codec_module._entries(packed)
        table = codec_module._table(codec_module.entry_table, entries.device, bits)
        rows = torch.nn.functional.embedding(entries, table).flatten(-2)
        np.testing.assert_array_equal(rows.numpy(), expected)


@pytest.mark.parametrize(
    "make", [lambda s: GridCodec(s, 32, 16, 8), lambda s: RotatedCodec(s, 32, 16, 0)]
)
@pytest.mark.parametrize("side", ["key", "value"])
def test_joined_chunks_are_the_chunks(make, side):
    codec = make(side)
    x = chunks(count=4)
    parts = [codec.encode(part, 4) for part in x.split(16, -2)]
    page = join(parts)
    assert page.chunks == 4
    assert torch.equal(codec.decode(page), torch.cat([codec.decode(p) for p in parts], -2))
    for i, part in enumerate(parts):
        one = page.cut(i, i + 1)
        assert all(torch.equal(s, t) for s, t in zip(one.tensors, part.tensors, strict=True))
    with pytest.raises(ValueError, match="widths"):
        join([parts[0], codec.step(parts[1], 2)])


def test_codecs_refuse():
    for side, along in (("key", "chunk=16"), ("value", "dim=32")):
        with pytest.raises(ValueError, match=f"group_size must divide {along}, got 24"):
            GridCodec(side, 32, 16, 24)
    with pytest.raises(ValueError, match="widths"):
        RotatedCodec("key", 32, 16, 0).check([5])
    with pytest.raises(ValueError, match="multiple of 8"):
        GridCodec("key", 12, 16, 4).check([3])
    for bad in (float("nan"), float("inf"), 1e30):
        x = chunks()
        x[0, 0, 0, 0] = bad
        for codec in (GridCodec("key", 32, 16, 8), RotatedCodec("value", 32, 16, 0)):
            with pytest.raises(ValueError, match=r"finite|float16"):
                codec.encode(x, 4)


# ------------------------------------------------------------------ online softmax (kv-softmax)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 999),
    cuts=st.lists(st.integers(0, 24), max_size=4),
    size=st.sampled_from([0.0, 1.0, 30.0]),
    additive=st.booleans(),
)
def test_merged_partials_are_the_softmax_of_pytorch(seed, cuts, size, additive):
    g = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(2, 3, n, 8, generator=g) for n in (5, 24, 24))
    q, mask = q * size, torch.rand(2, 1, 5, 24, generator=g) > 0.3
    mask[..., 0] = True  # PyTorch's own softmax needs one token a row
    full = torch.where(mask, 0.0, -torch.inf) if additive else mask
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=full)
    at = [0, *sorted(cuts), 24]
    parts = [
        attend(q, k[:, :, a:b], v[:, :, a:b], scale=8**-0.5, mask=full[..., a:b])
        for a, b in itertools.pairwise(at)
    ]
    out, lse = merge_partials(parts)
    torch.testing.assert_close(out, expected, atol=2e-5, rtol=2e-5)
    score = (q @ k.transpose(-1, -2) / 8**0.5).masked_fill(~mask, -torch.inf)
    torch.testing.assert_close(lse, score.logsumexp(-1), atol=1e-4, rtol=1e-5)


def test_partials_agree_with_the_numpy_specification():
    q, k, v = (chunks(tokens=n, seed=n)[0, 0] for n in (3, 7, 7))
    v = v[:, :8]
    out, lse = attend(q[None, None], k[None, None], v[None, None], scale=1 / math.sqrt(32))
    out2, lse2 = kv.attend(q.numpy(), k.numpy(), v.numpy())
    np.testing.assert_allclose(out[0, 0].numpy(), out2, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(lse[0, 0].numpy(), lse2, rtol=1e-5)


def test_rows_that_see_nothing_are_zeros_and_merge_as_nothing():
    blind = torch.full((1, 2, 3), -torch.inf)
    weights, lse = softmax_partial(blind)
    assert not weights.any()
    assert (lse == -torch.inf).all()
    ones = torch.ones(1, 2, 4)
    out, lse = merge_partials([(ones, torch.zeros(1, 2)), (ones, lse)])
    assert (out == 1).all()
    assert (lse == 0).all()
    out, lse = merge_partials([(torch.zeros(1, 4), torch.tensor([-torch.inf]))] * 2)
    assert not out.any()
    assert (lse == -torch.inf).all()


def test_online_softmax_refuses():
    with pytest.raises(ValueError, match="partials"):
        merge_partials([])
    x = torch.zeros(1, 1, 2, 8)
    with pytest.raises(ValueError, match="mask"):
        attend(x, x, x, scale=1.0, mask=torch.ones(3, 3, dtype=torch.bool))


@pytest.mark.parametrize("bits", kv.ROTATED_BITS)
def test_codes_of_a_vector_of_zeros_are_the_specification_s(bits):
    ours = RotatedCodec("value", 32, 8, seed=0)
    spec = kv.RotatedCodec("value", ours.rotation.numpy())
    x = torch.zeros(1, 1, 8, 32)
    same_planes(ours.encode(x, bits).planes, spec.encode(x.numpy(), bits).planes)
