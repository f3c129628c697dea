"""Time of block-sparse attention on a GPU beside FlashAttention, forward and both ways.

    python -m book.experiments.attention.gpu_speed --device cuda --seconds 100 --out PATH
    python -m book.experiments.attention.gpu_speed --quick        does little, on a CPU

16384 tokens in bfloat16 at a quarter of the blocks first, then other lengths and densities.  Times
are of CUDA events around several calls, the median of turns in which dense and sparse calls
alternate.  Dense is ``scaled_dot_product_attention`` held to its FlashAttention backend.  The
candidates: compiled ``flex_attention`` with the plan's mask made once, plain and with weights;
`pr_flash_attention` as a user calls it, mask and all; and block diagonals as FlashAttention calls
on shifted views, merged.  Whether a call makes the host wait, PyTorch's own debug mode tells.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from book.experiments.attention.speed import LAW
from book.experiments.common.main import parsed_with_out, parser
from book.experiments.common.places import RESULTS
from book.experiments.common.store import provenance, rounded, write_json
from genopt_core.torch.attention import (
    Plan,
    near,
    plan_distances,
    pr_flash_attention,
    sample,
    sink,
)

TARGET = RESULTS / "attention_gpu_speed.json"
LENGTH, HEADS, DENSITY = 16384, 16, 0.25
Call = Callable[..., Tensor]


def inputs(heads: int, length: int, dim: int, device: str) -> tuple[list[Tensor], Tensor]:
    """Queries, keys and values that need gradients, and a gradient of the output."""
    torch.manual_seed(0)
    made = [torch.randn(1, heads, length, dim, device=device) for _ in range(4)]
    made = [x.to(torch.bfloat16) for x in made]
    return [x.requires_grad_() for x in made[:3]], made[3]


def dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    if q.device.type != "cuda":
        return scaled_dot_product_attention(q, k, v, is_causal=True)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return scaled_dot_product_attention(q, k, v, is_causal=True)


def row_plan(length: int, density: float, block: int, heads: int) -> Plan:
    """Sink, near and harmonic, drawn for each row of each head."""
    design = sink(1) | near(1) | sample(LAW, density=density, each="row")
    g = torch.Generator().manual_seed(3)
    return design.plan(length, block=block, heads=heads, generator=g)


def flex(plan: Plan, compiled: Any, weighted: bool) -> Call:
    """``flex_attention`` with the mask and the table of weights made beforehand."""
    mask, size = plan.to_block_mask(), plan.block
    table = plan.log_weights.clamp_min(-1e4).float()
    many = table.shape[1] > 1

    def score(s: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return s + table[0, h if many else 0, i // size, j // size]

    # each row has its diagonal, so no row is empty
    options = {"ROWS_GUARANTEED_SAFE": True, "BLOCKS_ARE_CONTIGUOUS": False}

    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        mod = score if weighted else None
        return compiled(q, k, v, score_mod=mod, block_mask=mask, kernel_options=options)

    return call


def as_is(plan: Plan) -> Call:
    """As a user calls it."""

    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return pr_flash_attention(q, k, v, plan, estimator="plain")  # type: ignore[return-value]

    return call


def diagonals(plan: Plan) -> Call:
    """Block diagonals as FlashAttention calls on shifted views, forward only."""
    size, t = plan.block, plan.blocks
    last = plan.pi[0, 0, -1].flip(-1).tolist()
    first = plan.sinks
    flash = torch.ops.aten._scaled_dot_product_flash_attention

    def merge(out: Tensor, lse: Tensor, part: Tensor, mass: Tensor) -> None:
        both = torch.logaddexp(lse, mass)
        out.lerp_(part.to(out.dtype), (mass - both).exp_().unsqueeze(-1))
        lse.copy_(both)

    @torch.no_grad()
    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        Q, K, V = (x.flatten(0, 1).unflatten(1, (t, size)).transpose(0, 1) for x in (q, k, v))
        part, mass = flash(Q, K, V, 0.0, True)[:2]
        out, lse = part.float(), mass.float().clone()
        for d in plan.distances or ():
            if d and d + first < t:
                part, mass = flash(Q[d + first :], K[first : t - d], V[first : t - d], 0.0)[:2]
                merge(out[d + first :], lse[d + first :], part, mass - torch.tensor(last[d]).log())
        for c in range(first):  # one key block against all later queries
            rest = q[:, :, (c + 1) * size :]
            keys = slice(c * size, (c + 1) * size)
            part, mass = flash(rest, k[:, :, keys], v[:, :, keys], 0.0)[:2]
            part = part.flatten(0, 1).unflatten(1, (-1, size)).transpose(0, 1)
            mass = mass.flatten(0, 1).unflatten(1, (-1, size)).transpose(0, 1)
            merge(out[c + 1 :], lse[c + 1 :], part, mass)
        return out.transpose(0, 1).flatten(1, 2).view(q.shape).to(q.dtype)

    return call


def both_ways(call: Call, x: list[Tensor], g: Tensor) -> Callable[[], Any]:
    return lambda: torch.autograd.grad(call(*x), x, g)


def only_forward(call: Call, x: list[Tensor]) -> Callable[[], Any]:
    """With gradients switched on, so that the kernel is the one that backward needs."""
    return lambda: call(*x)


def times(calls: dict[str, Callable[[], Any]], turns: int, repeats: int) -> dict[str, float]:
    """Median milliseconds of each, taking turns."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    on_gpu = torch.cuda.is_available()
    for _ in range(turns):
        for name, call in calls.items():
            if not on_gpu:
                start = time.perf_counter()
                call()
                found[name].append(1e3 * (time.perf_counter() - start))
                continue
            a, b = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            a.record()
            for _ in range(repeats):
                call()
            b.record()
            b.synchronize()
            found[name].append(a.elapsed_time(b) / repeats)
    return {name: statistics.median(values) for name, values in found.items()}


def waits(call: Callable[[], Any]) -> str:
    """Whether a call makes the host wait for the device."""
    if not torch.cuda.is_available():
        return "no GPU"
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    except RuntimeError as error:
        return f"yes: {str(error).splitlines()[0][:80]}"
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "no"


def others() -> int | None:
    """Processes on the GPU beside this one, as far as can be seen; None without the tool."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    asked = [tool, "--query-compute-apps=pid", "--format=csv,noheader"]
    return len(subprocess.run(asked, capture_output=True, text=True).stdout.split()) - 1


def compare(
    heads: int,
    length: int,
    dim: int,
    calls: dict[str, tuple[Call, float, bool]],
    device: str,
    turns: int,
    repeats: int,
) -> list[dict[str, Any]]:
    """Rows of some calls with their densities; whether they have a backward is the third."""
    x, g = inputs(heads, length, dim, device)
    if not any(backward for _, _, backward in calls.values()):
        x = [t.detach() for t in x]  # flex_attention on a CPU refuses what needs gradients
    every: dict[str, Callable[[], Any]] = {}
    every["dense forward"] = only_forward(dense, x)
    if x[0].requires_grad:
        every["dense both"] = both_ways(dense, x, g)
    rows, wait, failed = [], {}, {}
    for name, (call, _, backward) in calls.items():
        try:
            pair = {f"{name} forward": only_forward(call, x)}
            if backward:
                pair[f"{name} both"] = both_ways(call, x, g)
            for run in pair.values():
                run()  # compiled here
            wait[name] = waits(pair[f"{name} both" if backward else f"{name} forward"])
            every.update(pair)
        except Exception as error:  # one that fails must not stop the others
            failed[name] = f"{type(error).__name__}: {str(error)[:200]}"
            print(f"{name} failed: {failed[name]}", flush=True)
    found = times(every, turns, repeats)
    for name, (_, density, _) in calls.items():
        row: dict[str, Any] = {"tokens": length, "heads": heads, "dim": dim, "call": name}
        row["density"] = density
        if name in failed:
            rows.append({**row, "failed": failed[name]})
            continue
        row["host waits"] = wait[name]
        for way in ("forward", "both"):
            if f"{name} {way}" in found:
                row[f"dense {way} ms"] = found[f"dense {way}"]
                row[f"{way} ms"] = found[f"{name} {way}"]
                row[f"{way} x"] = found[f"dense {way}"] / found[f"{name} {way}"]
                row[f"{way} share of 1/density"] = row[f"{way} x"] * density
        rows.append({n: rounded(value, 4) for n, value in row.items()})
        print({n: v for n, v in rows[-1].items() if "share" in n or n in ("call", "host waits")})
    return rows


def main() -> None:
    arguments = parser(__doc__, "quick")
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--seconds", type=float, default=1e9)
    options = parsed_with_out(arguments, TARGET)
    start, device, quick = time.monotonic(), options.device, options.quick
    turns, repeats = (1, 1) if quick else (7, 5)
    rows: list[dict[str, Any]] = []

    def store(more: list[dict[str, Any]]) -> None:
        rows.extend(more)
        write_json(
            options.out,
            {
                "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
                "dtype": "bfloat16",
                "turns": turns,
                "calls a turn": repeats,
                "rows": rows,
                "other processes on the GPU": others(),
                "seconds": round(time.monotonic() - start),
                "provenance": provenance(("genopt-core", "torch", "triton")),
            },
        )
        print(f"{len(rows)} rows, {time.monotonic() - start:.0f} s", flush=True)

    from torch.nn.attention.flex_attention import flex_attention

    torch._dynamo.config.recompile_limit = 1000  # each length and kind of mask is a kernel
    torch._dynamo.config.accumulated_recompile_limit = 1000
    compiled = flex_attention if quick else torch.compile(flex_attention, dynamic=False)
    length = 2048 if quick else LENGTH

    def distances(n: int, density: float, block: int, sinks: int = 1) -> Plan:
        t = n // block
        few = t if density == 1 else int(t * density)
        g = torch.Generator().manual_seed(3)
        plans = [
            plan_distances(n, LAW, k, sinks=sinks, nears=0, block=block, generator=g)
            for k in (range(few // 5, few + 1) if density < 1 else (t,))
            for _ in range(2)
        ]
        return min(plans, key=lambda p: abs(p.density - density)).to(device)

    plan = distances(length, DENSITY, 128)
    by_row = row_plan(length, DENSITY, 64 if quick else 128, HEADS).to(device)
    first: dict[str, tuple[Call, float, bool]] = {
        "flex, distances, plain": (flex(plan, compiled, False), plan.density, not quick),
        "flex, distances, weighted": (flex(plan, compiled, True), plan.density, not quick),
    }
    second: dict[str, tuple[Call, float, bool]] = {
        "flex, rows, weighted": (flex(by_row, compiled, True), by_row.density, not quick),
        "flex, rows, plain": (flex(by_row, compiled, False), by_row.density, not quick),
    }
    if device == "cuda":
        wide, large = distances(length, DENSITY, 256), distances(length, DENSITY, 1024)
        first["diagonals of FlashAttention"] = (diagonals(large), large.density, False)
        blocks = "flex, distances, blocks of 256"
        second[blocks] = (flex(wide, compiled, False), wide.density, True)
    as_called: dict[str, tuple[Call, float, bool]] = {
        "pr_flash_attention, distances, plain": (as_is(plan), plan.density, True)
    }
    for dim, calls in ((64, first), (128, first), (64, second), (64, as_called)):
        if time.monotonic() - start < options.seconds:
            store(compare(HEADS, length, dim, calls, device, turns, repeats))
    if quick:
        return
    for n in (1024, 2048, 4096, 8192, LENGTH):
        for density in (0.12, 0.25, 0.5, 1.0):
            if time.monotonic() - start > options.seconds:
                return
            if density * (n / 128 + 1) < 2 and n < LENGTH:
                continue
            plan = distances(n, density, 128, 1 if density < 1 else 0)
            calls = {"flex, distances, plain": (flex(plan, compiled, False), plan.density, True)}
            heads = HEADS * max(1, 4096 // n)
            store(compare(heads, n, 64, calls, device, turns, repeats))
    if time.monotonic() - start > options.seconds:
        return
    tuned = torch.compile(flex_attention, dynamic=False, mode="max-autotune-no-cudagraphs")
    plan = distances(LENGTH, DENSITY, 128)
    calls = {"flex, distances, plain, tuned": (flex(plan, tuned, False), plan.density, True)}
    store(compare(HEADS, LENGTH, 64, calls, device, turns, repeats))


if __name__ == "__main__":
    main()
