"""Stored coverage of promises: derived numbers, what is claimed, a part measured again."""

import pytest
import torch
from oracles.models import smollm

from book.experiments.attention import heads, promise
from book.experiments.common.store import read
from genopt_core.attention.blocks import wilson_interval

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def stored():
    return read(promise.TARGET)


def rows(stored):
    return [row for text in stored["texts"].values() for row in text["rows"]]


def test_intervals_follow_from_the_counts(stored):
    assert set(stored["texts"]) == set(heads.texts()) - {heads.CALIBRATION}
    for row in rows(stored):
        low, high = wilson_interval(row["kept"], row["trials"])
        assert (row["low"], row["high"]) == pytest.approx((low, high), abs=1e-4)
        assert row["trials"] > 500
        assert row["heads"] == len(stored["layers"]) * len(stored["heads"])


def test_promises_are_kept_on_real_heads(stored):
    for row in rows(stored):
        assert row["high"] >= 1 - stored["delta"], row
        # one head of the code looks at blocks that a pilot may miss and `plan_rows` finds
        assert row["heads below"] <= (row["sure"] == "sink + near"), row
        assert row["every query"] >= 1 - stored["delta"]


def test_a_smaller_error_needs_more_and_a_true_bound_needs_all(stored):
    for text in stored["texts"].values():
        found = {(r["sure"], r["of"], r["eps"]): r["density"] for r in text["rows"]}
        for sure in promise.SURE:
            for of in promise.OF:
                assert found[sure, of, 0.1] > found[sure, of, 0.3]
        assert min(text["density of the true bound"]) > 0.95


@pytest.mark.slow
def test_a_part_measured_again(stored):
    tokenizer, model = smollm()
    ids = tokenizer(heads.texts()["moby-dick"], return_tensors="pt").input_ids[:, :2048]
    q, k, v = (t.float()[None] for t in heads.record(model, ids, (14,))[14])
    row = promise.measure([(q[:, promise.HEADS], k, v)], "sink + near", "output", 0.3)
    assert row["high"] >= 1 - promise.DELTA
    of = {(r["sure"], r["of"], r["eps"]): r for r in stored["texts"]["moby-dick"]["rows"]}
    assert abs(row["density"] - of["sink + near", "output", 0.3]["density"]) < 0.25
