"""Words weighted by file against plain counts: how a row comes about, and what is stored."""

import json

import pytest
from places import RESULTS

from book.experiments.subwords import by_file, conventions
from genopt_core.corpora import count_words
from genopt_core.subwords import development_cost, file_weights, train


@pytest.fixture
def small(monkeypatch):
    """Two hundred files to train on, forty to choose on, forty to score."""
    names = [f"{a}{b}_{c}" for a in "bdfg" for b in "aeiou" for c in ("net", "size", "rate")]
    made = [
        f"def {names[n % 60]}(x):\n    return {names[n * 7 % 60]}(x)\n" * (1 + n % 5)
        for n in range(280)
    ]
    monkeypatch.setattr(by_file, "files", lambda: (made[:200], made[200:240], made[240:]))
    by_file.words.cache_clear()
    yield made
    by_file.words.cache_clear()


def test_a_row_is_chosen_on_other_files_than_are_scored(small):
    texts = by_file.first(0.004)
    assert sum(map(len, texts[:-1])) < 4000 <= sum(map(len, texts))
    found = by_file.measure((0.004, 290, "ours_files"))
    counts = file_weights((count_words(text, "gpt4") for text in texts), 0.5)
    tried = []
    for least in by_file.LEAST_COUNTS:
        vocabulary = train(
            counts, 290, "tokens", max_piece=32, min_count=least, convention="gpt4", at_most=True
        )
        costs = [
            development_cost(vocabulary, count_words("".join(part), "gpt4"))[0]
            for part in (small[200:240], small[240:])
        ]
        tried.append((costs[0], least, costs[1]))
    _, least, tokens = min(tried, key=lambda row: row[0])
    assert (found["min_count"], found["held_tokens"]) == (least, tokens)
    plain = by_file.measure((0.004, 290, "ours_plain"))
    assert plain["tried"] != found["tried"]
    bpe = by_file.measure((0.004, 290, "hf_bpe"))
    assert bpe["held_tokens"] >= tokens
    assert bpe["files"] == found["files"] == len(texts)


def test_what_is_stored_is_whole_and_says_where_it_is_from():
    content = json.loads((RESULTS / "subwords_by_file.json").read_text(encoding="utf-8"))
    assert (RESULTS / "subwords_by_file.json").stat().st_size < 6_000
    assert content["provenance"]["command"] == "python -m book.experiments.subwords.by_file"
    assert {"numpy", "tokenizers", *by_file.SOURCES} <= set(content["provenance"]["versions"])
    assert content["columns"] == list(by_file.COLUMNS)
    cells = [(row[0], row[2], row[3]) for row in content["rows"]]
    assert cells == [*by_file.jobs()]
    for _, _, _, contestant, least, tokens in content["rows"]:
        assert (least in by_file.LEAST_COUNTS) == (contestant in by_file.EXPONENTS)
        assert tokens > 0
    assert by_file.EXPONENTS["ours_files"] == conventions.ROOT
