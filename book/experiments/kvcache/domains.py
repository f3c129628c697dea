"""Caches at home and away: kinds of text, languages and texts that copy, several windows of each.

    python -m book.experiments.kvcache.domain_texts          once: the windows
    python -m book.experiments.kvcache.domains --part fixed   peers and ladders for all layers
    python -m book.experiments.kvcache.domains --part layers  ladders by layer, measured first
    python -m book.experiments.kvcache.domains --join FILES   into the book

A GPU takes minutes, a processor days.  Each part writes its file after every measurement, and goes
on where it stopped.  Measured as in `quality`: the model reads 1,540 tokens of a window in full
precision, each cache takes these keys and values as a prompt, and 508 tokens follow in steps of
128.  Stored are, for each window, the rise of the loss and the divergence from full precision.

Ladders by layer.  Costs are measured with `layer_costs`, float32, on a text with random pairs of
its tokens in front that come again at the end (`recall_probe`), and with the maps that
`measure_balance` finds on the same texts.  *home*: the two calibration texts of `quality`, prose
and code.  *broad*: these and a window of French, Russian and Chinese messages.  *prose and code*:
the ladders of kv_layers.json, chosen without recall and without maps.  *own maps*: home's ladders,
with maps that are measured on the prompt itself.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import DynamicCache

from book.experiments.common.main import parser
from book.experiments.common.places import RESULTS
from book.experiments.common.store import read, sha256
from book.experiments.kvcache import quality
from book.experiments.kvcache.designs import (
    BUDGETS,
    LAYERS,
    STEP,
    Design,
    kivi,
    llama_config,
    quantized,
    staircase,
)
from book.experiments.kvcache.domain_texts import HOME, RECALL
from book.experiments.kvcache.domain_texts import TARGET as WINDOWS
from genopt_core.files import write_json
from genopt_core.torch.kvcache import Balance, choose_ladders, measure_balance
from genopt_core.torch.kvcache.attention import register
from genopt_core.torch.kvcache.calibration import DECODED, divergence, layer_costs
from genopt_core.torch.kvcache.choice import LADDERS
from genopt_core.torch.kvcache.recall import KEY, VALUE, recall_probe

TARGET = RESULTS / "kv_domains.json"
BATCH = 24
"""Windows at once."""
PAIRS = DECODED // 2 // (KEY + VALUE)
"""As `calibrate_ladders` asks for."""
OWN = (*HOME, *RECALL, "Moby-Dick", "messages, German", "messages, Chinese", "JavaScript")
"""Kinds on which maps of the prompt itself are measured."""
LONG, FLAT = (16, 4, 4, 4, 4, 3, 3, 2), (16, 4)


class Texts:
    """Windows by kind, the exact keys and values of their prompts and what is predicted exactly."""

    def __init__(self, path: Path, device: str, quick: bool):
        stored = np.load(path)
        self.device, self.hashes = device, {n: sha256(stored[n].tobytes())[:16] for n in stored}
        self.calibration = torch.from_numpy(stored["calibration"].astype(np.int64)).to(device)
        rows = {n: stored[n].astype(np.int64) for n in stored if n != "calibration"}
        if quick:
            rows = {n: x[:1, :900] for n, x in rows.items() if n in (RECALL[0], "Moby-Dick")}
            self.calibration = self.calibration[:, :1408]
        self.ids = {n: torch.from_numpy(x).to(device) for n, x in rows.items()}

    def batches(self) -> Iterator[tuple[list[tuple[str, int]], torch.Tensor]]:
        """Kinds with their number of windows, and the windows; the most telling first."""
        names, count = [], 0
        for name, rows in self.ids.items():
            if names and count + len(rows) > BATCH:
                yield names, torch.cat([self.ids[n] for n, _ in names])
                names, count = [], 0
            names.append((name, len(rows)))
            count += len(rows)
        yield names, torch.cat([self.ids[n] for n, _ in names])


@torch.no_grad()
def exact_prompt(model: Any, ids: torch.Tensor) -> tuple[list, torch.Tensor]:
    """Keys and values of the prompt, and the last hidden states of what follows."""
    cache, last = DynamicCache(config=model.config), ids.shape[1] - 1 - DECODED
    model.set_attn_implementation("sdpa")
    for part in ids[:, :last].split(512, dim=1):
        model.model(part, past_key_values=cache)
    prompt = [(layer.keys, layer.values) for layer in cache.layers]
    hidden = []
    for part in ids[:, last:-1].split(STEP, dim=1):
        hidden.append(model.model(part, past_key_values=cache).last_hidden_state)
    return prompt, torch.cat(hidden, 1)


def losses(logs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Negative log likelihoods, ``(windows, tokens)``."""
    return -logs.gather(-1, target[..., None])[..., 0].double()


@torch.no_grad()
def measure(
    model: Any, make: Callable[[Any], Any], ids: torch.Tensor, prompt: list, exact: torch.Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Mean rise of the loss, and mean divergence, of each window."""
    cache = make(model.config)
    packed = hasattr(cache, "stair_layers")
    model.set_attn_implementation(register() if packed else "sdpa")
    for i, (keys, values) in enumerate(prompt):
        cache.update(keys.clone(), values.clone(), i)
    last, rise, kl = ids.shape[1] - 1 - DECODED, 0.0, 0.0
    steps = ids[:, last:-1].split(STEP, dim=1)
    at = 0
    for part in steps:
        hidden = model.model(part, past_key_values=cache, use_cache=True).last_hidden_state
        target = ids[:, last + at + 1 : last + at + 1 + part.shape[1]]
        for rows in torch.arange(len(ids), device=ids.device).split(8):
            p = model.lm_head(exact[rows, at : at + part.shape[1]]).log_softmax(-1)
            q = model.lm_head(hidden[rows]).log_softmax(-1)
            more = losses(q, target[rows]) - losses(p, target[rows])
            found = torch.zeros(2, len(ids), dtype=torch.float64, device=ids.device)
            found[0, rows], found[1, rows] = more.sum(1), divergence(p, q).sum(1)
            rise, kl = rise + found[0], kl + found[1]
        at += part.shape[1]
    return tuple((x / at).cpu().numpy() for x in (rise, kl))


# ------------------------------------------------------------------ designs


def fixed(home: Balance) -> list[Design]:
    """Peers, and one ladder for all layers."""
    balanced = {"balance": home}

    def grid(ladder: tuple[int, ...], group: int) -> Design:
        name = f"min-max {'/'.join(map(str, ladder))} G{group}, 4 sinks"
        return staircase(name, "min-max", ladder, codec="grid", group_size=group)

    return [
        staircase("SAQ+ 16/4, balanced", "SAQ+", FLAT, **balanced),
        kivi(4, 64),
        quantized("hqq", 4),
        grid((16, 4), 64),
        staircase("SAQ+ 16/4/4/4/4/3/3/2", "SAQ+", LONG),
        staircase("SAQ+ 16/4", "SAQ+", FLAT),
        quantized("quanto", 4),
        kivi(4, 32),
        grid((16, 4), 32),
        kivi(2, 32),
        grid((16, 2), 32),
        grid((16, 3), 64),
        staircase("SAQ+ 16/4/4/4/4/3/3/2, balanced", "SAQ+", LONG, **balanced),
        staircase("SAQ+ 16/4/4/4/4/3, balanced", "SAQ+", (16, 4, 4, 4, 4, 3), **balanced),
        staircase("SAQ+ 16/8, balanced", "SAQ+", (16, 8), **balanced),
    ]


def by_layer(name: str, pair: Any, balance: Balance | None) -> Design:
    """A design with ladders by layer."""
    options = {} if balance is None else {"balance": balance}
    return staircase(name, "SAQ+", *(list(map(tuple, side)) for side in pair), **options)


def older(budget: float) -> Any:
    """Ladders of kv_layers.json."""
    sides = read(LAYERS)["chosen"][str(budget)]
    return [[tuple(map(int, x.split("/"))) for x in sides[side]] for side in ("keys", "values")]


# ------------------------------------------------------------------ a run


def resumed(path: Path, fresh: dict[str, Any]) -> dict[str, Any]:
    """What lies at ``path``, if it is of the same machine, versions and windows; else ``fresh``."""
    if not path.is_file():
        return fresh
    found = read(path)
    ours, theirs = fresh["provenance"], found["provenance"]
    other = sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
    if other:
        raise SystemExit(
            f"--target must be a file of this machine, these versions and windows, got {path.name} "
            f"with another {', '.join(other)}: move it away, or name another file"
        )
    return found


class Run:
    """Results in a file, and what is needed to add to them."""

    def __init__(self, options: argparse.Namespace):
        self.target, self.quick, device = Path(options.target), options.quick, options.device
        torch.backends.cuda.matmul.allow_tf32 = False
        if device == "cuda":
            without_compiler()
        _, self.model = quality.load()
        self.model = self.model.to(device)
        self.texts = Texts(options.windows, device, options.quick)
        gpu = torch.cuda.get_device_name() if device == "cuda" else platform.processor()
        fresh = {
            "schema": "kv-domains/1",
            "provenance": {
                "script": "book/experiments/kvcache/domains.py",
                "machine": gpu,
                "model": quality.MODEL,
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "windows": self.texts.hashes,
                "decoded": DECODED,
            },
            "ladders": [list(x) for x in LADDERS],
            "costs": {},
            "chosen": {},
            "seconds": {},
            "designs": {},
            "rows": {},
        }
        self.result = resumed(self.target, fresh)
        self.prompts: list[tuple] = []
        self.started = time.time()

    def write(self) -> None:
        write_json(self.target, self.result)

    def balance(self, name: str, rows: torch.Tensor) -> Balance:
        """Maps from some texts, which go into the result as a digest."""
        self.model.set_attn_implementation("sdpa")
        begun = time.time()
        found = measure_balance(self.model, rows)
        self.result["seconds"][f"maps, {name}"] = round(time.time() - begun, 1)
        return found

    def costs(self, name: str, rows: torch.Tensor, balance: Balance) -> np.ndarray:
        """What ladders cost each layer on texts, as (layers, 2, ladders), stored."""
        held = self.result["costs"]
        if name not in held:
            begun = time.time()
            self.model.set_attn_implementation("sdpa")
            probe = recall_probe(rows, PAIRS)
            layers = range(2) if self.quick else None
            some = list(layer_costs(self.model, probe, LADDERS, balance=balance, layers=layers))
            some += [some[-1]] * (self.model.config.num_hidden_layers - len(some))
            held[name] = [[[float(f"{c:.4g}") for c in side] for side in row] for row in some]
            self.result["seconds"][f"costs, {name}"] = round(time.time() - begun, 1)
            self.write()
        return np.array(held[name])

    def choose(self, name: str, costs: np.ndarray, budget: float) -> Any:
        """Ladders for a budget, stored."""
        pair = choose_ladders(self.model.config, costs, budget, LADDERS)
        stored = self.result["chosen"].setdefault(name, {})
        stored[str(budget)] = [["/".join(map(str, x)) for x in side] for side in pair]
        return pair

    def score(self, design: Design) -> None:
        """A design on all windows."""
        if not self.prompts:
            for names, ids in self.texts.batches():
                self.prompts.append((names, ids, *exact_prompt(self.model, ids)))
        about = self.result["designs"].setdefault(design.name, {"family": design.family})
        length = quality.DECODED + 1540
        about["limit bits"], about["held bits"] = design.limit, quality.mean_held(design, length)
        for names, ids, prompt, exact in self.prompts:
            rows = self.result["rows"]
            if all(design.name in rows.get(name, {}) for name, _ in names):
                continue
            try:
                rise, kl = measure(self.model, design.make, ids, prompt, exact)
            except (RuntimeError, ImportError, ValueError) as error:  # a peer's own failure
                about["failed"] = str(error)[:300]
                print("FAILED", design.name, error, flush=True)
                self.write()
                return
            self.put(design.name, names, rise, kl)
        about.pop("failed", None)  # of an earlier try
        print(f"{time.time() - self.started:6.0f} s  {design.name}", flush=True)
        self.write()

    def put(self, design: str, names: list, rise: np.ndarray, kl: np.ndarray) -> None:
        """Rows of a batch, by kind."""
        at = 0
        for name, count in names:
            part = slice(at, at + count)
            self.result["rows"].setdefault(name, {})[design] = {
                "rise": [float(f"{x:.6g}") for x in rise[part]],
                "kl": [float(f"{x:.6g}") for x in kl[part]],
            }
            at += count

    def score_own(self, name: str, pair: Any) -> None:
        """Ladders by layer with maps that each window's own prompt gave."""
        about = None
        for kind in OWN:
            if kind not in self.texts.ids or name in self.result["rows"].get(kind, {}):
                continue
            found = []
            for row in self.texts.ids[kind]:
                ids = row[None]
                own = self.balance("own prompt", ids[:, : ids.shape[1] - 1 - DECODED])
                design = by_layer(name, pair, own)
                about = {"family": "SAQ+", "limit bits": design.limit}
                prompt, exact = exact_prompt(self.model, ids)
                found.append(measure(self.model, design.make, ids, prompt, exact))
            rise, kl = (np.concatenate([x[i] for x in found]) for i in (0, 1))
            self.put(name, [(kind, len(rise))], rise, kl)
            self.result["designs"][name] = about
            print(f"{time.time() - self.started:6.0f} s  {name}, {kind}", flush=True)
            self.write()


def without_compiler() -> None:
    """Quanto builds a kernel of its own for a GPU; its Python code unpacks the same numbers."""
    try:
        from optimum.quanto.library.unpack import unpack
        from optimum.quanto.tensor.packed import PackedTensor
    except ImportError:
        return
    PackedTensor.unpack = lambda self: unpack(self._data, self._bits)[: self.shape[0]]


def run_fixed(run: Run) -> None:
    home = run.balance("home", run.texts.calibration[:2, :1536])
    for design in fixed(home)[: 5 if run.quick else None]:
        run.score(design)


def run_layers(run: Run) -> None:
    texts = run.texts.calibration
    home = run.balance("home", texts[:2, :1536])
    each = {name: texts[i : i + 1] for i, name in enumerate(("prose", "code"))}
    costs = np.mean([run.costs(name, rows, home) for name, rows in each.items()], axis=0)
    pairs = {budget: run.choose("home", costs, budget) for budget in BUDGETS}
    for budget in (2.85, 2.35, 4.3):
        run.score(by_layer(f"SAQ+ by layer, home, {budget} bits", pairs[budget], home))
    for budget in (2.85, 2.35):
        name = f"SAQ+ by layer, prose and code, {budget} bits, balanced"
        run.score(by_layer(name, older(budget), home))
    if run.quick:
        run.score_own("SAQ+ by layer, own maps, 2.85 bits", pairs[2.85])
        return
    broad = run.balance("broad", texts[:, :1536])
    costs = run.costs("broad", texts, broad)
    wide = {budget: run.choose("broad", costs, budget) for budget in BUDGETS}
    for budget in (2.85, 2.35, 4.3):
        run.score(by_layer(f"SAQ+ by layer, broad, {budget} bits", wide[budget], broad))
    for budget in (3.35, 5.0):
        run.score(by_layer(f"SAQ+ by layer, home, {budget} bits", pairs[budget], home))
    run.score(by_layer("SAQ+ by layer, prose and code, 2.85 bits", older(2.85), None))
    for budget in (2.85, 2.35):
        run.score_own(f"SAQ+ by layer, own maps, {budget} bits", pairs[budget])
    for budget in (3.35, 5.0):
        run.score(by_layer(f"SAQ+ by layer, broad, {budget} bits", wide[budget], broad))
    run.score(by_layer("SAQ+ by layer, prose and code, 2.35 bits", older(2.35), None))


def join(paths: list[str]) -> None:
    """Parts into the book's file."""
    first, *others = (read(Path(path)) for path in paths)
    for other in others:
        if other["provenance"] != first["provenance"]:
            raise SystemExit("parts must be of one machine and the same windows")
        for name in ("costs", "chosen", "seconds", "designs"):
            first[name] |= other[name]
        for kind, rows in other["rows"].items():
            first["rows"].setdefault(kind, {}).update(rows)
    if {"prose", "code"} <= first["costs"].keys():  # a run may have been cut off before
        first["chosen"]["home"] = {str(b): chosen(home_costs(first), b) for b in BUDGETS}
    write_json(TARGET, first, indent=1)


def home_costs(result: dict) -> np.ndarray:
    """Costs of prose and code, mean, (layers, 2, ladders)."""
    return np.mean([result["costs"][name] for name in ("prose", "code")], axis=0)


def chosen(costs: np.ndarray, budget: float) -> list[list[str]]:
    """Ladders of keys and of values for a budget, as they are stored."""
    pair = choose_ladders(llama_config(len(costs)), costs, budget, LADDERS)
    return [["/".join(map(str, x)) for x in side] for side in pair]


def main() -> None:
    arguments = parser(__doc__, "quick")
    arguments.add_argument("--part", choices=("fixed", "layers"))
    arguments.add_argument("--windows", default=WINDOWS)
    arguments.add_argument("--target", default=None)
    arguments.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments.add_argument("--join", nargs="+", metavar="FILE")
    options = arguments.parse_args()
    if options.join:
        join(options.join)
        return
    if options.part is None:
        arguments.error("--part must be fixed or layers, unless files are joined")
    if options.target is None:
        kind = "quick-" if options.quick else ""
        options.target = quality.SCRATCH / f"{kind}domains-{options.part}.json"
        if options.quick:
            options.target.unlink(missing_ok=True)
    {"fixed": run_fixed, "layers": run_layers}[options.part](Run(options))


if __name__ == "__main__":
    main()
