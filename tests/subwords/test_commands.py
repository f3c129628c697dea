"""The commands in this process, one by one."""

import argparse
import io
import math
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from genopt_core import corpora
from genopt_core.conventions import Convention, byte_letters
from genopt_core.subwords import (
    Vocabulary,
    certify,
    choose_min_count,
    commands,
    count_words_by_file,
    count_words_in_files,
    train,
    train_on_text,
)
from genopt_core.subwords.__main__ import main
from genopt_core.subwords.commands import _Progress, _roles, _summary, check_target
from genopt_core.subwords.tokenizer.counting import Counted
from genopt_core.subwords.tokenizer.tokenizer_json import (
    load_tokenizer_json,
    save_tokenizer_json,
)

SMALL = Vocabulary(
    ("a", "b", "▁", "ab", "b▁"), [-1.0, -2.0, -3.0, -2.5, -4.0], [5, 4, 3, 2, 1], {"by": "hand"}
)
LONG = Vocabulary(
    ("a", "b", "▁", "ab"), [-1.0] * 4, [1] * 4, length_cost=0.5, specials=("<s>", "<s>>")
)
BYTES = Vocabulary(
    (*byte_letters(), "lo"), [-3.0] * 257, [1] * 257, {}, 0.0, ("<s>",), Convention("gpt2")
)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("low lower newest widest low\nlow newest newest\n" * 3)
    return str(path)


def test_commands_one_after_the_other(text, tmp_path, capsysbinary):
    target, ids = str(tmp_path / "t.json"), str(tmp_path / "ids")
    assert (
        main(["train", text, "--size", "16", "-o", target, "--special", "<s>", "--min-count", "1"])
        == 0
    )
    said = capsysbinary.readouterr().err.decode()
    assert "counting words: 24 words, 5 different\n" in said
    assert "training 16 pieces: " in said
    assert f"wrote {target}: 16 pieces, 274 ids" in said
    vocabulary = load_tokenizer_json(target)
    counts = corpora.count_words(Path(text).read_text())
    wanted = train(counts, 16, min_count=1)
    assert vocabulary.pieces == wanted.pieces
    assert vocabulary.specials == ("<s>",)
    assert vocabulary.provenance["files"] == ["corpus.txt"]
    assert vocabulary.provenance["convention"] == "lossless"
    assert main(["encode", text, "-t", target, "-o", ids]) == 0
    assert b"encoding: " in capsysbinary.readouterr().err
    lines = Path(ids).read_text().split("\n")
    assert len(lines) == 7
    numbers = [int(n) for n in Path(ids).read_text().split()]
    assert numbers == vocabulary.encode(Path(text).read_text()).tolist()
    assert main(["decode", ids, "-t", target]) == 0
    assert capsysbinary.readouterr().out.decode() == Path(text).read_text()
    assert main(["encode", text, "-t", target, "--pieces", "-q"]) == 0
    shown = capsysbinary.readouterr()
    assert shown.err == b""
    assert shown.out.decode().split("\n")[0].split() == [
        vocabulary.tokens[i] for i in vocabulary.encode("low lower newest widest low\n")
    ]


@pytest.mark.parametrize("alphabet", ["characters", "bytes"])
def test_a_text_is_cut_at_special_tokens(tmp_path, capsysbinary, alphabet):
    """In every command: nothing is learned of one, and none is counted."""
    text, target, other = "<|e|>low lower\n<|e|>low <pad>" * 40, tmp_path / "t.json", "slow<|e|>er "
    source, development = tmp_path / "source", tmp_path / "development"
    source.write_text(text)
    development.write_text(other * 9)
    given = ["--special", "<|e|>", "--pad", "<pad>", "--alphabet", alphabet, "--pattern", r"\S+\s*"]
    size = "262" if alphabet == "bytes" else "9"
    options = [str(source), "--size", size, *given, "-o", str(target), "--at-most"]
    for more in ([], ["--development", str(development)]):
        assert main(["train", *options, *more, "-q"]) == 0
        vocabulary = load_tokenizer_json(target)
        assert not any(c in piece for piece in vocabulary.pieces[256:] for c in "<|>pad")
        assert alphabet == "bytes" or not set("<|>pad") & set(vocabulary.pieces)
        assert vocabulary.decode(vocabulary.encode(text)) == text
    capsysbinary.readouterr()
    assert main(["certify", str(source), "--size", size, "-t", str(target), "-q"]) == 0
    assert capsysbinary.readouterr().out.startswith(b"words            120\n")


def test_certifying_by_command(text, tmp_path, capsysbinary):
    target, prices = str(tmp_path / "t.json"), str(tmp_path / "p.npz")
    counts = corpora.count_words(Path(text).read_text())
    vocabulary = train(counts, 16, effort="fast", new_words=False)
    save_tokenizer_json(vocabulary, target)
    assert main(["certify", text, "--size", "16", "-t", target, "-o", prices, "--steps", "20",
                 "--min-count", "3"]) == 0  # fmt: skip
    lines = capsysbinary.readouterr().out.decode().splitlines()
    made = certify(counts, 16, steps=20)
    assert lines[0] == "words            24"
    assert lines[1] == f"certified bound  {made.bound:.1f} tokens, {made.bound / 24:.5f} per word"
    assert lines[2].endswith("for every vocabulary of 16 pieces of at most 16 characters")
    gap = made.gap(vocabulary, counts)
    assert lines[3] == f"{target}  at most {gap:.3f} % above the best possible"
    assert lines[5].endswith("16 characters that occur at least 3 times")
    assert lines[6].endswith("% above the best possible with pieces that occur at least 3 times")
    assert len(lines) == 7


def test_commands_that_fail_say_why(text, tmp_path, capsys):
    target = str(tmp_path / "t.json")
    for arguments, words in (
        (["train", text, "--size", "2", "-o", target], "--size must be at least"),
        (["train", text, "--size", "900", "-o", target], "--at-most takes fewer"),
        (["train", text, "--size", "20", "-o", str(tmp_path)], "is a folder"),
        (["train", text, "--size", "20", "--transformers", text], "is a file"),
        (["train", text, "--size", "20", "-o", str(tmp_path / "no" / "t")], "no such folder"),
        (
            ["train", text, "--size", "20", "-o", target, "--special", "▁"],
            "--special must be in no word as it is spelled, got '▁', which is in low▁",
        ),
        (["train", text, "--size", "20", "-o", target, "--special", ""], "--special must not"),
        (["train", text + "x", "--size", "20", "-o", target], "No such file"),
        (["encode", text, "-t", text], "-t/--tokenizer: "),
    ):
        assert main(arguments) == 1
        assert words in capsys.readouterr().err
    save_tokenizer_json(SMALL, target)
    for content, words in (("1 x 2", "got 'x'"), ("1 262", "has the id 262, "), ("-1", "got '-1'")):
        (tmp_path / "ids").write_text(content)
        assert main(["decode", str(tmp_path / "ids"), "-t", target]) == 1
        assert words in capsys.readouterr().err
    (tmp_path / "ids").write_text("261")
    assert main(["decode", str(tmp_path / "ids"), "-t", target]) == 0
    (tmp_path / "empty").write_text("")
    for name, words in (("empty", "is empty"),):
        assert main(["train", str(tmp_path / name), "--size", "9", "-o", target]) == 1
        assert words in capsys.readouterr().err
    (tmp_path / "blank").write_text("1 2")
    arguments = ["--convention", "textbook", "--size", "9", "-o", target]
    assert main(["train", str(tmp_path / "blank"), *arguments]) == 1
    assert "has no words" in capsys.readouterr().err


def test_an_interrupted_command_is_130(text, tmp_path, capsys, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("genopt_core.subwords.commands.train", stop)
    assert main(["train", text, "--size", "20", "-o", str(tmp_path / "t")]) == 130
    assert "error: interrupted, nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "t").exists()


def test_what_is_said_of_a_vocabulary():
    def said(vocabulary, output=None, folder=None, roles=None):
        given = argparse.Namespace(output=output, transformers=folder)
        return _summary(vocabulary, given, roles or {}).split("\n")

    known = Vocabulary(SMALL.pieces, SMALL.log_probabilities, SMALL.counts, {"words": 6.0})
    assert said(known, "t.json") == [
        "wrote t.json: 5 pieces, 262 ids (the pieces, 256 bytes, <unk>)",
        "on these words: 2.500 tokens a word",
        "to use it: python -m genopt_core.subwords encode FILE -t t.json",
        "in transformers: PreTrainedTokenizerFast(tokenizer_file='t.json')",
    ]
    one = known.with_specials(["<s>"])
    lines = said(one, folder="d", roles={"eos_token": "<s>"})
    assert lines[0] == "wrote d: 5 pieces, 263 ids (the pieces, 256 bytes, <unk>, 1 special token)"
    assert lines[2].endswith(f"-t {os.path.join('d', 'tokenizer.json')}")
    assert lines[3] == "in transformers: AutoTokenizer.from_pretrained('d')"
    spelled = Vocabulary(
        BYTES.pieces, BYTES.log_probabilities, BYTES.counts, {"words": 257.0}, 0.0, ("<s>", "<e>"),
        Convention("gpt2"),
    )  # fmt: skip
    lines = said(spelled, "t.json", roles={"eos_token": "<e>"})
    assert lines[0] == "wrote t.json: 257 pieces, 259 ids (the pieces, 2 special tokens)"
    assert lines[1] == "on these words: 1.000 tokens a word"
    assert lines[3].endswith("(tokenizer_file='t.json', eos_token='<e>')")


def test_roles_of_special_tokens():
    def roles(folder, **given):
        names = {"bos": None, "eos": None, "pad": None} | given
        return _roles(argparse.Namespace(transformers=folder, **names))

    assert roles(None) == {}
    assert roles(None, bos="<b>") == {"bos_token": "<b>"}
    assert roles("d") == {"eos_token": "</s>", "pad_token": "<pad>"}
    assert roles("d", eos="<e>", pad="<p>", bos="<b>") == {
        "bos_token": "<b>", "eos_token": "<e>", "pad_token": "<p>",
    }  # fmt: skip


def test_progress_of_little_and_of_nothing(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    shown = _Progress(False, "x")
    for done, total in ((0, 0), (1, 1)):
        shown.show(Counted(done, total))
    shown.end()
    assert capsys.readouterr().err == "x ...\rx   0 %\rx 100 %\rx: done\n"
    unknown = _Progress(False, "x")
    unknown.show(Counted(9, 0))
    unknown.end()
    assert capsys.readouterr().err == "x ...\rx: done\n"
    quiet = _Progress(True, "x")
    quiet.show(Counted(1, 1))
    quiet.end()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    plain = _Progress(False, "x")
    plain.show(Counted(1, 2))
    plain.end("3 s")
    assert capsys.readouterr().err == "x: 3 s\n"


def test_where_a_file_may_be_written(tmp_path, monkeypatch):
    check_target(None)
    check_target(str(tmp_path / "new"))
    check_target(str(tmp_path), folder=True)
    check_target("-")
    (tmp_path / "link").symlink_to("none/t.json")
    with pytest.raises(OSError, match="no such folder"):
        check_target(str(tmp_path / "link"))
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(OSError, match="cannot be written to"):
        check_target(str(tmp_path / "new"))
    with pytest.raises(ValueError, match="cannot be written to"):
        check_target(str(tmp_path), folder=True)


def test_a_dash_is_the_standard_input_and_output(text, tmp_path, monkeypatch, capsysbinary):
    def given(content):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    monkeypatch.chdir(tmp_path)
    target, content = str(tmp_path / "t.json"), Path(text).read_bytes()
    options = ["--size", "16", "--min-count", "1"]
    assert main(["train", text, *options, "-q", "-o", target]) == 0
    given(content)
    assert main(["train", "-", *options, "-o", "-"]) == 0
    shown = capsysbinary.readouterr()
    assert shown.out.replace(b'"-"', b'"corpus.txt"') == Path(target).read_bytes()
    lines = shown.err.decode().splitlines()
    assert lines[-2].startswith("wrote the standard output: 16 pieces, ")
    assert lines[-1].startswith("on these words: ")
    assert main(["encode", text, "-t", target, "-q"]) == 0
    ids = capsysbinary.readouterr().out
    given(content)
    assert main(["encode", "-", "-t", target, "-o", "-"]) == 0
    shown = capsysbinary.readouterr()
    assert shown.out == ids
    assert shown.err.decode().endswith(f"encoding: {len(ids.split())} tokens for 138 bytes\n")
    given(ids)
    assert main(["decode", "-", "-t", target, "-o", "-", "-q"]) == 0
    assert capsysbinary.readouterr().out == content
    given(content)
    assert (
        main(["train", text, "--development", "-", "--at-most", *options[:2], "-q", "-o", "-"]) == 0
    )
    capsysbinary.readouterr()
    for command in ("train", "certify"):
        given(b"")
        rest = ["-o", target] if command == "train" else []
        assert main([command, "-", *options, *rest, "-q"]) == 1
        assert capsysbinary.readouterr().err == b"error: the standard input is empty\n"
        given(b" \n")
        assert main([command, "-", *options, *rest, "-q"]) == 1
        assert capsysbinary.readouterr().err == b"error: the standard input has no words\n"
    given(b"")
    assert main(["train", text, "--size", "9", "--development", "-", "-q", "-o", target]) == 1
    assert b"must have words, the standard input has none" in capsysbinary.readouterr().err
    given(b"caf\xe9")
    assert main(["encode", "-", "-t", target]) == 1
    assert b"is not UTF-8: byte 3 is 0xE9" in capsysbinary.readouterr().err
    for arguments, words in (
        (["train", "-", "-", *options, "-o", target], b"FILE must name the standard input once"),
        (["train", "-", "--size", "9", "--development", "-", "-o", target], b"that is trained on"),
        (["certify", text, *options, "-o", "-"], b"-o/--output must be a file, got '-'"),
    ):
        given(content)
        assert main(arguments) == 1
        assert words in capsysbinary.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.txt", "t.json"]


def test_pipes_are_read_and_written(text, tmp_path, capsysbinary):
    def fed(name, content):
        os.mkfifo(tmp_path / name)
        threading.Thread(target=(tmp_path / name).write_bytes, args=[content], daemon=True).start()
        return str(tmp_path / name)

    target, content, got = str(tmp_path / "t.json"), Path(text).read_bytes(), []
    save_tokenizer_json(SMALL, target)
    os.mkfifo(tmp_path / "out")
    reader = threading.Thread(
        target=lambda: got.append((tmp_path / "out").read_bytes()), daemon=True
    )
    reader.start()
    source = fed("in", content)
    assert main(["encode", source, "-t", target, "-o", str(tmp_path / "out")]) == 0
    reader.join(10)
    assert b" %" not in capsysbinary.readouterr().err  # nobody knows how much there is
    assert [int(n) for n in b"".join(got).split()] == SMALL.encode(content.decode()).tolist()
    assert main(["decode", fed("ids", got[0]), "-t", target]) == 0
    assert capsysbinary.readouterr().out == content
    assert main(["train", fed("a", content), text, "--size", "16", "-q", "-o", target]) == 0
    assert load_tokenizer_json(target).provenance["words"] == 48


def test_so_many_workers_count(text, tmp_path, monkeypatch, capsys):
    made = []

    class Threads(ThreadPoolExecutor):
        def __init__(self, workers):
            made.append(workers)
            super().__init__(workers)

    monkeypatch.setattr(commands, "ProcessPoolExecutor", Threads)
    for workers, expected in (("1", []), ("2", [2])):
        target = str(tmp_path / f"{workers}.json")
        arguments = ["train", text, "--size", "12", "--min-count", "1", "-o", target, "-q"]
        assert main([*arguments, "--workers", workers]) == 0
        assert made == expected
    assert capsys.readouterr().err == ""
    assert load_tokenizer_json(tmp_path / "1.json") == load_tokenizer_json(tmp_path / "2.json")


def test_a_tokenizer_is_certified_by_its_own_convention(text, tmp_path, capsys):
    for rule in (Convention("gpt2"), Convention("regex", r"\S+\s*", "characters")):
        counts = corpora.count_words(Path(text).read_text(), rule)
        size = 262 if rule.in_bytes else 15
        vocabulary = train(counts, size, effort="fast", new_words=False, convention=rule)
        save_tokenizer_json(vocabulary, tmp_path / "t.json")
        arguments = ["certify", text, "--size", str(size), "--steps", "3", "-q"]
        assert main([*arguments, "-t", str(tmp_path / "t.json")]) == 0
        first = capsys.readouterr().out.splitlines()
        assert first[0] == f"words            {sum(counts.values())}"
        assert len(first) == 4
        given = ["--pattern", rule.pattern] if rule.pattern else ["--convention", rule.name]
        assert main([*arguments, *given, "--alphabet", rule.alphabet]) == 0
        assert capsys.readouterr().out.splitlines() == first[:3]


@pytest.mark.parametrize(
    ("own", "same", "others"),
    [
        (
            Convention("lossless"),
            (
                ["--convention", "lossless"],
                ["--alphabet", "characters"],
                ["--convention", "textbook"],
            ),
            (["--convention", "gpt4"], ["--alphabet", "bytes"], ["--convention", "lossless-front"]),
        ),
        (
            Convention("textbook"),
            (["--convention", "textbook"],),
            (["--convention", "lossless"], ["--convention", "textbook", "--alphabet", "bytes"]),
        ),
        (
            Convention("gpt2", alphabet="characters"),
            (["--convention", "gpt2"], ["--convention", "gpt2", "--alphabet", "characters"]),
            (["--convention", "gpt2", "--alphabet", "bytes"], ["--pattern", r"\S+\s*"]),
        ),
        (
            Convention("regex", r"\S+\s*", "characters"),
            (["--pattern", r"\S+\s*"],),
            (["--pattern", r"\S+"], ["--convention", "none"]),
        ),
    ],
    ids=lambda case: getattr(case, "name", ""),
)
def test_a_convention_that_is_not_the_tokenizer_s_is_refused(
    text, tmp_path, capsys, own, same, others
):
    counts = corpora.count_words(Path(text).read_text(), own)
    vocabulary = train(counts, 15, at_most=True, new_words=False, convention=own)
    save_tokenizer_json(vocabulary, tmp_path / "t.json")
    arguments = ["certify", text, "--size", "15", "--steps", "3", "-t", str(tmp_path / "t.json")]
    for options in same:
        assert main([*arguments, *options]) == 0, options
        assert "% above the best possible" in capsys.readouterr().out
    rule = f"--pattern {own.pattern!r}" if own.pattern else f"--convention {own.name}"
    for options in others:
        assert main([*arguments, *options]) == 1, options
        shown = capsys.readouterr()
        words = [repr(word) if word.startswith("\\") else word for word in options]
        assert shown.err == (
            f"error: the convention must be that of {tmp_path / 't.json'}, {rule} "
            f"--alphabet {own.alphabet}, which is taken where none is given, got "
            f"{' '.join(words)}\n"
        )
        assert shown.out == ""


def test_a_tokenizer_is_read_from_the_folder_it_is_in(text, tmp_path, capsysbinary):
    folder = tmp_path / "folder"
    options = ["--size", "16", "--min-count", "1", "-q"]
    assert main(["train", text, *options, "--transformers", str(folder)]) == 0
    said = []
    for given in (folder, folder / "tokenizer.json"):
        ids = tmp_path / "ids"
        assert main(["encode", text, "-t", str(given), "-o", str(ids)]) == 0
        assert main(["decode", str(ids), "-t", str(given)]) == 0
        assert main(["certify", text, "--size", "16", "--steps", "3", "-t", str(given)]) == 0
        said.append(capsysbinary.readouterr().out.replace(b"/tokenizer.json", b""))
        assert said[-1].startswith(Path(text).read_bytes())
    assert said[0] == said[1]
    (tmp_path / "none").mkdir()
    assert main(["encode", text, "-t", str(tmp_path / "none")]) == 1
    wanted = f"error: {tmp_path / 'none' / 'tokenizer.json'}: No such file or directory\n"
    assert capsysbinary.readouterr().err.decode() == wanted


@pytest.mark.parametrize(
    ("objective", "unit", "penalty"),
    [
        ("likelihood", "bits", ""),
        (0.5, "bits", ", 0.5 nats a token included"),
        (0.0, "bits", ", 0 nats a token included"),
        ("tokens", "tokens", ""),
    ],
)
def test_what_decides_on_a_least_count_is_shown(tmp_path, capsys, objective, unit, penalty):
    counts = {"low": 40, "lower": 21, "newest": 9, "widest": 6, "slow": 5, "wider": 3, "fen": 2}
    others = {"lowest": 9, "newer": 7, "wide": 3, "slower": 2, "feno": 1}
    for name, words in (("a", counts), ("b", others)):
        content = "".join(f"{word} " * n for word, n in words.items())
        (tmp_path / name).write_text(content)
    files = [str(tmp_path / "a"), "--development", str(tmp_path / "b"), "--size", "22", "--at-most"]
    rest = ["--objective", str(objective), "-o", str(tmp_path / "t.json")]
    assert main(["train", *files, *rest]) == 0
    first, tried = capsys.readouterr().err.split("choosing --min-count: ")[1].split(": ", 1)
    chosen, told = first.split(" (", 1)
    assert told == f"{unit} a word of {tmp_path / 'b'}{penalty}"
    shown = dict(pair.split(": ") for pair in tried.split(")")[0].split(", "))
    choice = choose_min_count(*map(count_words_in_files, (files[0], files[2])), 22, objective)
    assert len(set(shown.values())) > 1
    costs = {f"{t.min_count:g}": (t.tokens, t.nats / math.log(2)) for t in choice.tried}
    assert shown == {
        least: f"{cost[objective != 'tokens'] / sum(others.values()):.4f}"
        for least, cost in costs.items()
    }
    assert float(shown[chosen]) == min(map(float, shown.values()))


def test_pieces_and_specials_across_lines_and_cuts(tmp_path, monkeypatch, capsysbinary):
    vocabulary = Vocabulary(
        ("a", "b", "\n", "a\n", "\n\n", "▁", "\nb"), [-1.0] * 7, [1] * 7, {}, 0.0, ("<a b>",),
        Convention("none", alphabet="characters"),
    )  # fmt: skip
    target, page = str(tmp_path / "t.json"), tmp_path / "page"
    save_tokenizer_json(vocabulary, target)
    page.write_text("ba\nb<a b>a\n")
    assert main(["encode", str(page), "-t", target, "--pieces", "-q"]) == 0
    shown = capsysbinary.readouterr().out.decode()
    ids = vocabulary.encode("ba\nb<a b>a\n")
    names = [vocabulary.tokens[i] for i in ids]
    assert shown == "".join(
        (n if len(n) == 1 else n.replace("\n", "\\n")) + ("\n" if n.endswith("\n") else " ")
        for n in names
    )
    assert "<a b> " in shown
    lossless = Vocabulary(("a", "b", "▁"), [-1.0] * 3, [1] * 3, {}, 0.0, ("<a b>",))
    save_tokenizer_json(lossless, target)
    page.write_text("a b <a b> b\n")
    chunks = commands.read_chunks
    monkeypatch.setattr(commands, "read_chunks", lambda f, **given: chunks(f, 3, **given))
    for options, special in (([], True), (["--no-specials"], False)):
        assert main(["encode", str(page), "-t", target, "-q", *options]) == 0
        numbers = [int(n) for n in capsysbinary.readouterr().out.split()]
        assert numbers == lossless.encode("a b <a b> b\n", recognize_specials=special).tolist()
        assert (260 in numbers) == special


def test_a_reader_that_has_read_enough_is_no_error(text, tmp_path, monkeypatch):
    def stop(*arguments):
        raise BrokenPipeError

    moved = []
    monkeypatch.setattr(commands, "_output", stop)
    monkeypatch.setattr("os.dup2", lambda *a: moved.append(a[1]))
    save_tokenizer_json(SMALL, tmp_path / "t.json")
    assert main(["encode", text, "-t", str(tmp_path / "t.json"), "-q"]) == 0
    assert moved == [1]


def test_a_development_text_without_words_is_refused(text, tmp_path, capsys):
    (tmp_path / "none").write_text("")
    arguments = ["train", text, "--size", "12", "-o", str(tmp_path / "t.json"), "-q"]
    assert main([*arguments, "--development", str(tmp_path / "none")]) == 1
    assert "--development must have words" in capsys.readouterr().err


def test_many_occurrences_in_one_file_count_for_less(tmp_path, capsys):
    texts = ["lower " * 49 + "lower", "newest low", "slow newest", "widest newest"]
    files = [tmp_path / f"{n}.txt" for n in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text, encoding="utf-8")
    names = [*map(str, files)]
    out = tmp_path / "t.json"
    arguments = ["train", *names, "--size", "14", "--at-most", "-o", str(out)]
    assert main([*arguments, "--file-exponent", "0.5"]) == 0
    said = capsys.readouterr().err
    assert "counting words: 7 different words, weighing 14\n" in said
    assert "on these words, as weighted: " in said
    found = load_tokenizer_json(out)
    weights = count_words_in_files(files, file_exponent=0.5)
    assert found.pieces == train(weights, 14, at_most=True).pieces
    assert found.provenance["file_exponent"] == 0.5
    assert main(arguments) == 0
    assert "counting words: 56 words, 7 diff" in capsys.readouterr().err
    assert "file_exponent" not in load_tokenizer_json(out).provenance
    assert main(["train", names[0], *arguments[5:], "--file-exponent", "0.5"]) == 1
    assert "error: --file-exponent must be 1 for one FILE, got 0.5" in capsys.readouterr().err
    assert main([*arguments, "--max-piece", "2"]) == 0
    assert max(map(len, load_tokenizer_json(out).pieces)) == 2
    for wrong in ("-1", "1.1", "half", "nan"):
        with pytest.raises(SystemExit):
            main([*arguments, "--file-exponent", wrong])
        assert f"must be a number in 0..1, got '{wrong}'" in capsys.readouterr().err


FORMS = ("low", "lower", "lowest", "slow", "slower", "slowest")


def test_files_are_trained_on_as_train_on_text_does(tmp_path, capsys):
    """Whole files are left out where that is asked for, and where it is the default."""
    files = [tmp_path / f"{n}.txt" for n in range(9)]
    for n, file in enumerate(files):
        words = [FORMS[(n + k) % len(FORMS)] for k in range(4)]
        file.write_text(" ".join([*words, f"only{'abcdefghi'[n]} " * n]), encoding="utf-8")
    out = tmp_path / "t.json"
    arguments = ["train", *map(str, files), "--size", "22", "--at-most", "-o", str(out), "-q"]
    for more, options in (
        ([], {}),
        (["--new-words"], {"new_words": True}),
        (["--no-new-words"], {"new_words": False}),
        (["--new-words", "--min-count", "2"], {"new_words": True, "min_count": 2}),
        (["--new-words", "--file-exponent", ".5"], {"new_words": True, "file_exponent": 0.5}),
        (["--file-exponent", ".5", "--min-count", "1.5"], {"file_exponent": 0.5, "min_count": 1.5}),
    ):
        assert main([*arguments, *more]) == 0
        found, wanted = load_tokenizer_json(out), train_on_text(files, 22, at_most=True, **options)
        assert found.pieces == wanted.pieces, more
        kept = ("new_words", "number_of_files", "file_exponent", "min_count", "objective")
        for name in kept:
            assert found.provenance.get(name) == wanted.provenance.get(name), (more, name)
    assert main([*arguments, "--new-words", "--development", str(files[0])]) == 1
    assert "must not be a text that is trained on" in capsys.readouterr().err
    apart = [argument for argument in arguments if argument != str(files[0])]
    assert main([*apart, "--new-words", "--development", str(files[0])]) == 0
    counts = count_words_by_file(files[1:])
    best = choose_min_count(
        counts, count_words_in_files(files[0]), 22, new_words=True, at_most=True
    ).min_count
    wanted = train(counts, 22, at_most=True, new_words=True, min_count=best)
    assert load_tokenizer_json(out).pieces == wanted.pieces
