"""The command line, run as a user runs it."""

import json
import subprocess
import sys

import numpy as np
import pytest

from genopt_core import corpora
from genopt_core.corpora import count_words
from genopt_core.subwords import Vocabulary, stored_costs
from genopt_core.subwords.__main__ import _parser
from genopt_core.subwords.__main__ import main as command_line
from genopt_core.subwords.commands import _Progress
from genopt_core.subwords.tokenizer.counting import Counted
from genopt_core.subwords.tokenizer.tokenizer_json import load_tokenizer_json, save_tokenizer_json


def run(*arguments, timeout=300):
    command = [sys.executable, "-m", "genopt_core.subwords", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=timeout)


def failed(done, code=1):
    """The one line that a failed command leaves on the error stream."""
    errors = done.stderr.decode("utf-8")
    assert done.returncode == code, errors
    assert "Traceback" not in errors
    return errors.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    costs = stored_costs(1000)
    vocabulary = Vocabulary(tuple(costs), -np.array(list(costs.values())), np.ones(len(costs)))
    save_tokenizer_json(vocabulary.with_specials(["<end>"]), path)
    return path


@pytest.fixture
def write(tmp_path):
    def make(content, name="text.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return make


def test_help_has_examples_and_usage_errors_are_2():
    done = run("--help")
    assert done.returncode == 0
    assert b"examples:" in done.stdout
    for command in ("train", "encode", "decode", "certify"):
        done = run(command, "--help")
        assert done.returncode == 0
        assert b"examples:" in done.stdout
    assert "COMMAND" in failed(run(), 2)
    assert "--size" in failed(run("train", "x.txt", "-o", "y.json"), 2)
    assert "at least 1, got 0" in failed(run("train", "x", "--size", "0", "-o", "y"), 2)
    assert "'likelihood', 'tokens'" in failed(
        run("train", "x", "--size", "9", "-o", "y", "--objective", "most"), 2
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The lower state,  of the union.\n\n  A new line\n",
        "NUL \x00 and controls \x01\x1b[0m\x7f\r\n\t",
        "mixed текст 日本語 עברית हिन्दी \U0001f600 e\u0301 ▁ <unk> <0x41> <end>\n",
        "\ufeffwith a byte order mark",
        "a" * 100_000,
        "one word",
    ],
    ids=["empty", "plain", "controls", "scripts", "mark", "long word", "word"],
)
def test_decode_gives_back_the_file(tokenizer, write, tmp_path, text):
    source = write(text)
    done = run("encode", source, "-t", tokenizer, "-o", tmp_path / "ids")
    assert done.returncode == 0, done.stderr
    assert b"encoding: " in done.stderr
    assert done.stdout == b""
    ids = [int(number) for number in (tmp_path / "ids").read_text().split()]
    assert ids == load_tokenizer_json(tokenizer).encode(text).tolist()
    back = run("decode", tmp_path / "ids", "-t", tokenizer)
    assert back.returncode == 0, back.stderr
    assert back.stdout == text.encode("utf-8")


def test_a_large_file_is_encoded_in_blocks_as_a_whole(tokenizer, write, tmp_path):
    text = corpora.load("sotu")[:1_500_000] + "\n  indented\n" * 100
    source = write(text)
    assert run("encode", source, "-t", tokenizer, "-o", tmp_path / "ids").returncode == 0
    ids = np.array((tmp_path / "ids").read_text().split(), dtype=int)
    assert np.array_equal(ids, load_tokenizer_json(tokenizer).encode(text))
    lines = (tmp_path / "ids").read_text().count("\n")
    assert lines == text.count("\n")
    done = run("decode", tmp_path / "ids", "-t", tokenizer, "-o", tmp_path / "back.txt")
    assert done.returncode == 0
    assert (tmp_path / "back.txt").read_bytes() == source.read_bytes()


def test_a_special_token_that_a_cut_could_split_is_found(write, tmp_path):
    path = tmp_path / "tokenizer.json"
    vocabulary = Vocabulary(("a", "b"), np.full(2, -1.0), np.ones(2)).with_specials([", b"])
    save_tokenizer_json(vocabulary, path)
    text = "a, b" * 400_000  # more than one chunk
    done = run("encode", write(text), "-t", path)
    assert done.stdout.split() == b"0 259".split() * 400_000


def test_pieces_and_plain_specials(tokenizer, write):
    source = write("the state<end>")
    done = run("encode", source, "-t", tokenizer, "--pieces", "-q")
    assert done.stdout.decode("utf-8").split() == ["the▁", "state", "<end>"]
    assert done.stderr == b""
    done = run("encode", source, "-t", tokenizer, "--pieces", "--no-specials")
    assert b"<end>" not in done.stdout


def test_wrong_files_are_named(tokenizer, write, tmp_path):
    text = write("the state")
    latin = write("the caf\xe9".encode("latin-1"), "latin.txt")
    none = tmp_path / "none.txt"
    assert failed(run("encode", none, "-t", tokenizer)) == (
        f"error: {none}: No such file or directory"
    )
    assert "latin.txt is not UTF-8: byte 7 is 0xE9" in failed(run("encode", latin, "-t", tokenizer))
    assert "No such file" in failed(run("encode", text, "-t", tmp_path / "none.json"))
    assert "is not JSON" in failed(run("encode", text, "-t", text))
    assert "must hold token ids, got 'the'" in failed(run("decode", text, "-t", tokenizer))
    large = write("1 2 99999999", "large.ids")
    assert "large.ids has the id 99999999" in failed(run("decode", large, "-t", tokenizer))
    assert "no such folder" in failed(
        run("encode", text, "-t", tokenizer, "-o", tmp_path / "none" / "ids")
    )
    for command in ("train", "certify"):
        out = tmp_path / f"{command}.out"
        rest = ("--size", "100", "-o", out)
        assert "none.txt: No such file" in failed(run(command, none, *rest))
        assert "latin.txt is not UTF-8: byte 7 is 0xE9" in failed(run(command, latin, *rest))
        assert "empty.txt is empty" in failed(run(command, write("", "empty.txt"), *rest))
        blank = write(" \n \t\n", "blank.txt")
        assert "blank.txt has no words" in failed(run(command, blank, *rest))
        digits = write("12 34.", "digits.txt")
        textbook = run(command, digits, *rest, "--convention", "textbook")
        assert "digits.txt has no words" in failed(textbook)
        none_given = subprocess.run(
            [sys.executable, "-m", "genopt_core.subwords", command, "-", *map(str, rest)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=300,
        )
        assert failed(none_given) == "error: the standard input is empty"
        assert not out.exists()
    assert {path.suffix for path in tmp_path.iterdir()} <= {".txt", ".ids"}


def test_a_failed_encoding_leaves_no_file(tokenizer, write, tmp_path):
    latin = write(b"fine line\n" * 200_000 + b"\xff", "latin.txt")
    error = failed(run("encode", latin, "-t", tokenizer, "-o", tmp_path / "ids"))
    assert "byte 2000000 is 0xFF" in error
    assert [path.name for path in tmp_path.iterdir()] == ["latin.txt"]


# Training and certificates ------------------------------------------------------------------------


CORPUS = "low low low lower newest newest wider widest, slow slower slowest.\n" * 20


@pytest.mark.parametrize("objective", ["likelihood", "tokens", "2.5"])
def test_train_encode_decode(write, tmp_path, objective):
    source, target = write(CORPUS), tmp_path / "tokenizer.json"
    options = ("--objective", objective, "--special", "<s>", "-o", target)
    done = run("train", source, "--size", "25", *options)
    assert done.returncode == 0, done.stderr
    assert b"training 25 pieces: " in done.stderr
    vocabulary = load_tokenizer_json(target)
    assert len(vocabulary) <= 25
    assert vocabulary.specials == ("<s>",)
    assert vocabulary.provenance["files"] == ["text.txt"]
    again = tmp_path / "again.json"
    assert run("train", source, "--size", "25", *options[:-1], again).returncode == 0
    assert again.read_bytes() == target.read_bytes()
    done = run("encode", source, "-t", target)
    (tmp_path / "ids").write_bytes(done.stdout)
    assert run("decode", tmp_path / "ids", "-t", target).stdout.decode() == CORPUS


def test_training_says_what_it_wrote(write, tmp_path):
    """Where, both sizes, tokens a word, and how to load it; nothing with -q."""
    source, target = write(CORPUS), tmp_path / "tokenizer.json"
    arguments = ("train", source, "--size", "25", "--special", "<s>", "--eos", "</s>", "-o", target)
    lines = run(*arguments).stderr.decode("utf-8").splitlines()
    vocabulary = load_tokenizer_json(target)
    assert len(vocabulary.tokens) == 25 + 257 + 2
    counts = corpora.count_words(CORPUS)
    tokens = sum(n * len(vocabulary.segment(word)) for word, n in counts.items())
    assert lines[-4:-1] == [
        f"wrote {target}: 25 pieces, 284 ids (the pieces, 256 bytes, <unk>, 2 special tokens)",
        f"on these words: {tokens / sum(counts.values()):.3f} tokens a word",
        f"to use it: python -m genopt_core.subwords encode FILE -t {target}",
    ]
    transformers = pytest.importorskip("transformers")
    assert lines[-1].startswith("in transformers: ")
    names = {"PreTrainedTokenizerFast": transformers.PreTrainedTokenizerFast}
    loaded = eval(lines[-1].removeprefix("in transformers: "), names)
    assert loaded.eos_token == "</s>"
    assert loaded("low </s>").input_ids == vocabulary.encode("low </s>").tolist()
    assert run(*arguments, "-q").stderr == b""


def test_a_folder_that_transformers_loads_with_roles(write, tmp_path):
    transformers = pytest.importorskip("transformers")
    folder = tmp_path / "folder"
    done = run("train", write(CORPUS), "--size", "25", "--bos", "<s>", "--transformers", folder)
    assert done.returncode == 0, done.stderr
    last = done.stderr.decode("utf-8").splitlines()[-1]
    assert last == f"in transformers: AutoTokenizer.from_pretrained({str(folder)!r})"
    loaded = transformers.AutoTokenizer.from_pretrained(folder)
    roles = [loaded.bos_token, loaded.eos_token, loaded.pad_token, loaded.unk_token]
    assert roles == ["<s>", "</s>", "<pad>", None]
    vocabulary = load_tokenizer_json(folder / "tokenizer.json")
    assert vocabulary.specials == ("<s>", "</s>", "<pad>")
    assert len(loaded) == len(vocabulary.tokens)
    texts = ["low", "  lower <unk> lowest é\n日本</s>"]
    batch = loaded(texts, padding=True)
    short, long = batch["input_ids"]
    assert long == vocabulary.encode(texts[1]).tolist()
    assert set(short[sum(batch["attention_mask"][0]) :]) == {loaded.pad_token_id}
    assert loaded.decode(long) == texts[1]


def test_a_small_text_gets_at_most_as_many_pieces(write, tmp_path):
    source, target = write(CORPUS), tmp_path / "tokenizer.json"
    arguments = ("train", source, "--size", "8000", "-o", target)
    assert "--at-most takes fewer" in failed(run(*arguments))
    assert not target.exists()
    done = run(*arguments, "--at-most")
    assert done.returncode == 0, done.stderr
    vocabulary = load_tokenizer_json(target)
    assert f"wrote {target}: {len(vocabulary)} pieces".encode() in done.stderr
    assert 25 < len(vocabulary) < 8000
    assert vocabulary.decode(vocabulary.encode(CORPUS)) == CORPUS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--special", ""), "--special must not be empty, got ''"),
        (("--eos", "<unk>"), "--eos must differ from each other and from all tokens, got '<unk>'"),
        (("--pad", "▁"), "--pad must be in no word as it is spelled, got '▁', which is in "),
        (("--size", "3"), "--size must be at least"),
        (("-o", "."), ". is a folder"),
    ],
)
def test_options_are_checked_before_training(write, tmp_path, options, message):
    arguments = ("train", write(CORPUS), "--size", "25", "-o", tmp_path / "tokenizer.json")
    done = run(*arguments, *options)
    assert message in failed(done)
    assert b"training" not in done.stderr.replace(b"training 3 pieces", b"")


def test_usage_errors_name_what_is_accepted():
    rest = ("-o", "y")
    for size in ("8k", "2.5", ""):
        error = failed(run("train", "x", "--size", size, *rest), 2)
        assert error.endswith(f"argument --size: must be a whole number, got {size!r}")
    for objective in ("5000", "-1", "nan"):
        error = failed(run("train", "x", "--size", "9", f"--objective={objective}", *rest), 2)
        assert error.endswith(f"a penalty in 0..1000, got {objective!r}")
    assert "-o/--output --transformers" in failed(run("train", "x", "--size", "9"), 2)


def test_messages_name_options_and_no_function_of_python(write, tmp_path):
    text = write("the state")
    for content, message in (
        ("{}", "it has no 'model'"),
        ('{"model": {"type": "BPE", "vocab": {}}}', "its model is BPE"),
    ):
        other = write(content, "other.json")
        for command in (("encode", text), ("decode", text), ("certify", text, "--size", "50")):
            error = failed(run(*command, "-t", other))
            assert error == (
                f"error: -t/--tokenizer: {other} must be a tokenizer.json that genopt_core wrote, "
                f"{message}"
            )


def test_certify_looks_at_the_tokenizer_first(tokenizer, write):
    done = run("certify", write("the state of the union " * 9), "--size", "30", "-t", tokenizer)
    assert f"{tokenizer} must have at most 30 pieces" in failed(done)
    assert b"certifying" not in done.stderr
    assert done.stdout == b""


def test_sizes_that_cannot_be(write, tmp_path):
    source, target = write(CORPUS), tmp_path / "tokenizer.json"
    alphabet = len(set(CORPUS.replace("\n", "").replace(" ", "▁")))
    small = failed(run("train", source, "--size", "3", "-o", target))
    assert str(alphabet) in small
    assert "3" in small
    large = failed(run("train", source, "--size", "1000000", "-o", target))
    assert "1000000" in large
    assert not target.exists()


@pytest.mark.parametrize(
    "text",
    [
        "word",
        "ab" * 50_000,
        "NUL \x00 and controls \x01\x1b\x7f " * 5,
        "mixed текст 日本語 עברית हिन्दी \U0001f600 " * 5,
    ],
    ids=["one word", "long word", "controls", "scripts"],
)
def test_odd_corpora_train(write, tmp_path, text):
    source, target = write(text), tmp_path / "tokenizer.json"
    counts = corpora.count_words(text)
    size = len(set().union(*counts)) + 1
    done = run("train", source, "--size", size, "-o", target)
    assert done.returncode == 0, done.stderr
    vocabulary = load_tokenizer_json(target)
    assert vocabulary.decode(vocabulary.encode(text)) == text


def test_certify(write, tmp_path):
    source, target = write(CORPUS), tmp_path / "prices.npz"
    done = run("certify", source, "--size", "30", "--steps", "50", "-o", target, "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert b"certified bound" in done.stdout
    assert target.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["prices.npz", "text.txt"]
    counts = corpora.count_words(CORPUS)
    pieces = tuple(sorted(set().union(*counts)))
    logs = np.full(len(pieces), -3.0)
    save_tokenizer_json(Vocabulary(pieces, logs, np.ones(len(pieces))), tmp_path / "letters.json")
    done = run("certify", source, "--size", "30", "--steps", "50", "-t", tmp_path / "letters.json")
    assert b"% above the best possible" in done.stdout, done.stderr
    assert "at least" in failed(run("certify", source, "--size", "2"))


def test_both_gaps_are_shown_for_candidates_that_occur_often(write, tmp_path):
    source, target = write(CORPUS), tmp_path / "tokenizer.json"
    done = run("train", source, "--size", "30", "--min-count", "50", "-o", target)
    assert done.returncode == 0, done.stderr
    assert load_tokenizer_json(target).provenance["min_count"] == 50
    options = ("certify", source, "--size", "30", "--steps", "50", "-t", target)
    done = run(*options, "--min-count", "50")
    lines = done.stdout.decode().splitlines()
    gaps = [float(line.split("at most ")[1].split(" %")[0]) for line in lines if " % " in line]
    assert len(gaps) == 2, done.stderr
    assert gaps[1] < 1 < 100 < gaps[0]  # of 619 tokens 260 need rarer pieces
    assert lines[-1].endswith("above the best possible with pieces that occur at least 50 times")
    assert run(*options).stdout.decode().splitlines() == lines[:4]
    said = failed(run("train", source, "--size", "30", "--min-count", "0"), code=2)
    assert "must be a positive number, got '0'" in said


def test_the_file_is_plain_json_that_tokenizers_can_load(tokenizer):
    content = json.loads(tokenizer.read_text(encoding="utf-8"))
    assert content["model"]["type"] == "Unigram"


def main(capsys, *arguments):
    """A command in this process: its exit code, and the last line of the error stream."""
    code = command_line(list(map(str, arguments)))
    return code, (capsys.readouterr().err.strip().splitlines() or [""])[-1]


@pytest.mark.parametrize(
    "rule", [("--convention", "gpt4"), ("--pattern", r"\s?\p{L}+", "--alphabet", "characters")]
)
def test_source_code_by_another_convention(write, tmp_path, capsysbinary, rule):
    text = "def low(x):\n    return lower(x)\n\n\n" * 60
    source, made, ids = write(text), tmp_path / "tokenizer.json", tmp_path / "ids"
    assert (
        command_line(["train", str(source), "--size", "280", "--at-most", "-o", str(made), *rule])
        == 0
    )
    said = capsysbinary.readouterr().err.decode()
    assert "unk_token" not in said
    vocabulary = load_tokenizer_json(made)
    assert vocabulary.convention.name == ("gpt4" if "gpt4" in rule else "regex")
    assert command_line(["encode", str(source), "-t", str(made), "-o", str(ids)]) == 0
    wanted = vocabulary.encode(text).tolist()
    assert [int(number) for number in ids.read_text().split()] == wanted
    assert command_line(["decode", str(ids), "-t", str(made), "-q"]) == 0
    assert capsysbinary.readouterr().out == text.encode()
    # certify cuts the words as the tokenizer does, without being told
    given = ["certify", str(source), "--size", str(len(vocabulary)), "-t", str(made)]
    assert command_line([*given, "--steps", "9"]) == 0
    said = capsysbinary.readouterr().out.decode()
    assert f"words            {sum(count_words(text, vocabulary.convention).values())}\n" in said
    assert "% above the best possible" in said


def test_refused_conventions(write, tmp_path, capsys):
    source, made = write("a low a"), tmp_path / "tokenizer.json"
    given = ("train", source, "--size", 300, "-o", made)
    code, said = main(capsys, *given, "--pattern", r"\w+")
    assert code == 1
    assert "pattern must do without" in said
    with pytest.raises(SystemExit) as stopped:
        main(capsys, *given, "--pattern", "a", "--convention", "gpt2")
    assert stopped.value.code == 2
    with pytest.raises(SystemExit) as stopped:
        main(capsys, *given, "--convention", "gpt5")
    assert stopped.value.code == 2


def test_help_lists_each_command_by_what_it_does():
    assert "count the words of some files" in _parser().format_help()


def test_progress_on_a_terminal_is_one_line_that_is_redrawn(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress = _Progress(False, "encoding")
    for done in (1, 1, 2):
        progress.show(Counted(done, 4))
    progress.end("done")
    drawn = "encoding ...\rencoding  25 %\rencoding  50 %\rencoding: done\n"
    assert capsys.readouterr().err == drawn
