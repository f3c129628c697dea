"""Windows of the kinds of text on which `domains` measures caches, as numbers of tokens.

    python -m book.experiments.kvcache.domain_texts

Writes the windows into .cache/benchmarks/kvcache, not into the book: the messages are read from
the wheel of Django 5.2 (BSD), which must lie in .cache/kv_texts.  They are made once and carried to
the machine that measures, as another release of a library would have other texts.  Up to eight
windows of each kind, four at least; the first is the one that `quality` and `recall` score, where
they have one.

*Home* are the kinds on which ladders and maps are measured: addresses of the 19th century and code
of numpy, other passages of the two texts of `quality.CALIBRATIONS`.
"""

from __future__ import annotations

import inspect
import json
import random
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from book.experiments.common.main import parser
from book.experiments.common.places import RESULTS
from book.experiments.common.store import sha256
from book.experiments.kvcache import quality, recall
from genopt_core import corpora
from genopt_core.files import whole_file

TARGET = quality.SCRATCH / "windows.npz"
REPOSITORY = RESULTS.parents[2]
LENGTH = recall.LENGTH + 1
WINDOWS, FEWEST = 8, 4
HOME = ("addresses, 19th century", "code of numpy")
RECALL = ("pairs that come again", "records that come again")
LANGUAGES = {
    "German": "de",
    "French": "fr",
    "Spanish": "es",
    "Finnish": "fi",
    "Russian": "ru",
    "Arabic": "ar",
    "Japanese": "ja",
    "Chinese": "zh_Hans",
}
BROAD = ("French", "Russian", "Chinese")
"""Languages whose last window a broader calibration sees too."""
RECORDS, BETWEEN = 32, 560


def calibration(tokenizer: Any) -> np.ndarray:
    """The two texts for choosing, then one window of each language of `BROAD`."""
    found = quality.texts()
    rows = [quality.window(tokenizer, n, found[n], LENGTH - 1) for n in quality.CALIBRATIONS]
    for name in BROAD:
        ids = tokenizer(django(LANGUAGES[name]), return_tensors="pt").input_ids
        if ids.shape[1] < (FEWEST + 1) * LENGTH:
            raise SystemExit(f"{name} has {ids.shape[1]} tokens, too few for both uses")
        rows.append(ids[:, 1 - LENGTH :])
    return torch.cat(rows).numpy()


def django(language: str) -> str:
    """All messages of Django in a language: those that `recall` reads, then the other parts."""
    first = recall.messages(language)
    (wheel,) = sorted(Path(recall.WHEELS).glob("*jango-5.2-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        end = f"/locale/{language}/LC_MESSAGES/django.po"
        names = sorted(n for n in archive.namelist() if n.endswith(end))
        parts = [archive.read(n).decode() for n in names if "contrib/admin/" not in n]
    more = []
    for part in parts:
        for text in re.findall(r'^msgstr(?:\[\d\])? ((?:".*"\n)+)', part, re.M)[1:]:
            line = "".join(re.findall(r'"(.*)"', text)).replace("\\n", " ").replace('\\"', '"')
            if line and line not in first:
                more.append(line)
    return first + "\n" + "\n".join(more)


def records(tokenizer: Any, seed: int) -> str:
    """Records in JSON, code between, and the same records in another order."""
    rng = random.Random(seed)
    words = sorted(set(re.findall(r"[a-z]{4,8}", corpora.load("sotu"))))
    lines = [
        json.dumps({"id": rng.randrange(1000, 10_000), "name": rng.choice(words).title()})[:-1]
        + f', "city": "{rng.choice(words).title()}", "phone": "{rng.randrange(10**6, 10**7)}"}}\n'
        for _ in range(RECORDS)
    ]
    again = list(lines)
    rng.shuffle(again)
    code = inspect.getsource(torch.nn.modules.module)[2000 * seed :]
    middle = tokenizer.decode(tokenizer(code[: 10 * BETWEEN]).input_ids[:BETWEEN])
    return "".join(lines) + "\n" + middle + "\n\n" + "".join(again)


def joined(paths: Iterable[Path]) -> str:
    """Texts of files, by path."""
    return "\n\n".join(path.read_text(encoding="utf-8") for path in sorted(paths))


def home() -> dict[str, list[str]]:
    """Texts of `HOME`."""
    sotu = corpora.load("sotu")
    middle = int(0.42 * len(sotu)) + 40_000  # behind the calibration text
    lib = Path(np.lib.__file__).parent
    texts = sotu[middle : middle + 90_000], joined(lib.glob("_[h-z]*_impl.py"))[:120_000]
    return {name: [text] for name, text in zip(HOME, texts, strict=True)}


def kinds(tokenizer: Any) -> dict[str, list[str]]:
    """Texts of each kind; each is cut into windows by itself, in this order."""
    sotu, moby = corpora.load("sotu"), corpora.load("moby-dick")
    stored = quality.texts()
    code = next(n for n in stored if n.startswith("code (transformers"))
    web = REPOSITORY / "genopt_core" / "figures" / "web"
    headers = Path(np.get_include()) / "numpy"
    results = (RESULTS / f"kv_{name}.json" for name in ("quality", "sensitivity"))
    return {
        **home(),
        RECALL[0]: [recall.recall_text(tokenizer, i + 1, at) for i, at in enumerate(PLACES)],
        "Moby-Dick": [stored["moby-dick"], moby[640_000:740_000]],
        "messages, German": [django("de")],
        "Python": [stored[code], inspect.getsource(transformers.modeling_utils)[:120_000]],
        RECALL[1]: [records(tokenizer, seed) for seed in range(1, WINDOWS + 1)],
        "addresses, 21st century": [stored["sotu 21st century"], sotu[-150_000:-40_000]],
        "JavaScript": [joined(web.glob("src/*.*s"))],
        "C": [joined(headers.glob("nd*.h")) + joined(headers.glob("npy_*.h"))],
        "Markdown": [joined(REPOSITORY.glob("*.md"))],
        "JSON": [joined(results)],
        **{
            f"messages, {name}": [django(short)]
            for name, short in LANGUAGES.items()
            if name != "German"
        },
    }


PLACES = (300_000, 900_000, *(100_000 * i for i in (1, 4, 5, 7, 8, 10)))
"""Where in Moby-Dick the text between pairs begins: first those of `recall`."""


def windows(tokenizer: Any, texts: Iterable[str]) -> np.ndarray:
    """The first `WINDOWS` windows of texts, ``(windows, LENGTH)``."""
    found: list[np.ndarray] = []
    for text in texts:
        ids = tokenizer(text, return_tensors="np").input_ids[0]
        found += [ids[i * LENGTH : (i + 1) * LENGTH] for i in range(len(ids) // LENGTH)]
    return np.stack(found[:WINDOWS])


def make(tokenizer: Any) -> dict[str, np.ndarray]:
    """All windows by kind, and the calibration texts."""
    found = {"calibration": calibration(tokenizer)}
    for name, texts in kinds(tokenizer).items():
        found[name] = windows(tokenizer, texts)
        if name.removeprefix("messages, ") in BROAD:  # the last window is for choosing
            found[name] = found[name][:FEWEST]
        if len(found[name]) < FEWEST:
            raise SystemExit(f"{name} has {len(found[name])} windows, {FEWEST} are needed")
    return {name: rows.astype(np.uint16) for name, rows in found.items()}


def main() -> None:
    parser(__doc__).parse_args()
    tokenizer, _ = quality.load()
    found = make(tokenizer)
    with whole_file(TARGET) as file:
        np.savez_compressed(file, **found)
    for name, rows in found.items():
        print(f"{name:28} {rows.shape} {sha256(rows.tobytes())[:16]}")
        print("    ", repr(tokenizer.decode(rows[-1][:30])))


if __name__ == "__main__":
    main()
