"""Settings chosen on development text: what two comparisons share."""

import json

from book.experiments.subwords import conventions, development


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
    assert conventions.chosen("json", "gpt4", 1000) == next(iter(conventions.TRIED))
