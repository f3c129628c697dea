"""The second part of chapter 1 in figures: stored tables in step, numbers the core's."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
from oracles.figures import drawn, marks

from book.ch1_subwords import results
from book.experiments.subwords import explorer_tables
from genopt_core import corpora
from genopt_core import explorers as ex
from genopt_core.explorers.subwords import (
    collapse,
    costs,
    frontier,
    growth,
    models,
    peers,
    training,
)
from genopt_core.explorers.subwords.words import typed_words
from genopt_core.subwords import Lattice, best_paths, fit_probabilities, substring_vocabulary
from genopt_core.subwords.tokenizer.peers import Unigram

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "genopt_core" / "tables"
WITH_LANGUAGES = pytest.mark.skipif(
    not (DATA / "subword_languages.json").is_file(),
    reason="python -m book.experiments.subwords.explorer_tables languages has not been run",
)
OBJECTIVES = ("likelihood", "weight", "tokens")
TEXTS = [
    *ex.get("subword-peers").controls[0].samples,
    "q",
    "İstanbul",
    "日本",
    "b2b, e-mail!",
    "a ▁ b",
    "e\u0301t\u00e9",
    "😀 x",
    "x" * 60,
]


def stored(name):
    return json.loads((DATA / f"subword_{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def counts():
    return corpora.count_words(corpora.load("sotu"), "textbook")


# Stored tables ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["peers", "frontier", "models", "costs", "texts", "growth", "across"]
)
def test_copies_are_in_step_with_the_results(name):
    kept = stored(name)["origin"]
    for source, digest in (kept.get("sources") or {kept["source"]: kept["source_sha256"]}).items():
        assert hashlib.sha256((ROOT / source).read_bytes()).hexdigest() == digest, (
            f"run: python -m book.experiments.subwords.explorer_tables {name}"
        )


@pytest.mark.parametrize("name", ["frontier", "models", "costs", "growth", "across"])
def test_tables_are_made_by_the_script(name):
    made = explorer_tables.MAKERS[name]()
    assert stored(name) == json.loads(json.dumps(made))


def test_tables_are_small_and_name_no_folder_of_this_machine():
    for path in DATA.glob("subword_*.json"):
        text = path.read_text(encoding="utf-8")
        assert len(text.encode()) <= 150_000, path.name
        assert str(ROOT) not in text
        assert (
            json.loads(text)["origin"]["made_by"] == "book/experiments/subwords/explorer_tables.py"
        )


@pytest.mark.parametrize("name", ["likelihood", "weight"])
def test_stored_vocabulary_spells_the_corpus_as_recorded(name, counts):
    vocabulary = peers.stored_vocabularies()[name]
    assert len(vocabulary) == 2000
    assert set("".join(counts)) <= set(vocabulary.pieces)
    words = sum(counts.values())
    run = stored("training")["runs"][name]
    last = max(step for step, kept in enumerate(run["kept"]) if kept)
    total = vocabulary.counts.sum()
    used = vocabulary.counts[vocabulary.counts > 0]
    bits = (total * math.log2(total) - (used * np.log2(used)).sum()) / words
    assert run["pieces"][last] == 2000
    assert run["tokens_per_word"][last] == pytest.approx(total / words, abs=1e-6)
    assert run["bits_per_word"][last] == pytest.approx(bits, abs=1e-6)
    # Prices refitted to the counts spell the corpus in the same way up to a few near-ties.
    paths = best_paths(Lattice(counts, vocabulary.costs))
    tokens = float((paths.lattice.counts * paths.steps).sum())
    assert tokens / words == pytest.approx(total / words, rel=2e-3)


def test_recorded_training_obeys_its_bound(counts):
    table = stored("training")
    assert table["words"] == sum(counts.values())
    assert table["distinct_words"] == len(counts)
    for run in table["runs"].values():
        for pieces, tokens in zip(run["pieces"], run["tokens_per_word"], strict=True):
            assert pieces > 2000 or tokens >= table["bound_tokens_per_word"]
        size = 29  # single characters, which are there from the start
        for pieces, entered, left in zip(run["pieces"], run["entered"], run["left"], strict=True):
            assert pieces == size + entered - left
            size = pieces
        assert all(len(shown) <= 8 for key in ("in", "out") for shown in run[key])


def test_peer_counts_are_of_their_own_segmentations(counts):
    table = stored("peers")
    unigram = Unigram(dict(table["unigram"]["scores"]))
    some = dict.fromkeys(unigram.pieces, 0)
    for word, count in counts.items():
        for piece in unigram.segment("▁" + word[:-1]):
            some[piece] += count
    assert list(some.values()) == table["unigram"]["counts"]
    assert sum(counts.values()) == table["words"]


# subword-peers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", TEXTS)
def test_strips_spell_the_text_and_cost_what_they_say(text):
    figure = drawn("subword-peers", text=text)
    json.dumps(figure, allow_nan=False)
    words = typed_words(text, "text")
    strips = marks(figure["panels"][0], "rect")
    told = [m["columns"]["text"][0] for m in marks(figure["panels"][0], "text")]
    for (name, model), strip, label in zip(peers.models().items(), strips, told, strict=True):
        columns = strip["columns"]
        spelled = "".join(columns["text"])
        front = "".join("▁" + word[:-1] for word in words)
        assert spelled == (front if model.front else "".join(words))
        assert columns["x1"][1:] == columns["x2"][:-1], "no gap, no overlap"
        bits = tokens = 0.0
        starts = set(np.cumsum([0, *map(len, words)]).tolist())
        for piece, z, x1 in zip(columns["text"], columns["z"], columns["x1"], strict=True):
            inside = name == "WordPiece" and x1 not in starts and z != "unknown"
            own = "##" + piece if inside else piece
            size = len(piece.replace("▁", " ").encode())
            unknown = z == "unknown"
            assert unknown == (own not in model.bits)
            bits += 8 * size if unknown else model.bits[own]
            tokens += size if unknown else 1
        assert label == f"{name}: {tokens:.0f} token{'s' * (tokens != 1)}, {bits:.1f} bits"


@pytest.mark.parametrize("text", ["technologies of our neighborhoods", "philadelphia", "cuba"])
def test_strips_are_the_tokenizers_own(text):
    strips = marks(drawn("subword-peers", text=text)["panels"][0], "rect")
    words = [word + "▁" for word in text.split()]
    for vocabulary, strip in zip(peers.stored_vocabularies().values(), strips[3:], strict=True):
        own = [piece for word in words for piece in vocabulary.segment(word).pieces]
        assert strip["columns"]["text"] == own


def test_corpus_means_are_those_of_training():
    runs, models = stored("training")["runs"], peers.models()
    for name, run in zip(peers.OURS, (runs["likelihood"], runs["weight"]), strict=True):
        last = max(step for step, kept in enumerate(run["kept"]) if kept)
        tokens, bits = models[name].corpus
        assert tokens == pytest.approx(run["tokens_per_word"][last], abs=1e-6)
        assert bits == pytest.approx(run["bits_per_word"][last], abs=1e-6)
    means = {name: model.corpus for name, model in models.items()}
    ours = means.pop(peers.OURS[0])
    assert ours[1] < min(bits for _, bits in means.values())
    assert max(tokens for tokens, _ in means.values()) > ours[0]


def test_presets_of_peers_show_what_their_notes_say():
    presets = {p.label: p.params["text"] for p in ex.get("subword-peers").presets}

    def bits(text):
        words = typed_words(text, "text")
        return {n: sum(c.bits for c in m.cut(words)) for n, m in peers.models().items()}

    astray = bits(presets["BPE picks a poor merge"])
    assert astray["BPE"] > 1.3 * astray["ours"]
    loses = bits(presets["Ours loses to BPE and Unigram"])
    assert loses["ours"] > max(loses["BPE"], loses["Unigram"])
    name = presets["A name"] + "▁"
    likelihood, weight = peers.stored_vocabularies().values()
    assert name in likelihood.pieces
    assert name not in weight.pieces
    count = likelihood.counts[likelihood.pieces.index(name)]
    assert count == 12, "the note says twelve"
    assert (
        "None of the"
        in ex.draw("subword-peers", text=presets["A foreign script: raw bytes only"]).readout
    )


def test_text_of_blanks_or_too_long_is_refused():
    with pytest.raises(ValueError, match="text"):
        ex.draw("subword-peers", text="▁ ▁")
    with pytest.raises(ValueError, match="at most 60"):
        ex.draw("subword-peers", text="x" * 61)


# subword-training ---------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_training_shows_every_recorded_step(objective):
    run = stored("training")["runs"][objective]
    last = training.LAST[objective]
    assert last == len(run["stage"]) - 1
    assert set(run["stage"]) <= set(training.STAGES)
    for step in range(max(training.LAST.values()) + 1):
        figure = drawn("subword-training", objective=objective, step=step)
        now = min(step, last)
        size, bits, tokens, exchange = figure["panels"]
        assert figure["limits"] == {"step": [0, last]}
        for panel, key in ((size, "pieces"), (bits, "bits_per_word"), (tokens, "tokens_per_word")):
            assert marks(panel, "line")[0]["columns"]["y"] == pytest.approx(run[key], rel=1e-3)
        shown = [m["columns"]["text"] for m in marks(exchange, "rect")]
        assert shown == [run[key][now] for key in ("in", "out") if run[key][now]]
        assert f"{run['bits_per_word'][now]:.3f} bits" in figure["readout"]


def test_presets_of_training_show_what_their_notes_say():
    runs = stored("training")["runs"]
    first = runs["likelihood"]
    assert first["pieces"][0] > 4 * 2000
    cut, search = (p.params["step"] for p in ex.get("subword-training").presets[1:3])
    assert first["stage"][cut] == "hard"
    assert first["pieces"][cut] == 2000
    assert first["stage"].index("search") == search == training.FIRST_SEARCH
    for preset in ex.get("subword-training").presets:
        low, high = ex.draw("subword-training", **preset.params).limits["step"]
        assert low <= preset.params["step"] <= high, "the page would move it, and hide its note"
    bits, tokens = (
        {name: run[key][-1] for name, run in runs.items()}
        for key in ("bits_per_word", "tokens_per_word")
    )
    assert bits["likelihood"] < bits["weight"] < bits["tokens"]
    assert tokens["tokens"] < tokens["weight"] < tokens["likelihood"]


# subword-collapse ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("longest", "before", "after", "whole"), [(3, -136.000, -75.605, 0), (7, -69.970, -20.882, 4)]
)
def test_collapse_gives_the_chapter_s_regression_numbers(longest, before, after, whole):
    readout = ex.draw("subword-collapse", corpus="four", longest=longest).readout
    assert f"from −{-before:.3f} to −{-after:.3f} nats" in readout
    assert f"{whole} of 4 words are one sub-word" in readout
    assert ("has no segmentation any more" in readout) == (longest == 7)


@pytest.mark.parametrize("corpus", list(collapse.CORPORA))
@pytest.mark.parametrize("longest", [1, 4, 7])
def test_collapse_shows_the_core_s_fit(corpus, longest):
    words = collapse.CORPORA[corpus]
    figure = drawn("subword-collapse", corpus=corpus, longest=longest)
    fit = fit_probabilities(words, substring_vocabulary(words, 10**6, longest))
    curve, strips = figure["panels"]
    shown = marks(curve, "line", z="fitted")[0]["columns"]["y"][longest - 1]
    assert shown == pytest.approx(fit.log_likelihoods[-1], rel=1e-3, abs=1e-9)
    rows = [m["columns"]["text"] for m in marks(strips, "rect")]
    assert ["".join(row) for row in rows[:-1]] == list(words)
    assert {piece for row in rows[:-1] for piece in row} == set(fit.probabilities)


def test_one_word_is_learnt_by_heart():
    readout = ex.draw("subword-collapse", corpus="one", longest=7).readout
    assert "to 0.000 nats, 1 of" in readout
    assert "1 of 1 words are one sub-word" in readout


# subword-frontier ---------------------------------------------------------------------------------


def least(family, column):
    """The family's best value at each size, from the stored rows."""
    table = stored("frontier")
    best = {}
    for row in table["rows"]:
        row = dict(zip(table["columns"], row, strict=True))
        if row["contestant"] in frontier.FAMILIES[family]:
            best[row["size"]] = min(best.get(row["size"], math.inf), row[column])
    return best


@pytest.mark.parametrize("measure", ["tokens_per_word", "bits_per_byte"])
@pytest.mark.parametrize("part", ["train", "held"])
@pytest.mark.parametrize("rival", frontier.PEERS)
def test_frontier_shows_the_best_setting_of_each_family(measure, part, rival):
    ours = "ours, λ = 10"
    figure = drawn("subword-frontier", ours=ours, rival=rival, measure=measure, part=part)
    values, changes = figure["panels"]
    for role, family in (("ours", ours), ("rival", rival)):
        best = least(family, f"{part}_{measure}")
        (line,) = marks(values, "line", z=role)
        assert line["columns"]["x"] == sorted(best)
        assert line["columns"]["y"] == pytest.approx([best[s] for s in sorted(best)], rel=1e-3)
    shown = marks(values, "dot", z="others")[0]["columns"]["y"]
    every = [v for name in frontier.FAMILIES for v in least(name, f"{part}_{measure}").values()]
    assert sorted(shown) == pytest.approx(sorted(every), rel=1e-3)
    for name, short in frontier.SHORT.items():
        mine, other = (least(family, f"{part}_{name}") for family in (ours, rival))
        (line,) = marks(changes, "line", z=short)
        wanted = [100 * (mine[size] / other[size] - 1) for size in sorted(mine)]
        assert line["columns"]["y"] == pytest.approx(wanted, rel=1e-2, abs=1e-3)


def test_the_best_peer_is_the_best_of_each_count():
    changes = drawn("subword-frontier")["panels"][1]
    for name, short in frontier.SHORT.items():
        mine = least("ours, λ = 5", f"held_{name}")
        others = [least(peer, f"held_{name}") for peer in frontier.PEERS]
        (line,) = marks(changes, "line", z=short)
        for size, shown in zip(*(line["columns"][axis] for axis in "xy"), strict=True):
            wanted = 100 * (mine[size] / min(other[size] for other in others) - 1)
            assert shown == pytest.approx(wanted, rel=1e-2, abs=1e-3)


def test_nobody_crosses_the_bound_and_only_proved_ones_are_drawn():
    table = stored("frontier")
    at = {name: table["columns"].index(name) for name in table["columns"]}
    bounds = dict(table["bounds"])
    for row in table["rows"]:
        if row[at["contestant"]] != "rustbpe" and row[0] in bounds:  # its pieces are bytes
            assert row[at["train_tokens_per_word"]] > bounds[row[0]]
    for measure in ("tokens_per_word", "bits_per_byte"):
        for part in ("train", "held"):
            figure = drawn("subword-frontier", measure=measure, part=part)
            proved = measure == "tokens_per_word" and part == "train"
            (area,) = marks(figure["panels"][0], "area")
            wanted = pytest.approx(list(bounds.values()), rel=1e-3) if proved else [None] * 4
            assert area["columns"]["y2"] == wanted
            (ends,) = marks(figure["panels"][0], "text")
            assert ("certified bound" in ends["columns"]["text"]) == proved
            assert ("can go below" in figure["readout"]) == proved
            says = "training text only" if measure == "tokens_per_word" else "no certified bound"
            assert says in figure["cost"]


# subword-languages --------------------------------------------------------------------------------


@WITH_LANGUAGES
def test_languages_agree_with_the_comparison_where_both_have_a_row():
    table = stored("languages")
    source = json.loads(
        (ROOT / "book" / "data" / "results" / "subwords_quality.json").read_text(encoding="utf-8")
    )
    rows = [dict(zip(source["columns"], row, strict=True)) for row in source["rows"]]
    for row in rows:
        entry = table["languages"].get(row["corpus"].removeprefix("words-"))
        if entry is None or row["size"] != table["origin"]["size"]:
            continue
        if row["contestant"] in entry["numbers"]:
            wanted = [row[name] for name in table["measures"]]
            # Ours may have been trained by another version of the trainer.
            close = 5e-3 if row["contestant"].startswith("ours") else 1e-5
            assert entry["numbers"][row["contestant"]] == pytest.approx(wanted, rel=close)


@WITH_LANGUAGES
@pytest.mark.parametrize("measure", ["bits", "tokens"])
def test_languages_show_the_stored_numbers(measure):
    table = stored("languages")
    column = table["measures"].index(
        {"bits": "held_bits_per_byte", "tokens": "held_tokens_per_word"}[measure]
    )
    for language, entry in table["languages"].items():
        figure = drawn("subword-languages", language=language, measure=measure)
        bars = marks(figure["panels"][1], "bar")[0]["columns"]["y"]
        assert bars == pytest.approx([n[column] for n in entry["numbers"].values()], rel=1e-3)
        for words in entry["cut"].values():
            spelled = ["".join(pieces).replace("▁", "") for pieces in words]
            assert spelled == entry["samples"]
        assert f"{entry['numbers']['hf_bpe'][column]:.3f}" in figure["readout"]


# subword-models and subword-costs -----------------------------------------------------------------


@pytest.mark.parametrize("unit", ["bits", "percent"])
@pytest.mark.parametrize("setting", list(models.SETTINGS))
def test_models_show_the_stored_differences_and_intervals(setting, unit):
    rows = {row[0]: row for row in stored("models")["settings"][setting]}
    scale = 100 / rows["hf_bpe"][2] if unit == "percent" else 1
    panel = drawn("subword-models", setting=setting, unit=unit)["panels"][0]
    (dots,), (links,) = marks(panel, "dot"), marks(panel, "link")
    shown = dict(zip(dots["columns"]["y"], dots["columns"]["x"], strict=True))
    ends = zip(*(links["columns"][name] for name in ("y1", "x1", "x2")), strict=True)
    assert set(shown) == {models.LABELS[name] for name in rows} - {"BPE"}
    for name, low, high in ends:
        row = next(r for r in rows.values() if models.LABELS[r[0]] == name)
        assert shown[name] == pytest.approx(scale * row[3], rel=1e-3, abs=1e-6)
        half = scale * (row[4] or 0)
        assert (low, high) == pytest.approx(
            (scale * row[3] - half, scale * row[3] + half), rel=1e-3, abs=1e-4 * scale
        )


def test_presets_of_models_show_what_their_notes_say():
    shown = {
        p.label: ex.draw("subword-models", **p.params).readout
        for p in ex.get("subword-models").presets
    }
    said = ["ahead", "level", "ahead", "level"]
    assert [
        word for text in shown.values() for word in ("ahead", "level") if f"is {word}" in text
    ] == said


@pytest.mark.parametrize("measure", list(costs.MEASURES))
@pytest.mark.parametrize("size", [1000, 8000, 16000])
def test_costs_show_the_stored_times(measure, size):
    table = stored("costs")
    column = table["columns"].index(measure)
    wanted = {costs.LABELS[row[1]]: row[column] for row in table["training"] if row[0] == size}
    bars, growth = drawn("subword-costs", measure=measure, size=size)["panels"]
    columns = marks(bars, "bar")[0]["columns"]
    assert dict(zip(columns["y"], columns["x"], strict=True)) == pytest.approx(wanted, rel=1e-3)
    column = table["columns"].index("peak_mb" if measure == "peak_mb" else "cpu_seconds")
    for name in costs.GROWN:
        values = [row[column] for row in table["growth"] if costs.LABELS[row[1]] == name]
        assert marks(growth, "line", z=name)[0]["columns"]["y"] == pytest.approx(values, rel=1e-3)


# subword-texts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", ["tokens", "bits"])
def test_texts_show_the_stored_numbers(measure):
    table = stored("texts")
    column = ("tokens", "bits").index(measure)
    for text, sizes in table["numbers"].items():
        for size, rows in sizes.items():
            figure = drawn("subword-texts", text=text, measure=measure, size=size)
            shown = marks(figure["panels"][1], "bar")[0]["columns"]["x"]
            wanted = [rows[name][column] for name in explorer_tables.ON_TEXTS]
            assert shown == pytest.approx(wanted, rel=1e-3)
            best = min(row[column] for name, row in rows.items() if name.startswith("ours"))
            assert (f"{best:,}" if measure == "tokens" else f"{best:.3f}") in figure["readout"]


# subword-growth -----------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", ["tokens", "bits"])
@pytest.mark.parametrize("trained", ["ours", "corpus only"])
def test_fields_are_ours_above_the_best_peer(measure, trained):
    table = stored("growth")
    column = ("bits", "tokens").index(measure)
    for part in ("growth", "messages"):
        changes = []
        for row in (dict(zip(table["columns"], r, strict=True)) for r in table["rows"]):
            if row["part"] == part:
                numbers = row["numbers"]
                peers_here = [v[column] for k, v in numbers.items() if k in growth.FAMILIES]
                assert set(numbers) <= {*growth.TRAINED, *growth.SERIES}
                changes.append(100 * (numbers[trained][column] / min(peers_here) - 1))
        figure = drawn("subword-growth", corpora=part, measure=measure, trained=trained)
        (shown,) = marks(figure["panels"][0], "cell")
        texts = [float(text.replace("\u2212", "-")) for text in shown["columns"]["text"]]
        assert sorted(texts) == pytest.approx(sorted(changes), abs=0.051)
        ahead = sum(change < 0 for change in changes)
        assert f"in {ahead} of {len(changes)} fields" in figure["readout"]


@pytest.mark.parametrize(("part", "size"), [("messages", 1000), ("seven", 4000)])
def test_ours_in_bytes_is_drawn_beside_the_peers_and_is_none(part, size):
    rows = [
        dict(zip(stored("growth")["columns"], r, strict=True)) for r in stored("growth")["rows"]
    ]
    here = [
        row["numbers"]
        for row in rows
        if (row["part"], row["size"]) == (part, size) and growth.IN_BYTES in row["numbers"]
    ]
    assert len(here) == 2
    lines = drawn("subword-growth", corpora=part, size=str(size))["panels"][1]
    (shown,) = marks(lines, "dot", z=growth.IN_BYTES)
    wanted = [100 * (n[growth.IN_BYTES][1] / n["ours"][1] - 1) for n in here]
    assert sorted(shown["columns"]["y"]) == pytest.approx(sorted(wanted), rel=1e-3)
    bytes_alone = {"ours": [2.0, 2.0], growth.IN_BYTES: [1.0, 1.0], "BPE": [1.5, 1.5]}
    assert growth._best(bytes_alone, 0) == "BPE"


@pytest.mark.parametrize("part", ["messages", "growth"])
def test_the_fields_are_those_of_the_table_of_the_page(part):
    """The two readers of the stored results know of the same leads."""
    column = {"tokens": "tokens, new words", "bits": "bits, new words"}
    for measure, name in column.items():
        wanted = [row[name] for row in results.small_corpora(part)]
        (shown,) = marks(drawn("subword-growth", corpora=part, measure=measure)["panels"][0],
                         "cell")  # fmt: skip
        texts = [float(text.replace("\u2212", "-")) for text in shown["columns"]["text"]]
        assert sorted(texts) == pytest.approx(sorted(wanted), abs=0.051)
