"""Mini-golf: the fewest bits a byte of a model that fits into a million bytes, code included.

    python -m book.experiments.one_model.golf --entry base --minutes 3
    python -m book.experiments.one_model.golf --entry all --minutes 3
    python -m book.experiments.one_model.golf --stored       # the two of the factorial, as they are

An entry may use `LIMIT` bytes for its model, its tokenizer and its code, and ten minutes of two
cores.  The rules are those of parameter-golf at a sixteenth of its bytes: bits a byte of
held-out text, so that any tokenizer may enter; every window has the full context before what is
scored of it.  Of code the rooms of the package that an entry runs in are counted, packed.
"""

from __future__ import annotations

import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from book.experiments.common.main import parser
from book.experiments.common.places import ROOT, TABLES
from book.experiments.common.store import provenance, read, rounded, write_results
from book.experiments.one_model.cells import DEFAULT, FOUND, SCALES, Job, model_of
from book.experiments.one_model.store import ALL, BASE, GOLF, GOLF_COLUMNS, TABLE
from book.experiments.one_model.text import Tokens, tokens
from genopt_core.one_model import bits_per_byte
from genopt_core.tables import records
from genopt_core.torch.model import Run, load_model, save_model, token_nats, train

LIMIT = 1_000_000
SCRATCH = ROOT / ".cache" / "one_model"
SHAPE = {"layers": 3, "width": 96, "heads": 6, "key_heads": 2, "hidden": 256}
"""Of both entries: 0.39 million parameters, as many as fit in 16 bits."""
ENTRIES = {"base": BASE, "all": ALL}
SEED, TRIED, WINDOWS, SCORED = 0, 4, 96, 1024
CODE = ("one_model", "positions", "kvcache", "attention", "subwords")
"""Rooms of the package whose files are counted, all of them: more than what scores a text."""


def entry(name: str, minutes: float, folder: Path) -> dict[str, Any]:
    """Train as long as a number of processor minutes allows, write, read again and score."""
    torch.set_num_threads(1)
    job, scale = Job("small", ENTRIES[name], "tokens", SEED), SCALES["small"]
    levels = job.levels
    text = tokens(
        scale.text, levels["tokenizer"], scale.model.vocabulary, scale.part, folder / "texts"
    )
    settings = dict(DEFAULT)
    if levels["settings"] == "found":
        settings |= read(FOUND)["found"]
    run = Run(model=replace(model_of(job), **SHAPE), steps=TRIED, seed=SEED, **settings)
    if run.model.slopes is not None:
        total = 4 * sum(1 / h for h in range(1, run.model.heads + 1))
        run = replace(run, model=replace(run.model, slopes=total))
    rows, context = scale.rows, scale.context

    def batch(step: int) -> torch.Tensor:
        at = torch.arange(step * rows, (step + 1) * rows)[:, None] * context
        return stream[at + torch.arange(context + 1)]

    stream = text.stream(SEED, tokens=TRIED * rows * context + 1)
    train(replace(run, steps=1), batch)
    started = time.process_time()
    train(run, batch)
    each = (time.process_time() - started) / TRIED
    run = replace(run, steps=int(60 * minutes / each), tokenizer=text.digest)
    stream = text.stream(SEED, tokens=run.steps * rows * context + 1)
    started = time.process_time()
    path = folder / f"golf-{name}.safetensors"
    checkpoint = folder / f"golf-{name}-{run.steps}.run.safetensors"
    model = train(run, batch, path=checkpoint, every=500).model
    used = (time.process_time() - started) / 60
    save_model(path, model, text.digest, dtype=torch.float16)
    checkpoint.unlink()
    tokenizer = f"{scale.text}-{levels['tokenizer']}-{scale.model.vocabulary}.json"
    how = f"{job.cell}, {run.steps} steps of {rows * context} tokens"
    return described(
        f"{name}, larger", path, folder / "texts" / tokenizer, text, rounded(used, 3), how
    )


def of_the_factorial(folder: Path) -> list[dict[str, Any]]:
    """The two models of the factorial that are stored, as entries."""
    found = []
    scale, trainings = SCALES["small"], records(read(TABLE)["trainings"])
    for row in records(read(TABLE)["checkpoints"]):
        [made] = (r for r in trainings if all(r[c] == row[c] for c in ("cell", "budget", "seed")))
        tokenizer = row["cell"].split(".")[0]
        text = tokens(scale.text, tokenizer, scale.model.vocabulary, scale.part, folder / "texts")
        used = rounded(made["cpu_seconds"] / 60, 3)
        how = f"{row['cell']}, {made['steps']} steps of {scale.rows * scale.context} tokens"
        paths = TABLES / row["file"], TABLES / row["tokenizer_file"]
        found.append(described(row["name"], *paths, text, used, how))
    return found


def described(
    name: str, path: Path, tokenizer: Path, text: Tokens, minutes: float, how: str
) -> dict[str, Any]:
    """An entry's row: its size, and its score when it is read again.

    Raises
    ------
    ValueError
        If it has more than `LIMIT` bytes.
    """
    model = load_model(path, text.digest)
    sizes = {
        "model_bytes": packed(path),
        "tokenizer_bytes": packed(tokenizer),
        "code_bytes": sum(
            packed(file) for room in CODE for file in (ROOT / "genopt_core" / room).rglob("*.py")
        ),
    }
    total = sum(sizes.values())
    if total > LIMIT:
        raise ValueError(f"an entry must have at most {LIMIT} bytes in all, got {total}")
    return {
        "entry": name,
        "bits": rounded(bits(model, text, SCALES["small"].context), 5),
        **sizes,
        "total_bytes": total,
        "cpu_minutes": minutes,
        "parameters": model.parameter_count,
        "how": how,
    }


@torch.no_grad()
def bits(model: Any, text: Tokens, context: int) -> float:
    """Bits a byte of the last `SCORED` bytes of held-out windows."""
    windows, scored = text.windows(context, context, WINDOWS, SCORED)
    last = int(scored.sum(1).max())
    nats = torch.cat([token_nats(model, part, last) for part in windows.split(8)])
    lengths = text.lengths[windows[:, -last:].numpy()] * scored[:, -last:].numpy()
    return bits_per_byte(nats.numpy(), lengths)


def packed(path: Path) -> int:
    """Bytes of a file as zlib packs it."""
    return len(zlib.compress(path.read_bytes(), 9))


def main(arguments: list[str] | None = None) -> int:
    """Make one entry and put it into the table."""
    options = parser(__doc__)
    options.add_argument("--entry", choices=tuple(ENTRIES))
    options.add_argument("--stored", action="store_true")
    options.add_argument("--minutes", type=float, default=10.0)
    options.add_argument("--folder", type=Path, default=SCRATCH)
    chosen = options.parse_args(arguments)
    made = of_the_factorial(chosen.folder) if chosen.stored else []
    if chosen.entry:
        made.append(entry(chosen.entry, chosen.minutes, chosen.folder))
    names = {one["entry"] for one in made}
    rows = read(GOLF)["entries"]["rows"] if GOLF.is_file() else []
    rows = [row for row in rows if row[0] not in names]
    rows += [[one[c] for c in GOLF_COLUMNS] for one in made]
    entries = {"columns": list(GOLF_COLUMNS), "rows": sorted(rows, key=lambda row: row[1])}
    content = {"limit": LIMIT, "shape": SHAPE, "entries": entries, "provenance": provenance()}
    print(f"{GOLF.name}: {write_results(GOLF, content)} bytes written; {made}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
