"""Many small decoders that differ in how they know positions, trained side by side as one batch.

Every weight has a leading axis of replicas, (replicas, …): a replica is a method at a seed.  Seeds
share initialization and the order of the text across methods, so that any two methods can be
compared pair by pair.  One batched matrix product trains all of them, on a GPU or a CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as attend

from genopt_core.positions import (
    bias_by_distance,
    inverse_frequencies,
    relative_buckets,
    slopes,
    yarn_temperature,
)

Learned = Literal["fixed", "slopes", "kerple-log", "kerple-power", "fire", "t5", "fox"]


@dataclass(frozen=True)
class Method:
    """How a decoder knows positions: rotation, distance bias and what is learned of it."""

    label: str
    rotated: float = 0.0  # share of the channel pairs that turn
    every: int = 0  # layers without rotation: each `every`-th (RNoPE); 0 for none
    slopes: Literal["none", "geometric", "harmonic"] = "none"
    total: float | Literal["geometric", "harmonic"] | None = None  # scales the slopes to this sum
    distance: Literal["linear", "harmonic", "log", "power", "reciprocal"] = "linear"
    free: int = 0  # heads (the last ones) without a bias
    windows: tuple[int, ...] = ()  # hard windows of the first heads
    ssmax: bool = False  # queries times s_h ln n, s_h learned
    learned: Learned = "fixed"

    def strengths(self, heads: int) -> np.ndarray:
        """Slopes a head; those of the last ``free`` heads are 0."""
        m = np.zeros(heads)
        biased = heads - self.free
        if self.slopes != "none" and biased:
            total: Any = self.total
            if total == "harmonic":
                total = float(slopes(biased, "harmonic").sum())
            m[:biased] = slopes(biased, self.slopes, total=total)
        return m


FIXED = {
    "nope": Method("no positions"),
    "rope": Method("RoPE", 1),
    "alibi": Method("ALiBi", slopes="geometric"),
    "harmonic": Method("harmonic slopes", slopes="harmonic"),
    "harmonic-matched": Method(
        "harmonic slopes, ALiBi's total", slopes="harmonic", total="geometric"
    ),
    "alibi-strong": Method("ALiBi, total of 1/h", slopes="geometric", total="harmonic"),
    "rope-alibi": Method("RoPE + ALiBi", 1, slopes="geometric"),
    "rope-alibi-strong": Method(
        "RoPE + ALiBi, total of 1/h", 1, slopes="geometric", total="harmonic"
    ),
    "rope-harmonic": Method("RoPE + harmonic slopes", 1, slopes="harmonic"),
    "rope-harmonic-matched": Method(
        "RoPE + harmonic slopes, ALiBi's total", 1, slopes="harmonic", total="geometric"
    ),
    "rope-harmonic-double": Method(
        "RoPE + harmonic slopes, 2/h", 1, slopes="harmonic", total=5.4357
    ),
    "hdist": Method("harmonic distance", slopes="harmonic", distance="harmonic"),
    "rope-hdist": Method("RoPE + harmonic distance", 1, slopes="harmonic", distance="harmonic"),
    "rope-hdist-geometric": Method(
        "RoPE + harmonic distance, ALiBi's slopes", 1, slopes="geometric", distance="harmonic"
    ),
    "rope-hdist-double": Method(
        "RoPE + harmonic distance, 2/h", 1, slopes="harmonic", distance="harmonic", total=5.4357
    ),
    "rope-reciprocal": Method("RoPE + reciprocal", 1, slopes="harmonic", distance="reciprocal"),
    "rope-harmonic-mix": Method(
        "RoPE + harmonic slopes, half of the heads free", 1, slopes="harmonic", free=4
    ),
    "rope-harmonic-mix2": Method(
        "RoPE + harmonic slopes, two heads free", 1, slopes="harmonic", free=2
    ),
    "rope-hdist-mix": Method(
        "RoPE + harmonic distance, half of the heads free",
        1,
        slopes="harmonic",
        distance="harmonic",
        free=4,
    ),
    "harmonic-mix": Method("harmonic slopes, half of the heads free", slopes="harmonic", free=4),
    "half-rope-harmonic": Method("half RoPE + harmonic slopes", 0.5, slopes="harmonic"),
    "windows": Method("hard windows on half of the heads", windows=(2, 4, 8, 16)),
    "rope-windows": Method("RoPE + hard windows on half of the heads", 1, windows=(2, 4, 8, 16)),
    "p-rope-half": Method("half RoPE", 0.5),
    "p-rope-quarter": Method("quarter RoPE", 0.25),
    "rnope": Method("RoPE in three of four layers", 1, every=4),
    "rnope-harmonic": Method(
        "RoPE in three of four layers + harmonic slopes", 1, every=4, slopes="harmonic"
    ),
    "rope-harmonic-triple": Method(
        "RoPE + harmonic slopes, 3/h", 1, slopes="harmonic", total=8.1536
    ),
    "rope-harmonic-fourfold": Method(
        "RoPE + harmonic slopes, 4/h", 1, slopes="harmonic", total=10.8714
    ),
    "rope-alibi-double": Method("RoPE + ALiBi, total of 2/h", 1, slopes="geometric", total=5.4357),
    "harmonic-double": Method("harmonic slopes, 2/h", slopes="harmonic", total=5.4357),
    "half-rope-harmonic-double": Method(
        "half RoPE + harmonic slopes, 2/h", 0.5, slopes="harmonic", total=5.4357
    ),
    "rnope-harmonic-double": Method(
        "RoPE in three of four layers + harmonic slopes, 2/h",
        1,
        every=4,
        slopes="harmonic",
        total=5.4357,
    ),
    "rope-harmonic-double-mix": Method(
        "RoPE + harmonic slopes, 2/h, half of the heads free",
        1,
        slopes="harmonic",
        total=5.4357,
        free=4,
    ),
    "harmonic-double-mix": Method(
        "harmonic slopes, 2/h, half of the heads free", slopes="harmonic", total=5.4357, free=4
    ),
    "harmonic-double-mix2": Method(
        "harmonic slopes, 2/h, two heads free", slopes="harmonic", total=5.4357, free=2
    ),
    "rope-hdist-fourfold": Method(
        "RoPE + harmonic distance, 4/h", 1, slopes="harmonic", distance="harmonic", total=10.8714
    ),
    "hdist-fourfold": Method(
        "harmonic distance, 4/h", slopes="harmonic", distance="harmonic", total=10.8714
    ),
    "rope-ssmax": Method("RoPE, SSMax", 1, ssmax=True),
    "alibi-ssmax": Method("ALiBi, SSMax", slopes="geometric", ssmax=True),
    "rope-alibi-ssmax": Method("RoPE + ALiBi, SSMax", 1, slopes="geometric", ssmax=True),
    "rope-harmonic-ssmax": Method(
        "RoPE + harmonic slopes, SSMax", 1, slopes="harmonic", ssmax=True
    ),
    "nope-ssmax": Method("no positions, SSMax", ssmax=True),
}
LEARNED = {
    "rope-learned": Method("RoPE + learned slopes", 1, slopes="harmonic", learned="slopes"),
    "rope-learned-double": Method(
        "RoPE + learned slopes from 2/h", 1, slopes="harmonic", total=5.4357, learned="slopes"
    ),
    "rope-learned-fourfold": Method(
        "RoPE + learned slopes from 4/h", 1, slopes="harmonic", total=10.8714, learned="slopes"
    ),
    "learned": Method("learned slopes", slopes="harmonic", learned="slopes"),
    "rope-learned-hdist": Method(
        "RoPE + learned slopes, harmonic distance",
        1,
        slopes="harmonic",
        distance="harmonic",
        learned="slopes",
    ),
    "rope-learned-ssmax": Method(
        "RoPE + learned slopes, SSMax", 1, slopes="harmonic", learned="slopes", ssmax=True
    ),
    "kerple-log": Method("KERPLE-log", learned="kerple-log"),
    "rope-kerple-log": Method("RoPE + KERPLE-log", 1, learned="kerple-log"),
    "kerple-log-ssmax": Method("KERPLE-log, SSMax", learned="kerple-log", ssmax=True),
    "kerple-power": Method("KERPLE-power", learned="kerple-power"),
    "rope-kerple-power": Method("RoPE + KERPLE-power", 1, learned="kerple-power"),
    "fire": Method("FIRE", learned="fire"),
    "rope-fire": Method("RoPE + FIRE", 1, learned="fire"),
    "fire-ssmax": Method("FIRE, SSMax", learned="fire", ssmax=True),
    "t5": Method("T5 buckets", learned="t5"),
    "rope-t5": Method("RoPE + T5 buckets", 1, learned="t5"),
    "fox": Method("FoX (data-dependent)", learned="fox"),
    "rope-fox": Method("RoPE + FoX (data-dependent)", 1, learned="fox"),
}
METHODS = {**FIXED, **LEARNED}


@dataclass(frozen=True)
class Change:
    """What is done to trained decoders of ``base`` before they are scored."""

    base: str
    label: str
    scaling: Literal["none", "linear", "ntk", "yarn"] = "none"  # of the frequencies, by the ratio
    softer: bool = False  # the bias is divided by the ratio of tested to trained length
    dropped: bool = False  # no rotation any more, and a tenth of the training once more


CHANGES = {
    "rope-interpolated": Change("rope", "RoPE, interpolated at test time", scaling="linear"),
    "rope-ntk": Change("rope", "RoPE, NTK at test time", scaling="ntk"),
    "rope-yarn": Change("rope", "RoPE, YaRN at test time", scaling="yarn"),
    "rope-drope": Change("rope", "DroPE (two stages)", dropped=True),
    "alibi-interpolated": Change("alibi", "ALiBi, interpolated at test time", softer=True),
    "rope-alibi-interpolated": Change(
        "rope-alibi", "RoPE + ALiBi, bias interpolated at test time", softer=True
    ),
}
"""Rows that need no training of their own, added after the final seeds were fixed."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder."""

    vocab: int
    layers: int = 4
    width: int = 128
    heads: int = 8
    hidden: int = 352  # of the gated feed-forward layer

    @property
    def head_dim(self) -> int:
        return self.width // self.heads


def as_heads(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Attention of (replicas, batch, heads, …) where a replica is a few more heads.

    So one call does all, and the bias (replicas, 1, heads, …) is not repeated along the batch.
    """
    replicas, batch, heads = q.shape[:3]
    q, k, v = (x.transpose(0, 1).flatten(1, 2) for x in (q, k, v))
    square = bias[:, 0].flatten(0, 1)[None].expand(batch, -1, -1, -1)
    return attend(q, k, v, square).unflatten(1, (replicas, heads)).transpose(0, 1)


class Decoders:
    """``len(names) × len(seeds)`` decoders, (replicas, …) in all weights.

    RMSNorm before attention and a gated feed-forward layer (SwiGLU), embedding shared with the
    output.  ``weights`` is a dictionary of leaf tensors.
    """

    def __init__(
        self, names: list[str], seeds: list[int], shape: Shape, trained: int, device: str = "cpu"
    ) -> None:
        methods = [METHODS[name] for name in names]
        self.names, self.seeds, self.shape, self.device = names, seeds, shape, device
        self.trained, self.sharper, self.softer = trained, 1.0, 1.0
        self.methods = [m for m in methods for _ in seeds]
        R, H = len(self.methods), shape.heads
        first = [self._drawn(seed) for seed in seeds]
        self.weights: dict[str, Tensor] = {
            key: torch.stack([draw[key] for draw in first]).repeat(
                len(names), *[1] * first[0][key].dim()
            )
            for key in first[0]
        }
        self.kinds = {
            kind: torch.tensor(
                [r for r, m in enumerate(self.methods) if m.learned == kind], device=device
            )
            for kind in dict.fromkeys(m.learned for m in methods)
        }
        self.ssmax = torch.tensor([m.ssmax for m in self.methods])[:, None]
        self.weights["ssmax"] = torch.full((R, shape.layers, H), 1 / math.log(trained))
        pairs = shape.head_dim // 2
        omega = np.zeros((R, shape.layers, pairs))
        for r, m in enumerate(self.methods):
            for layer in range(shape.layers):
                if m.rotated and not (m.every and layer % m.every == m.every - 1):
                    omega[r, layer] = inverse_frequencies(shape.head_dim, rotated=m.rotated)
        self.omega = torch.from_numpy(omega)
        strengths = torch.from_numpy(np.stack([m.strengths(H) for m in self.methods])).float()
        # softplus keeps learned slopes positive; one set a layer
        inverse = torch.log(torch.expm1(strengths.clamp(min=1e-3)))
        self.weights["slopes"] = inverse[:, None].repeat(1, shape.layers, 1)
        for key, value in self.weights.items():
            self.weights[key] = value.to(device).requires_grad_(True)
        self.ssmax, self.omega = self.ssmax.to(device), self.omega.to(device)
        self._tables: dict[str, Tensor] = {}
        self._kept: dict[Any, Any] = {}

    def part(self, name: str) -> Decoders:
        """The decoders of one method alone, with copies of their weights."""
        one = Decoders([name], self.seeds, self.shape, self.trained, self.device)
        first = self.names.index(name) * len(self.seeds)
        for key, w in self.weights.items():
            kept = w.detach()[first : first + len(self.seeds)].clone()
            one.weights[key] = kept.requires_grad_(True)
        return one

    def changed(self, change: Change, times: float) -> Decoders:
        """Those of ``change.base`` as they are read at ``times`` the trained length."""
        one = self.part(change.base)
        if change.scaling != "none":
            given = {"scaling": change.scaling, "factor": times, "trained_length": self.trained}
            omega = inverse_frequencies(self.shape.head_dim, **given)  # type: ignore[arg-type]
            one.omega = torch.from_numpy(omega).to(self.device).expand_as(one.omega)
        if change.scaling == "yarn":
            one.sharper = yarn_temperature(times) ** 2
        if change.dropped:
            one.omega = torch.zeros_like(one.omega)
        if change.softer:
            one.softer = times
        return one

    def _drawn(self, seed: int) -> dict[str, Tensor]:
        """The start of one decoder; what every method has is drawn first, so that it is shared."""
        s, gen = self.shape, torch.Generator().manual_seed(seed)

        def normal(*size: int, std: float = 0.02) -> Tensor:
            return torch.randn(size, generator=gen) * std

        out = {"embedding": normal(s.vocab, s.width)}
        for i in range(s.layers):
            out[f"{i}.qkv"] = normal(s.width, 3 * s.width)
            out[f"{i}.out"] = normal(s.width, s.width, std=0.02 / math.sqrt(2 * s.layers))
            out[f"{i}.up"] = normal(s.width, 2 * s.hidden)
            out[f"{i}.down"] = normal(s.hidden, s.width, std=0.02 / math.sqrt(2 * s.layers))
            out[f"{i}.norm1"], out[f"{i}.norm2"] = torch.ones(s.width), torch.ones(s.width)
        out["norm"] = torch.ones(s.width)
        out["p"], out["a"] = torch.rand(2, s.layers, s.heads, generator=gen) * torch.tensor(
            [2.0, 1.0]
        ).view(2, 1, 1)
        out["buckets"] = normal(s.layers, s.heads, 32)
        out["fire1"], out["fire1b"] = normal(s.layers, 1, 32, std=1.0), torch.zeros(s.layers, 32)
        out["fire2"], out["fire2b"] = normal(s.layers, 32, 32, std=0.25), torch.zeros(s.layers, 32)
        out["fire3"], out["fire3b"] = (
            normal(s.layers, 32, s.heads, std=32**-0.5),
            torch.zeros(s.layers, s.heads),
        )
        out["c"], out["L"] = torch.full((s.layers,), 0.1), torch.full((s.layers,), 256.0)
        out["gate"], out["gateb"] = (
            normal(s.layers, s.width, s.heads),
            torch.full((s.layers, s.heads), 3.0),
        )
        return out

    # ------------------------------------------------------------------ positions

    def _kept_bias(self, layer: int, length: int) -> Tensor:
        """:meth:`bias`; without gradients it is kept until another length is asked for."""
        if torch.is_grad_enabled():
            return self.bias(layer, length)
        if self._kept.get("length") != length:
            self._kept = {"length": length}
        if layer not in self._kept:
            self._kept[layer] = self.bias(layer, length)
        return self._kept[layer]

    def bias(self, layer: int, length: int) -> Tensor:
        """(replicas, 1, heads, length, length) of what does not depend on the data, −∞ above."""
        W = self.weights
        delta = torch.arange(length, device=self.device, dtype=torch.float32)
        table = self._fixed(length)
        for kind, at in self.kinds.items():
            if kind == "slopes":
                m = torch.nn.functional.softplus(W["slopes"][at, layer])
                new = m[..., None] * self._units(length)[at]
            elif kind == "kerple-log":
                p, a = (W[k][at, layer].clamp(min=0.01)[..., None] for k in "pa")
                new = -p * torch.log1p(a * delta)
            elif kind == "kerple-power":
                p, a = (
                    W["p"][at, layer].clamp(0.01, 2)[..., None],
                    W["a"][at, layer].clamp(min=0.01)[..., None],
                )
                new = -a * torch.where(delta > 0, delta.clamp(min=1) ** p, 0 * p)
            elif kind == "t5":
                new = W["buckets"][at, layer][
                    ..., torch.from_numpy(relative_buckets(length)).to(self.device)
                ]
            else:
                continue
            table = table.index_copy(0, at, new)
        # distances fall by one a key and rise by one a row: rows are windows on one line, and the
        # way back is a sum over windows, many times as fast on a GPU as that of an index
        above = torch.full_like(table[..., 1:], -math.inf)
        out = torch.cat([table.flip(-1), above], -1).unfold(-1, length, 1).flip(-2)
        if "fire" in self.kinds:
            out = out.index_copy(
                0, self.kinds["fire"], self._fire(layer, length, self.kinds["fire"])
            )
        return out[:, None]

    def _fixed(self, length: int) -> Tensor:
        if "fixed" not in self._tables or self._tables["fixed"].shape[-1] < length:
            rows = []
            for m in self.methods:
                windows = np.zeros(self.shape.heads, dtype=int)
                windows[: len(m.windows)] = m.windows
                given = windows if m.windows else None
                rows.append(
                    bias_by_distance(
                        m.strengths(self.shape.heads), length, m.distance, windows=given
                    )
                )
            rows = np.stack(rows) / self.softer
            self._tables["fixed"] = torch.from_numpy(rows).float().to(self.device)
        return self._tables["fixed"][..., :length]

    def _units(self, length: int) -> Tensor:
        """The bias of a unit slope, (replicas, 1, length)."""
        if "units" not in self._tables or self._tables["units"].shape[-1] < length:
            rows = np.stack([bias_by_distance([1.0], length, m.distance) for m in self.methods])
            self._tables["units"] = torch.from_numpy(rows).float().to(self.device)
        return self._tables["units"][..., :length]

    def _fire(self, layer: int, length: int, at: Tensor) -> Tensor:
        """f(ψ(δ) / ψ(max(L, i))), ψ(x) = ln(|c| x + 1), with the maximum, as the paper has it."""
        W = {
            key: self.weights[key][at, layer]
            for key in ("fire1", "fire1b", "fire2", "fire2b", "fire3", "fire3b", "c", "L")
        }
        i = torch.arange(length, device=self.device, dtype=torch.float32)
        delta = (i[:, None] - i[None]).clamp(min=0)
        c = W["c"].abs()[:, None, None]
        most = torch.maximum(W["L"].abs()[:, None, None], i[None, :, None])
        ratio = torch.log1p(c * delta) / torch.log1p(c * most)
        x = ratio.reshape(len(at), -1, 1)
        x = torch.relu(torch.baddbmm(W["fire1b"][:, None], x, W["fire1"]))
        x = torch.relu(torch.baddbmm(W["fire2b"][:, None], x, W["fire2"]))
        x = torch.baddbmm(W["fire3b"][:, None], x, W["fire3"])
        out = x.view(len(at), length, length, -1).permute(0, 3, 1, 2)
        above = i[:, None] < i[None]
        return out.masked_fill(above, -math.inf)

    # ------------------------------------------------------------------ forward

    def __call__(self, tokens: Tensor, last: int | None = None) -> Tensor:
        """Logits (replicas, batch, length, vocab) after ``tokens`` (replicas, batch, length).

        With ``last`` only those of the last tokens: the top layer asks for no others.
        """
        W, s = self.weights, self.shape
        R, B, L = tokens.shape
        x = W["embedding"][torch.arange(R, device=self.device)[:, None, None], tokens]
        positions = torch.arange(L, device=self.device, dtype=torch.float64)
        seen = torch.log(positions.float() + 1).clamp(min=math.log(2))
        for i in range(s.layers):
            h = self._norm(x, W[f"{i}.norm1"])
            q, k, v = self._mm(h, W[f"{i}.qkv"]).view(R, B, L, 3, s.heads, s.head_dim).unbind(3)
            angle = (positions[:, None] * self.omega[:, i, None]).float()[
                :, None, :, None
            ]  # (R,1,L,1,pairs)
            q, k = self._turn(q, angle), self._turn(k, angle)
            scale = torch.where(
                self.ssmax[..., None],
                W["ssmax"][:, i, None] * seen[None, :, None],
                torch.ones((), device=self.device),
            )  # (R, L, H)
            q = q * (scale * self.sharper)[:, None, ..., None]
            rows = last if last and i == s.layers - 1 else L
            q, k, v = q[:, :, -rows:].transpose(2, 3), k.transpose(2, 3), v.transpose(2, 3)
            bias = self._kept_bias(i, L)[..., -rows:, :]
            if "fox" in self.kinds:
                at = self.kinds["fox"]
                gate = self._mm(h[at], W["gate"][at, i]) + W["gateb"][at, i, None, None]
                c = torch.nn.functional.logsigmoid(gate).cumsum(2).transpose(2, 3)  # (fox, B, H, L)
                more = c[..., -rows:, None] - c[..., None, :]
                bias = bias.expand(R, B, -1, -1, -1).index_add(0, at, more)
            if torch.is_grad_enabled():
                out = (q @ k.transpose(-1, -2) / math.sqrt(s.head_dim) + bias).softmax(-1) @ v
            else:
                out = self._attend(q, k, v, bias)
            x = x[:, :, -rows:] + self._mm(out.transpose(2, 3).flatten(3), W[f"{i}.out"])
            a, b = self._mm(self._norm(x, W[f"{i}.norm2"]), W[f"{i}.up"]).chunk(2, -1)
            x = x + self._mm(torch.nn.functional.silu(a) * b, W[f"{i}.down"])
        return self._mm(self._norm(x, W["norm"]), W["embedding"].transpose(1, 2))

    @staticmethod
    def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        """Attention by kernels that hold no scores."""
        if q.device.type != "cpu" and bias.shape[1] == 1:
            return as_heads(q, k, v, bias)
        return torch.stack([attend(*each) for each in zip(q, k, v, bias, strict=True)])

    @staticmethod
    def _norm(x: Tensor, gain: Tensor) -> Tensor:
        return torch.nn.functional.rms_norm(x, x.shape[-1:], eps=1e-6) * gain[:, None, None]

    @staticmethod
    def _mm(x: Tensor, weight: Tensor) -> Tensor:
        R = x.shape[0]
        return (x.reshape(R, -1, x.shape[-1]) @ weight).view(*x.shape[:-1], weight.shape[-1])

    @staticmethod
    def _turn(x: Tensor, angle: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        a, b = x[..., :half], x[..., half:]
        cos, sin = angle.cos(), angle.sin()
        return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)
