"""The search for settings of training: held-out text unseen, cut off and gone on with."""

import numpy as np
import pytest
import torch

from book.experiments.common.store import read
from book.experiments.one_model.__main__ import main
from book.experiments.one_model.cells import SCALES
from book.experiments.one_model.search import METHODS, SPACE, development, loss, search
from book.experiments.one_model.text import tokens

torch.set_num_threads(1)
DEFAULT = {"rate": 3e-3, "warm_up": 0.05, "last": 0.1, "decay": 0.1, "beta": 0.95}


def valley(params, *others):
    """Best at a rate of 0.005, and nothing else matters."""
    return 2.0 + (np.log(params["rate"]) - np.log(0.005)) ** 2


def test_development_text_is_all_training_text(tmp_path):
    text = tokens("moby-dick", "bpe", 400, 0.05, tmp_path)
    part = development(text)
    assert np.array_equal(np.concatenate([part.train, part.held]), text.train)
    assert part.digest == text.digest


def test_a_trial_is_a_training(tmp_path):
    first = loss(DEFAULT, "tiny", 1.0, 5, tmp_path)
    assert first == loss(DEFAULT, "tiny", 1.0, 5, tmp_path)
    assert 3 < first < 8
    assert loss({**DEFAULT, "rate": 0.03}, "tiny", 1.0, 5, tmp_path) < first  # six steps only


def test_it_finds_the_valley_and_goes_on_where_it_was_cut_off(tmp_path):
    whole = search("tiny", 14, 0.5, tmp_path / "a", objective=valley)
    calls = iter(range(100))

    def cut(*args):
        if next(calls) == 20:
            raise KeyboardInterrupt
        return valley(*args)

    with pytest.raises(KeyboardInterrupt):
        search("tiny", 14, 0.5, tmp_path / "b", objective=cut)
    seen = []
    again = search("tiny", 14, 0.5, tmp_path / "b", lambda m, t: seen.append((m, t.number)), valley)
    assert seen == [("random", i) for i in range(6, 14)]  # 14 and 6 were done
    assert {**again, "provenance": 0} == {**whole, "provenance": 0}
    assert whole["tokens"] == 14 * SCALES["tiny"].tokens // 2
    assert whole["columns"] == [*SPACE.names, "bits a byte"]
    values = {m: min(row[-1] for row in whole[f"{m} trials"]) for m in METHODS}
    assert values["posterior"] < 2.1
    assert whole["found"].keys() == DEFAULT.keys()
    assert valley(whole["found"]) < 2.2


def test_what_it_writes_is_what_cells_read(tmp_path):
    out = tmp_path / "search.json"
    arguments = ["search", "--scale", "tiny", "--trials", "2", "--share", "0.5"]
    assert main([*arguments, "--folder", str(tmp_path), "--out", str(out)]) == 0
    assert read(out)["found"].keys() == DEFAULT.keys()
    assert len(read(out)["random trials"]) == 2
