"""Twenty-five needles in short prompts: what `needle.py` had no time for, small enough for a CPU.

    python -m book.experiments.attention.needle_short              ten minutes of one core
    python -m book.experiments.attention.needle_short --quick      a moment; nothing is written

Five numbers, each in a piece of prose of its own, at five depths of 512 and 1,024 tokens.  Blocks
have 16 tokens and one probe, so that a probe stands at every sixteenth token, as in longer prompts;
seven blocks a row beside its own are then 43 and 23 per cent.  The score is `needle.py`'s.  The
model computes in bfloat16, which is three times as fast here, attention over blocks in float32.
Every group of five depths is written when it is there, and another run goes on.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from book.experiments.attention import heads as source
from book.experiments.attention.designs import Compared, by_contents, by_law, density_of, fixed
from book.experiments.attention.designs import window_mask as window
from book.experiments.attention.needle import LAW, NUMBERS, OURS, prompt
from book.experiments.attention.whole_model import Drawing, attention_of
from book.experiments.common.main import parsed_with_out, parser
from book.experiments.common.places import RESULTS
from book.experiments.common.store import provenance, read, rounded, write_json
from genopt_core import corpora
from genopt_core.attention.blocks import DistanceLaw
from genopt_core.torch.smollm import load_smollm

TARGET = RESULTS / "attention_needle_short.json"
LENGTHS = (512, 1024)
DEPTHS = (10, 30, 50, 70, 90)
FIVE = (*NUMBERS, "70326")
BLOCK, KEPT = 16, 7
PEER, ORACLE = "window + sink", "largest kept, oracle"
ARMS = (("full", 1), (OURS, 1), (PEER, 1), (LAW, 1), (ORACLE, 1), (OURS, 4), (LAW, 4))
COLUMNS = ("length", "design", "kept", "rounds", "density", "trial", "log", "exact")


def compared() -> dict[str, Compared]:
    """As `designs.designs`, in smaller blocks."""
    harmonic = by_law(DistanceLaw.harmonic(), BLOCK)
    largest = by_contents(BLOCK, probes=BLOCK, mix=0.0, choose="top", sinks=0, nears=0)
    return {
        OURS: Compared(by_contents(BLOCK, probes=1), "difference", "ours"),
        PEER: Compared(fixed(lambda t, k: window(t, k, 1), BLOCK), "plain", "data-independent"),
        LAW: Compared(harmonic, "self-normalized", "ours"),
        ORACLE: Compared(largest, "plain", "oracle", random=False),
    }


def measured(
    model: Any, tokenizer: Any, trial: int, length: int, design: str, rounds: int, depths: Any
) -> list[Any]:
    """A row: one number at all depths."""
    start = 300_000 + 24_000 * trial
    text = corpora.load("moby-dick")[start : start + 8_000]
    prose = tokenizer(text, return_tensors="pt").input_ids[0]
    made = [prompt(tokenizer, prose, FIVE[trial], depth, length) for depth in depths]
    drawing = None
    if design != "full":
        seed = 1000 * trial + length + rounds
        drawing = Drawing(compared()[design], KEPT, seed, rounds)

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        assert drawing is not None
        return drawing(layer, q.float(), k.float(), v.float()).to(q.dtype)

    answer, ids = made[0][2], torch.stack([ids for ids, _, _ in made])
    with attention_of(model, attend if drawing else None), torch.no_grad():
        hidden = model.model(ids, use_cache=False).last_hidden_state[:, -answer - 1 : -1]
        found = model.lm_head(hidden).float().log_softmax(-1)
    target = ids[:, -answer:, None]
    log = found.gather(-1, target).double().sum((1, 2)).tolist()
    exact = (found.argmax(-1) == target[..., 0]).all(-1).tolist()
    density = density_of(length, KEPT, BLOCK) if drawing else 1.0
    own = [length, design, KEPT if drawing else 0, rounds, rounded(density, 4), trial]
    return [*own, [rounded(x, 4) for x in log], [int(x) for x in exact]]


def main() -> None:
    arguments = parser(__doc__, "quick")
    arguments.add_argument("--seconds", type=float, default=1e9)
    arguments.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    arguments.add_argument("--trials", type=int, nargs="+", default=range(len(FIVE)))
    options = parsed_with_out(arguments, TARGET)
    torch.set_num_threads(1)
    tokenizer, model = load_smollm()
    model = model.bfloat16()
    if options.quick:
        print(measured(model, tokenizer, 0, 256, OURS, 1, DEPTHS[2:3]))
        return
    content: dict[str, Any] = read(options.out) if options.out.is_file() else {"rows": []}
    rows = content["rows"]
    done = {(r[0], r[1], r[3], r[5]) for r in rows}
    begin, spent = time.monotonic(), content.get("CPU seconds", 0)
    for length in options.lengths:
        for trial in options.trials:
            for design, rounds in ARMS:
                if (length, design, rounds, trial) in done:
                    continue
                if time.monotonic() - begin > options.seconds:
                    print("time is up")
                    return
                rows.append(measured(model, tokenizer, trial, length, design, rounds, DEPTHS))
                content.update(
                    {
                        "model": source.MODEL.replace("float32", "bfloat16"),
                        "block": BLOCK,
                        "depths": list(DEPTHS),
                        "numbers": list(FIVE),
                        "columns": list(COLUMNS),
                        "rows": rows,
                        "CPU seconds": round(spent + time.process_time()),
                        "provenance": provenance(("genopt-core", "numpy", "torch", "transformers")),
                    }
                )
                write_json(options.out, content)
            print(f"{length}, trial {trial}: {time.process_time():.0f} CPU s", flush=True)


if __name__ == "__main__":
    main()
