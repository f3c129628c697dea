"""What is stored of the factorial: budgets, the table from its results, checkpoints and bits."""

import json

import numpy as np
import pytest
import torch
from places import TABLES
from tokenizers import Tokenizer

from book.experiments.common.store import read
from book.experiments.one_model import store as stored
from book.experiments.one_model.cells import (
    BUDGETS,
    FOUND,
    SCALES,
    Job,
    cells,
    jobs,
    read_stream,
    recall,
    scores,
    text_of,
)
from book.experiments.one_model.runner import effects, with_shared
from book.experiments.one_model.text import HELD, Tokens
from genopt_core import corpora, tables
from genopt_core.one_model import token_bytes, tokenizer_digest
from genopt_core.subwords.tokenizer.tokenizer_json import load_tokenizer_json
from genopt_core.torch.model import load_model

torch.set_num_threads(1)
TABLE = tables.load("one_model")


def rows(name):
    return tables.records(TABLE[name])


# ------------------------------------------------------------------ budgets


def test_a_training_that_two_budgets_share_is_done_once():
    todo = list(jobs("tiny", "all", 1, BUDGETS))
    assert len(todo) == len(set(todo)) == 16 + 8 + 4
    told = [{"scale": j.scale, "cell": j.cell, "budget": j.budget, "seed": 0} for j in todo]
    every = [(row["cell"], row["budget"]) for row in with_shared(told)]
    assert sorted(every) == sorted((cell, budget) for cell in cells() for budget in BUDGETS)
    assert list(jobs("tiny", "bpe.rope.dense.default", 1, ("bytes",))) == [
        Job("tiny", "bpe.rope.dense.default", "tokens", 0)
    ]


def test_budgets_are_equal_in_what_they_say(tmp_path):
    tokens = SCALES["tiny"].tokens
    by_cell = {}
    for cell, budget in (
        ("bpe.rope.dense.default", "tokens"),
        ("swe.rope.dense.default", "bytes"),
        ("swe.harmonic.blocks.default", "seconds"),
    ):
        job = Job("tiny", cell, budget, 3)
        text = text_of(job, tmp_path)
        stream = read_stream(job, text, tmp_path)
        by_cell[budget] = len(stream), int(text.lengths[stream.numpy()].sum())
    assert by_cell["tokens"][0] == tokens + 1
    assert 0 <= by_cell["tokens"][1] - by_cell["bytes"][1] < text.lengths.max()
    assert by_cell["seconds"][0] == tokens // 2 + 1  # whose steps take twice as long


# ------------------------------------------------------------------ scores


class Repeats:
    """A model for which a token is the likelier, the oftener it was read."""

    def __call__(self, ids):
        return 3 * torch.nn.functional.one_hot(ids, 50).cumsum(1).float()


def test_recall_is_what_reading_before_saves():
    rng = np.random.default_rng(0)
    held = rng.integers(50, size=4000).astype(np.int32)
    text = Tokens(held, held, np.ones(50, dtype=np.int64), "")
    found = recall(Repeats(), text, SCALES["tiny"], "cpu")
    assert [row["distance"] for row in found] == [8, 16]
    for row in found:
        assert row["not_read"] - row["read"] > 0.5


def test_effects_have_the_cache_as_a_fifth_factor():
    names = [f"{cell}.{cache}" for cell in cells() for cache in ("full", "staircase")]
    values = {
        name: 2.0 - 0.1 * name.startswith("swe") + 0.03 * name.endswith("staircase")
        for name in names
    }
    found = effects(values)
    assert len(found) == 31
    assert found["tokenizer"] == pytest.approx(-0.1)
    assert found["cache"] == pytest.approx(0.03)
    assert found["tokenizer × cache"] == pytest.approx(0)


def test_a_cell_without_all_seeds_is_in_no_mean():
    given = [{"cell": c, "budget": "bytes", "seed": s} for c, s in (("a", 0), ("a", 1), ("b", 1))]
    assert stored.whole(given, [0, 1]) == given[:2]


# ------------------------------------------------------------------ what is stored


def test_the_table_is_that_of_the_results():
    made = stored.table(read(stored.RESULT), read(FOUND), stored.read_golf())
    assert json.loads(json.dumps(made)) == read(stored.TABLE)


def test_the_results_are_whole():
    content = read(stored.RESULT)
    assert content["provisional"] is False
    every = {(r["cell"], r["seed"]) for r in rows("trainings") if r["budget"] == "tokens"}
    assert every == {(cell, seed) for cell in cells() for seed in TABLE["seeds"]}
    assert len(TABLE["seeds"]) >= 5
    tokens = {r["tokens"] for r in rows("trainings") if r["budget"] == "tokens"}
    assert tokens == {TABLE["scale"]["tokens"]}
    said = {(r["kind"], r["switched"]) for r in rows("subsets") if r["budget"] == "tokens"}
    assert len(said) == 1 + 5 + 1 + 5 + 1


def test_a_bar_is_met_or_the_table_says_that_it_is_not():
    trained = TABLE["contexts"][0]
    by_cell = {
        (r["cell"], r["cache"]): r["each"]
        for r in rows("scores")
        if (r["budget"], r["context"]) == ("tokens", trained)
    }
    verdict = TABLE["verdict"]
    base, ours = by_cell[stored.BASE, "full"], by_cell[stored.ALL, "staircase"]
    assert verdict["base"][0] == pytest.approx(np.mean(base), abs=1e-5)
    assert verdict["all"][0] == pytest.approx(np.mean(ours), abs=1e-5)
    gap = abs(np.mean(base) - np.mean(ours)) - verdict["base"][1] - verdict["all"][1]
    assert verdict["apart"] is bool(gap > 0)
    assert verdict["best"]["mean"] == pytest.approx(min(map(np.mean, by_cell.values())), abs=1e-5)
    assert verdict["cache_share"] <= 0.3


def tokenizer(file):
    path = TABLES / file
    if "swe" in file:
        made = load_tokenizer_json(path)
        return made, lambda part: np.asarray(made.encode(part), dtype=np.int32)
    made = Tokenizer.from_file(str(path))
    return made, lambda part: np.array(made.encode(part).ids, dtype=np.int32)


@pytest.mark.parametrize("row", rows("checkpoints"), ids=lambda row: row["name"])
def test_a_checkpoint_has_the_stored_bits(row):
    scale = SCALES[TABLE["scale"]["name"]]
    made, encode = tokenizer(row["tokenizer_file"])
    content = corpora.load(scale.text)
    content = content[: round(scale.part * len(content))]
    held = content[content.rindex(" ", 0, round((1 - HELD) * len(content))) + 1 :]
    text = Tokens(np.zeros(0, np.int32), encode(held), token_bytes(made), tokenizer_digest(made))
    model = load_model(TABLES / row["file"], text.digest)
    once = scores(model, text, scale, "cpu", scale.times[:1])[0]
    assert once[row["cache"]] == pytest.approx(row["bits"], abs=2e-3)  # stored in 16 bits
    sizes = [(TABLES / r["file"]).stat().st_size for r in rows("checkpoints")]
    assert sum(sizes) < 4e6


def test_entries_of_mini_golf_are_within_their_bytes():
    golf = TABLE["golf"]
    for row in tables.records(golf):
        parts = [row[f"{name}_bytes"] for name in ("model", "tokenizer", "code")]
        assert row["total_bytes"] == sum(parts) <= golf["limit"] == 1_000_000
        assert row["cpu_minutes"] <= 20  # ten minutes of two cores
