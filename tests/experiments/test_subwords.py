"""The stored results of the sub-word benchmarks: their form, their inputs, and a part done again.

What a peer made is done again where the peer is installed and skipped with a reason where not.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
import re
from collections import Counter
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
from places import BOOK, RESULTS, ROOT

from book.ch1_subwords import results
from book.experiments.common import store
from book.experiments.subwords import conventions, emulated, metrics, ngram, peers
from book.experiments.subwords import corpora as texts
from genopt_core import corpora
from genopt_core.conventions import Convention
from genopt_core.explorers.reports import PEERS, table
from genopt_core.tables import records


def stored(name: str) -> dict:
    return store.read(RESULTS / name)


@pytest.fixture(scope="module")
def compared() -> dict:
    return stored("subwords_quality.json")


@pytest.fixture(scope="module")
def rows(compared) -> dict[tuple[str, int, str], dict]:
    return {(row["corpus"], row["size"], row["contestant"]): row for row in records(compared)}


@pytest.fixture(scope="module")
def moby(tmp_path_factory) -> texts.Corpus:
    """The small corpus, made again in a folder of its own."""
    patch = pytest.MonkeyPatch()
    patch.setattr(texts, "SCRATCH", tmp_path_factory.mktemp("corpora"))
    yield texts.load("moby-dick")
    patch.undo()


# ------------------------------------------------------------------ form of the stored results


def test_emulated_rows_are_of_the_present_code(compared):
    now = store.code_sha256(Path(emulated.__file__))[:12]
    sources = {
        row["sources"]
        for row in records(compared)
        if compared["contestants"][row["contestant"]]["emulated"]
    }
    assert sources == {now, None}  # None: rows made before this was stored


def test_a_hash_of_code_sees_the_code_and_not_where_it_lies(tmp_path):
    def state(text: str) -> str:
        path = tmp_path / "module.py"
        path.write_text(text, encoding="utf-8")
        return store.code_sha256(path, leave_out=("PLACE",))

    first = state(
        '"""One."""\nimport a\nPLACE = 1\n\n\ndef f(x):\n    """Two."""\n    return x + 1\n'
    )
    assert first == state(
        "from b import a\nPLACE = 2\ndef f(x):\n    return (x + 1)\n".replace(
            "(x + 1)", "x + 1  # why"
        )
    )
    assert first != state("def f(x):\n    return x + 2\n")
    assert first != state("def f(x):\n    return x + 1\nY = 3\n")


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("subwords_quality.json", 200_000),
        ("subwords_timing.json", 200_000),
        ("subwords_lm.json", 60_000),
        ("subwords_ngram.json", 60_000),
        ("subwords_peer_tokenizers.json", 150_000),
        ("subwords_room.json", 10_000),
        ("subwords_conventions.json", 20_000),
    ],
)
def test_results_are_small_and_say_where_they_are_from(name, limit):
    content = stored(name)
    assert (RESULTS / name).stat().st_size <= limit
    assert content["schema"].startswith(name.removesuffix(".json").replace("_", "-") + "/")
    origin = content["provenance"]
    assert origin["command"].startswith("python -m book.experiments.subwords.")
    assert origin["date"][:2] == "20"
    assert {"numpy", "tokenizers", "sentencepiece"} <= set(origin["versions"])
    assert str(RESULTS.parents[2]) not in (RESULTS / name).read_text(encoding="utf-8")
    for row in content.get("rows", ()):
        assert len(row) == len(content["columns"])


def test_quality_covers_english_wherever_peers_were_measured(compared, rows):
    others = {name for name in compared["contestants"] if not name.startswith("ours")}
    for size in (1000, 4000, 8000, 16000):
        done = {name for corpus, n, name in rows if (corpus, n) == ("english", size)}
        done |= {name for corpus, n, name, _ in compared["skipped"] if n == size}
        assert others <= done


def test_quality_rows_are_possible(compared, rows):
    bounds = {(b[0], b[1]): b[2] for b in compared["bounds"]}
    for (corpus, size, name), row in rows.items():
        fact = compared["corpora"][corpus]
        form = compared["contestants"][name]["form"]
        pieces = size if form != "bytes" else size + 256 - min(fact["alphabet"], 256)
        chars = row["gap_percent"] is not None  # not a vocabulary of bytes
        assert row["used"] <= row["pieces"] <= pieces
        assert row["train_tokens"] >= row["fewest_train_tokens"] >= fact["train_words"]
        assert row["held_tokens"] >= row["fewest_held_tokens"] >= fact["held_words"]
        assert row["train_tokens_per_word"] == pytest.approx(
            row["train_tokens"] / fact["train_words"], rel=1e-5
        )
        assert row["optimal_train_bits_per_byte"] <= row["train_bits_per_byte"] * (1 + 1e-4)
        assert 0 < row["renyi"] < 1
        if (bound := bounds.get((corpus, size))) and chars and row["longest_piece"] <= 16:
            assert row["fewest_train_tokens"] >= bound
            gap = 100 * (row["train_tokens"] / bound - 1)
            assert row["gap_percent"] == pytest.approx(gap, abs=1e-3)


@pytest.mark.parametrize("size", [1000, 4000, 8000, 16000])
@pytest.mark.parametrize("part", ["train", "held"])
def test_one_vocabulary_is_ahead_of_every_peer_on_both_counts(rows, size, part):
    """What the page says of λ = 5 nats a token."""
    table = {n: row for (corpus, k, n), row in rows.items() if (corpus, k) == ("english", size)}
    for measure in (f"{part}_bits_per_byte", f"{part}_tokens_per_word"):
        others = [row[measure] for name, row in table.items() if not name.startswith("ours")]
        assert len(others) >= 15
        assert table["ours_weight_5"][measure] < min(others)
        if measure.endswith("word"):
            assert table["ours_tokens"][measure] < min(others)


def test_timing_summary_is_that_of_its_rows():
    content = stored("subwords_timing.json")
    rows = records(content)
    assert {row["part"] for row in rows} == {"training", "growth", "encoding"}
    key = ("part", "corpus", "size", "contestant")
    for entry in content["summary"]:
        mine = {r["round"]: r for r in rows if all(r[k] == entry[k] for k in key)}
        assert len(mine) == entry["rounds"]
        for name in ("seconds", "cpu_seconds"):
            middle = np.median([r[name] for r in mine.values()])
            found = entry[name][0] if isinstance(entry[name], list) else entry[name]
            assert found == pytest.approx(middle, rel=1e-3)
        if "over_sp_text" in entry:
            other = {**entry, "contestant": "sp_text"}
            base = {r["round"]: r for r in rows if all(r[k] == other[k] for k in key)}
            ratios = [mine[i]["seconds"] / base[i]["seconds"] for i in set(mine) & set(base)]
            assert entry["over_sp_text"][0] == pytest.approx(np.median(ratios), rel=1e-3)


# ------------------------------------------------------------------ what the page prints


def test_standings_and_changes_are_those_of_the_rows(rows):
    standings = results.standings(4000)
    assert [row["bits per byte"] for row in standings] == sorted(
        row["held_bits_per_byte"] for (c, n, _), row in rows.items() if (c, n) == ("english", 4000)
    )
    assert not any("_" in row["tokenizer"] for row in standings)  # labels, not internal names
    assert {row["tokenizer"] for row in standings} <= {*PEERS, *results.ours()}
    peers_at = {
        n: r for (c, k, n), r in rows.items() if (c, k) == ("english", 1000) and n[:4] != "ours"
    }
    (five,) = (
        row
        for row in results.english_against_the_best_peer()
        if (row["size"], row["tokenizer"]) == (1000, "ours, λ = 5")
    )
    for column, measure in (("bits, change", results.BITS), ("tokens, change", results.TOKENS)):
        best = min(row[measure] for row in peers_at.values())
        change = rows["english", 1000, "ours_weight_5"][measure] / best - 1
        assert five[column] == pytest.approx(100 * change, rel=1e-12)


def test_a_ratio_that_was_not_measured_is_no_number():
    costs = {row["tokenizer"]: row for row in results.training_costs()}
    counting = costs["counting the words, in Python"]
    columns = ("over Unigram, by the clock", "over Unigram, in processor time")
    assert [counting[name] for name in columns] == [None, None]
    assert costs["HF Unigram, front marker"][columns[0]] == 1
    shown = str(table([counting], results.COLUMNS))
    line = next(x for x in shown.splitlines() if "Python" in x)
    assert line.split()[-2:] == ["–", "–"]


FULL_EFFORTS = "ours_standard", "ours_likelihood"


def test_what_the_page_says_of_training_times():
    found = {
        entry["contestant"]: entry
        for entry in stored("subwords_timing.json")["summary"]
        if (entry["part"], entry["size"]) == ("training", 8000)
    }

    def over(contestant, peer, kind=""):
        return found[contestant][f"{kind}over_{peer}"][0]

    unigram = "hf_unigram_front"
    standard, best = (
        f"{over(name, unigram):.2f}{of} and {over(name, unigram, 'cpu_'):.2f}"
        for name, of in (
            ("ours_standard", " of Unigram's time by the clock"),
            ("ours_likelihood", ""),
        )
    )
    cells = json.loads((BOOK / "ch1_subwords" / "evidence.ipynb").read_text(encoding="utf-8"))
    said = " ".join(" ".join("".join(cell["source"]) for cell in cells["cells"]).split())
    assert (
        f"the standard effort needs {standard} of its processor time, the best effort {best}; "
        f"against sentencepiece {over('ours_standard', 'sp_text'):.2f} on text and "
        f"{over('ours_standard', 'sp_counts'):.2f} on word counts (standard)"
    ) in said
    by_size = {
        size: " and ".join(f"{other[name]['over_' + unigram][0]:.2f}" for name in FULL_EFFORTS)
        for size in (1000, 16000)
        if (
            other := {
                entry["contestant"]: entry
                for entry in stored("subwords_timing.json")["summary"]
                if (entry["part"], entry["size"]) == ("training", size)
            }
        )
    }
    assert (
        f"At 1,000 it is {by_size[1000]} by the clock, at 16,000 it is {by_size[16000]}."
    ) in said
    assert 4 < 1 / over("ours_fast", unigram) < 5
    penalty = over("ours_weight_5", unigram, "cpu_") / over("ours_likelihood", unigram, "cpu_")
    assert penalty == pytest.approx(1.5, abs=0.1)
    assert 2.7 < over("ours_tokens", unigram) < 3
    content = stored("subwords_timing.json")
    grown: dict[str, list[tuple[int, float]]] = {}
    for entry in content["summary"]:
        if entry["part"] == "growth":
            words = content["corpora"][entry["corpus"]]["train_unique"]
            grown.setdefault(entry["contestant"], []).append((words, entry["cpu_seconds"]))
    power = {name: np.polyfit(*np.log(of).T, 1)[0] for name, of in grown.items()}
    ours = [of for name, of in power.items() if name.startswith("ours")]
    assert f"grows with the power {min(ours):.2f} to {max(ours):.2f} in processor time" in said
    assert (
        f"Unigram's power is {power[unigram]:.2f}, that of sentencepiece "
        f"{power['sp_counts']:.2f}, of BPE {power['hf_bpe']:.2f}."
    ) in said


def test_what_the_page_says_of_languages_and_of_models():
    languages = {row["language"]: row for row in results.languages()}
    lost = [name for name, row in languages.items() if row["bits, ▁ at the end"] > 0]
    assert lost == ["Turkish"]
    assert all(row["bits, ▁ in front"] < 0 for row in languages.values())
    both = [
        name for name, row in languages.items() if max(row["bits, λ = 5"], row["tokens, λ = 5"]) < 0
    ]
    assert both == ["English", "Turkish", "Finnish", "German", "Hindi"]
    models = {(r["tokenizer"], r["budget"]): r for r in results.context_models()}
    for budget in ("1,500,000 training tokens", "5,000,000 training bytes"):
        likely = models["ours, likelihood", budget]["to BPE"]
        assert abs(likely.value) < likely.error
        for name in ("ours, λ = 5", "ours, λ = 10"):
            ahead = models[name, budget]["to BPE"]
            assert ahead.value + ahead.error < 0


# ------------------------------------------------------------------ the inputs


def test_committed_corpus_is_the_one_that_was_measured(compared, moby):
    measured = compared["corpora"]["moby-dick"]
    assert {k: v for k, v in moby.facts.items() if k != "format"} == measured


def test_words_of_the_files_are_the_same_in_every_form(moby):
    words = Counter(texts.stream(moby, "train"))
    assert words == Counter(moby.train)
    end = moby.file("train", "sentences").read_text(encoding="utf-8")
    spaced = end.replace(texts.BREAK, "").replace("\n", "")
    assert hashlib.sha256(spaced.encode()).hexdigest() == (
        hashlib.sha256("".join(texts.stream(moby, "train")).replace("▁", " ").encode()).hexdigest()
    )
    front = moby.file("train", "words-front").read_text(encoding="utf-8").split()
    back = Counter(w[1:] + "▁" if w.startswith("▁") else w for w in front)
    assert back == words


def test_split_holds_out_every_tenth_block():
    text = " ".join(str(i) for i in range(95))
    train, held = texts.split_blocks(text, 3)
    assert held.split() == [str(i) for b in (9, 19, 29) for i in range(3 * b, 3 * b + 3)]
    assert sorted(train.split() + held.split(), key=int) == text.split()


# ------------------------------------------------------------------ the metrics, by hand


def test_code_length_by_hand():
    counts = {"a": 2, "b": 1, "c": 1}
    assert metrics.code_length(counts) == pytest.approx(2 * 1 + 2 + 2)
    cross = metrics.cross_code_length({"a": 1, "z": 1}, counts, 4)
    assert cross == pytest.approx(-math.log2(2.5 / 6) - math.log2(0.5 / 6))
    assert metrics.renyi_efficiency(dict.fromkeys("abcd", 3), 4) == pytest.approx(1)


def test_metrics_of_a_tiny_vocabulary_by_hand():
    pieces = ["a", "b", "▁", "ab"]
    train, held = {"ab▁": 3, "abab▁": 1}, {"ab▁": 1}
    own = {"ab▁": ["ab", "▁"], "abab▁": ["ab", "a", "b", "▁"]}

    def segment(words):
        return [own[word] for word in words]

    found = metrics.evaluate(pieces, segment, train, held, (14, 3))
    assert (found["train_tokens"], found["fewest_train_tokens"]) == (10, 9)
    assert (found["held_tokens"], found["fewest_held_tokens"]) == (2, 2)
    assert (found["pieces"], found["used"], found["longest_piece"]) == (4, 4, 2)
    # ab 4, a 1, b 1, end 4 among 10; after a cheaper spelling of abab: ab 5, end 4 among 9.
    assert found["train_bits_per_byte"] == pytest.approx((10 * math.log2(10) - 16) / 14)
    assert found["optimal_train_bits_per_byte"] == pytest.approx(
        (9 * math.log2(9) - 5 * math.log2(5) - 8) / 14
    )
    # Held out: two pieces that were seen four times, half a count added to each of four pieces.
    assert found["held_bits_per_byte"] == pytest.approx(2 * -math.log2(4.5 / 12) / 3)


# ------------------------------------------------------------------ the emulated methods


def tiny_instances(many: int):
    rng = random.Random(3)
    for _ in range(many):
        words = sorted({"".join(rng.choices("abc", k=rng.randint(1, 7))) for _ in range(6)})
        spans = {w[i:j] for w in words for i, j in itertools.combinations(range(len(w) + 1), 2)}
        pieces = [s for s in sorted(spans) if len(s) == 1 or rng.random() < 0.4]
        yield words, [rng.randint(1, 9) for _ in words], pieces, sorted(spans)


def fewest(word: str, pieces: frozenset) -> int:
    best = [0]
    for j in range(1, len(word) + 1):
        best.append(1 + min(best[i] for i in range(j) if word[i:j] in pieces))
    return best[-1]


def test_emulations_find_the_fewest_pieces_and_the_rise_without_one():
    for words, weights, pieces, _ in tiny_instances(40):
        lattice = emulated.Spellings(words, weights, pieces)
        head, last = lattice.forward(np.ones(len(lattice.pieces)))
        tail = lattice.backward(np.ones(len(lattice.pieces)))
        known = frozenset(lattice.pieces)
        least = [fewest(word, known) for word in words]
        assert head[lattice.end].tolist() == least
        assert tail[lattice.base].tolist() == least
        rows, lengths = lattice.path(last)
        alive = np.ones(len(lattice.pieces), dtype=bool)
        rise = lattice.increase(alive, rows, lengths)
        for piece, value in zip(lattice.pieces, rise, strict=True):
            if len(piece) > 1 and all(w.count(piece) <= 1 for w in words):
                without = sum(n * fewest(w, known - {piece}) for w, n in zip(words, weights))  # noqa: B905
                total = sum(n * least_of for n, least_of in zip(weights, least, strict=True))
                assert value <= without - total + 1e-9


def test_bound_of_the_relaxation_holds_for_every_vocabulary():
    for words, weights, _, spans in tiny_instances(12):
        many = [s for s in spans if len(s) > 1]
        single = [s for s in spans if len(s) == 1]
        if len(many) < 3:
            continue
        counts = dict(zip(words, weights, strict=True))
        _, bound, _ = emulated.convextok(counts, len(single) + 2, steps=60)
        best = min(
            sum(n * fewest(w, frozenset([*single, *pair])) for w, n in counts.items())
            for pair in itertools.combinations(many, 2)
        )
        assert bound <= best + 1e-6


def test_our_certificate_is_proved_by_other_code(moby):
    few = dict(itertools.islice(moby.train.items(), 300))
    bound, _ = peers.certified_bound(few, 200)  # raises if its prices prove another one
    lattice = emulated.Spellings(list(few), list(few.values()), list(few)[:50])
    best, _ = lattice.forward(np.ones(len(lattice.pieces)))
    assert len(lattice.pieces) <= 200
    assert 0 < bound <= float(lattice.weights @ best[lattice.end])


# ------------------------------------------------------------------ a part of the results again


@pytest.mark.parametrize(
    ("name", "size"),
    [("hf_bpe", 1000), ("hf_bpe", 4000), ("hf_wordpiece_plain", 4000), ("rustbpe", 1000)],
)
def test_small_result_comes_out_again(name, size, rows, moby):
    if reason := peers.method(name).missing:
        pytest.skip(f"{name}: {reason}")
    row = rows["moby-dick", size, name]
    found = peers.score(peers.train(name, moby, size), moby)
    for metric, value in found.items():
        assert value == pytest.approx(row[metric], rel=2e-3), metric
    assert found["train_tokens"] == pytest.approx(row["train_tokens"], rel=1e-4)


def test_our_result_comes_out_again(rows, moby):
    row = rows["moby-dick", 4000, "ours_fast"]
    found = peers.score(peers.train("ours_fast", moby, 4000), moby)
    assert found["train_tokens"] == row["train_tokens"]
    assert found["held_bits_per_byte"] == pytest.approx(row["held_bits_per_byte"], rel=1e-5)


def test_small_peers_spell_the_book_s_words():
    content = stored("subwords_peer_tokenizers.json")
    counts = corpora.count_words(corpora.load("sotu"), "textbook")
    table = "".join(f"{word}\t{count}\n" for word, count in counts.items())
    assert hashlib.sha256(table.encode()).hexdigest() == content["counts_sha256"]
    merged = [pair.split(" ") for pair in content["bpe_merges"]]
    assert len(content["bpe_alphabet"]) + len(merged) == content["size"]
    assert len(content["wordpiece"]) == content["size"]
    known = set(content["bpe_alphabet"])
    for left, right in merged:
        assert {left, right} <= known
        known.add(left + right)
    alphabet = set("".join(counts))
    for name in ("unigram", "unigram_front"):
        pieces = dict(content[name])
        assert len(content[name]) == content["size"]
        assert alphabet <= set(pieces)
        assert max(pieces.values()) <= 0


def test_language_model_summary_is_that_of_its_rows():
    content = stored("subwords_lm.json")
    at = content["columns"].index("held_bits_per_byte")
    for entry in content["summary"]:
        values = [
            row[at]
            for row in content["rows"]
            if (row[0], row[1]) == (entry["contestant"], entry["budget"])
        ]
        assert entry["mean"] == pytest.approx(sum(values) / len(values), abs=2e-5)
    by_budget = [row for row in content["rows"] if row[1] == "tokens"]
    tokens = content["columns"].index("train_tokens")
    assert len({row[tokens] for row in by_budget}) <= 1


def test_kneser_ney_is_a_distribution_and_the_recursion_by_hand():
    rng = np.random.default_rng(5)
    texts = [rng.integers(0, 4, 60) ** 2 // 3 for _ in range(3)]  # 0, 0, 1 and 3 of 4 pieces
    model = ngram.KneserNey(texts, 4, order=3)
    grams = [tuple(text[i : i + 3].tolist()) for text in texts for i in range(len(text) - 2)]
    counts = {3: Counter(grams)}
    for k in (2, 1):
        counts[k] = Counter(gram[1:] for gram in counts[k + 1])

    def by_hand(history: tuple, token: int) -> float:
        k = len(history) + 1
        below = by_hand(history[1:], token) if history else 1 / 4
        seen = {gram: n for gram, n in counts[k].items() if gram[:-1] == history}
        if not seen:
            return below
        once, twice = (sum(n == m for n in counts[k].values()) for m in (1, 2))
        discount = once / (once + 2 * twice) if once else 0.5
        kept = max(seen.get((*history, token), 0) - discount, 0)
        return (kept + discount * len(seen) * below) / sum(seen.values())

    for history in itertools.product(range(4), repeat=2):
        found = [model.probabilities(np.array([*history, token]))[-1] for token in range(4)]
        assert sum(found) == pytest.approx(1)
        assert found == pytest.approx([by_hand(history, token) for token in range(4)])
    with pytest.raises(ValueError, match=r"2 \*\* 63"):
        ngram.KneserNey(texts, 2**20, order=4)


@pytest.mark.parametrize("size", [1000])  # the only one that was measured
def test_context_model_summary_is_that_of_its_rows(size):
    content = stored("subwords_ngram.json")
    rows = records(content)
    rows = [row for row in rows if row["size"] == size]
    for entry in content[f"summary_{size}"]:
        who = (entry["contestant"], entry["budget"])
        mine = [row for row in rows if (row["contestant"], row["budget"]) == who]
        values = [row["held_bits_per_byte"] for row in mine]
        assert len(values) >= 3
        assert entry["mean"] == pytest.approx(np.mean(values), abs=2e-5)
    assert len({row["train_tokens"] for row in rows if row["budget"] == "tokens"}) == 1


def test_results_are_written_in_one_piece(tmp_path):
    path = tmp_path / "deep" / "table.json"
    size = store.write_results(path, {"a": 1, "rows": [[1, "ä"], [2, None]]})
    assert size == path.stat().st_size
    assert json.loads(path.read_text(encoding="utf-8"))["rows"] == [[1, "ä"], [2, None]]
    assert [p.name for p in path.parent.iterdir()] == ["table.json"]
    with pytest.raises(ValueError, match="at most 10 bytes, got"):
        store.write_results(path, {"a": "x" * 99}, limit=10)


# ------------------------------------------------------------------ code, Markdown, JSON


# Our tokens over those of the best peer.  The aim of 0.97 is met at 1,000 sub-words only, and not
# on JSON, where `certify` shows that nothing can meet it at 4,000.
RATIOS = {
    ("python", 1000): 0.958,
    ("python", 4000): 0.980,
    ("markdown", 1000): 0.960,
    ("markdown", 4000): 0.975,
    ("json", 1000): 0.992,
    ("json", 4000): 0.993,
}


def test_what_the_page_says_of_code_markdown_and_json():
    content = stored("subwords_conventions.json")
    held = {
        (row["corpus"], row["size"], row["contestant"]): row
        for row in records(content)
        if row["rule"] == "gpt4"
    }
    bound = held.pop(("json", 4000, "certified"))["train_tokens"]
    assert bound > 0.97 * held["json", 4000, "hf_bpe"]["train_tokens"]
    bound = held["python", 4000, "certified"]["train_tokens"]
    ours = held["python", 4000, "ours_tokens_6"]["train_tokens"]
    assert ours < 1.005 * bound
    assert ours < 0.955 * held["python", 4000, "hf_bpe"]["train_tokens"]
    held = {key: row for key, row in held.items() if key[2] != "certified"}
    for corpus, size in {key[:2] for key in held}:
        here = {name: row for (*at, name), row in held.items() if (*at,) == (corpus, size)}
        peers_here = [row for name, row in here.items() if name in conventions.PEERS]
        mine = [name for name in conventions.CONTESTANTS if name.startswith("ours")]
        assert all(row["exported_equal"] for name, row in here.items() if name in mine)
        assert {row["pieces"] for row in here.values()} == {size}
        assert len(peers_here) == 3 or size == 16000
    for corpus in conventions.SOURCES:
        for size in (1000, 4000):
            best = min(held[corpus, size, name]["held_tokens"] for name in conventions.PEERS)
            ratio = held[corpus, size, "ours_tokens_6"]["held_tokens"] / best
            assert ratio < RATIOS[corpus, size], (corpus, size, ratio)
    bpe = held["python", 16000, "hf_bpe"]
    said = {"ours_tokens_6": 1.029, "ours_tokens": 1.005, "ours_tokens_ahead": 0.996}
    for name, ratio in said.items():
        found = held["python", 16000, name]["held_tokens"] / bpe["held_tokens"]
        assert found == pytest.approx(ratio, abs=5e-4), name
    ahead = held["python", 16000, "ours_tokens_ahead"]
    assert ahead["held_bits_per_byte"] < bpe["held_bits_per_byte"]
    assert all(
        held[text, 4000, "ours_tokens_6"][count]
        < min(held[text, 4000, name][count] for name in conventions.PEERS)
        for text in conventions.SOURCES
        for count in ("held_tokens", "held_bits_per_byte")
    )


def test_what_the_page_says_of_words_by_file():
    held = {
        (row["corpus"], row["size"], row["contestant"]): row
        for row in records(stored("subwords_conventions.json"))
        if row["rule"] == "gpt4"
    }

    def beside(corpus, size, name, others=conventions.PEERS, measure="held_tokens"):
        there = [held[corpus, size, other][measure] for other in others]
        return round(100 * (held[corpus, size, name][measure] / min(there) - 1), 1)

    assert beside("python", 4000, "ours_files") == -3.4
    assert beside("python", 4000, "ours_files", measure="held_bits_per_byte") == -1.3
    assert beside("python", 4000, "ours_tokens_6") == -2.0
    assert held["python", 4000, "ours_files"]["setting"] == "files tokens 6"
    assert conventions.TRIED["files tokens 6"] == ("tokens", {"min_count": 6}, 0.5)
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    (call,) = re.findall(r"train_on_text\(files, 4000, (.*?)\)", readme)
    options = dict(option.split("=") for option in call.split(", "))
    assert options == {
        "convention": '"gpt4"', "objective": '"tokens"', "max_piece": f"{conventions.MAX_PIECE}",
        "min_count": "6", "file_exponent": "0.5",
    }  # fmt: skip
    assert beside("python", 4000, "hf_bpe_files", ["hf_bpe"]) == -0.9
    assert beside("python", 4000, "ours_files", ["hf_bpe_files"]) == -2.6
    assert beside("markdown", 4000, "ours_files") == -2.9
    assert beside("json", 4000, "ours_files") == 1.8
    assert beside("json", 4000, "ours_chosen") == 1.1
    assert held["json", 4000, "ours_files"]["setting"].startswith("files ahead")
    assert held["json", 4000, "ours_chosen"]["setting"].startswith("ahead")
    changes = {
        (corpus, size, peer): beside(corpus, size, f"{peer}_files", [peer])
        for corpus, size, peer in itertools.product(
            conventions.SOURCES, conventions.SIZES, ("hf_bpe", "sp_counts")
        )
        if (corpus, size, f"{peer}_files") in held
    }
    assert changes.pop(("python", 4000, "hf_bpe")) == -0.9
    for peer, least, most in (("hf_bpe", -0.7, 0.2), ("sp_counts", -1.3, 0.5)):
        found = [change for (_, _, name), change in changes.items() if name == peer]
        assert len(found) == 6
        assert (min(found), max(found)) == (least, most)
    assert held["python", 16000, "ours_files"]["setting"] == "files ahead 1"
    one = ["hf_bpe"]
    assert beside("python", 16000, "ours_files", one) == -0.5
    assert beside("python", 16000, "ours_files", one, "held_bits_per_byte") < 0
    for corpus, size in (("python", 1000), ("python", 4000), ("markdown", 1000)):
        assert beside(corpus, size, "ours_files") <= -3
    bits = {"name": "ours_bits", "measure": "held_bits_per_byte"}
    assert beside("python", 1000, **bits) == 0.1
    assert beside("python", 4000, **bits) == -2.4
    assert beside("markdown", 4000, **bits) == -4.1
    assert beside("markdown", 4000, others=["sp_counts_files"], **bits) == -3.4
    assert beside("python", 4000, others=["sp_counts_files"], **bits) == -2.4
    assert beside("python", 16000, others=one, **bits) == -1.7


def test_the_exponent_is_the_best_of_those_tried():
    tokens = dict(stored("subwords_conventions.json")["exponents"])
    assert min(tokens, key=tokens.get) == conventions.ROOT
    assert set(tokens) == {0.4, 0.5, 0.6, 0.75, 1}


def test_weights_by_file_help_with_little_text_and_not_with_much():
    content = stored("subwords_by_file.json")
    assert content["schema"] == "subwords-by-file/1"
    assert content["packages"].keys() >= {"scipy==1.17.1", "numpy==2.4.6"}
    assert len(content["rows"]) == 24
    for row in results.by_file():
        plain, by_file = row["plain counts, change"], row["by file, change"]
        if row["megabytes"] <= 8:
            assert by_file < plain
        if row["size"] == 4000 and row["megabytes"] >= 32:
            assert by_file > plain
    tokens = {tuple(row[i] for i in (2, 0, 3)): row[5] for row in content["rows"]}
    brought = [
        round(100 * (tokens[(*cell, "ours_files")] / tokens[(*cell, "ours_plain")] - 1), 1)
        for cell in itertools.product((4000, 16000), (2, 8, 32, 128))
    ]
    assert brought[:5] == [-1.1, -0.6, 0.1, 0.5, -0.7]
    assert brought[-1] == 0
    assert round(results.by_file()[0]["by file, change"], 1) == -3.3
    found = {(row["text"], row["size"], row["tokenizer"]): row for row in results.texts()}
    held = {
        (row["corpus"], row["size"], row["contestant"]): row["held_tokens"]
        for row in records(stored("subwords_conventions.json"))
        if row["rule"] == "gpt4"
    }
    for corpus, text in results.TEXTS.items():
        best = min(held[corpus, 4000, name] for name in conventions.PEERS)
        change = found[text, 4000, "ours, tokens, six times"]["tokens, change"]
        assert change == pytest.approx(100 * (held[corpus, 4000, "ours_tokens_6"] / best - 1))
    held_rows = {
        (row["corpus"], row["size"], row["contestant"]): row["held_tokens"]
        for row in records(stored("subwords_conventions.json"))
        if row["rule"] == "gpt4" and row["held_tokens"] is not None
    }
    mine = [name for name in conventions.CONTESTANTS if name.startswith("ours")]
    least = {}
    for (text, size, name), row in found.items():
        if not name.startswith("ours"):
            continue
        cell = (text, size)
        least[cell] = min(row["tokens, change"], least.get(cell, np.inf))
    said = " ".join(results.texts_in_a_sentence().split())
    ahead = sum(change < 0 for change in least.values())
    assert f"in {ahead} of {len(least)} fields" in said
    assert f"3 % fewer in {sum(change <= -3 for change in least.values())} (" in said
    assert f"{max(least.values()):+.2f} %" in said
    weights = {
        (text, size): min(
            held_rows[corpus, size, name] for name in ("hf_bpe_files", "sp_counts_files")
        )
        for corpus, text in results.TEXTS.items()
        for size in (1000, 4000)
    } | {("Python", 16000): held_rows["python", 16000, "hf_bpe_files"]}
    everybody = [
        min(held_rows[corpus, size, name] for name in mine if (corpus, size, name) in held_rows)
        / min(
            weights[text, size],
            *(
                held_rows[corpus, size, name]
                for name in conventions.PEERS
                if (corpus, size, name) in held_rows
            ),
        )
        for corpus, text in results.TEXTS.items()
        for size in (1000, 4000, 16000)
        if (text, size) in least
    ]
    assert max(everybody) < 1
    assert f"({sum(share <= 0.97 for share in everybody)} beside peers with weights" in said


def test_a_row_of_code_is_recomputed():
    """Byte-pair encoding of the installed Python files, if they are of the stored versions."""
    pytest.importorskip("tokenizers")
    content = stored("subwords_conventions.json")
    try:
        files, held, facts = conventions.made("python")
    except PackageNotFoundError as missing:
        pytest.skip(f"{missing} is not installed")
    if facts["packages"] != content["corpora"]["python"]["packages"]:
        pytest.skip("other versions are installed")
    assert facts | conventions.words_of("python") == content["corpora"]["python"]
    rule = Convention("gpt4")
    train = "".join(files)
    _, segment = conventions.hugging_face("bpe", rule, 1000, train)
    words = corpora.count_words(held, rule)
    tokens = sum(len(p) * n for p, n in zip(segment([*words]), words.values(), strict=True))
    (row,) = (
        row
        for row in records(content)
        if (row["corpus"], row["size"], row["rule"], row["contestant"])
        == ("python", 1000, "gpt4", "hf_bpe")
    )
    assert tokens == row["held_tokens"]
