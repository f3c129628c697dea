"""Half of the blocks on many windows: candidates and what a run leaves when it is cut off."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from book.experiments.attention import halves
from book.experiments.attention.designs import BLOCK
from book.experiments.attention.perplexity import HALF
from book.experiments.common.store import read


def run_of(out, layers=3):
    run = object.__new__(halves.Run)
    run.options = SimpleNamespace(quick=False, device="cpu", out=out, seconds=1e9)
    run.start, run.spent, run.length, run.layers = 0.0, 0, 512, layers
    run.options.seconds = float("inf")
    run.content = {"pilot": {}, "calibration": [], "rows": []}
    return run


def test_candidates_have_the_blocks_that_their_names_say(tmp_path):
    run = run_of(tmp_path / "a.json")
    run.content["layers"] = [4, 18, 30]
    for name, one in halves.candidates().items():
        assert one.block == (halves.SMALL if name.endswith("of 32") else BLOCK)
        assert one.by_layer == ("layers" in name)
        kept = run.attend(one, 0).kept
        usual = [4, 18, 30] if one.by_layer else [HALF] * 3
        assert kept == usual if one.block == BLOCK else all(map(int.__gt__, kept, usual))


def test_a_pilot_that_is_cut_off_has_stored_its_layers(tmp_path):
    run = run_of(tmp_path / "a.json")

    def measured(_text, _window, attend):
        if attend.kept[2] is not None:
            raise KeyboardInterrupt
        return {"kl": 0.5}

    run.measured = measured
    with pytest.raises(KeyboardInterrupt):
        run.pilot()
    stored = read(run.options.out)
    assert stored["pilot"] == {"0": [0.5] * 3, "1": [0.5] * 3}
    assert stored["made on"][0]["added"] == {"pilot": 2}


def test_a_whole_pilot_divides_its_blocks_among_the_layers(tmp_path):
    run = run_of(tmp_path / "a.json")
    need = [1e-3, 1e-2, 1e-1]

    def measured(_text, _window, attend):
        ((layer, kept),) = ((n, k) for n, k in enumerate(attend.kept) if k is not None)
        return {"kl": need[layer] * 0.9**kept}

    run.measured, run.length = measured, 4096
    assert run.pilot()
    low, middle, high = read(run.options.out)["layers"]
    assert halves.LEAST <= low < middle < high <= halves.MOST
    spent = sum(halves.density_of(4096, kept) for kept in (low, middle, high))
    assert spent <= 3 * halves.density_of(4096, HALF)


def test_tokens_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    ids = torch.arange(5)
    asked = lambda *_, **__: SimpleNamespace(input_ids=ids[None])  # noqa: E731
    monkeypatch.setattr(halves, "load_tokenizer", lambda: asked)
    monkeypatch.setattr(halves, "texts", lambda: {"a": "", "b": ""})
    path = tmp_path / "some" / "tokens.npz"

    def broken(file, **_):
        file.write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez_compressed", broken)
        with pytest.raises(KeyboardInterrupt):
            halves.tokens(path)
    assert not list(path.parent.iterdir())
    for _ in range(2):  # made, and read
        assert [x.tolist() for x in halves.tokens(path).values()] == [ids.tolist()] * 2
