"""Many needles: how often SmolLM2 tells a number in a prompt with some of the blocks only.

    python -m book.experiments.attention.needle_many --device cuda --seconds 480 --out PATH
    python -m book.experiments.attention.needle_many --quick      little, on a CPU

Numbers of five digits, each in a piece of prose of its own, at five depths of 512 to 4,096 tokens;
stored are eight numbers, in 512 and 1,024 tokens, which is what a first run had time for.
A block is a sixty-fourth of the prompt, 16 tokens at least, with a probe for each sixteen of its
tokens, so that 3, 7 and 15 blocks a row beside its own are 12, 23 and 43 per cent at every length
(3 and 7 are 23 and 43 per cent of 512 tokens).  The score is `needle.py`'s.  The model computes in
bfloat16, attention over blocks in float32.  A row is one number at all depths of one length.  With
three blocks a row the recommended plans draw nothing, so that they have no rounds.  A run writes
after every group of numbers, stops after ``--seconds`` and goes on from what is at ``--out``.
"""

from __future__ import annotations

import random
import time
from typing import Any

import torch
from torch import Tensor

from book.experiments.attention import heads as source
from book.experiments.attention.designs import (
    SHARED,
    Compared,
    by_contents,
    by_law,
    density_of,
    fixed,
    paper,
)
from book.experiments.attention.designs import window_mask as window
from book.experiments.attention.needle import AT_ONCE, LAW, OURS, PAPER, prompt
from book.experiments.attention.whole_model import Drawing, attention_of
from book.experiments.common.main import parsed_with_out, parser
from book.experiments.common.places import RESULTS
from book.experiments.common.store import credit, read, rounded, write_json
from genopt_core import corpora
from genopt_core.attention.blocks import DistanceLaw
from genopt_core.torch.smollm import load_smollm

TARGET = RESULTS / "attention_needles.json"
DEPTHS = (10, 30, 50, 70, 90)
TRIALS = 40
PEER, ORACLE = "window + sink", "largest kept, oracle"
GROUPS = ((512, 8), (1024, 8), (2048, 4), (4096, 2))
"""Lengths, and how many numbers of each are asked before the next round of lengths."""
ARMS = (
    *((OURS, 1), (PEER, 1), (SHARED, 1), (LAW, 1), (ORACLE, 1)),
    *((OURS, 4), (LAW, 4), (PAPER, 1), (SHARED, 4)),
)
KEPT = {512: (7, 3), 1024: (7, 15, 3), 2048: (7, 15, 3), 4096: (7, 15, 3)}
COLUMNS = ("length", "design", "kept", "rounds", "density", "trial", "log", "exact")


def block_of(length: int) -> int:
    """Tokens of a block."""
    return max(16, length // 64)


def numbers(count: int) -> list[str]:
    """Of five digits, all different."""
    return [str(n) for n in random.Random(14).sample(range(10_000, 100_000), count)]


def compared(block: int) -> dict[str, Compared]:
    """As `designs.designs`, in blocks of another size."""
    harmonic, probes = by_law(DistanceLaw.harmonic(), block), max(1, block // 16)
    largest = by_contents(block, probes=block, mix=0.0, choose="top", sinks=0, nears=0)
    ours = by_contents(block, probes=probes)
    shared = by_contents(block, probes=probes, share="heads")
    return {
        OURS: Compared(ours, "difference", "ours"),
        SHARED: Compared(shared, "difference", "ours"),
        PEER: Compared(fixed(lambda t, k: window(t, k, 1), block), "plain", "data-independent"),
        LAW: Compared(harmonic, "self-normalized", "ours"),
        PAPER: Compared(paper("row", block), "plain", "paper"),
        ORACLE: Compared(largest, "plain", "oracle", random=False),
    }


class Asked:
    """The model and the questions."""

    def __init__(self, device: str) -> None:
        self.tokenizer, model = load_smollm()
        self.model, self.device = model.to(device).bfloat16(), device
        self.moby, self.numbers = corpora.load("moby-dick"), numbers(TRIALS)
        self._made: dict[tuple[int, int], tuple[Tensor, int]] = {}

    def prompts(self, trial: int, length: int) -> tuple[Tensor, int]:
        """One number at all depths, and how many tokens of each prompt are answer."""
        if (trial, length) not in self._made:
            start = 20_000 + 28_000 * trial
            text = self.moby[start : start + 6 * length]
            prose = self.tokenizer(text, return_tensors="pt").input_ids[0]
            made = [prompt(self.tokenizer, prose, self.numbers[trial], d, length) for d in DEPTHS]
            self._made[trial, length] = torch.stack([ids for ids, _, _ in made]), made[0][2]
        return self._made[trial, length]

    @torch.no_grad()
    def rows(
        self, trials: list[int], length: int, design: str, kept: int, rounds: int
    ) -> list[list[Any]]:
        """A row for each number."""
        made = [self.prompts(trial, length) for trial in trials]
        answer = made[0][1]
        assert all(each == answer for _, each in made)
        ids = torch.cat([each for each, _ in made]).to(self.device)
        drawing, block = None, block_of(length)
        if design != "full":
            seed = 100_000 * trials[0] + 10 * length + 4 * kept + rounds
            drawing = Drawing(compared(block)[design], kept, seed, rounds)

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            assert drawing is not None
            return drawing(layer, q.float(), k.float(), v.float()).to(q.dtype)

        with attention_of(self.model, attend if drawing else None):
            hidden = self.model.model(ids, use_cache=False).last_hidden_state
            found = self.model.lm_head(hidden[:, -answer - 1 : -1]).float().log_softmax(-1)
        target = ids[:, -answer:, None]
        logs = found.gather(-1, target).double().sum((1, 2)).view(len(trials), -1).tolist()
        exact = (found.argmax(-1) == target[..., 0]).all(-1).view(len(trials), -1).tolist()
        density = rounded(density_of(length, kept, block), 4) if drawing else 1.0
        own = [length, design, kept, rounds, density]
        return [
            [*own, trial, [rounded(x, 4) for x in log], [int(x) for x in right]]
            for trial, log, right in zip(trials, logs, exact, strict=True)
        ]


def main() -> None:
    arguments = parser(__doc__, "quick")
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--seconds", type=float, default=1e9)
    options = parsed_with_out(arguments, TARGET)
    start = time.monotonic()
    asked = Asked(options.device)
    content: dict[str, Any] = read(options.out) if options.out.is_file() else {"rows": []}
    rows, spent = content["rows"], content.get("seconds", 0)
    done = {(r[0], r[1], r[2], r[3], r[5]) for r in rows}
    gpu = options.device == "cuda"

    def store() -> None:
        content.update(
            {
                "model": source.MODEL.replace("float32", "bfloat16"),
                "blocks": {str(n): block_of(n) for n, _ in GROUPS},
                "depths": list(DEPTHS),
                "numbers": asked.numbers,
                "columns": list(COLUMNS),
                "rows": rows,
                "seconds": round(spent + time.monotonic() - start),
            }
        )
        device = torch.cuda.get_device_name() if gpu else "CPU"
        credit(content, ("rows",), device, ("genopt-core", "numpy", "torch", "transformers"))
        write_json(options.out, content)

    for group in range(TRIALS):
        for length, many in GROUPS[:1] if options.quick else GROUPS:
            trials = [t for t in range(group * many, (group + 1) * many) if t < TRIALS]
            todo = [("full", 0, 1)]
            todo += [
                (design, kept, rounds)
                for kept in KEPT[length]
                for design, rounds in ARMS
                if not (kept == 3 and rounds > 1 and design in (OURS, SHARED))
            ]
            for design, kept, rounds in todo[:: 6 if options.quick else 1]:
                left = [t for t in trials if (length, design, kept, rounds, t) not in done]
                at_once = max(1, AT_ONCE // (length * len(DEPTHS)))
                for first in range(0, len(left), at_once):
                    if time.monotonic() - start > options.seconds:
                        store()
                        print("time is up")
                        return
                    some = left[first : first + at_once][: 1 if options.quick else None]
                    rows += asked.rows(some, length, design, kept, rounds)
                    if options.quick:
                        print(rows[-1], f"{time.monotonic() - start:.0f} s", flush=True)
                        break
            store()
            if options.quick:
                return
            print(f"group {group}, {length}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
