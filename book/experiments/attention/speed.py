"""Time and memory of block-sparse attention beside PyTorch's dense call, forward and backward.

    python -m book.experiments.attention.speed [--quick] [--flex] [--rounds 9]
    python -m book.experiments.attention.speed --only-flex      adds these times to what is stored
    python -m book.experiments.attention.speed --elsewhere      on another machine than stored

Writes book/data/results/attention_speed.json.  One thread, and CPU time of that thread rather than
the clock, so that other work on the machine matters less; calls take turns and the least of their
times counts.  Plans by distance are timed five times over: stored are the medians, and the ratios
of each time.  Wall time with two threads is kept beside it, with the machine's load: trust it if
that was small.  ``--flex`` also times compiled ``flex_attention``, which takes a minute to
compile, and ``--quick`` does little and writes nothing.  Where there is a GPU, 16384 tokens at a
quarter of the blocks are timed on it too, in bfloat16, by the clock after synchronizing; where
there is none, the script says so.
"""

from __future__ import annotations

import functools
import math
import multiprocessing
import os
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from book.experiments.common.main import parser
from book.experiments.common.places import RESULTS
from book.experiments.common.store import provenance, read, rounded, write_results
from genopt_core.attention.blocks import DistanceLaw
from genopt_core.torch.attention import (
    Plan,
    default_block,
    near,
    plan_distances,
    plan_rows,
    pr_flash_attention,
    sample,
    sink,
)

TARGET = RESULTS / "attention_speed.json"
HEADS, DIM = 8, 64
REPEATS = 5
WAYS = ("forward", "both")
EACH = (("", "x"), ("", "ms"), ("dense ", "ms"))
WANTED = (0.12, 0.23, 0.49, 1.0)
LENGTHS = (4096, 8192)
LAW = DistanceLaw.harmonic()
Call = Callable[[], Any]


def fastest(calls: dict[str, Call], rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """Least milliseconds of each, taking turns."""
    best = dict.fromkeys(calls, math.inf)
    for _ in range(rounds):
        for name, call in calls.items():
            start = clock()
            call()
            best[name] = min(best[name], 1e3 * (clock() - start))
    return best


def plan_near(length: int, density: float, block: int, sinks: int) -> Plan:
    """The plan by the harmonic law whose drawn density is nearest to what is wanted."""
    g, t = torch.Generator().manual_seed(3), -(-length // block)
    plans = [
        plan_distances(length, LAW, n, sinks=sinks, nears=0, block=block, generator=g)
        for n in range(t)
        for _ in range(4)
    ]
    return min(plans, key=lambda p: abs(p.density - density))


def inputs(length: int) -> tuple[list[Tensor], Tensor]:
    """Queries, keys and values that need gradients, and a gradient of the output."""
    g = torch.Generator().manual_seed(0)
    made = [torch.randn(1, HEADS, length, DIM, generator=g) for _ in range(4)]
    return [x.requires_grad_() for x in made[:3]], made[3]


def both_ways(call: Callable[..., Tensor], x: list[Tensor], g: Tensor) -> Call:
    return lambda: torch.autograd.grad(call(*x), x, g)


def only_forward(call: Callable[..., Tensor], x: list[Tensor]) -> Call:
    @torch.no_grad()
    def run() -> Tensor:
        return call(*x)

    return run


def dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return scaled_dot_product_attention(q, k, v, is_causal=True)


def attend(plan: Plan, **options: Any) -> Callable[..., Tensor]:
    return lambda q, k, v: pr_flash_attention(q, k, v, plan, **options)  # type: ignore[return-value]


def diagonals(length: int, rounds: int, flex: bool, clock: Callable[[], float]) -> list[dict]:
    """Plans by distance: milliseconds and ratios to the dense call in the same turns."""
    x, g = inputs(length)
    calls = {"dense forward": only_forward(dense, x), "dense both": both_ways(dense, x, g)}
    plans: dict[str, Plan] = {}
    for wanted in WANTED:
        for sinks in (0, 1) if 0.2 < wanted < 1 else (0,):
            plan = plan_near(length, wanted, default_block(length), sinks)
            name = f"{wanted:.0%}, {sinks} sinks"
            plans[name] = plan
            calls[f"{name} forward"] = only_forward(attend(plan), x)
            calls[f"{name} both"] = both_ways(attend(plan), x, g)
            if flex and wanted < 1:
                calls[f"{name} flex"] = only_forward(
                    attend(plan, estimator="plain", path="flex"), x
                )
                calls[f"{name} flex"]()  # compiled here
    best = fastest(calls, rounds, clock)
    rows = []
    for name, plan in plans.items():
        row = {
            "tokens": length,
            "block": plan.block,
            "plan": name,
            "density": plan.density,
            "distances": len(plan.distances or ()),
            "forward ms": best[f"{name} forward"],
            "both ms": best[f"{name} both"],
            "dense forward ms": best["dense forward"],
            "dense both ms": best["dense both"],
            "forward x": best["dense forward"] / best[f"{name} forward"],
            "both x": best["dense both"] / best[f"{name} both"],
        }
        if f"{name} flex" in best:
            row["flex forward ms"] = best[f"{name} flex"]
        rows.append({n: rounded(value, 4) for n, value in row.items()})
        print(row, flush=True)
    return rows


def repeated(times: int, measure: Callable[[], list[dict]]) -> list[dict]:
    """Rows measured again and again: medians, and the ratio of each time."""
    rows = []
    for of_one in zip(*(measure() for _ in range(times)), strict=True):
        row = {
            name: value if isinstance(value, str) else rounded(statistics.median(column), 4)
            for name, value in of_one[0].items()
            for column in [[one[name] for one in of_one]]
        }
        names = [f"{of}{way} {what}" for way in WAYS for of, what in EACH]
        rows.append(row | {f"{name} each": [one[name] for one in of_one] for name in names})
    return rows


def against_flex(length: int, rounds: int) -> list[dict]:
    """Forward passes of plans by distance, beside compiled ``flex_attention`` on the same plan."""
    x, found = inputs(length)[0], []
    for density, sinks in ((0.12, 0), (0.23, 1), (0.49, 1)):
        plan = plan_near(length, density, default_block(length), sinks)
        calls = {
            "forward ms": only_forward(attend(plan, estimator="plain"), x),
            "flex forward ms": only_forward(attend(plan, estimator="plain", path="flex"), x),
        }
        calls["flex forward ms"]()  # compiled here
        row: dict[str, Any] = {"tokens": length, "density": plan.density, "sinks": sinks}
        row |= fastest(calls, rounds, time.thread_time)
        found.append({n: rounded(value, 4) for n, value in row.items()})
        print(found[-1], flush=True)
    return found


def rows_of_plans(length: int, rounds: int) -> list[dict]:
    """Plans that differ by row and head, and the making of them."""
    x, g = inputs(length)
    q, k = x[0].detach(), x[1].detach()
    calls = {"dense forward": only_forward(dense, x), "dense both": both_ways(dense, x, g)}
    made: dict[tuple[int, float], Plan] = {}
    for block in (64, 128):
        for density in (0.12, 0.23, 0.43):
            if density * (length / block + 1) < 6.2:  # less than what is always kept
                continue
            key = (block, density)
            made[key] = plan_rows(q, k, density=density, block=block)
            for name, estimator in (("kept", "self-normalized"), ("difference", "difference")):
                call = attend(made[key], estimator=estimator)
                calls[f"{key} {name} forward"] = only_forward(call, x)
                calls[f"{key} {name} both"] = both_ways(call, x, g)
            calls[f"{key} plan"] = lambda b=block, d=density: plan_rows(q, k, density=d, block=b)  # type: ignore[misc]
    best = fastest(calls, rounds, time.thread_time)
    found = []
    for key, plan in made.items():
        row = {"tokens": length, "block": key[0], "density": plan.density}
        row["plan ms"] = best[f"{key} plan"]
        for name in ("kept", "difference"):
            row[f"{name} forward x"] = best["dense forward"] / best[f"{key} {name} forward"]
            row[f"{name} both x"] = best["dense both"] / best[f"{key} {name} both"]
        row["dense forward ms"] = best["dense forward"]
        found.append({n: rounded(value, 4) for n, value in row.items()})
        print(row, flush=True)
    return found


def _most_resident() -> int:
    """Kilobytes at this process's own peak; what ``getrusage`` tells begins with its parent's."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    if found is None:
        raise RuntimeError("/proc/self/status must have VmHWM, as Linux writes it")
    return int(found[1])


def _peak(kind: str, length: int, answer: Any) -> None:
    """Megabytes that a forward and backward pass adds to a fresh process at its peak."""
    torch.set_num_threads(1)
    x, g = inputs(length)
    plan = plan_near(length, 0.23, default_block(length), 1)
    rows = (sink(1) | near(1) | sample(LAW, 4, each="row")).plan(length, block=128, heads=HEADS)
    small = [t[:, :, :256].detach().requires_grad_() for t in x]
    both_ways(dense, small, g[:, :, :256])()
    before = _most_resident()
    call = {
        "dense": dense,
        "diagonal": attend(plan),
        "rows": attend(rows),
        "difference": attend(rows, estimator="difference"),
    }[kind]
    both_ways(call, x, g)()
    answer.put((_most_resident() - before) / 1024)


def memory(lengths: tuple[int, ...]) -> list[dict]:
    """Extra memory at its peak, each in a process of its own."""
    context, found = multiprocessing.get_context("spawn"), []
    for length in lengths:
        row: dict[str, Any] = {"tokens": length, "inputs MB": 4 * HEADS * length * DIM * 4 / 2**20}
        for kind in ("dense", "diagonal", "rows", "difference"):
            answer = context.Queue()
            process = context.Process(target=_peak, args=(kind, length, answer))
            process.start()
            row[f"{kind} MB"] = rounded(answer.get(), 4)
            process.join()
        found.append(row)
        print(row, flush=True)
    return found


def on_gpu(rounds: int, length: int = 16384) -> dict | None:
    """The same two calls on a GPU, None without one."""
    if not torch.cuda.is_available():
        print("no GPU here: nothing is measured on one")
        return None
    x, g = inputs(length)
    x = [t.detach().to("cuda", torch.bfloat16).requires_grad_() for t in x]
    g = g.to("cuda", torch.bfloat16)
    plan = plan_near(length, 0.25, 128, 1)
    plan = plan.to("cuda")

    def clock() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    calls = {
        "dense forward ms": only_forward(dense, x),
        "dense both ms": both_ways(dense, x, g),
        "forward ms": only_forward(attend(plan), x),
        "both ms": both_ways(attend(plan), x, g),
    }
    for call in calls.values():
        call()  # compiles
    best = fastest(calls, rounds, clock)
    return {"name": torch.cuda.get_device_name(), "tokens": length, "density": plan.density, **best}


def others(stored: dict[str, Any], elsewhere: bool) -> list[dict[str, Any]]:
    """What other machines measured: those known so far, and what is stored if it is from one."""
    kept = ("turns", "repeats", "load before", "one thread", "rows", "flex", "provenance")
    known: list[dict[str, Any]] = stored.get("other machines", [])
    return [*known, {name: stored.get(name) for name in kept}] if elsewhere else known


def main() -> None:
    arguments = parser(__doc__, "quick")
    arguments.add_argument("--flex", action="store_true", help="compiled flex_attention too")
    arguments.add_argument("--only-flex", action="store_true", help="that alone, forward")
    arguments.add_argument("--elsewhere", action="store_true", help="keep the stored times too")
    arguments.add_argument("--rounds", type=int, default=9, help="turns that each call takes")
    options = arguments.parse_args()
    lengths = (1024,) if options.quick else LENGTHS
    turns = 2 if options.quick else options.rounds
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    if options.only_flex:
        own = {"load before": rounded(load, 3), "rows": against_flex(lengths[0], turns)}
        if options.quick:
            return
        write_results(TARGET, read(TARGET) | {"flex": own})
        return
    repeats = 1 if options.quick else REPEATS
    one = [
        row
        for n in lengths
        for row in repeated(
            repeats, functools.partial(diagonals, n, turns, options.flex, time.thread_time)
        )
    ]
    by_rows = rows_of_plans(lengths[0], max(turns // 2, 1))
    extra = memory((1024,) if options.quick else (4096, 8192, 16384))
    torch.set_num_threads(2)
    two_load = os.getloadavg()[0]
    few = max(turns // 2, 1)
    two = [
        row
        for n in lengths
        for row in repeated(repeats, functools.partial(diagonals, n, few, False, time.perf_counter))
    ]
    content = {
        "clock": "CPU time of one thread, least of the turns; where there are repeats their median",
        "turns": turns,
        "repeats": repeats,
        "load before": rounded(load, 3),
        "heads": HEADS,
        "dim": DIM,
        "one thread": one,
        "rows": by_rows,
        "memory": extra,
        "load before two threads": rounded(two_load, 3),
        "two threads, wall": two,
        "gpu": on_gpu(turns),
        "provenance": provenance(("genopt-core", "numpy", "torch")),
    }
    if options.quick:
        return
    if TARGET.is_file():
        content["other machines"] = others(read(TARGET), options.elsewhere)
    if TARGET.is_file() and not options.flex:  # what takes long to compile is kept
        content["flex"] = None if options.elsewhere else read(TARGET).get("flex")
        times = {(r["tokens"], r["plan"]): r for r in read(TARGET)["one thread"]}
        for row in one:
            old = times.get((row["tokens"], row["plan"]), {})
            if "flex forward ms" in old:
                row["flex over ours, earlier run"] = rounded(
                    old["flex forward ms"] / old["forward ms"], 4
                )
    print(f"{TARGET.name}: {write_results(TARGET, content)} bytes")


if __name__ == "__main__":
    main()
