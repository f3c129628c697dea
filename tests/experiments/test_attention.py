"""Stored results on PrFlashAttention: derived numbers, what is claimed, a part measured again."""

import statistics

import pytest
import torch
from oracles.models import smollm

from book.experiments.attention import heads, quality, speed
from book.experiments.attention.designs import KEPT, density_of, designs
from book.experiments.common.store import read
from genopt_core.attention.blocks import DistanceLaw

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def stored():
    return read(quality.TARGET)


def test_the_summary_follows_from_the_texts(stored):
    assert stored["summary"] == quality.summary(stored["texts"])
    assert set(stored["texts"]) <= set(heads.texts())


def test_all_designs_keep_as_many_blocks(stored):
    for row in stored["texts"].values():
        for design, found in row["density"].items():
            if "equal cost" not in design:
                for density, kept in zip(found, KEPT, strict=True):
                    at_least = density_of(stored["tokens"], kept)
                    # more for radial bands, which come in whole distances; drawn ones vary
                    above = 0.03 if design == "radial + sink" else 0.002
                    assert at_least - 0.002 <= density <= at_least + above, design


def test_the_recommended_plan_is_as_good_as_claimed(stored):
    over = stored["summary"]["recommended over"]
    assert over["plain harmonic"][1] <= 0.26
    assert over["plain harmonic"][2] <= 0.13
    for most, found in zip((1.0, 0.8, 0.6), over["window + sink"], strict=True):
        assert found < most
    for design, about in stored["designs"].items():
        if about["family"] == "data-independent":
            assert max(over[design]) < 1, design
    assert over["largest kept, oracle"][2] <= 1.3


def test_pooled_rounds_converge_as_their_number_says(stored):
    slopes = stored["summary"]["slope of rounds"]
    for estimator in ("self-normalized", "difference"):
        assert abs(slopes[f"{estimator}, sums pooled"] + 0.5) <= 0.07
    assert slopes["plain, sums pooled"] > -0.1


@pytest.mark.slow
def test_a_part_measured_again():
    """The first 1024 tokens of one layer: a window beats nothing, the recommended plan beats it."""
    tokenizer, model = smollm()
    ids = tokenizer(heads.texts()[heads.CALIBRATION], return_tensors="pt").input_ids[:, :1024]
    q, k, v = (t.float()[None] for t in heads.record(model, ids, (14,))[14])
    exact = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, is_causal=True, enable_gqa=True
    )
    compared, errors = designs(DistanceLaw.harmonic()), {}
    for name in ("recommended", "window + sink", "plain harmonic"):
        errors[name], density, _ = quality.measure(compared[name], {14: (q, k, v, exact)}, 3)
        if name != "plain harmonic":  # one draw of distances for all, which varies
            assert density == pytest.approx(density_of(1024, 3), abs=1e-9)
    assert errors["recommended"] < errors["window + sink"] < errors["plain harmonic"]


SPEED = read(speed.TARGET)


TIMED = [row for of in (SPEED, *SPEED["other machines"]) for row in of["one thread"]]


@pytest.mark.parametrize("row", TIMED, ids=lambda r: f"{r['tokens']}, {r['plan']}")
def test_ratios_and_densities_follow_from_what_is_stored_beside_them(row):
    """Ratios are of the same repeat, and what is told is the median of the five."""
    for way in speed.WAYS:
        each = row[f"{way} x each"]
        assert len(each) == speed.REPEATS
        assert row[f"{way} x"] == pytest.approx(statistics.median(each), rel=1e-3)
        for name in (f"{way} ms", f"dense {way} ms"):
            assert row[name] == pytest.approx(statistics.median(row[f"{name} each"]), rel=1e-3)
        times = zip(row[f"dense {way} ms each"], row[f"{way} ms each"], strict=True)
        assert each == pytest.approx([dense / ours for dense, ours in times], rel=1e-3)
    wanted, sinks = row["plan"].split("%, ")
    plan = speed.plan_near(row["tokens"], int(wanted) / 100, row["block"], int(sinks.split()[0]))
    assert row["density"] == pytest.approx(plan.density, abs=1e-3)


def test_memory_is_linear_in_length():
    rows = SPEED["memory"]
    assert [row["tokens"] for row in rows] == [4096, 8192, 16384]
    for kind in ("diagonal MB", "rows MB", "difference MB"):
        sizes = [row[kind] / row["tokens"] for row in rows]
        assert max(sizes) <= 1.5 * min(sizes), (kind, sizes)
