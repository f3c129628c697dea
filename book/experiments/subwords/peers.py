"""The tokenizers that are compared, each behind the same door.

    python -m book.experiments.subwords.peers --list
    python -m book.experiments.subwords.peers hf_bpe moby-dick 1000 out.json      # one training

`train` runs one of them in this process; `run_apart` runs it in a process of its own, so that its
seconds and its memory are its own.  A tokenizer reads the corpus from the file that suits it
(running words or word counts), which every one gets with the same words and the same end of word.
The sizes count every piece, characters included, special pieces not.

What a peer trains on: `hf_*`, `sp_text*` and `rustbpe` read the words as text, `sp_counts*`,
`greedtok`, the emulated ones and ours read word counts.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from book.experiments.common.places import ROOT
from book.experiments.subwords.corpora import END, NAMES, SCALES, Corpus, front, load, read_counts
from genopt_core.conventions import Alphabet, Convention, spelled_in_bytes

MODULE = "book.experiments.subwords.peers"
MAX_PIECE = 16
TUNED = {"shrinking_factor": 0.95, "num_sub_iterations": 1}  # 0.95 is the largest it accepts
SEED_FACTORS = (1.1, 1.5, 2.0, 3.0, 8.0)  # byte-pair seeds that the emulated prunings start from
SEED_NOTE = "best of byte-pair seeds 1.1 to 8 times too large; where sources is null, 8 times only"
NOT_WRITTEN = ("merges", "vocabulary")  # notes for callers in this process
TUNED_NOTE = "shrinking_factor=0.95, num_sub_iterations=1, seed_sentencepiece_size=10 x size"
Segment = Callable[[Sequence[str]], list[list[str]]]


class NotInstalledError(RuntimeError):
    """The tokenizer's package is not here; the message says which and how to get it."""


class CannotTrainError(RuntimeError):
    """The tokenizer gave up on this corpus at this size; the message is its own."""


@dataclass
class Trained:
    """A trained tokenizer.

    ``view`` turns a word into the form the tokenizer sees, ``plain`` a piece of it into the
    characters it spells there.  ``seconds`` is the wall time of its training call, ``cpu_seconds``
    the processor time of all its threads, ``base_mb`` and ``peak_mb`` the memory of the process
    before and after it.
    """

    pieces: list[str]
    segment: Segment
    seconds: float
    cpu_seconds: float
    base_mb: float
    peak_mb: float
    scores: dict[str, float] | None = None
    view: Callable[[str], str] = str
    plain: Callable[[str], str] = str
    notes: dict[str, Any] = field(default_factory=dict)
    encode: tuple[str, Callable[[list[str]], int]] | None = None
    """The form of file that the encoder reads, and how many pieces it makes of its lines."""


@dataclass(frozen=True)
class Method:
    """How to train one tokenizer; ``reads`` is what it starts from, words or counts."""

    label: str
    train: Callable[[Corpus, int], Trained]
    reads: str
    needs: str | None = None
    emulated: bool = False
    form: str = "end"
    note: str = ""

    @property
    def missing(self) -> str | None:
        """Why this tokenizer cannot run here, None if it can."""
        if self.needs is None:
            return None
        module, _, attribute = self.needs.partition(":")
        try:
            found = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:
            found = False
        if not found:
            return f"{module} is not installed (book/experiments/README.md says how)"
        if attribute and not hasattr(importlib.import_module(module), attribute):
            return f"{module} has no {attribute} yet"
        return None


class Meter:
    """Wall time, processor time and memory of a block."""

    def __enter__(self) -> Meter:
        self.base_mb = peak_megabytes()
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._wall
        self.cpu_seconds = time.process_time() - self._cpu
        self.peak_mb = peak_megabytes()

    @property
    def numbers(self) -> dict[str, float]:
        """The fields of `Trained` that were measured."""
        return {
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "base_mb": self.base_mb,
            "peak_mb": self.peak_mb,
        }


def peak_megabytes() -> float:
    """Largest resident memory of this process so far.

    Linux hands ``ru_maxrss`` down from the parent across ``exec``; ``VmHWM`` starts again.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


# ------------------------------------------------------------------ Hugging Face tokenizers


def _hugging_face(
    kind: str, *, marker: str = "end", prefix: str = "##", **options: Any
) -> Callable[[Corpus, int], Trained]:
    def run(corpus: Corpus, size: int) -> Trained:
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers

        common = {"show_progress": False}
        if kind == "bpe":
            tokenizer = Tokenizer(models.BPE())
            trainer = trainers.BpeTrainer(
                vocab_size=size, special_tokens=[], max_token_length=MAX_PIECE, **common
            )
            unknown = None
        elif kind == "wordpiece":
            unknown = "[UNK]"
            tokenizer = Tokenizer(
                models.WordPiece(
                    unk_token=unknown,
                    max_input_chars_per_word=1000,
                    continuing_subword_prefix=prefix,
                )
            )
            trainer = trainers.WordPieceTrainer(
                vocab_size=size + 1,
                special_tokens=[unknown],
                continuing_subword_prefix=prefix,
                **common,
            )
        else:
            unknown = "<unk>"
            tokenizer = Tokenizer(models.Unigram())
            trainer = trainers.UnigramTrainer(
                vocab_size=size + 1,
                special_tokens=[unknown],
                unk_token=unknown,
                max_piece_length=MAX_PIECE,
                **common,
                **options,
            )
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        path = corpus.file("train", "words-front" if marker == "front" else "words")
        with Meter() as meter:
            tokenizer.train([str(path)], trainer)
        model = tokenizer.model
        vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
        pieces = [piece for piece, _ in vocabulary if piece != unknown]
        content = json.loads(tokenizer.to_str())["model"]
        scores = dict(content["vocab"]) if kind == "unigram" else None
        if scores:
            scores.pop(unknown, None)
        plain = str
        if kind == "wordpiece" and prefix:
            plain = lambda piece: piece.removeprefix(prefix)  # noqa: E731
        return Trained(
            pieces,
            lambda words: [[token.value for token in model.tokenize(word)] for word in words],
            scores=scores,
            view=front if marker == "front" else str,
            plain=plain,
            notes={"merges": content["merges"]} if kind == "bpe" else {},
            encode=(
                "words-front" if marker == "front" else "words",
                lambda lines: sum(len(e) for e in tokenizer.encode_batch_fast(lines)),
            ),
            **meter.numbers,
        )

    return run


# ------------------------------------------------------------------ sentencepiece


def _sentencepiece(
    source: str, *, marker: str = "end", tuned: bool = False
) -> Callable[[Corpus, int], Trained]:
    def run(corpus: Corpus, size: int) -> Trained:
        import sentencepiece

        with tempfile.TemporaryDirectory() as folder:
            model_file = Path(folder) / "model"
            settings: dict[str, Any] = {
                "model_prefix": str(model_file),
                "vocab_size": size + 1,
                "model_type": "unigram",
                "character_coverage": 1.0,
                "max_sentencepiece_length": MAX_PIECE,
                "normalization_rule_name": "identity",
                "treat_whitespace_as_suffix": marker == "end",
                "split_by_unicode_script": False,
                "split_by_number": False,
                "remove_extra_whitespaces": False,
                "add_dummy_prefix": False,
                "num_threads": os.cpu_count() or 1,
                "max_sentence_length": 1_000_000,
                "bos_id": -1,
                "eos_id": -1,
                "pad_id": -1,
                "unk_id": 0,
                "minloglevel": 2,
                **({**TUNED, "seed_sentencepiece_size": 10 * size} if tuned else {}),
            }
            if source == "counts":
                path = corpus.file("train", "counts")
                if marker == "front":
                    table = read_counts(path)
                    path = Path(folder) / "front.txt"
                    rows = (f"{front(word)}\t{count}\n" for word, count in table.items())
                    path.write_text("".join(rows), encoding="utf-8", newline="\n")
                settings |= {"input": str(path), "input_format": "tsv"}
            else:
                form = "sentences-front" if marker == "front" else "sentences"
                settings["input"] = str(corpus.file("train", form))
                settings["pretokenization_delimiter"] = "\x02"
            with Meter() as meter:
                try:
                    sentencepiece.SentencePieceTrainer.train(**settings)
                except RuntimeError as error:
                    raise CannotTrainError(str(error).strip().splitlines()[-1]) from None
            model = sentencepiece.SentencePieceProcessor(model_file=f"{model_file}.model")
        numbers = [i for i in range(model.get_piece_size()) if not model.is_unknown(i)]
        scores = {model.id_to_piece(i): model.get_score(i) for i in numbers}
        return Trained(
            list(scores),
            lambda words: model.encode(list(words), out_type=str),
            scores=scores,
            view=front if marker == "front" else str,
            encode=(
                "sentences-front" if marker == "front" else "sentences",
                lambda lines: sum(map(len, model.encode(lines, num_threads=1))),
            ),
            **meter.numbers,
        )

    return run


# ------------------------------------------------------------------ byte-pair encoding on bytes


def as_bytes(word: str) -> str:
    """The word's bytes as characters; the end of the word is one byte, as a blank would be."""
    return word.replace(END, "\x01").encode().decode("latin-1")


def merges_allowed(size: int, alphabet: int) -> int:
    """Merged pieces of a byte vocabulary: as many as the others have, the bytes costing nothing.

    Where the alphabet is larger than the 256 bytes it has ``size`` pieces like the others.
    """
    return size - min(alphabet, 256)


def _rustbpe(corpus: Corpus, size: int) -> Trained:
    import rustbpe
    import tiktoken

    pattern = r"\S+"
    merges = merges_allowed(size, len(corpus.alphabet))
    lines = corpus.file("train", "words").read_text(encoding="utf-8").replace(END, "\x01")
    text = lines.split("\n")
    tokenizer = rustbpe.Tokenizer()
    with Meter() as meter:
        tokenizer.train_from_iterator(iter(text), 256 + merges, pattern=pattern)
    ranks = {bytes(piece): rank for piece, rank in tokenizer.get_mergeable_ranks()}
    coder = tiktoken.Encoding("words", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    names = {rank: piece.decode("latin-1") for piece, rank in ranks.items()}

    def segment(words: Sequence[str]) -> list[list[str]]:
        texts = [word.encode("latin-1").decode() for word in words]
        return [[names[i] for i in coder.encode(text, disallowed_special=())] for text in texts]

    def encode(lines: list[str]) -> int:
        batch = [line.replace(END, "\x01") for line in lines]
        ids = coder.encode_batch(batch, num_threads=1, disallowed_special=())
        return sum(map(len, ids))

    return Trained(
        list(names.values()),
        segment,
        view=as_bytes,
        encode=("words", encode),
        **meter.numbers,
    )


ONE_BYTE_EACH = 127
"""As many characters GreedTok gets as one byte each, the same atoms as everybody; more in UTF-8."""


def _greedtok(corpus: Corpus, size: int) -> Trained:
    try:
        from pcatt import greedy_encoder, pco_tokenizer
    except ImportError as error:
        raise NotInstalledError(f"greedtok does not load: {error}") from None

    alphabet = corpus.alphabet
    small = len(alphabet) <= ONE_BYTE_EACH
    to_byte = {character: i + 1 for i, character in enumerate(alphabet)}
    from_byte = {byte: character for character, byte in to_byte.items()}

    def packed(word: str) -> str:
        if small:
            return "".join(chr(to_byte[character]) for character in word)
        return word.encode("latin-1").decode()

    def spelled(piece: bytes) -> str:
        return "".join(from_byte[b] for b in piece) if small else piece.decode("latin-1")

    view = str if small else as_bytes
    counts = {packed(view(word)): count for word, count in corpus.train.items()}
    with Meter() as meter:
        trainer = pco_tokenizer.build(counts, set(), 100, False)
        trainer.initialize_graph(MAX_PIECE, 1)
        ranks, _ = trainer.solve_to_step(merges_allowed(size, len(alphabet)))
    coder = greedy_encoder.build(ranks, {})
    merged = [spelled(bytes(rank)) for rank in ranks]
    atoms = from_byte if small else {i: chr(i) for i in range(256)}
    names = dict(enumerate(merged)) | {len(merged) + i: atom for i, atom in atoms.items()}

    def segment(words: Sequence[str]) -> list[list[str]]:
        numbers = coder.batch_tokenize_presplit([[packed(word)] for word in words])
        return [[names[i] for i in ids] for ids in numbers]

    return Trained(list(names.values()), segment, view=view, **meter.numbers)


# ------------------------------------------------------------------ emulated


def _emulated(method: str) -> Callable[[Corpus, int], Trained]:
    def run(corpus: Corpus, size: int) -> Trained:
        from book.experiments.subwords import emulated
        from book.experiments.subwords.metrics import shortest_paths

        def pruned(excess: float) -> tuple[int, float, emulated.Chosen]:
            merged = size - len(corpus.alphabet)
            bpe = _hugging_face("bpe")(corpus, len(corpus.alphabet) + int(excess * merged))
            if method == "pathpiece":
                chosen = emulated.pathpiece(corpus.train, size, bpe.pieces)
            else:
                increase = method == "mingram_increase"
                chosen = emulated.mingram(corpus.train, size, bpe.pieces, increase)
            scores = {piece: -cost for piece, cost in chosen.costs.items()}
            paths = shortest_paths(list(corpus.train), scores)
            tokens = sum(
                n * len(path) for n, path in zip(corpus.train.values(), paths, strict=True)
            )
            return tokens, excess, chosen

        notes: dict[str, Any]
        with Meter() as meter:
            if method == "convextok":
                chosen, bound, rounding = emulated.convextok(corpus.train, size)
                notes = {"bound": bound, "rounding": rounding}
            else:
                tries = (1.1,) if method == "mingram" else SEED_FACTORS
                _, excess, chosen = min(map(pruned, tries), key=lambda found: found[:2])
                notes = {"seed_factor": excess}
        scores = {piece: -cost for piece, cost in chosen.costs.items()}
        return Trained(
            chosen.pieces,
            lambda words: shortest_paths(words, scores),
            scores=scores,
            notes=notes,
            **meter.numbers,
        )

    return run


# ------------------------------------------------------------------ ours


def _ours(
    objective: str | float,
    effort: str = "best",
    marker: str = "end",
    alphabet: Alphabet | None = None,
) -> Callable[[Corpus, int], Trained]:
    end = front if marker == "front" else str
    rule = Convention("lossless-front" if marker == "front" else "lossless", alphabet=alphabet)

    def view(word: str) -> str:
        return spelled_in_bytes(end(word).replace(END, " ")) if rule.in_bytes else end(word)

    def run(corpus: Corpus, size: int) -> Trained:
        from book.experiments.subwords.metrics import shortest_paths
        from genopt_core.subwords import train

        counts = {view(word): count for word, count in corpus.train.items()}
        wanted = 256 + merges_allowed(size, len(corpus.alphabet)) if rule.in_bytes else size
        with Meter() as meter:
            vocabulary = train(counts, wanted, objective=objective, effort=effort, convention=rule)
        pieces = list(vocabulary.pieces)
        scores = {piece: -cost for piece, cost in vocabulary.costs.items()}
        return Trained(
            pieces,
            # The paths of vocabulary.segment (tests/integrations/test_huggingface.py), only faster.
            lambda words: shortest_paths(words, scores),
            scores=scores,
            view=view,
            encode=("text", lambda lines: len(vocabulary.encode("\n".join(lines)))),
            notes={"vocabulary": vocabulary},
            **meter.numbers,
        )

    return run


def certified_bound(counts: Mapping[str, int], size: int) -> tuple[float, float]:
    """Our lower bound on the token count of every vocabulary of ``size``, and its seconds.

    The bound is computed again from the certificate's prices by `emulated`, which shares no code
    with the one that made them.

    Raises
    ------
    ValueError
        If the prices do not prove the bound.
    """
    import numpy as np

    from book.experiments.subwords.emulated import Occurrences, substrings
    from genopt_core.subwords import certify

    started = time.perf_counter()
    certificate = certify(counts, size)
    seconds = time.perf_counter() - started
    words, weights = list(counts), list(counts.values())
    prices = np.concatenate([certificate.prices[word] for word in words])
    places = Occurrences(words, weights, substrings(words, weights))
    proved = places.bound(prices, size - len(set("".join(words))))
    if not math.isclose(proved, certificate.bound, rel_tol=1e-9):
        raise ValueError(f"bound is {certificate.bound}, its prices prove {proved}")
    return float(certificate.bound), seconds


OURS = "genopt_core.subwords:train"
METHODS: dict[str, Method] = {
    "hf_bpe": Method("HF BPE", _hugging_face("bpe"), "words", "tokenizers"),
    "hf_wordpiece": Method("HF WordPiece", _hugging_face("wordpiece"), "words", "tokenizers"),
    "hf_wordpiece_plain": Method(
        "HF WordPiece, no prefix",
        _hugging_face("wordpiece", prefix=""),
        "words",
        "tokenizers",
        note="empty continuing_subword_prefix: a piece is the same inside and at the start",
    ),
    "hf_unigram": Method("HF Unigram", _hugging_face("unigram"), "words", "tokenizers"),
    "hf_unigram_front": Method(
        "HF Unigram, front marker",
        _hugging_face("unigram", marker="front"),
        "words",
        "tokenizers",
        form="front",
    ),
    "hf_unigram_tuned": Method(
        "HF Unigram, front marker, 4 sub-iterations",
        _hugging_face("unigram", marker="front", n_sub_iterations=4),
        "words",
        "tokenizers",
        form="front",
        note="n_sub_iterations=4, default 2",
    ),
    "sp_text": Method("sentencepiece", _sentencepiece("text"), "words", "sentencepiece"),
    "sp_text_front": Method(
        "sentencepiece, front marker",
        _sentencepiece("text", marker="front"),
        "words",
        "sentencepiece",
        form="front",
    ),
    "sp_counts": Method(
        "sentencepiece, word counts",
        _sentencepiece("counts"),
        "counts",
        "sentencepiece",
    ),
    "sp_counts_front": Method(
        "sentencepiece, word counts, front marker",
        _sentencepiece("counts", marker="front"),
        "counts",
        "sentencepiece",
        form="front",
    ),
    "sp_counts_tuned": Method(
        "sentencepiece, word counts, tuned",
        _sentencepiece("counts", tuned=True),
        "counts",
        "sentencepiece",
        note=TUNED_NOTE,
    ),
    "sp_text_tuned": Method(
        "sentencepiece, tuned",
        _sentencepiece("text", tuned=True),
        "words",
        "sentencepiece",
        note=TUNED_NOTE,
    ),
    "sp_text_front_tuned": Method(
        "sentencepiece, front marker, tuned",
        _sentencepiece("text", marker="front", tuned=True),
        "words",
        "sentencepiece",
        form="front",
        note=TUNED_NOTE,
    ),
    "rustbpe": Method(
        "rustbpe (tiktoken style)",
        _rustbpe,
        "words",
        "rustbpe",
        form="bytes",
        note="256 bytes and as many merges as the others have pieces beside the alphabet",
    ),
    "greedtok": Method("GreedTok", _greedtok, "counts", "pcatt"),
    "pathpiece": Method(
        "PathPiece (emulated)",
        _emulated("pathpiece"),
        "counts",
        "tokenizers",
        emulated=True,
        note=SEED_NOTE,
    ),
    "mingram": Method(
        "MinGram (emulated)",
        _emulated("mingram"),
        "counts",
        "tokenizers",
        emulated=True,
    ),
    "mingram_increase": Method(
        "MinGram, cut by increase (emulated)",
        _emulated("mingram_increase"),
        "counts",
        "tokenizers",
        emulated=True,
        note=SEED_NOTE,
    ),
    "convextok": Method(
        "ConvexTok (emulated)",
        _emulated("convextok"),
        "counts",
        "tokenizers",
        emulated=True,
    ),
    "ours_fast": Method("ours, fast", _ours("likelihood", "fast"), "counts", OURS),
    "ours_standard": Method("ours, standard", _ours("likelihood", "standard"), "counts", OURS),
    "ours_likelihood": Method("ours, likelihood", _ours("likelihood"), "counts", OURS),
    "ours_front": Method(
        "ours, likelihood, front marker",
        _ours("likelihood", marker="front"),
        "counts",
        OURS,
        form="front",
    ),
    "ours_front_5": Method(
        "ours, λ = 5, front marker",
        _ours(5.0, marker="front"),
        "counts",
        OURS,
        form="front",
    ),
    **{
        f"{name}_bytes": Method(
            f"{label}, in bytes",
            _ours(objective, marker=marker, alphabet="bytes"),
            "counts",
            OURS,
            form="bytes",
            note="256 bytes and as many more as the others have pieces beside the alphabet",
        )
        for name, label, objective, marker in (
            ("ours_front", "ours, likelihood, front marker", "likelihood", "front"),
            ("ours_front_5", "ours, λ = 5, front marker", 5.0, "front"),
            ("ours_tokens", "ours, fewest tokens", "tokens", "end"),
        )
    },
    "ours_weight_1": Method("ours, λ = 1", _ours(1.0), "counts", OURS),
    "ours_weight_5": Method("ours, λ = 5", _ours(5.0), "counts", OURS),
    "ours_weight_10": Method("ours, λ = 10", _ours(10.0), "counts", OURS),
    "ours_tokens": Method("ours, fewest tokens", _ours("tokens"), "counts", OURS),
}


def method(name: str) -> Method:
    """The tokenizer called ``name``."""
    if name not in METHODS:
        raise ValueError(f"name must be one of {', '.join(METHODS)}, got {name!r}")
    return METHODS[name]


def spells_in_bytes(name: str, corpus: Corpus) -> bool:
    """Whether a tokenizer's pieces are made of bytes, so that no alphabet has to fit."""
    return method(name).form == "bytes" or (
        name == "greedtok" and len(corpus.alphabet) > ONE_BYTE_EACH
    )


def ready(names: Iterable[str]) -> list[str]:
    """Those of some tokenizers that can run here; a line for each of the others."""
    found = []
    for name in names:
        if reason := method(name).missing:
            print(f"{name}: skipped, {reason}")
        else:
            found.append(name)
    return found


def train(name: str, corpus: Corpus, size: int) -> Trained:
    """Train one tokenizer in this process."""
    entry = method(name)
    if entry.missing:
        raise NotInstalledError(entry.missing)
    alphabet = len(corpus.alphabet)
    if spells_in_bytes(name, corpus):
        alphabet = min(alphabet, 256)
    if size <= alphabet:
        raise CannotTrainError(f"{size} pieces do not hold an alphabet of {alphabet}")
    return entry.train(corpus, size)


def score(trained: Trained, corpus: Corpus) -> dict[str, float]:
    """Every metric of a trained tokenizer on its corpus."""
    from book.experiments.subwords.metrics import evaluate

    return evaluate(
        trained.pieces,
        trained.segment,
        corpus.train,
        corpus.held,
        (corpus.facts["train_bytes"], corpus.facts["held_bytes"]),
        trained.view,
        trained.plain,
    )


def run_apart(name: str, corpus: str, size: int, only_time: bool = False) -> dict[str, Any]:
    """Train one tokenizer in a process of its own; what `main` writes, or why it did not."""
    entry = method(name)
    if entry.missing:
        return {"skipped": entry.missing}
    environment = dict(os.environ)
    library = Path(sys.prefix) / "lib"  # GreedTok's TBB lies there when pip brought it
    paths = [environment.get("LD_LIBRARY_PATH", ""), str(library)]
    environment["LD_LIBRARY_PATH"] = os.pathsep.join(p for p in paths if p)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        command = [sys.executable, "-m", MODULE, name, corpus, str(size), str(out)]
        done = subprocess.run(
            command + (["--only-time"] if only_time else []),
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )
        if not out.is_file():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise RuntimeError(f"{name} on {corpus} at {size} ended with {done.returncode}: {last}")
        return json.loads(out.read_text(encoding="utf-8"))


def main() -> int:
    """Train one tokenizer and write its metrics, seconds, memory and vocabulary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="the tokenizers, and which are missing")
    parser.add_argument("--only-time", action="store_true", help="train, but measure no quality")
    parser.add_argument("name", nargs="?", choices=list(METHODS))
    parser.add_argument("corpus", nargs="?", choices=NAMES + SCALES)
    parser.add_argument("size", nargs="?", type=int)
    parser.add_argument("out", nargs="?", type=Path)
    options = parser.parse_args()
    if options.list:
        for name, entry in METHODS.items():
            print(f"{name:20s} {entry.label:44s} {entry.missing or 'ready'}")
        return 0
    if options.out is None:
        parser.error("name, corpus, size and out are needed, or --list")
    corpus = load(options.corpus)
    result: dict[str, Any] = {}
    try:
        trained = train(options.name, corpus, options.size)
    except (NotInstalledError, CannotTrainError) as error:
        result["skipped"] = str(error)
    else:
        result |= {
            "train_seconds": trained.seconds,
            "train_cpu_seconds": trained.cpu_seconds,
            "base_mb": trained.base_mb,
            "peak_mb": trained.peak_mb,
            "notes": {k: v for k, v in trained.notes.items() if k not in NOT_WRITTEN},
        }
        if not options.only_time:
            result["metrics"] = score(trained, corpus)
            result["form"] = "bytes" if trained.view is as_bytes else method(options.name).form
            result["pieces"] = trained.pieces
            result["scores"] = trained.scores
            result["merges"] = trained.notes.get("merges")
    text = json.dumps(result, ensure_ascii=False)
    if not math.isfinite(result.get("train_seconds", 0.0)):
        raise ValueError("train_seconds must be finite")
    options.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
