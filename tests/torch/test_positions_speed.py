"""The stored times of positions: the bars they answer, and the bytes counted again."""

import pytest
import torch
from places import RESULTS

from book.experiments.common import store
from book.experiments.positions import speed

STORED = store.read(RESULTS / "positions_speed.json")
FIXED = list(speed.OURS)[:4]


@pytest.mark.parametrize("row", STORED["kernels"], ids=lambda r: f"{r['name']}, {r['tokens']}")
def test_no_bias_takes_longer_than_rope_and_alibi_by_a_mask(row):
    if row["name"] in FIXED or row["what"] == "forward":
        assert row["ratio"][0] <= 1.10


def test_a_model_reads_and_decodes_as_fast_as_the_stock_one():
    assert all(row["ratio"][0] <= 1.10 for row in STORED["prefill"])
    assert all(row["ratio"][0] <= 1.05 for row in STORED["decoding"])
    assert {row["tokens"] for row in STORED["decoding"]} == {1024, 4096}


@pytest.mark.parametrize("name", [speed.STOCK, *speed.OURS])
def test_bytes_held_are_those_stored_and_linear_in_length(name):
    held = {
        row["tokens"]: row["bytes held"]
        for row in STORED["kernels"]
        if row["name"] == name and row["what"] == "with gradients"
    }
    assert sorted(held) == [1024, 2048, 4096]
    if name == speed.STOCK:
        assert held[4096] > 13 * held[1024]
    else:
        assert held[4096] <= 4.01 * held[1024]


def test_bytes_counted_again():
    torch.set_num_threads(1)
    rows = speed.kernels(1024, 1, False)
    again = {row["name"]: row["bytes held"] for row in rows if "bytes held" in row}
    stored = {
        row["name"]: row["bytes held"]
        for row in STORED["kernels"]
        if row["tokens"] == 1024 and "bytes held" in row
    }
    assert again == stored
