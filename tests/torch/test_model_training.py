"""Training: it learns, goes on bit for bit after kill -9 and Ctrl-C, and refuses another run."""

import dataclasses
import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from places import ROOT

from genopt_core.one_model import ModelConfig
from genopt_core.torch.model import Run, train
from genopt_core.torch.model.storage import read
from genopt_core.torch.model.training import CHECKPOINT

torch.set_num_threads(1)
SHAPE = {"vocabulary": 17, "width": 16, "heads": 2, "key_heads": 1, "hidden": 16}
BOTH = {"positions": "rope+harmonic", "learned": True, "density": 0.5, "block": 2}


def a_run(steps=24, **changes):
    return Run(model=ModelConfig(**{**SHAPE, **BOTH, **changes}), steps=steps, rate=0.01, seed=3)


def batch(step):
    """Runs of numbers that go up by one, from random ones on; a function of the step."""
    start = torch.randint(17, (4, 1), generator=torch.Generator().manual_seed(step))
    return (start + torch.arange(33)) % 17


def same(a, b):
    return torch.equal(a.losses, b.losses) and all(
        torch.equal(x, y) for x, y in zip(a.model.parameters(), b.model.parameters(), strict=True)
    )


@pytest.mark.parametrize(
    "changes", [{}, {"density": None}, {"positions": "rope", "learned": False}]
)
def test_it_learns_and_gives_the_same_bits_again(changes):
    first, second = (train(a_run(90, **changes), batch) for _ in range(2))
    assert same(first, second)
    assert first.losses[0] > 2.5
    assert first.losses[-1] < 0.5
    assert not first.model.training


def test_a_run_in_two_parts_is_the_run(tmp_path):
    path, seen = tmp_path / "run.safetensors", []

    def until_ten(done):
        seen.append(done)
        if done.done == 10:
            raise KeyboardInterrupt

    whole = train(a_run(), batch)
    with pytest.raises(KeyboardInterrupt):
        train(a_run(), batch, path=path, every=100, progress=until_ten)
    assert read(path, CHECKPOINT)[1]["step"] == 10
    assert [d.done for d in seen] == list(range(1, 11))
    assert seen[-1].total == 24
    assert seen[-1].loss == whole.losses[9]
    later = train(a_run(), batch, path=path)
    assert same(whole, later)
    assert same(whole, train(a_run(), lambda step: pytest.fail("all is done"), path=path))


@pytest.mark.parametrize("where", ["batch", "optimizer"])
def test_an_interrupt_in_the_middle_of_a_step_is_before_it(tmp_path, monkeypatch, where):
    """Blocks are drawn and moments are half made when it comes; neither may be counted."""
    path, original = tmp_path / "run.safetensors", torch.optim.AdamW.step
    calls = iter(range(100))

    def cut(*args):
        if next(calls) == 7:
            raise KeyboardInterrupt
        return original(*args) if where == "optimizer" else batch(*args)

    if where == "optimizer":
        monkeypatch.setattr(torch.optim.AdamW, "step", cut)
    with pytest.raises(KeyboardInterrupt):
        train(a_run(), cut if where == "batch" else batch, path=path, every=100)
    monkeypatch.undo()
    assert read(path, CHECKPOINT)[1]["step"] == 7
    assert same(train(a_run(), batch, path=path), train(a_run(), batch))


SCRIPT = """
import sys, time, torch
from pathlib import Path
sys.path[:0] = [{root!r}, {here!r}]
from test_model_training import a_run, batch
from genopt_core.torch.model import train
torch.set_num_threads(1)
train(a_run(), batch, path={path!r}, every=4, progress=lambda done: (print(done.done, flush=True),
      sys.stdin.readline() if done.done == 11 else None))
"""


def test_killed_and_taken_up_again(tmp_path):
    """kill -9 at step 11, with the checkpoint of step 8."""
    path = tmp_path / "run.safetensors"
    script = SCRIPT.format(root=str(ROOT), here=str(ROOT / "tests/torch"), path=str(path))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))}
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    for line in process.stdout:  # it waits at step 11 for a line that never comes
        if int(line) == 11:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()
    assert read(path, CHECKPOINT)[1]["step"] == 8
    assert same(train(a_run(), batch, path=path), train(a_run(), batch))
    assert list(tmp_path.iterdir()) == [path]


def test_another_run_s_checkpoint_is_refused(tmp_path):
    path = tmp_path / "run.safetensors"
    train(a_run(4), batch, path=path)
    for change, name in (({"rate": 0.02}, "rate"), ({"tokenizer": "ab" * 32}, "tokenizer")):
        with pytest.raises(ValueError, match=f"{name} must be that of the checkpoint"):
            train(dataclasses.replace(a_run(4), **change), batch, path=path)
    with pytest.raises(ValueError, match="model must be that of the checkpoint"):
        train(a_run(4, density=None), batch, path=path)


def test_special_tokens_have_no_loss():
    lengths = torch.ones(17, dtype=torch.int64)
    lengths[5] = 0
    run = a_run(1, density=None)
    plain, without = train(run, batch), train(run, batch, lengths=lengths)
    assert not torch.equal(plain.losses, without.losses)
    fives = train(run, lambda step: torch.full((2, 9), 5), lengths=lengths)
    assert fives.losses.tolist() == [0.0]


def test_a_run_goes_through_json_and_names_what_is_wrong():
    assert Run.from_json(json.loads(json.dumps(a_run().to_json()))) == a_run()
    for change, message in (
        ({"rate": 0.0}, "rate must be positive, got 0.0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"warm_up": 2.0}, r"warm_up must be in \[0, 1\], got 2.0"),
        ({"beta": 1.0}, r"beta must be in \[0, 1\), got 1.0"),
        ({"decay": -1.0}, "decay must be at least 0, got -1.0"),
        ({"tokenizer": "x"}, "tokenizer must be a SHA-256"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(a_run(), **change)
    with pytest.raises(ValueError, match=r"got \['epochs'\]"):
        Run.from_json({**a_run().to_json(), "epochs": 1})
    with pytest.raises(ValueError, match="every must be at least 1"):
        train(a_run(), batch, every=0)
