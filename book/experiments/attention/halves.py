"""Perplexity with half of the blocks on many windows, and a plan chosen for it.

    python -m book.experiments.attention.halves --tokens PATH --make       token ids of the texts
    python -m book.experiments.attention.halves --tokens PATH --device cuda --seconds 480 --out PATH
    python -m book.experiments.attention.halves --quick                    little, on a CPU

A window of 4,096 tokens says its rise of perplexity to 0.2 per cent, as much as what is compared;
here each of six texts has up to eight, so that their mean says it to 0.1.

First a pilot, on one of two windows of the calibration text for each layer: it alone attends to 8,
18 or 32 blocks a row beside its own, and the divergence of the next token's distribution says how
much that layer needs; from this blocks are divided among the layers, half of all in the mean.  Then
the candidates are compared there by divergence, and the best, all of one cost, is scored on the
other texts beside the selections of `perplexity.py`.
"""

from __future__ import annotations

import inspect
import math
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from book.experiments.attention import heads as source
from book.experiments.attention.designs import (
    BLOCK,
    SHARED,
    Compared,
    by_contents,
    density_of,
    designs,
)
from book.experiments.attention.perplexity import HALF, row, stored_law
from book.experiments.attention.whole_model import (
    Drawing,
    attention_of,
    weighted_attention,
    weights,
)
from book.experiments.common.main import parsed_with_out, parser
from book.experiments.common.places import RESULTS
from book.experiments.common.store import credit, read, rounded, write_json
from genopt_core import corpora
from genopt_core.attention.blocks import divide_among_layers
from genopt_core.files import whole_file
from genopt_core.torch.smollm import load_smollm, load_tokenizer

TARGET = RESULTS / "attention_halves.json"
WINDOWS, PILOTS = 8, 2
STEPS = (8, 18, 32)
"""Blocks a row beside its own, in the pilot."""
LEAST, MOST = 4, 48
OURS = "recommended"
PEERS = ("window + sink", "radial + sink", "BigBird-style", "vAttention-style uniform")
SMALL = 32
PACKAGES = ("genopt-core", "numpy", "torch", "transformers")
COLUMNS = ("text", "window", "design", "density", "nll", "more", "more se", "kl", "kl se")
CHARACTERS = 5 * source.LENGTH * WINDOWS


def texts() -> dict[str, str]:
    """Those of `perplexity.py`, longer but for the one that ends, the calibration text first."""
    sotu, moby = corpora.load("sotu"), corpora.load("moby-dick")
    middle, late = int(0.42 * len(sotu)), int(0.75 * len(sotu))
    code = inspect.getsource(transformers.cache_utils)
    module = inspect.getsource(torch.nn.modules.module)
    return {
        source.CALIBRATION: sotu[middle : middle + CHARACTERS],
        "moby-dick": moby[600_000 : 600_000 + CHARACTERS],
        "moby-dick, end": moby[1_000_000 : 1_000_000 + CHARACTERS],
        "sotu 21st century": source.texts()["sotu 21st century"],
        "sotu 20th century": sotu[late : late + CHARACTERS],
        f"code (transformers {transformers.__version__} cache_utils)": code[20_000:],
        f"code (torch {torch.__version__.split('+')[0]} nn.Module)": module[20_000:],
    }


def tokens(path: Path | None) -> dict[str, Tensor]:
    """The token ids of the texts, from a file or made here."""
    if path is not None and path.is_file():
        found = np.load(path)
        return {name: torch.from_numpy(found[name].astype(np.int64)) for name in found}
    tokenizer, most = load_tokenizer(), source.LENGTH * WINDOWS
    made = {n: tokenizer(t, return_tensors="pt").input_ids[0, :most] for n, t in texts().items()}
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            np.savez_compressed(file, **{n: x.numpy().astype(np.uint16) for n, x in made.items()})
    return made


class Layered:
    """A selection with a number of blocks for each layer; None there is full attention."""

    def __init__(self, compared: Compared, kept: list[int | None], seed: int) -> None:
        self.compared, self.kept = compared, kept
        self.generator = torch.Generator().manual_seed(seed)
        self.densities: list[float] = []

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        kept = self.kept[layer]
        if kept is None:
            k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
            return scaled_dot_product_attention(q, k, v, is_causal=True)
        plan = self.compared.draw(q, k, kept, self.generator)
        self.densities.append(plan.density)
        w = weights(plan, self.compared.estimator == "plain")
        return weighted_attention(q, k, v, w, self.compared.estimator == "difference")


class Candidate(NamedTuple):
    """A selection, whether its blocks are divided among layers, and how many tokens each has."""

    compared: Compared
    by_layer: bool = False
    block: int = BLOCK


def candidates() -> dict[str, Candidate]:
    """Selections of one cost."""

    def made(by_layer: bool, **options: Any) -> Candidate:
        compared = Compared(by_contents(**options), "difference", "ours")
        return Candidate(compared, by_layer, options.get("block", BLOCK))

    small: dict[str, Any] = {"block": SMALL, "probes": 2, "share": "heads"}
    top: dict[str, Any] = {"choose": "top", "mix": 0.0}
    return {
        OURS: made(False),
        SHARED: made(False, share="heads"),
        "largest kept, others filled": made(False, **top),
        "largest kept of all heads, others filled": made(False, share="heads", **top),
        "shared by heads and layers": made(True, share="heads"),
        "largest kept of heads and layers, others filled": made(True, share="heads", **top),
        "shared by heads, blocks of 32": made(False, **small),
        "largest kept of all heads, others filled, blocks of 32": made(False, **small, **top),
        "shared by heads and layers, blocks of 32": made(True, **small),
        "largest kept of heads and layers, others filled, blocks of 32": made(True, **small, **top),
    }


def small_count(kept: int, length: int) -> int:
    """As many blocks of `SMALL` tokens as do not keep more than ``kept`` of `BLOCK`."""
    most = density_of(length, kept)
    return max(k for k in range(kept, 2 * kept + 2) if density_of(length, k, SMALL) <= most)


class Run:
    """The model, the texts and what is known so far."""

    def __init__(self, options: Any) -> None:
        self.options, self.start = options, time.monotonic()
        self.length = 512 if options.quick else source.LENGTH
        self.ids = tokens(options.tokens)
        _, model = load_smollm()
        self.model = model.to(options.device)
        self.layers = len(model.model.layers)
        self.content: dict[str, Any] = (
            read(options.out)
            if options.out.is_file()
            else {"pilot": {}, "calibration": [], "rows": []}
        )
        self.spent = self.content.get("seconds", 0)
        self.exact: dict[tuple[str, int], Tensor] = {}

    @property
    def late(self) -> bool:
        return time.monotonic() - self.start > self.options.seconds

    def store(self) -> None:
        gpu = self.options.device == "cuda"
        self.content.update(
            {
                "model": source.MODEL,
                "tokens": self.length,
                "kept": HALF,
                "density": rounded(density_of(self.length, HALF), 4),
                "steps": list(STEPS),
                "columns": list(COLUMNS),
                "seconds": round(self.spent + time.monotonic() - self.start),
            }
        )
        device = torch.cuda.get_device_name() if gpu else "CPU"
        credit(self.content, ("pilot", "calibration", "rows"), device, PACKAGES)
        write_json(self.options.out, self.content)

    def window(self, text: str, window: int) -> Tensor:
        part = self.ids[text][window * self.length : (window + 1) * self.length]
        return part.to(self.options.device)

    def windows(self, text: str) -> int:
        return len(self.ids[text]) // self.length

    @torch.no_grad()
    def log_probabilities(self, ids: Tensor) -> Tensor:
        hidden = self.model.model(ids[None], use_cache=False).last_hidden_state[0]
        return self.model.lm_head(hidden).log_softmax(-1)

    def full(self, text: str, window: int) -> Tensor:
        """Kept for the window at hand, and for the pilot's."""
        if (text, window) not in self.exact:
            if text != source.CALIBRATION:
                self.exact.clear()
            self.exact[text, window] = self.log_probabilities(self.window(text, window))
        return self.exact[text, window]

    def measured(self, text: str, window: int, attend: Any) -> dict[str, float]:
        ids, exact = self.window(text, window), self.full(text, window)
        with attention_of(self.model, attend):
            found = self.log_probabilities(ids)
        numbers = row(exact, found, ids)
        return numbers | {"density": float(np.mean(attend.densities))}

    def attend(self, candidate: Candidate, seed: int) -> Layered:
        kept: list[int] = self.content["layers"] if candidate.by_layer else [HALF] * self.layers
        if candidate.block == SMALL:
            kept = [small_count(k, self.length) for k in kept]
        return Layered(candidate.compared, list(kept), seed)

    # ------------------------------------------------------------------ the calibration text

    def pilot(self) -> bool:
        """Divergence with one layer in blocks; whether all of it is there."""
        how = Compared(by_contents(share="heads"), "difference", "ours")
        found = self.content["pilot"]
        for layer in range(self.layers):
            if str(layer) in found:
                continue
            if self.late:
                return False
            if self.options.quick and layer > 1:
                found[str(layer)] = found[str(layer % 2)]
                continue
            line = []
            for kept in STEPS:
                attend = Layered(how, [None] * self.layers, 1000 * layer + kept)
                attend.kept[layer] = kept
                line.append(self.measured(source.CALIBRATION, layer % 2, attend)["kl"])
            found[str(layer)] = [rounded(x, 4) for x in line]
            self.store()
        self.content["layers"] = divide_among_layers(
            [found[str(n)] for n in range(self.layers)],
            STEPS,
            -(-self.length // BLOCK),
            HALF,
            least=LEAST,
            most=MOST,
        )
        self.store()
        print(f"pilot: {time.monotonic() - self.start:.0f} s, {self.content['layers']}", flush=True)
        return True

    def choose(self) -> bool:
        """The candidate of the smallest divergence; whether all were measured."""
        done = {(r[0], r[1]) for r in self.content["calibration"]}
        for window in range(1 if self.options.quick else PILOTS):
            for name, candidate in candidates().items():
                if (name, window) in done:
                    continue
                if self.late:
                    return False
                attend = self.attend(candidate, 77 + window)
                found = self.measured(source.CALIBRATION, window, attend)
                keep = [rounded(found[c], 5) for c in ("density", "more", "more se", "kl", "kl se")]
                self.content["calibration"].append([name, window, *keep])
                print(name, window, keep, f"{time.monotonic() - self.start:.0f} s", flush=True)
            self.store()
        means = {
            name: statistics.fmean(
                r[5] for r in self.content["calibration"] if r[0] == name and r[1] < PILOTS
            )
            for name in candidates()
        }
        self.content["chosen"] = min(means, key=lambda name: means[name])
        self.exact.clear()
        self.store()
        print(f"chosen: {self.content['chosen']}", flush=True)
        return True

    # ------------------------------------------------------------------ the others

    def score(self) -> None:
        known = designs(stored_law())
        every = {self.content["chosen"]: Candidate(known[OURS])}
        every |= {name: Candidate(known[name]) for name in (PEERS[0], PEERS[1])}
        every |= {name: candidates()[name] for name in (OURS, SHARED, self.content["chosen"])}
        every |= {name: Candidate(known[name]) for name in PEERS[2:]}
        if self.options.only:
            every = {self.content["chosen"]: every[self.content["chosen"]]}
        rows = self.content["rows"]
        done = {tuple(r[:3]) for r in rows}
        for window in range(self.options.windows):
            others = [t for t in self.ids if t != source.CALIBRATION]
            for text in [t for t in others if t.startswith(self.options.texts)]:
                if window >= self.windows(text):
                    continue
                for name, candidate in every.items():
                    if (text, window, name) in done:
                        continue
                    if self.late:
                        self.store()
                        return
                    seed = 10_000 * window + 100 * HALF + sum(map(ord, name)) % 97
                    attend: Any = self.attend(candidate, seed)
                    if candidate.compared.family == "data-independent":
                        attend = Drawing(candidate.compared, HALF, seed)
                    found = self.measured(text, window, attend)
                    keep = [rounded(found[c], 5) for c in COLUMNS[3:]]
                    rows.append([text, window, name, *keep])
                    if self.options.quick:
                        print(rows[-1], flush=True)
                if self.options.quick:
                    return
                self.store()
            for name in {r[2] for r in rows}:
                rise = [100 * math.expm1(r[5]) for r in rows if r[2] == name]
                kl = statistics.fmean(r[7] for r in rows if r[2] == name)
                print(f"{name}: {statistics.fmean(rise):.2f} %, {kl:.4f}", flush=True)
            print(f"window {window}: {time.monotonic() - self.start:.0f} s", flush=True)


def main() -> None:
    arguments = parser(__doc__, "quick")
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--seconds", type=float, default=1e9)
    arguments.add_argument("--tokens", type=Path, help="token ids by text, instead of the texts")
    arguments.add_argument("--windows", type=int, default=WINDOWS, help="of each text")
    arguments.add_argument("--texts", default="", help="how their names begin")
    arguments.add_argument("--only", action="store_true", help="the chosen plan, no other")
    arguments.add_argument("--make", action="store_true", help="only write them there")
    options = parsed_with_out(arguments, TARGET)
    if options.make:
        print({name: len(ids) for name, ids in tokens(options.tokens).items()})
        return
    run = Run(options)
    if run.pilot() and run.choose():
        run.score()
    if not options.quick:
        run.store()


if __name__ == "__main__":
    main()
