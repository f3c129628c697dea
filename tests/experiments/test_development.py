"""Settings chosen on development text: what two comparisons share."""

import json

from book.experiments.subwords import conventions, development
from genopt_core.corpora import count_words
from genopt_core.subwords import file_weights, train


def test_a_development_text_is_the_end_of_the_training_text():
    assert development.split(list(range(10)), 5) == ([*range(8)], [8, 9])
    assert development.split(list(range(11)), 4) == ([*range(8)], [8, 9, 10])


def test_runs_stand_behind_their_contestants():
    settings = {"ours": ("a", "b"), "theirs": ("c",)}
    assert development.tried(["bpe", "theirs"], settings) == ["development c"]
    assert development.tried(settings, settings) == [f"development {s}" for s in "abc"]


def test_the_fewest_tokens_win_and_the_first_on_ties():
    tokens = {"development a": 9, "development b": 7, "development c": 7}
    assert development.fewest("abc", tokens.__getitem__) == "b"
    assert development.fewest("cba", tokens.__getitem__) == "c"


def test_the_setting_for_code_is_the_best_on_the_development_text(tmp_path, monkeypatch):
    monkeypatch.setattr(conventions, "KEPT", tmp_path)
    for n, setting in enumerate(reversed(conventions.TRIED)):
        path = conventions.kept(("json", "gpt4", 1000, development.DEVELOPED + setting))
        path.write_text(json.dumps({"tokens": 100 - n}), encoding="utf-8")
    for name, settings in (
        ("ours_chosen", conventions.PLAIN),
        ("ours_files", conventions.BY_FILES),
    ):
        assert conventions.chosen("json", "gpt4", 1000, name) == next(iter(settings))
    for n, setting in enumerate(conventions.LIKELY):  # fewest tokens first, fewest bits last
        path = conventions.kept(("json", "gpt4", 1000, development.DEVELOPED + setting))
        path.write_text(json.dumps({"tokens": n, "bits": 100 - n}), encoding="utf-8")
    assert conventions.chosen("json", "gpt4", 1000, "ours_bits") == [*conventions.LIKELY][-1]


def test_each_part_of_the_files_is_scored_by_a_training_on_the_others(monkeypatch):
    """Every file is a word of its own: what is scored is unknown, and costs its characters."""
    files = ["abc ", "defg ", "hi ", "jklm ", "nopqr "]
    monkeypatch.setattr(conventions, "_read", lambda corpus: (files, "", {}))
    seen = []

    def trained(setting, rule, size, counts):
        seen.append(counts)
        return train({"x": 2}, 1, "tokens")

    monkeypatch.setattr(conventions, "trained", trained)
    plain = conventions.developed(("python", "gpt4", 300, "development tokens 2"))
    apart = conventions.developed(("python", "gpt4", 300, "development files tokens 2"))
    assert plain == apart
    assert plain["tokens"] == sum(map(len, files))
    assert [len(counts) for counts in seen] == [4, 5, 5, 5, 3, 4, 4, 4]
    assert seen[4] == [count_words(file, "gpt4") for file in files[1:4]]
    assert seen[0] == file_weights(seen[4], 1)


def test_a_peer_that_only_counts_reads_weighted_words():
    counts = {"low": 3.0, "lower": 1.5, "slow": 1.0}
    pieces, segment = conventions.bpe_counts(258, counts)
    assert {"lo", "low"} <= set(pieces)
    assert segment(["low", "slower"]) == [["low"], ["s", "low", "e", "r"]]
    files = [{"low": 9, "new": 4}, {"new": 4}]
    assert "new" in conventions.weighted_peer("bpe 0.5", 258, files)[0]  # 3 and 4, not 9 and 8
    assert "low" in conventions.weighted_peer("bpe 1", 258, files)[0]
