"""The least count that a development text chooses."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import pytest

from genopt_core.subwords import choose_min_count, development_cost, train
from genopt_core.subwords.__main__ import main
from genopt_core.subwords.tokenizer.tokenizer_json import load_tokenizer_json

WORDS = {"low▁": 50, "lower▁": 20, "newest▁": 60, "widest▁": 30, "fen▁": 3, "brine▁": 2}
OTHER = {"lowest▁": 20, "wider▁": 10, "newer▁": 4}


def cost_by_hand(vocabulary, words):
    """Word by word, with the vocabulary's own segmentation."""
    total = vocabulary.counts.sum() + len(vocabulary) / 2
    counts = dict(zip(vocabulary.pieces, vocabulary.counts.tolist(), strict=True))
    tokens = nats = 0.0
    for word, n in words.items():
        for piece in vocabulary.segment(word):
            tokens += n
            nats += n * (
                vocabulary.length_cost + math.log(total) - math.log(counts.get(piece, 0) + 0.5)
            )
    return tokens, nats


@pytest.mark.parametrize("objective", ["likelihood", "tokens", 5.0])
def test_what_is_compared_is_the_objective_on_the_development_text(objective):
    vocabulary = train(WORDS, 18, objective, min_count=2)
    for words in (OTHER, OTHER | {"zz▁": 2}, {"low▁" * 100: 1}):
        by_hand = cost_by_hand(vocabulary, words)
        assert development_cost(vocabulary, words) == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("objective", ["likelihood", "tokens", 5.0])
def test_the_choice_is_the_cheapest_of_one_training_each(objective):
    choice = choose_min_count(WORDS, OTHER, 24, objective, min_counts=(60, 2, 3, 21))
    assert [t.min_count for t in choice.tried] == [2, 3, 21, 60]
    for t in choice.tried:
        vocabulary = train(WORDS, 24, objective, min_count=t.min_count, at_most=True)
        assert (t.tokens, t.nats) == development_cost(vocabulary, OTHER)
        assert t.pieces == len(vocabulary)
    best = min(choice.tried, key=lambda t: t.nats)
    assert choice.min_count == best.min_count
    assert len({t.nats for t in choice.tried}) > 2  # there was something to choose


def test_ties_go_to_the_smaller_one_and_an_executor_changes_nothing():
    options = {"min_counts": (2, 2.5, 3), "effort": "fast"}
    with ThreadPoolExecutor(2) as executor:
        seen = []
        choice = choose_min_count(
            {"ab▁": 9, "abc▁": 9}, {"ab▁": 1}, 5, executor=executor, progress=seen.append, **options
        )
    assert choice == choose_min_count({"ab▁": 9, "abc▁": 9}, {"ab▁": 1}, 5, **options)
    assert choice.min_count == 2
    assert [(record.done, record.total) for record in seen] == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"min_counts": ()}, ValueError, "min_counts must have at least one number, got none"),
        ({"min_counts": (0,)}, ValueError, "min_counts must be"),
        (
            {"min_count": 2},
            TypeError,
            "options must have no min_count, which is chosen here, got 2",
        ),
        ({"min_counts": 3}, TypeError, "min_counts must be numbers, got 3"),
        ({"effort": "great"}, ValueError, "effort must be"),
    ],
)
def test_what_cannot_be_chosen_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        choose_min_count(WORDS, OTHER, 18, **arguments)


def test_the_command_line_chooses_as_the_function_does(tmp_path, capsys):
    text = "".join(f"{word[:-1]} " * n for word, n in WORDS.items())
    other = "".join(f"{word[:-1]} " * n for word, n in OTHER.items())
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    (tmp_path / "b.txt").write_text(other, encoding="utf-8")
    choice = choose_min_count(WORDS, OTHER, 24, "tokens")
    assert choice.min_count > 2  # another one than by default
    out = tmp_path / "t.json"
    files = [str(tmp_path / "a.txt"), "--size", "24", "--at-most", "--objective", "tokens"]
    development = ["--development", str(tmp_path / "b.txt")]
    assert main(["train", *files, *development, "-o", str(out)]) == 0
    assert (
        f"choosing --min-count: {choice.min_count:g} (tokens a word of" in capsys.readouterr().err
    )
    made = load_tokenizer_json(out)
    assert made.provenance["min_count"] == choice.min_count
    expected = train(WORDS, 24, "tokens", min_count=choice.min_count, at_most=True)
    assert made.pieces == expected.pieces
    assert main(["train", *files, "--development", files[0], "-o", str(out)]) == 1
    assert "--development must not be a text that is trained on" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", *files, *development, "--min-count", "3", "-o", str(out)])
    assert "not allowed with argument" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("development", "error", "message"),
    [
        ({}, ValueError, r"^development must have at least one word, got \{\}"),
        (
            {"low▁": -1},
            ValueError,
            r"^development\['low▁'\] must be a finite count above 0, got -1",
        ),
        ("low▁", TypeError, "^development must be word counts"),
    ],
)
def test_a_bad_development_text_is_named(development, error, message):
    with pytest.raises(error, match=message):
        choose_min_count(WORDS, development, 18)


def test_least_counts_that_leave_too_few_candidates_are_passed_over():
    """With ``at_most=False``, as the command without --at-most; with it they are compared."""
    choice = choose_min_count(WORDS, OTHER, 24, min_counts=(2, 60, 70), at_most=False)
    assert [(t.min_count, t.pieces) for t in choice.tried] == [(2, 24), (60, 24)]
    every = choose_min_count(WORDS, OTHER, 24, min_counts=(2, 60, 70))
    assert [t.min_count for t in every.tried] == [2, 60, 70]
    assert every.tried[2].pieces < 24
    with pytest.raises(ValueError, match=r"vocab_size must be at most .* at least twice, got 900"):
        choose_min_count(WORDS, OTHER, 900, min_counts=(2, 60), at_most=False)


def test_the_command_never_chooses_what_it_cannot_train(tmp_path, capsys):
    """A least count of 6 would be cheapest here, and leaves 18 of 60 pieces."""
    few = {"low▁": 5, "lower▁": 2, "newest▁": 6, "widest▁": 3, "fen▁": 1, "brine▁": 1}
    assert choose_min_count(few, OTHER, 60).min_count == 6
    for name, words in (("a.txt", few), ("b.txt", OTHER)):
        text = "".join(f"{word[:-1]} " * n for word, n in words.items())
        (tmp_path / name).write_text(text, encoding="utf-8")
    given = ["train", str(tmp_path / "a.txt"), "--development", str(tmp_path / "b.txt"), "-q"]
    given += ["-o", str(tmp_path / "t.json"), "--size"]
    assert main([*given, "60"]) == 0
    made = load_tokenizer_json(tmp_path / "t.json")
    assert (len(made.pieces), made.provenance["min_count"]) == (60, 2)
    assert main([*given, "900"]) == 1
    assert "--size must be at most" in capsys.readouterr().err
