"""Our `encode` beside the same vocabulary exported to Rust, on whole texts, each on one thread.

    python -m book.experiments.subwords.encoding           # all of it, a few minutes
    python -m book.experiments.subwords.encoding --quick   # one round, not stored

Texts: Moby-Dick, by our own rule for words; source code of Python, held out, by that of GPT-4; and
the Japanese and Chinese messages of Django, which have hardly a blank.  Before anything is timed
both must give the same tokens.  A round has every form once, in an order that turns: ``first``, by
a tokenizer that has met no text, and at once ``again``.  Time is that of the processor, and a ratio
is taken inside a round.  The exported tokenizer reads the whole text (``encode``), or stretches of
it (``encode_batch`` and ``encode_batch_fast``); to make ids of what it gives back is not timed.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from book.experiments.common.main import parser
from book.experiments.common.pairing import spread
from book.experiments.common.places import RESULTS, SCRATCH
from book.experiments.common.store import code_sha256, provenance, sha256, write_results
from book.experiments.subwords import conventions, small
from genopt_core import corpora
from genopt_core.integrations.huggingface import to_tokenizers
from genopt_core.subwords import Vocabulary, train
from genopt_core.tables import records

ONE_THREAD = {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}
TEXTS = {"moby-dick": "lossless", "python": "gpt4", "messages": "lossless"}
WITHOUT_BLANKS = ("ja", "zh_Hans", "zh_Hant")
SIZE, MAX_PIECE, ROUNDS = 8000, 32, 9
STRETCH = 2000  # characters: the fastest for the exported of 1 to 100,000 on Moby-Dick
OURS = "ours"
FORMS = (OURS, "encode", "encode_batch", "encode_batch_fast")
COLUMNS = ("text", "form", "state", "round", "seconds", "cpu_seconds")
PACKAGES = ("genopt-core", "numpy", "tokenizers", "django", "optuna", "scipy")


def texts(name: str) -> tuple[str, str]:
    """What a vocabulary is trained on, and the text that is encoded."""
    if name == "moby-dick":
        return corpora.load("sotu"), corpora.load("moby-dick")
    if name == "python":
        return conventions.texts("python")[:2]
    import django

    root = Path(django.__file__).parent
    files = (
        file
        for language in WITHOUT_BLANKS
        for file in sorted(root.rglob(f"locale/{language}/LC_MESSAGES/django.po"))
    )
    text = "\n".join(message for file in files for message in small.messages(file))
    return text, text


def stretches(text: str) -> list[str]:
    """The text in parts of whole lines, cut where no rule for words looks across."""
    parts = [""]
    for line in re.split(r"(?<=\n)(?=\S)", text):
        if len(parts[-1]) >= STRETCH:
            parts.append("")
        parts[-1] += line
    return parts


def encoders(vocabulary: Vocabulary, form: str, text: str) -> Callable[[], Any]:
    """What encodes the text when it is called, and has met no text yet."""
    if form == OURS:
        fresh = vocabulary.with_specials(())  # another one, which remembers nothing
        fresh.encode("")
        return lambda: fresh.encode(text)
    tokenizer = to_tokenizers(vocabulary)
    if form == "encode":
        return lambda: tokenizer.encode(text)
    parts, method = stretches(text), getattr(tokenizer, form)
    return lambda: method(parts)


def ids(form: str, found: Any) -> list[int]:
    """Token ids of what an encoder gave back."""
    if form == OURS:
        return list(found.tolist())
    return list(found.ids) if form == "encode" else [i for one in found for i in one.ids]


def timed(call: Callable[[], Any]) -> tuple[float, float]:
    """Seconds by the clock and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = call()
    spent = time.perf_counter() - wall, time.process_time() - cpu
    del found
    return spent


def measured(name: str, rounds: int) -> tuple[dict[str, Any], list[list[Any]]]:
    """Facts of a text, and a row for every time that it was encoded."""
    rule = TEXTS[name]
    seen, text = texts(name)
    counts = corpora.count_words(seen, rule)
    vocabulary = train(
        counts, SIZE, effort="fast", max_piece=MAX_PIECE, at_most=True, convention=rule
    )
    wanted = ids(OURS, vocabulary.encode(text))
    for form in FORMS:
        if ids(form, encoders(vocabulary, form, text)()) != wanted:
            raise RuntimeError(f"{form} must give the tokens of ours, {name} has others")
    words = vocabulary.convention.cut(text)
    facts = {
        "rule": rule,
        "pieces": len(vocabulary),
        "bytes": len(text.encode("utf-8")),
        "characters": len(text),
        "words": len(words),
        "distinct_words": len(set(words)),
        "tokens": len(wanted),
        "sha256": sha256(text),
    }
    rows = []
    for turn in range(rounds):
        start = turn % len(FORMS)
        for form in FORMS[start:] + FORMS[:start]:
            call = encoders(vocabulary, form, text)
            rows += [[name, form, state, turn, *timed(call)] for state in ("first", "again")]
    return facts, rows


def summary(rows: Sequence[Mapping[str, Any]], size: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """Megabytes a second of each form, and how many times as fast ours is, round by round."""
    cells: dict[tuple[str, str, str], dict[int, float]] = {}
    for row in rows:
        at = (row["text"], row["form"], row["state"])
        cells.setdefault(at, {})[row["round"]] = row["cpu_seconds"]
    for (text, form, state), seconds in cells.items():
        ours = cells[text, OURS, state]
        yield {
            "text": text,
            "form": form,
            "state": state,
            "mb_per_second": spread([size[text] / 1e6 / s for s in seconds.values()]),
            "over_ours": spread([seconds[turn] / ours[turn] for turn in seconds]),
        }


def main() -> int:
    options = parser(__doc__, "quick").parse_args()
    os.environ.update(ONE_THREAD)  # before `tokenizers` is loaded
    facts, values = {}, []
    for name in TEXTS:
        facts[name], found = measured(name, 1 if options.quick else ROUNDS)
        values += [[*row[:4], *(float(f"{s:.4g}") for s in row[4:])] for row in found]
    rows = records({"columns": COLUMNS, "rows": values})
    told = list(summary(rows, {name: fact["bytes"] for name, fact in facts.items()}))
    for entry in told:
        speed, times = (
            "{:.2f} ({:.2f} to {:.2f})".format(*entry[key])
            for key in ("mb_per_second", "over_ours")
        )
        print(f"{entry['text']:9s} {entry['form']:17s} {entry['state']} {speed} MB/s, {times}")
    target = (SCRATCH if options.quick else RESULTS) / "subwords_encoding.json"
    content = {
        "schema": "subwords-encoding/1",
        "provenance": provenance(PACKAGES) | {"code": code_sha256(Path(__file__))},
        "texts": facts,
        "summary": told,
        "columns": list(COLUMNS),
        "rows": values,
    }
    print(f"{target.name}: {write_results(target, content)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
