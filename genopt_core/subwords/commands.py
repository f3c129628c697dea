"""What the commands of ``python -m genopt_core.subwords`` do, each from its parsed options."""

import argparse
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import genopt_core
from genopt_core.conventions import Convention
from genopt_core.files import check_writable, whole_file
from genopt_core.progress import Record
from genopt_core.subwords.bounds.certificate import certify, check_covered
from genopt_core.subwords.choosing import Tried, choose_min_count
from genopt_core.subwords.segmentation.paths import UNKNOWN
from genopt_core.subwords.tokenizer.counting import (
    CHUNK_BYTES,
    Counted,
    Source,
    count_words_by_file,
    count_words_in_files,
    file_weights,
    read_chunks,
    total_size,
)
from genopt_core.subwords.tokenizer.tokenizer_json import (
    load_tokenizer_json,
    save_transformers,
    tokenizer_bytes,
)
from genopt_core.subwords.tokenizer.vocabulary import Vocabulary, check_specials, names_taken
from genopt_core.subwords.training.from_text import check_apart, wanted_by_file
from genopt_core.subwords.training.train import WordCounts, train

STANDARD = "-"
"""The name of a file that stands for the standard input, or output."""


def train_command(options: argparse.Namespace) -> None:
    """Count the words of some files and write the trained vocabulary."""
    roles = _roles(options)
    given = [("--special", token) for token in options.special]
    given += [(f"--{role.removesuffix('_token')}", token) for role, token in roles.items()]
    for option, token in given:
        with _naming(specials=option):
            check_specials([token], names_taken(_convention(options)))
    specials = tuple(dict.fromkeys(token for _, token in given))
    check_target(options.transformers, folder=True)
    words, by_file = _word_counts(options, specials)
    for option, token in given:
        with _naming(specials=option):
            check_apart([token], words)
    counts: WordCounts = by_file or words
    exponent = options.file_exponent if by_file else 1.0  # else it is in the counts
    least = options.min_count
    if options.development is not None:
        least = _chosen(counts, exponent, options, specials)
    started = time.monotonic()
    size = f"at most {options.size}" if options.at_most else options.size
    progress = _Progress(options.quiet, f"training {size} pieces")
    with _naming(vocab_size="--size", at_most=True):
        vocabulary = train(
            counts,
            options.size,
            objective=options.objective,
            min_count=least,
            at_most=options.at_most,
            max_piece=options.max_piece,
            new_words=options.new_words,
            file_exponent=exponent,
            convention=_convention(options),
        )
    progress.end(f"{time.monotonic() - started:.1f} s")
    provenance = {
        **vocabulary.provenance,
        "genopt_core": genopt_core.__version__,
        "files": [Path(file).name for file in options.files],
        "convention": _convention(options).name,
        **({} if options.file_exponent == 1 else {"file_exponent": options.file_exponent}),
    }
    vocabulary = replace(vocabulary, provenance=provenance, specials=specials)
    if options.transformers:
        save_transformers(vocabulary, options.transformers, **roles)
    else:
        with _output(options.output) as out:
            out.write(tokenizer_bytes(vocabulary))
    if not options.quiet:
        print(_summary(vocabulary, options, roles), file=sys.stderr)


def _chosen(
    counts: WordCounts, exponent: float, options: argparse.Namespace, specials: tuple[str, ...]
) -> float:
    """The least count with which the development text costs least."""
    path = options.development
    others = [file for file in options.files if path != STANDARD != file]
    if path in options.files or any(os.path.samefile(path, file) for file in others):
        raise ValueError(f"--development must not be a text that is trained on, got {path}")
    development = count_words_in_files([_source(path)], _convention(options), specials=specials)
    if not development:
        raise ValueError(f"--development must have words, {_said(path)} has none")
    progress = _Progress(options.quiet, "choosing --min-count")
    with _naming(vocab_size="--size", at_most=True):
        choice = choose_min_count(
            counts,
            development,
            options.size,
            options.objective,
            at_most=options.at_most,
            max_piece=options.max_piece,
            new_words=options.new_words,
            file_exponent=exponent,
            convention=_convention(options),
            progress=progress.show,
        )
    objective, words = options.objective, sum(development.values())
    tried = ", ".join(
        f"{t.min_count:g}: {_deciding_cost(t, objective) / words:.4f}" for t in choice.tried
    )
    unit = "tokens" if objective == "tokens" else "bits"
    penalty = "" if isinstance(objective, str) else f", {objective:g} nats a token included"
    progress.end(f"{choice.min_count:g} ({unit} a word of {_said(path)}{penalty}: {tried})")
    return choice.min_count


def _deciding_cost(tried: Tried, objective: str | float) -> float:
    """What is to be small when a least count is chosen: tokens, or bits."""
    return tried.tokens if objective == "tokens" else tried.nats / math.log(2)


def _roles(options: argparse.Namespace) -> dict[str, str]:
    """The special tokens by what they are for; a folder for transformers has an end and padding."""
    usual = {"eos": "</s>", "pad": "<pad>"} if options.transformers else {}
    chosen = {}
    for name in ("bos", "eos", "pad"):
        token = getattr(options, name)
        token = usual.get(name) if token is None else token
        if token is not None:
            chosen[f"{name}_token"] = token
    return chosen


def _summary(vocabulary: Vocabulary, options: argparse.Namespace, roles: Mapping[str, str]) -> str:
    """What was written, how large it is, and how it is used."""
    to_standard = not options.transformers and options.output == STANDARD
    written = options.transformers or ("the standard output" if to_standard else options.output)
    file = os.path.join(written, "tokenizer.json") if options.transformers else written
    specials = len(vocabulary.specials)
    more = f", {specials} special token{'s' * (specials > 1)}" if specials else ""
    words = float(vocabulary.provenance["words"])
    in_bytes = vocabulary.convention.in_bytes
    ids = "the pieces" if in_bytes else f"the pieces, 256 bytes, {UNKNOWN}"
    load = (
        f"AutoTokenizer.from_pretrained({written!r})"
        if options.transformers
        else f"PreTrainedTokenizerFast(tokenizer_file={written!r}"
        + "".join(f", {role}={token!r}" for role, token in roles.items())
        + ")"
    )
    lines = [
        f"wrote {written}: {len(vocabulary)} pieces, {len(vocabulary.tokens)} ids ({ids}{more})",
        f"on these words{', as weighted' if 'file_exponent' in vocabulary.provenance else ''}: "
        f"{vocabulary.counts.sum() / words:.3f} tokens a word",
        f"to use it: python -m genopt_core.subwords encode FILE -t {file}",
        f"in transformers: {load}",
    ]
    return "\n".join(lines[:2] if to_standard else lines)


def encode_command(options: argparse.Namespace) -> None:
    """Write the token ids of a text, one line per line of the text."""
    vocabulary = _tokenizer(options)
    names = vocabulary.tokens if options.pieces else map(str, range(len(vocabulary.tokens)))
    # A line feed at the end of a token also ends a line of ids; inside a longer one it is shown.
    feed = vocabulary.convention.spelled("\n")
    byte = None if vocabulary.convention.in_bytes else "<0x0A>"
    ends = [token == byte or token.endswith(feed) for token in vocabulary.tokens]
    written = [
        (name if len(name) == 1 else name.replace("\n", "\\n")) + (" ", "\n")[end]
        for name, end in zip(names, ends, strict=True)
    ]
    source = _source(options.file)
    size = total_size([source])
    specials = () if options.no_specials else vocabulary.specials
    chunks = read_chunks(source, convention=vocabulary.convention, specials=specials)
    progress = _Progress(options.quiet, "encoding")
    done = tokens = 0
    with _output(options.output) as out:
        for chunk in chunks:
            ids = vocabulary.encode(chunk.text, recognize_specials=not options.no_specials)
            out.write("".join(map(written.__getitem__, ids.tolist())).encode("utf-8"))
            done, tokens = done + chunk.bytes, tokens + len(ids)
            progress.show(Counted(done, size))
    progress.end(f"{tokens} tokens for {done} bytes")


def decode_command(options: argparse.Namespace) -> None:
    """Write the text of the token ids in a file."""
    vocabulary = _tokenizer(options)
    ids = []
    given = options.file == STANDARD
    read = standard_input().read() if given else Path(options.file).read_bytes()
    for number in read.split():
        if not number.isdigit():
            raise ValueError(
                f"{options.file} must hold token ids, got {number.decode('latin-1')!r}"
            )
        ids.append(int(number))
    if ids and max(ids) >= len(vocabulary.tokens):
        raise ValueError(
            f"{options.file} has the id {max(ids)}, {options.tokenizer} has 0 to "
            f"{len(vocabulary.tokens) - 1}"
        )
    with _output(options.output) as out:
        out.write(vocabulary.decode(ids).encode("utf-8", "replace"))


def certify_command(options: argparse.Namespace) -> None:
    """Write a lower bound on the tokens any vocabulary of this size needs, and the gap to it."""
    if options.output == STANDARD:
        raise ValueError(
            f"-o/--output must be a file, got {STANDARD!r}: the bound is written to the standard "
            "output"
        )
    vocabulary = _tokenizer(options) if options.tokenizer else None
    _certified_by(options, vocabulary)
    counts, _ = _word_counts(options, () if vocabulary is None else vocabulary.specials)
    if vocabulary is not None:
        with _naming(vocabulary=options.tokenizer, pieces=f"pieces of {options.tokenizer}"):
            check_covered(vocabulary, counts, options.size, min_count=options.min_count or 0)
    words = sum(counts.values())
    print(f"words            {words}")
    for least in dict.fromkeys((0, options.min_count or 0)):  # of all pieces, then of candidates
        progress = _Progress(options.quiet, f"certifying {options.size} pieces")
        with _naming(vocab_size="--size"):
            certificate = certify(
                counts,
                options.size,
                min_count=least,
                steps=options.steps,
                progress=progress.show,
            )
        progress.end()
        bound = certificate.check(counts)  # proved here and now from the prices and the words
        often = f" that occur at least {least:g} times" if least else ""
        those = f" with pieces{often}" if least else ""
        print(f"certified bound  {bound:.1f} tokens, {bound / words:.5f} per word")
        print(
            f"                 for every vocabulary of {options.size} pieces of at most "
            f"{certificate.max_piece} characters{often}"
        )
        if vocabulary is not None:
            gap = certificate.gap(vocabulary, counts)
            print(f"{options.tokenizer}  at most {gap:.3f} % above the best possible{those}")
    if options.output:
        certificate.save(options.output)


def _tokenizer(options: argparse.Namespace) -> Vocabulary:
    path = options.tokenizer
    if os.path.isdir(path):  # that of train --transformers
        path = os.path.join(path, "tokenizer.json")
    try:
        return load_tokenizer_json(path)
    except ValueError as error:
        raise ValueError(f"-t/--tokenizer: {error}") from None


def check_target(path: str | None, folder: bool = False) -> None:
    """Refuse a file, or a folder, that could not be written."""
    if path is None or (path == STANDARD and not folder):
        return
    if Path(path).exists() and Path(path).is_dir() != folder:
        raise ValueError(f"{path} is a {'file' if folder else 'folder'}")
    if not Path(path).is_dir():
        check_writable(path)
    elif not os.access(path, os.W_OK):
        raise ValueError(f"{path}: that folder cannot be written to")


@contextmanager
def _naming(**options: str | bool) -> Iterator[None]:
    """Names options where the library's messages name arguments."""
    try:
        yield
    except ValueError as error:
        message = str(error)
        for argument, option in options.items():
            if option is True:
                message = message.replace(f"{argument}=True", f"--{argument.replace('_', '-')}")
            else:
                message = message.replace(f"{argument} ", f"{option} ")
        raise ValueError(message) from None


def _convention(options: argparse.Namespace) -> Convention:
    if options.pattern is not None:
        return Convention("regex", options.pattern, options.alphabet)
    return Convention(options.convention or "lossless", alphabet=options.alphabet)


def _certified_by(options: argparse.Namespace, vocabulary: Vocabulary | None) -> None:
    """Take the convention of the tokenizer that is measured; another one is refused."""
    if vocabulary is None:
        return
    rule = vocabulary.convention
    given = _as_options(options.convention, options.pattern, options.alphabet)
    if options.convention is None and options.pattern is None:
        options.convention, options.pattern = rule.name, rule.pattern or None
    named = options.pattern or options.convention
    if options.alphabet is None and named in (rule.pattern, rule.name):
        options.alphabet = rule.alphabet
    if not _cut_alike(_convention(options), rule):
        own = _as_options(rule.name, rule.pattern or None, rule.alphabet)
        raise ValueError(
            f"the convention must be that of {options.tokenizer}, {own}, which is taken where none "
            f"is given, got {given}"
        )


def _cut_alike(given: Convention, own: Convention) -> bool:
    """Whether words are cut and spelled as the tokenizer does it.

    The textbook's are some of those of "lossless", by which its tokenizers encode; not all others
    of "lossless" have pieces there.
    """
    same = (given.expression, given.alphabet) == (own.expression, own.alphabet)
    return same and (own.name != "textbook" or given.name == own.name)


def _as_options(convention: str | None, pattern: str | None, alphabet: str | None) -> str:
    """A convention as one asks for it."""
    rule = ("--convention", convention) if pattern is None else ("--pattern", repr(pattern))
    return " ".join(f"{name} {value}" for name, value in (rule, ("--alphabet", alphabet)) if value)


def _word_counts(
    options: argparse.Namespace, specials: tuple[str, ...]
) -> tuple[dict[str, float], list[dict[str, int]] | None]:
    """What each word counts for, and the counts of each file where training can use them."""
    if options.files.count(STANDARD) > 1:
        raise ValueError(f"FILE must name the standard input once, got {STANDARD!r} twice")
    exponent = getattr(options, "file_exponent", 1.0)  # certify counts what there is
    if exponent != 1 and len(options.files) == 1:
        raise ValueError(
            f"--file-exponent must be 1 for one FILE, got {exponent:g}: it needs many, each a text "
            "of its own"
        )
    files = list(map(_source, options.files))
    least = options.min_count is not None or getattr(options, "development", None) is not None
    ahead = getattr(options, "new_words", False)
    progress = _Progress(options.quiet, "counting words")
    workers = ProcessPoolExecutor(options.workers) if options.workers > 1 else nullcontext()
    by_file = None
    with workers as executor:
        assert executor is None or isinstance(executor, Executor)
        how = (_convention(options), executor, CHUNK_BYTES, progress.show, specials)
        if wanted_by_file(files, ahead, least):
            by_file = count_words_by_file(files, *how)
            counts = file_weights(by_file, exponent)
        else:
            counts = count_words_in_files(files, *how, exponent)
    total, different = f"{sum(counts.values()):.0f}", f"{len(counts)} different"
    progress.end(
        f"{total} words, {different}" if exponent == 1 else f"{different} words, weighing {total}"
    )
    if not counts:
        several = len(options.files) > 1
        empty, none = ("are empty", "have no words") if several else ("is empty", "has no words")
        what = none if progress.last else empty
        raise ValueError(f"{', '.join(map(_said, options.files))} {what}")
    return counts, by_file


@contextmanager
def _output(path: str | None) -> Iterator[BinaryIO]:
    if path in (None, STANDARD):
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    else:
        assert path is not None
        with whole_file(path) as file:
            yield file


def _said(path: str) -> str:
    """A file as messages name it."""
    return "the standard input" if path == STANDARD else path


def _source(path: str) -> Source:
    """What is read: a file, or the standard input."""
    return standard_input() if path == STANDARD else path


def standard_input() -> BinaryIO:
    """The bytes of the standard input, which a process may have closed."""
    if sys.stdin is None:
        raise ValueError("FILE must be open, got the standard input, which is closed")
    return sys.stdin.buffer


class _Progress:
    """One line on the error stream: redrawn on a terminal, else written when it ends."""

    def __init__(self, quiet: bool, what: str) -> None:
        self._quiet, self._what = quiet, what
        self.last = 0
        """How much was done when it was last told."""
        self._percent = -1
        self._draws = not quiet and sys.stderr.isatty()
        if self._draws:
            print(f"{what} ...", end="", file=sys.stderr, flush=True)

    def show(self, record: Record) -> None:
        self.last = record.done
        if record.done and not record.total:  # of a pipe nobody knows how much there is
            return
        percent = 100 * record.done // max(record.total, 1)
        if self._draws and percent > self._percent:
            print(f"\r{self._what} {percent:3} %", end="", file=sys.stderr, flush=True)
        self._percent = percent

    def end(self, result: str = "done") -> None:
        if not self._quiet:
            print(f"{chr(13) if self._draws else ''}{self._what}: {result}", file=sys.stderr)
