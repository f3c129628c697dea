"""The Python of the README runs as it is printed."""

import re

import optuna
import torch
from oracles.models import tiny
from places import ROOT


def test_python_of_the_readme_runs(monkeypatch):
    monkeypatch.chdir(ROOT)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    ids = torch.randint(3, 128, (1, 1500), generator=torch.Generator().manual_seed(0))
    names = {"model": tiny(dim=64), "ids": ids[:, :300], "text_ids": ids}
    for block in blocks:
        exec(block, names)
    assert names["tokenizer"].decode(names["tokenizer"]("The whale.").input_ids) == "The whale."
    assert len(names["study"].trials) == 20
    assert names["out"].shape == (1, 350)
    assert names["cache"].limit_bits() <= 2.85
