"""Options of the compiled kernel for plans on a GPU: tiles, warps, stages, and what they bring.

    python -m book.experiments.attention.gpu_options --device cuda --seconds 105 --out PATH
    python -m book.experiments.attention.gpu_options --quick      does little, on a CPU

As `gpu_speed.py`, whose calls and clock these are: 16384 tokens in bfloat16 at a quarter of the
blocks, heads of 64 first.  Every option is tried forward, then those of the backward, each alone
beside dense attention; the fastest of each is then measured in turns with dense attention, for
plans with and without weights, for heads of 128, and for 8,192 and 4,096 tokens.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from book.experiments.attention.gpu_speed import (
    DENSITY,
    HEADS,
    LENGTH,
    Call,
    both_ways,
    compare,
    dense,
    inputs,
    only_forward,
    others,
    times,
)
from book.experiments.attention.speed import LAW
from book.experiments.common.main import parsed_with_out, parser
from book.experiments.common.places import RESULTS
from book.experiments.common.store import provenance, rounded, write_json
from genopt_core.torch.attention import Plan, plan_distances

TARGET = RESULTS / "attention_gpu_options.json"
Options = dict[str, Any]
SURE: Options = {"ROWS_GUARANTEED_SAFE": True}


def tile(m: int, n: int, warps: int, stages: int, **more: Any) -> Options:
    own = {"BLOCK_M": m, "BLOCK_N": n, "num_warps": warps, "num_stages": stages}
    return {f"fwd_{name}": value for name, value in own.items()} | more


def back(m: int, n: int, warps: int, stages: int) -> Options:
    own = {"BLOCK_M1": m, "BLOCK_N1": n, "BLOCK_M2": n, "BLOCK_N2": m}
    own |= {"num_warps": warps, "num_stages": stages}
    return {f"bwd_{name}": value for name, value in own.items()}


FORWARD: dict[int, dict[bool, tuple[Options, ...]]] = {
    # heads of this size; with weights or without
    64: {
        False: (
            {"mask": "plan"},
            {},
            tile(128, 64, 4, 3),
            tile(128, 128, 8, 3),
            tile(128, 64, 8, 3),
            tile(128, 128, 8, 2),
            tile(64, 64, 4, 3),
            tile(128, 64, 4, 4),
            tile(64, 128, 4, 3),
            tile(128, 32, 4, 3),
        ),
        True: (
            tile(128, 64, 4, 3),
            tile(128, 64, 8, 2),
            tile(128, 128, 8, 1),
            tile(64, 64, 4, 2),
        ),
    },
    128: {True: (tile(128, 64, 8, 2), tile(64, 64, 4, 2)), False: ({},)},
}
BACKWARD: dict[bool, tuple[Options, ...]] = {
    False: ({}, back(64, 128, 8, 2), back(64, 64, 4, 3), back(64, 128, 4, 3)),
    True: (back(64, 64, 4, 2), back(64, 128, 8, 1)),
}


def causal(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
    return i >= j


def call_of(plan: Plan, compiled: Any, weighted: bool, options: Options) -> Call:
    """``flex_attention`` with mask and table made beforehand.

    Only the diagonal's blocks ask the mask's function, so that j <= i says all; with
    ``"mask": "plan"`` the function is the plan's own.
    """
    mask, size = plan.to_block_mask(), plan.block
    if options.get("mask") != "plan":
        mask = BlockMask.from_kv_blocks(
            mask.kv_num_blocks,
            mask.kv_indices,
            mask.full_kv_num_blocks,
            mask.full_kv_indices,
            BLOCK_SIZE=size,
            mask_mod=causal,
            seq_lengths=(plan.length, plan.length),
        )
    table = plan.log_weights.clamp_min(-1e4).float()
    many = table.shape[1] > 1

    def score(s: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return s + table[0, h if many else 0, i // size, j // size]

    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        mod = score if weighted else None
        kernel = SURE | {n: x for n, x in options.items() if n != "mask"}
        return compiled(q, k, v, score_mod=mod, block_mask=mask, kernel_options=kernel)

    return call


REFINED: tuple[Options, ...] = ({"fwd_USE_TMA": True}, {"PRESCALE_QK": True})
"""Tried with the fastest tile."""


class Search:
    """What was tried, and the best so far."""

    def __init__(self, options: Any) -> None:
        from torch.nn.attention.flex_attention import flex_attention

        self.start, self.options = time.monotonic(), options
        torch._dynamo.config.recompile_limit = 1000
        torch._dynamo.config.accumulated_recompile_limit = 1000
        quick = options.quick
        self.compiled = flex_attention if quick else torch.compile(flex_attention, dynamic=False)
        self.tried: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []
        self.best: dict[tuple[int, bool, str], tuple[float, Options]] = {}

    def late(self, share: float = 1.0) -> bool:
        return time.monotonic() - self.start > share * self.options.seconds

    def store(self) -> None:
        write_json(
            self.options.out,
            {
                "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
                "dtype": "bfloat16",
                "tried": self.tried,
                "best": [
                    {"dim": d, "weighted": w, "way": way, "ms": rounded(ms, 4), "options": found}
                    for (d, w, way), (ms, found) in self.best.items()
                ],
                "rows": self.rows,
                "other processes on the GPU": others(),
                "seconds": round(time.monotonic() - self.start),
                "provenance": provenance(("genopt-core", "torch", "triton")),
            },
        )

    def search(self, plan: Plan, dim: int, weighted: bool, way: str, share: float) -> None:
        """Every option once; the fastest is kept."""
        x, g = inputs(HEADS, plan.length, dim, self.options.device)
        found = BACKWARD[weighted] if way == "both" else FORWARD[dim][weighted]
        known = self.best.get((dim, weighted, "forward"), (0.0, {}))[1]
        tries: list[Options | None] = [known | each if way == "both" else each for each in found]
        tries += [None] * (len(REFINED) if way == "forward" and not weighted else 0)
        for n, options in enumerate(tries):
            if self.late(share):
                break
            if options is None:  # the fastest so far, refined
                best = self.best.get((dim, weighted, way), (0.0, {}))[1]
                all_of = best | REFINED[n - len(found)]
            else:
                all_of = options
            call = call_of(plan, self.compiled, weighted, all_of)
            if way == "both":
                run = both_ways(call, x, g)
            else:
                run = only_forward(call, [t.detach() for t in x])
            line = {"dim": dim, "weighted": weighted, "way": way, "options": all_of}
            begin = time.monotonic()
            try:
                run()
                ms = times({"it": run}, 1 if self.options.quick else 5, 5)["it"]
                line["ms"] = rounded(ms, 4)
                key = (dim, weighted, way)
                if key not in self.best or ms < self.best[key][0]:
                    self.best[key] = (ms, all_of)
            except Exception as error:  # one that fails must not stop the others
                line["failed"] = f"{type(error).__name__}: {str(error)[:160]}"
            line["seconds"] = round(time.monotonic() - begin, 1)
            self.tried.append(line)
            print(line, flush=True)
        self.store()

    def measure(self, heads: int, length: int, dim: int, weighted: bool, plan: Plan) -> None:
        """In turns with dense attention, with the fastest options of both ways."""
        if self.late():
            return
        forward, both = (self.best.get((dim, weighted, w)) for w in ("forward", "both"))
        chosen = both or forward
        if chosen is None:
            return
        kind = "weighted" if weighted else "plain"
        name = f"flex, distances, {kind}, chosen options"
        call = call_of(plan, self.compiled, weighted, chosen[1])
        calls = {name: (call, plan.density, not self.options.quick)}
        turns = 1 if self.options.quick else 7
        rows = compare(heads, length, dim, calls, self.options.device, turns, 5)
        self.rows += [{**row, "options": chosen[1]} for row in rows]
        self.store()


def distances(length: int, device: str, block: int = 128) -> Plan:
    """A plan by distance whose density is near a quarter, as `gpu_speed.py` takes it."""
    t = length // block
    g = torch.Generator().manual_seed(3)
    plans = [
        plan_distances(length, LAW, k, sinks=1, nears=0, block=block, generator=g)
        for k in range(int(t * DENSITY) // 5, int(t * DENSITY) + 1)
        for _ in range(2)
    ]
    return min(plans, key=lambda p: abs(p.density - DENSITY)).to(device)


def main() -> None:
    arguments = parser(__doc__, "quick")
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--seconds", type=float, default=1e9)
    options = parsed_with_out(arguments, TARGET)
    run = Search(options)
    length = 1024 if options.quick else LENGTH
    plan = distances(length, options.device)
    if options.quick:  # a CPU has no backward here
        FORWARD[64][False], FORWARD[64][True] = ({},), ({},)
        for weighted in (False, True):
            run.search(plan, 64, weighted, "forward", 1.0)
        run.measure(HEADS, length, 64, False, plan)
        return
    x, g = inputs(HEADS, length, 64, options.device)
    both = {"dense forward": only_forward(dense, x), "dense both": both_ways(dense, x, g)}
    print(times(both, 5, 5), flush=True)
    run.search(plan, 64, False, "forward", 0.35)
    run.search(plan, 64, True, "forward", 0.5)
    run.search(plan, 64, False, "both", 0.62)
    run.measure(HEADS, length, 64, False, plan)
    run.search(plan, 64, True, "both", 0.75)
    run.measure(HEADS, length, 64, True, plan)
    for n in (8192, 4096):
        run.measure(HEADS * max(1, 8192 // n), n, 64, False, distances(n, options.device))
    run.search(plan, 128, False, "forward", 1.0)
    run.measure(HEADS, length, 128, False, plan)
    run.search(plan, 128, True, "forward", 1.0)
    run.search(plan, 128, True, "both", 1.0)
    run.measure(HEADS, length, 128, True, plan)
    run.store()


if __name__ == "__main__":
    main()
