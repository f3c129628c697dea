"""Small decoders trained with block-sparse attention as their attention dropout.

    python -m book.experiments.attention.training --device cuda --seconds 200 --out PATH
    python -m book.experiments.attention.training --small --seconds 1200     on one thread of a CPU
    python -m book.experiments.attention.training --quick                    little

The decoders of chapter 3 with RoPE (4 layers of 128 channels, or with --small 2 of 64), arms x
seeds of them as one batch; pairs share their start and the order of the text.  In training a plan
is drawn anew for each step, layer, replica and head; what a step does not keep, it does not see.
Held-out loss is taken along the way, with full attention and as trained, and in the end also with
pooled rounds and with full attention to whose scores the logarithm of each block's probability is
added, which is what plain dropping tends to.  Attention compute is the number of block pairs that
were computed.  The rate is constant after warm-up, so that a run can be compared at any step.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from book.experiments.attention.designs import window_mask
from book.experiments.common.main import parsed_with_out, parser
from book.experiments.common.places import RESULTS, SCRATCH
from book.experiments.common.store import provenance, read, rounded, write_json
from book.experiments.positions.language import tokens_of
from book.experiments.positions.models import Decoders, Shape
from genopt_core.attention.blocks import DistanceLaw
from genopt_core.torch.attention import near, sample, sink
from genopt_core.torch.attention.draws import systematic

TARGET = RESULTS / "attention_training.json"
RATE, WARM_UP, CLIP, DECAY = 2e-3, 100, 1.0, 0.1
ROUNDS = (1, 4, 16)
SEEDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Arm:
    """How a decoder attends in training: a plan of a density, or dropout of probabilities."""

    label: str
    kind: str = "full"  # full, dropout, paper, ours, window
    density: float = 1.0
    dropout: float = 0.0


ARMS = (
    Arm("full attention"),
    Arm("dropout 0.1", "dropout", dropout=0.1),
    Arm("plain harmonic, 25 %", "paper", 0.25),
    Arm("plain harmonic, 50 %", "paper", 0.50),
    Arm("sink + near + harmonic, 25 %", "ours", 0.25),
    Arm("sink + near + harmonic, 50 %", "ours", 0.50),
    Arm("window + sink, 25 %", "window", 0.25),
    Arm("window + sink, 50 %", "window", 0.50),
)


class Sampled(Decoders):
    """Decoders of which each has an arm; the plans of a call are drawn on the way."""

    def __init__(
        self,
        seeds: list[int],
        shape: Shape,
        length: int,
        block: int,
        device: str,
        arms: tuple[Arm, ...] = ARMS,
    ):
        super().__init__(["rope"] * len(arms), seeds, shape, length, device)
        self.length, self.block, t = length, block, length // block
        self.t, self.arms = t, [arm for arm in arms for _ in seeds]
        self.generator = torch.Generator().manual_seed(7)
        each = len(seeds)
        self.at = {
            kind: torch.tensor([r for r, a in enumerate(self.arms) if a.kind == kind])
            for kind in ("dropout", "paper", "ours", "window")
        }
        law, i = DistanceLaw.harmonic(), torch.arange(t)
        self.delta = (i[:, None] - i).clamp_min(0).to(device)
        self.lower = (i[:, None] >= i).to(device)
        pi, self.computed = [], []
        for arm in arms:
            if arm.kind == "paper":
                plan = sample(law, density=arm.density, each="plan").plan(length, block=block)
                pi.append(plan.pi[0, 0])
            elif arm.kind == "ours":
                design = sink(1) | near(1) | sample(law, density=arm.density, each="row")
                pi.append(design.plan(length, block=block).pi[0, 0])
            elif arm.kind == "window":
                masks = [window_mask(t, k, 1) for k in range(1, t)]
                pi.append(min(masks, key=lambda m: abs(share(m) - arm.density)).double())
            else:
                pi.append(torch.ones(t, t).tril().double())
            self.computed.append(share(pi[-1].tril()))
        self.pi = torch.stack(pi).repeat_interleave(each, 0)[:, None].to(device).tril()

    def table(self, mode: str, rounds: int = 1) -> Tensor:
        """Weights of blocks, (replicas, 1 or heads, t, t): "sample", "surrogate" or "full"."""
        if mode == "full":
            return self.lower.float()[None, None].expand(len(self.arms), 1, -1, -1)
        if mode == "surrogate":  # what plain dropping tends to; reweighting tends to full attention
            plain = torch.tensor([a.kind == "paper" for a in self.arms], device=self.device)
            plain = plain.view(-1, 1, 1, 1)
            return torch.where(plain, self.pi, self.lower.double()).float()
        heads = self.shape.heads
        mean = torch.zeros(len(self.arms), heads, self.t, self.t, device=self.device)
        mean += torch.where(self.pi == 1, 1.0, 0.0).float()
        drawn = torch.zeros_like(mean)
        for _ in range(rounds):
            for kind in ("paper", "ours"):
                at = self.at[kind].to(self.device)
                pi = self.pi[at]
                free = (pi < 1) & (pi > 0)
                if kind == "paper":  # one set of distances for all rows and heads
                    line = pi[:, :, -1].flip(-1) * (pi[:, :, -1].flip(-1) < 1)
                    kept = systematic(line, self.generator)[..., self.delta] & free
                    drawn[at] += kept.float()
                    continue
                kept = systematic((pi * free).expand(-1, heads, -1, -1), self.generator) & free
                drawn[at] += (kept / pi.clamp_min(1e-12)).float()
        return mean + drawn / rounds

    def attend(self, tokens: Tensor, mode: str, rounds: int = 1) -> Tensor:
        """Logits as `Decoders` gives; attention dropout where gradients are taken."""
        W, s, size = self.weights, self.shape, self.block
        R, B, L = tokens.shape
        x = W["embedding"][torch.arange(R, device=self.device)[:, None, None], tokens]
        positions = torch.arange(L, device=self.device, dtype=torch.float64)
        ahead = torch.ones(L, L, dtype=torch.bool, device=self.device).triu(1)
        for i in range(s.layers):
            h = self._norm(x, W[f"{i}.norm1"])
            q, k, v = self._mm(h, W[f"{i}.qkv"]).view(R, B, L, 3, s.heads, s.head_dim).unbind(3)
            angle = (positions[:, None] * self.omega[:, i, None]).float()[:, None, :, None]
            q, k = self._turn(q, angle), self._turn(k, angle)
            q, k, v = (y.transpose(2, 3) for y in (q, k, v))
            bias = self.table(mode, rounds).log().expand(-1, s.heads, -1, -1)
            bias = bias.repeat_interleave(size, -1).repeat_interleave(size, -2)
            out = self._blocks(q, k, v, bias.masked_fill_(ahead, float("-inf")))
            x = x + self._mm(out.transpose(2, 3).flatten(3), W[f"{i}.out"])
            a, b = self._mm(self._norm(x, W[f"{i}.norm2"]), W[f"{i}.up"]).chunk(2, -1)
            x = x + self._mm(torch.nn.functional.silu(a) * b, W[f"{i}.down"])
        return self._mm(self._norm(x, W["norm"]), W["embedding"].transpose(1, 2))

    def _blocks(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """Attention (replicas, rows, heads, length, channels), ``bias`` alike for all rows.

        Rows take the place of a kernel's heads, so that they share one bias in its memory.
        """
        R, _, H = q.shape[:3]
        q, k, v = (y.transpose(1, 2) for y in (q, k, v))
        some: list[int] = self.at["dropout"].tolist() if torch.is_grad_enabled() else []
        cuts = [0, some[0], some[-1] + 1, R] if some else [0, R]
        outs = []
        for first, last in itertools.pairwise(cuts):
            if first == last:
                continue
            part = [y[first:last].flatten(0, 1) for y in (q, k, v)]
            if some and first == some[0]:
                p = self.arms[first].dropout
                out = scaled_dot_product_attention(*part, dropout_p=p, is_causal=True)
            else:
                mask = bias[first:last].flatten(0, 1)[:, None].expand(-1, q.shape[2], -1, -1)
                out = scaled_dot_product_attention(*part, attn_mask=mask)
            outs.append(out)
        return torch.cat(outs).unflatten(0, (R, H)).transpose(1, 2)


def share(kept: Tensor) -> float:
    """Of the lower triangle."""
    t = len(kept)
    return float(kept.double().sum()) / (t * (t + 1) / 2)


@torch.no_grad()
def held_out(models: Sampled, windows: Tensor, mode: str, rounds: int = 1) -> list[float]:
    """Mean nats a token, by replica."""
    total = torch.zeros(len(models.arms), dtype=torch.float64, device=models.device)
    for part in windows.split(4):
        tokens = part.to(models.device).expand(len(models.arms), *part.shape)
        total += nats(models.attend(tokens[..., :-1], mode, rounds), tokens).double().sum(1)
    return (total / windows[:, 1:].numel()).tolist()


def nats(logits: Tensor, tokens: Tensor) -> Tensor:
    """(replicas, predictions)"""
    found = torch.nn.functional.cross_entropy(
        logits.flatten(0, 2), tokens[..., 1:].flatten(), reduction="none"
    )
    return found.view(tokens.shape[0], -1)


def batches(ids: Tensor, seeds: list[int], arms: int, rows: int, length: int) -> Iterator[Tensor]:
    """Random windows (replicas, rows, length + 1), for a seed the same whatever the arm."""
    generators = [torch.Generator().manual_seed(1000 + seed) for seed in seeds]
    offsets = torch.arange(length + 1, device=ids.device)
    while True:
        starts = [torch.randint(len(ids) - length - 1, (rows,), generator=g) for g in generators]
        yield ids[torch.stack(starts).to(ids.device)[..., None] + offsets].repeat(arms, 1, 1)


def run(
    cell: dict,
    device: str,
    deadline: float,
    steps: int,
    evaluations: int,
    keep: Callable[[dict[str, Any]], None],
) -> None:
    """One text: the losses of all replicas along the way and in the end, kept as they come."""
    length, block, shape, arms = (cell[n] for n in ("length", "block", "shape", "arms"))
    seeds = list(cell["seeds"])
    ids = tokens_of(cell["text"], shape.vocab, SCRATCH / "attention").to(device)
    cut = int(0.95 * len(ids))
    held, learned = ids[cut:], ids[: int(cell["part"] * cut)]
    starts = torch.linspace(0, len(held) - length - 1, cell["windows"]).long()
    windows = torch.stack([held[a : a + length + 1] for a in starts.tolist()])
    models = Sampled(seeds, shape, length, block, device, arms)
    every = list(models.weights.values())
    decayed = [w for w in every if w.dim() >= 3 and w.shape[-2] > 8]
    others = [w for w in every if not any(w is d for d in decayed)]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), foreach=True)
    content: dict[str, Any] = {
        **{k: v for k, v in cell.items() if k not in ("shape", "seeds", "arms")},
        "training tokens": len(learned),
        "steps": 0,
        "tokens a step": cell["rows"] * length,
        "shape": vars(shape),
        "seeds": seeds,
        "arms": [vars(a) for a in arms],
        "computed": [rounded(x, 4) for x in models.computed],
        "curve": [],
    }
    torch.manual_seed(0)
    source = batches(learned, seeds, len(arms), cell["rows"], length)
    for step, tokens in zip(range(1, steps + 1), source, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, step / WARM_UP)
        loss = nats(models.attend(tokens[..., :-1], "sample"), tokens).mean(1)
        optimizer.zero_grad(set_to_none=True)
        loss.sum().backward()
        have = [w for w in every if w.grad is not None]
        norm = sum((w.grad.flatten(1) ** 2).sum(1) for w in have).sqrt()  # type: ignore[union-attr]
        scale = (CLIP / (norm + 1e-6)).clamp(max=1)
        for w in have:
            w.grad *= scale.view(-1, *[1] * (w.dim() - 1))
        optimizer.step()
        late = time.monotonic() > deadline
        if step % (steps // evaluations) == 0 or late:
            content["steps"] = step
            content["curve"].append(
                {
                    "step": step,
                    "training": digits(loss.tolist()),
                    "full": digits(held_out(models, windows, "full")),
                    "sample": digits(held_out(models, windows, "sample")),
                }
            )
            keep(content)
            shown = [f"{x:.4f}" for x in content["curve"][-1]["full"][:: len(seeds)]]
            print(f"{cell['name']}: {step}: {' '.join(shown)}", flush=True)
        if late:
            break
    final = {"full": content["curve"][-1]["full"]}
    final["surrogate"] = digits(held_out(models, windows, "surrogate"))
    for rounds in ROUNDS:
        final[f"{rounds} rounds"] = digits(held_out(models, windows, "sample", rounds))
    keep(content | {"final": final})


def digits(values: list[float]) -> list[float]:
    return [rounded(x, 5) for x in values]


CELLS = (
    {"name": "whole text", "text": "sotu", "part": 1.0},
    {"name": "a tenth of the text", "text": "sotu", "part": 0.1},
)


def main() -> None:
    arguments = parser(__doc__, "quick")
    arguments.add_argument("--small", action="store_true", help="small decoders, fewer arms")
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--seconds", type=float, default=1e9)
    arguments.add_argument("--steps", type=int, default=1600)
    arguments.add_argument("--evaluations", type=int, default=8)
    options = parsed_with_out(arguments, TARGET)
    if options.device == "cpu":
        torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = True
    start, quick, small = time.monotonic(), options.quick, options.small
    tiny, less = Shape(1024, 1, 32, 2, 64), Shape(1024, 2, 64, 4, 176)
    common: dict[str, Any] = {
        "length": 128 if quick else 256 if small else 512,
        "block": 4 if quick else 8 if small else 16,
        "rows": 1 if quick or small else 4,
        "shape": tiny if quick else less if small else Shape(1024),
        "seeds": SEEDS[:1] if quick else SEEDS,
        "windows": 4 if quick else 48 if small else 64,
        "arms": tuple(a for a in ARMS if a.kind != "window") if small else ARMS,
    }
    cells = CELLS[:1] if small else CELLS
    content: dict[str, Any] = read(options.out) if options.out.is_file() else {"cells": []}
    for n, cell in enumerate(cells):
        names = [c["name"] for c in content["cells"]]
        place = names.index(cell["name"]) if cell["name"] in names else len(names)
        if place < len(names) and "final" in content["cells"][place]:
            continue

        def keep(found: dict[str, Any], at: int = place) -> None:
            content["cells"][at:] = [found]
            gpu = options.device == "cuda"
            content["device"] = torch.cuda.get_device_name() if gpu else "one thread of a CPU"
            content["seconds"] = round(time.monotonic() - start)
            content["provenance"] = provenance(("genopt-core", "numpy", "torch", "tokenizers"))
            write_json(options.out, content)

        left = options.seconds - (time.monotonic() - start)
        deadline = time.monotonic() + 0.8 * left / (len(cells) - n)
        steps = 4 if quick else options.steps
        evaluations = 2 if quick else options.evaluations
        run({**cell, **common}, options.device, deadline, steps, evaluations, keep)


if __name__ == "__main__":
    main()
