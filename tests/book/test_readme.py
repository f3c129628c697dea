"""The Python of the README runs as it is printed, and its install lines name what it imports."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
LIBRARY = TEXT[TEXT.index("## As a library") : TEXT.index("## Reading order")]
PYTHON = re.findall(r"```python\n(.*?)```", LIBRARY, re.DOTALL)


def snippet(word: str, transformers: str = "9") -> str:
    """The block of Python with ``word``; for an older transformers changed as it says itself."""
    (code,) = [block for block in PYTHON if word in block]
    if tuple(map(int, transformers.split(".")[:2])) < (5, 24):
        code = code.replace("cache=cache,", "past_key_values=cache,")
    return code


def test_a_text_of_the_reader_s_becomes_a_tokenizer(monkeypatch, tmp_path, capsys):
    transformers = pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_text.txt").write_text(TEXT, encoding="utf-8")
    names: dict = {}
    exec(snippet("to_transformers"), names)
    vocabulary = names["vocabulary"]
    specials = len(vocabulary.pieces) + 256 + 1 + 2
    assert f"Vocabulary({len(vocabulary)} pieces" in capsys.readouterr().out
    loaded = transformers.AutoTokenizer.from_pretrained("my_tokenizer")
    assert len(loaded) == len(names["tokenizer"]) == specials
    assert loaded.decode(loaded("The  whale.").input_ids) == "The  whale."
    assert len(loaded(["a", "The whale."], padding=True)["input_ids"]) == 2


def test_the_command_lines_are_commands(monkeypatch, tmp_path, capsys):
    from genopt_core.subwords.__main__ import main

    monkeypatch.chdir(tmp_path)
    for name in ("my_text.txt", "my_code.py"):
        (tmp_path / name).write_text(TEXT, encoding="utf-8")
    lines = re.findall(r"^python -m genopt_core\.subwords (.*)$", LIBRARY, re.MULTILINE)
    assert [line.split()[0] for line in lines] == ["train", "certify", "train"]
    for line in lines:
        assert main([*shlex.split(line), *(["--steps", "2"] if "certify" in line else [])]) == 0
    assert "above the best possible" in capsys.readouterr().out


def test_the_sampler_searches(monkeypatch, capsys):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    names: dict = {}
    exec(snippet("CrossEntropySampler"), names)
    assert len(names["study"].trials) == 20
    assert "rate" in capsys.readouterr().out


def printed() -> list[str]:
    """What the README says that its cache prints."""
    return re.findall(r"^    (StaircaseCache\(.*|tokens \d+ to .*)$", LIBRARY, re.MULTILINE)


def test_a_smaller_cache_and_stored_ladders(monkeypatch, capsys):
    """On small random weights, with SmolLM2's layers and a tokenizer of few tokens."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from oracles.models import tiny

    from genopt_core.torch import smollm

    class Tokenizer:
        def __call__(self, text, return_tensors):
            ids = torch.tensor([[ord(c) % 128 for c in text[::2]]])
            return transformers.BatchEncoding({"input_ids": ids, "attention_mask": ids * 0 + 1})

        def decode(self, ids):
            return f"{len(ids)} tokens"

    monkeypatch.setattr(smollm, "load_smollm", lambda: (Tokenizer(), tiny(dim=64, layers=30)))
    names: dict = {}
    exec(snippet("load_smollm", transformers.__version__), names)
    lines, said = capsys.readouterr().out.splitlines(), printed()
    assert [line.split(" layers, ")[1].split(",")[0] for line in lines[:2]] == [
        line.split(" layers, ")[1].split(",")[0] for line in said[:2]
    ]
    assert lines[2] == said[2] == "tokens 0 to 3: 16 bits"
    exec(snippet("choose_ladders"), names)
    assert float(capsys.readouterr().out) <= 2.85
    exec(snippet("integrations.attention"), names)
    assert capsys.readouterr().out == "20 tokens\n"
    assert names["model"].config._attn_implementation != "genopt_blocks"
    from genopt_core.torch.kvcache import StaircaseCache

    designed = StaircaseCache(names["model"].config, names["keys"], names["values"])
    assert len({layer.ladders["key"] for layer in designed.stair_layers}) > 1


@pytest.mark.slow
def test_the_cache_of_the_book_s_model_is_as_printed(monkeypatch, capsys):
    transformers = pytest.importorskip("transformers")
    from oracles.models import smollm as load

    from genopt_core.torch import smollm

    loaded = load()
    monkeypatch.setattr(smollm, "load_smollm", lambda: loaded)
    names: dict = {}
    exec(snippet("load_smollm", transformers.__version__), names)
    said = re.search(r"return_tensors=\"pt\"\)  # (\d+) tokens", LIBRARY)
    assert said
    assert names["prompt"].input_ids.shape == (1, int(said[1]))
    lines = capsys.readouterr().out.splitlines()
    # What it holds to the byte; what the model says next may differ by processor.
    assert [line.split(")")[0] for line in lines] == [line.split(")")[0] for line in printed()]


def test_install_lines_stand_above_each_snippet_and_name_extras_that_exist():
    settings = tomllib.loads((ROOT / "genopt_core" / "pyproject.toml").read_text(encoding="utf-8"))
    extras = settings["project"]["optional-dependencies"]
    named = re.findall(r"\./genopt_core\[(\w+)\]", TEXT)
    assert set(named) <= set(extras)
    for part in re.split(r"\n### ", LIBRARY)[1:]:
        first = re.search(r"```(\w+)\n", part)
        assert first, part
        assert first[1] == "sh", part
        assert "pip install" in part[first.end() :].partition("```")[0]


def test_extras_admit_the_versions_of_the_lock():
    """Bounds are declared, and what the tests run on lies within them."""
    from packaging.requirements import Requirement

    settings = tomllib.loads((ROOT / "genopt_core" / "pyproject.toml").read_text(encoding="utf-8"))
    locked = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", constraints(), re.MULTILINE))
    for extra, lines in settings["project"]["optional-dependencies"].items():
        for needed in map(Requirement, lines):
            assert needed.specifier or needed.name == "genopt-core", f"{extra}: {needed}"
            if needed.name in locked:
                assert needed.specifier.contains(locked[needed.name]), f"{extra}: {needed}"
            if needed.name in ("transformers", "optuna"):
                assert "<" in str(needed.specifier), f"{extra}: {needed} has no upper bound"


def constraints() -> str:
    return (ROOT / "constraints.txt").read_text(encoding="utf-8")
