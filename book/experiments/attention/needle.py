"""Whether SmolLM2 still finds a fact far back when every layer attends to some blocks only.

    python -m book.experiments.attention.needle --device cuda --seconds 200 --out PATH
    python -m book.experiments.attention.needle --quick            little, on a CPU

A sentence with a number of five digits stands at a depth of a prompt of prose; the prompt ends with
a question for the number.  Prompt and answer are read at once, all of it with the plan: the score
is the logarithm of the answer's probability, and whether each of its tokens is the likeliest one.
R rounds are R plans in every layer, their sums pooled: they cost R times as much.  A row is one
prompt length, number of kept blocks, design and number of rounds; its lists are over trials, each a
number and a piece of prose, and within them depths.  A run stops after ``--seconds``.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from book.experiments.attention import heads as source
from book.experiments.attention.designs import BLOCK, KEPT, density_of, designs
from book.experiments.attention.perplexity import HALF, stored_law
from book.experiments.attention.whole_model import Drawing, attention_of, log_probabilities
from book.experiments.common.main import parsed_with_out, parser
from book.experiments.common.places import RESULTS
from book.experiments.common.store import provenance, rounded, write_json
from genopt_core import corpora
from genopt_core.torch.smollm import load_smollm

TARGET = RESULTS / "attention_needle.json"
LENGTHS = (1024, 2048, 4096)
DEPTHS = tuple(range(5, 100, 10))
"""Where the fact stands, per cent of the prose before it."""
NUMBERS = ("48217", "93650", "17482", "60935")
COUNTS = (*KEPT, HALF)
ROUNDS = (1, 4, 8)
OURS, LAW = "recommended", "sink + near + harmonic, self-normalized"
PAPER = "plain harmonic, each row"
PEERS = ("window + sink", "radial + sink", "largest kept, oracle")
AT_ONCE = 20_000
"""Tokens."""


def prompt(tokenizer: Any, prose: Tensor, number: str, depth: int, length: int) -> tuple:
    """Token ids of exactly ``length``, where the fact begins, and how many of them are answer."""

    def ids(text: str) -> Tensor:
        return tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids[0]

    fact = ids(f" The special magic number is {number}.")
    question = ids(
        "\n\nQuestion: What is the special magic number?\nAnswer: The special magic number is"
    )
    answer = ids(f" {number}")
    room = length - len(fact) - len(question) - len(answer)
    at = room * depth // 100
    found = torch.cat([prose[:at], fact, prose[at:room], question, answer])
    return found, at, len(answer)


def scores(model: Any, ids: Tensor, answer: int) -> tuple[list[float], list[bool]]:
    """Log probability of the answer, and whether each of its tokens is likeliest, by prompt."""
    found = log_probabilities(model, ids, last=answer + 1)[:, :-1]
    target = ids[:, -answer:, None]
    sums = found.gather(-1, target).double().sum((1, 2))
    exact = (found.argmax(-1) == target[..., 0]).all(-1)
    return sums.tolist(), exact.tolist()


def main() -> None:
    arguments = parser(__doc__, "quick")
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--seconds", type=float, default=1e9)
    options = parsed_with_out(arguments, TARGET)
    start = time.monotonic()
    tokenizer, model = load_smollm()
    model = model.to(options.device)
    compared = designs(stored_law())
    moby = tokenizer(corpora.load("moby-dick")[300_000:420_000], return_tensors="pt").input_ids[0]
    arms = [(OURS, 1), *((LAW, r) for r in ROUNDS), *((PAPER, r) for r in ROUNDS)]
    arms += [*((name, 1) for name in PEERS), (OURS, 4)]
    rows: dict[tuple, dict[str, Any]] = {}
    depths, lengths = DEPTHS, LENGTHS[::-1]
    if options.quick:
        depths, lengths, arms = DEPTHS[4:5], (512,), [arms[0], arms[2]]

    def store() -> None:
        name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
        content = {
            "model": source.MODEL,
            "block": BLOCK,
            "depths": list(depths),
            "numbers": list(NUMBERS),
            "rows": list(rows.values()),
            "device": name,
            "seconds": round(time.monotonic() - start),
            "provenance": provenance(("genopt-core", "numpy", "torch", "transformers")),
        }
        write_json(options.out, content)

    def measure(trial: int, length: int, design: str, kept: int, rounds: int, ids: Tensor) -> None:
        drawing = None
        if design != "full":
            seed = 1000 * trial + 10 * kept + rounds
            drawing = Drawing(compared[design], kept, seed, rounds)
        logs, exact = [], []
        with attention_of(model, drawing):
            for part in ids.split(max(1, AT_ONCE // length)):
                more = scores(model, part, answer)
                logs += more[0]
                exact += more[1]
        key = (length, design, kept, rounds)
        if key not in rows:
            density = float(np.mean(drawing.densities)) if drawing and drawing.densities else 1.0
            rows[key] = {
                "length": length,
                "design": design,
                "kept": kept,
                "rounds": rounds,
                "density": rounded(density, 4),
                "log": [],
                "exact": [],
            }
        rows[key]["log"].append([rounded(x, 4) for x in logs])
        rows[key]["exact"].append([int(x) for x in exact])

    for trial, number in enumerate(NUMBERS[:1] if options.quick else NUMBERS):
        for length in lengths:
            prose = moby[6000 * trial :]
            made = [prompt(tokenizer, prose, number, depth, length) for depth in depths]
            answer = made[0][2]
            ids = torch.stack([m[0] for m in made]).to(options.device)
            measure(trial, length, "full", 0, 1, ids)
            for kept in KEPT[:1] if options.quick else COUNTS:
                if density_of(length, kept) > 0.9:
                    continue
                for design, rounds in arms:
                    if time.monotonic() - start > options.seconds:
                        store()
                        print("time is up")
                        return
                    measure(trial, length, design, kept, rounds, ids)
            store()
            print(f"trial {trial}, {length}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
