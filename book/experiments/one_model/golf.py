"""Mini-golf: the fewest bits a byte of a model that fits into a million bytes, code included.

    python -m book.experiments.one_model.golf --entry base --minutes 3
    python -m book.experiments.one_model.golf --entry all --minutes 3

An entry may use `LIMIT` bytes for its model, its tokenizer and its code, and ten minutes of two
cores.  The rules are those of parameter-golf, four orders of magnitude smaller: bits a byte of
held-out text, so that any tokenizer may enter; every window has the full context before what is
scored of it.  What is counted of code is what scores a text without this repository, packed.
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
from book.experiments.common.places import ROOT
from book.experiments.common.store import provenance, read, rounded, write_results
from book.experiments.one_model.cells import DEFAULT, FOUND, SCALES, Job, model_of
from book.experiments.one_model.store import ALL, BASE, GOLF, GOLF_COLUMNS
from book.experiments.one_model.text import Tokens, tokens
from genopt_core.one_model import bits_per_byte
from genopt_core.torch.model import Run, load_model, save_model, token_nats, train

LIMIT = 1_000_000
SCRATCH = ROOT / ".cache" / "one_model"
SHAPE = {"layers": 3, "width": 96, "heads": 6, "key_heads": 2, "hidden": 256}
"""Of both entries: 0.39 million parameters, as many as fit in 16 bits."""
ENTRIES = {"base": BASE, "all": ALL}
SEED, TRIED, WINDOWS, SCORED = 0, 4, 96, 1024
CODE = {
    "bpe": ("genopt_core/one_model/forward.py", "genopt_core/one_model/config.py"),
    "swe": (
        *("genopt_core/one_model/forward.py", "genopt_core/one_model/config.py"),
        "genopt_core/subwords/tokenizer/encoding.py",
    ),
}
"""Files that run an entry; positions, checks and the encoding of byte pairs are the libraries'."""


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
    sizes = {
        "model_bytes": packed(path),
        "tokenizer_bytes": packed(folder / "texts" / tokenizer),
        "code_bytes": sum(packed(ROOT / file) for file in CODE[levels["tokenizer"]]),
    }
    total = sum(sizes.values())
    if total > LIMIT:
        raise ValueError(f"an entry must have at most {LIMIT} bytes in all, got {total}")
    return {
        "entry": name,
        "bits": rounded(bits(load_model(path, text.digest), text, context), 5),
        **sizes,
        "total_bytes": total,
        "cpu_minutes": rounded(used, 3),
        "parameters": model.parameter_count,
        "how": f"{job.cell}, {run.steps} steps of {rows * context} tokens",
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
    options.add_argument("--entry", choices=tuple(ENTRIES), required=True)
    options.add_argument("--minutes", type=float, default=10.0)
    options.add_argument("--folder", type=Path, default=SCRATCH)
    chosen = options.parse_args(arguments)
    made = entry(chosen.entry, chosen.minutes, chosen.folder)
    rows = read(GOLF)["entries"]["rows"] if GOLF.is_file() else []
    rows = [row for row in rows if row[0] != chosen.entry] + [[made[c] for c in GOLF_COLUMNS]]
    entries = {"columns": list(GOLF_COLUMNS), "rows": sorted(rows, key=lambda row: row[1])}
    content = {"limit": LIMIT, "shape": SHAPE, "entries": entries, "provenance": provenance()}
    print(f"{GOLF.name}: {write_results(GOLF, content)} bytes written; {made}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
