"""Whether the stored results come out again: a sample of them in minutes, or all experiments.

    python -m book.experiments.site.bench --quick           a sample, at most ten minutes
    python -m book.experiments.site.bench --quick --only 2,5
    python -m book.experiments.site.bench                   everything, goes on where it was cut off
    python -m book.experiments.site.bench --list            what that is

``--quick`` measures a few stored numbers of every chapter again and prints them side by side; it
writes nothing, and ends with 1 if one of them does not agree.  What is determined must agree to the
tolerance that is shown, as the last digits depend on the processor; a ratio of times must lie
within the stored spread widened by a third, as machines differ.  What is not installed is skipped
with its reason.

Without ``--quick`` the experiments run one after the other; each goes on where it was cut off and
writes into book/data/results, so that ``git diff`` shows what came out otherwise.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from typing import NamedTuple

from tqdm import tqdm

from book.experiments.common.main import parser, selected
from book.experiments.common.places import RESULTS, ROOT, SCRATCH
from book.experiments.common.store import read, write_json

WIDER = 4 / 3  # than the stored spread of a ratio of times
DONE = SCRATCH / "bench.json"


class Row(NamedTuple):
    """A stored number, the same measured now, and how far apart they may be."""

    what: str
    stored: float
    now: float
    tolerance: float = 0.0  # a share of the stored number
    spread: tuple[float, float] | None = None  # of a ratio of times

    @property
    def agrees(self) -> bool:
        if self.spread:
            return self.spread[0] / WIDER <= self.now <= self.spread[1] * WIDER
        return abs(self.now - self.stored) <= self.tolerance * abs(self.stored)

    @property
    def allowed(self) -> str:
        if self.spread:
            return f"{self.spread[0] / WIDER:.3g} to {self.spread[1] * WIDER:.3g}"
        return f"± {100 * self.tolerance:g} %" if self.tolerance else "equal"


# ------------------------------------------------------------------ a sample of each chapter


def words() -> Iterator[Row]:
    """Chapter 1: a vocabulary of ours and one of a peer on Moby-Dick, 4,000 sub-words."""
    from book.experiments.subwords import corpora, peers
    from genopt_core import tables

    moby = corpora.load("moby-dick")
    rows = {
        row["contestant"]: row
        for row in tables.records(read(RESULTS / "subwords_quality.json"))
        if (row["corpus"], row["size"]) == ("moby-dick", 4000)
    }
    for name, tolerance in (("ours_fast", 1e-5), ("hf_bpe", 2e-3)):
        if reason := peers.method(name).missing:
            raise ImportError(f"{name}: {reason}")
        found = peers.score(peers.train(name, moby, 4000), moby)
        for column in ("train_tokens", "held_bits_per_byte"):
            yield Row(f"{name}, {column}", rows[name][column], found[column], tolerance)


def search() -> Iterator[Row]:
    """Chapter 2: regrets after 120 evaluations, and a front that is missing."""
    from book.experiments.cross_entropy import collect, objectives, race

    content = read(RESULTS / "cross_entropy.json")
    rows = {(row[0], row[1]): row for row in content["rows"]}
    at = race.BUDGETS.index(120)
    for method, problem in (("random", "rugged"), ("plain", "network"), ("plus", "rugged")):
        row = rows[method, problem]
        found = race.one(method, problem, row[2][0], 120)["regret"][at]
        stored = content["unit"] * row[5][0]
        now = content["unit"] * collect.whole(found)
        yield Row(f"{method} on {problem}, regret at 120", stored, now)
    several = read(RESULTS / "cross_entropy_objectives.json")["rows"]
    row = next(row for row in several if row[:3] == ["ZDT2", "nsga2", 3])
    yield Row("nsga2 on ZDT2, missing volume", row[4], objectives.one(*row[:3])[4])


def positions() -> Iterator[Row]:
    """Chapter 3: losses of stored decoders, and the time that a bias takes."""
    from safetensors.torch import load_file

    from book.experiments.positions import speed, store
    from book.experiments.positions.language import STAGES, WINDOWS, scored, tokens_of
    from book.experiments.positions.models import Decoders

    weights = load_file(store.WEIGHTS)
    kept = list(dict.fromkeys(key.partition("/")[0] for key in weights))
    held = tokens_of("sotu", 256, store.SCRATCH)
    held = held[int(0.95 * len(held)) :]
    stored = {
        row[2]: row[5]
        for row in read(RESULTS / "positions_final.json")["rows"]
        if (row[0], row[1], row[3], row[4]) == ("sotu", 64, 0, 4)
    }
    for name in [name for name in kept if name in stored][:1]:
        models = Decoders([name], [0], STAGES["final"]["shape"], 64)
        for key, w in models.weights.items():
            w.data.copy_(weights[f"{name}/{key}"][None])
        ((nats,),) = scored(models, held, 4, WINDOWS)
        yield Row(f"{name}, loss at 4 times the length", stored[name], float(nats), 1e-3)
    name = "RoPE + harmonic slopes"
    now = next(
        row
        for row in speed.kernels(1024, 4, False)
        if (row["what"], row["name"]) == ("with gradients", name)
    )
    old = next(
        row
        for row in read(speed.TARGET)["kernels"]
        if (row["tokens"], row["what"], row["flushed"], row["name"])
        == (1024, "with gradients", False, name)
    )
    middle, low, high = old["ratio"]
    what = f"{name}, time over an additive mask"
    yield Row(what, middle, now["ratio"][0], spread=(low, high))


def attention() -> Iterator[Row]:
    """Chapter 4: errors on one layer of SmolLM2, and the time of a quarter of the blocks."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    from book.experiments.attention import heads, quality, speed
    from book.experiments.attention.designs import designs
    from genopt_core.attention.blocks import DistanceLaw

    stored = read(quality.TARGET)
    layer = stored["layers"][2]
    recorded = heads.real_heads("moby-dick")[layer]
    q, k, v = (t.float()[None] for t in recorded)
    q = q[:, quality.HEADS]
    data = {
        layer: (q, k, v, scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True))
    }
    compared = designs(DistanceLaw.harmonic())
    for name in ("recommended", "window + sink", "largest kept, oracle"):
        _, _, (now,) = quality.measure(compared[name], data, 7)
        old = stored["texts"]["moby-dick"]["by layer"][name][1][2]
        yield Row(f"{name}, error at 23 %, layer {layer}", old, now, 5e-3)
    torch.set_num_threads(1)
    rows = read(speed.TARGET)["one thread"]
    old = next(row for row in rows if (row["tokens"], row["plan"]) == (4096, "23%, 0 sinks"))
    x, g = speed.inputs(4096)
    plan = speed.plan_near(4096, old["density"], old["block"], 0)
    calls = {
        "dense": speed.both_ways(speed.dense, x, g),
        "plan": speed.both_ways(speed.attend(plan), x, g),
    }
    least = speed.fastest(calls, 3, time.thread_time)
    ratio = old["dense both ms"] / old["both ms"]
    now = least["dense"] / least["plan"]
    yield Row("a quarter of the blocks, times as fast", ratio, now, spread=(ratio, ratio))


def kvcache() -> Iterator[Row]:
    """Chapter 5: errors of caches on real keys and values."""
    from book.experiments.kvcache import sensitivity

    answers = read(RESULTS / "kv_sensitivity.json")["fixture"]
    layers = sensitivity.fixture()
    ladder = (16, 8, 4, 2)
    for codec, count in (("grid", 0), ("rotated", 4)):
        old = next(
            row for row in answers["sinks (14)"] if (row["codec"], row["sink"]) == (codec, count)
        )
        now = sensitivity.mean_error(layers, ladder, ladder, codec, sink=count)
        yield Row(f"{codec} codes, {count} sinks, error", old["error"], now, 5e-3)
    old = next(
        row
        for row in answers["equal memory (13)"]
        if (row["codec"], row["design"]) == ("rotated", "stairs 8/8/3/2")
    )
    widths = [8, 8, 3] + [2] * 10
    now = sensitivity.mean_error(layers, widths, widths, "rotated", sink=4)
    yield Row("stairs 8/8/3/2, error", old["error"], now, 5e-3)


def one_model() -> Iterator[Row]:
    """Chapter 6: a training of the base at equal tokens, from the start."""
    from book.experiments.one_model.cells import Job, do
    from genopt_core import tables

    folder = SCRATCH / "bench"
    rows = tables.records(read(RESULTS / "one_model.json"))
    for cell in ("bpe.rope.dense.default",):
        (row,) = (r for r in rows if (r["cell"], r["budget"], r["seed"]) == (cell, "tokens", 0))
        job = Job("small", cell, "tokens", 0)
        path = job.result(folder)
        path.unlink(missing_ok=True)  # so that it is trained now
        found = do(job, folder)
        yield Row(f"{cell}, last loss", row["last_loss"], found["last_loss"], 5e-3)
        now = next(s["full"] for s in found["scores"] if s["context"] == 512)
        yield Row(f"{cell}, bits a byte", row["full 512"], now, 5e-3)


CHAPTERS = {
    "1": words,
    "2": search,
    "3": positions,
    "4": attention,
    "5": kvcache,
    "6": one_model,
}


def quick(chapters: list[str]) -> int:
    """Measure the sample again and print it beside what is stored; how many rows disagree."""
    wrong, rows, skipped = 0, 0, []
    print(f"{'':2} {'what':48} {'stored':>11} {'now':>11}  {'may differ':14} agrees")
    for chapter in chapters:
        started, used = time.monotonic(), time.process_time()
        try:
            for row in CHAPTERS[chapter]():
                rows += 1
                wrong += not row.agrees
                said = "yes" if row.agrees else "NO"
                numbers = f"{row.stored:11.6g} {row.now:11.6g}"
                print(f"{chapter:2} {row.what:48} {numbers}  {row.allowed:14} {said}", flush=True)
        except (ImportError, PackageNotFoundError, FileNotFoundError) as missing:
            print(f"{chapter:2} skipped: {missing}", flush=True)
            skipped.append(chapter)
        took, used = time.monotonic() - started, time.process_time() - used
        print(f"   {took:.0f} s, {used:.0f} of a processor", flush=True)
    if skipped:
        print(f"skipped or cut off: chapter {', '.join(skipped)}")
    if not rows:
        print("nothing was measured")
        return 1
    print(f"all {rows} agree" if not wrong else f"{wrong} of {rows} do not agree")
    return wrong


# ------------------------------------------------------------------ everything

STEPS = (
    "subwords.quality",
    "subwords.quality --peer-files",
    "subwords.conventions",
    "subwords.by_file",
    "subwords.ngram",
    "subwords.small",
    "subwords.across_blanks",
    "subwords.languages",
    "subwords.room",
    "subwords.timing",
    "subwords.encoding",
    "subwords.language_model",
    "subwords.explorer_tables",
    "cross_entropy.tables trees",
    "cross_entropy.tables transformer",
    "cross_entropy.word2vec_tables planted",
    "cross_entropy.race run --half development",
    "cross_entropy.race run --half held-out",
    "cross_entropy.race collect",
    "cross_entropy.confirm",
    "cross_entropy.objectives",
    "cross_entropy.explorer_tables race",
    "cross_entropy.explorer_tables evidence",
    "cross_entropy.tunings",
    "cross_entropy.tunings_race run --half development",
    "cross_entropy.tunings_race run --half untouched",
    "cross_entropy.tunings_race case",
    "cross_entropy.tunings_race costs",
    "cross_entropy.tunings_race collect",
    "cross_entropy.efforts",
    "cross_entropy.tunings_arms",
    "cross_entropy.tunings_arms --collect",
    "cross_entropy.explorer_tables tunings",
    "positions.language --stage final",
    "positions.recall --stage final",
    "positions.untrained",
    "positions.store",
    "positions.speed",
    "attention.heads",
    "attention.quality",
    "attention.shared",
    "attention.by_head",
    "attention.halves --only --windows 2",
    "attention.promise",
    "attention.needle_short",
    "attention.speed",
    "attention.store",
    "kvcache.layers",
    "kvcache.quality --choose",
    "kvcache.quality --score",
    "kvcache.recall",
    "kvcache.recall_windows --records",
    "kvcache.layer_times",
    "kvcache.sensitivity --model",
    "kvcache.speed",
    "kvcache.explorer_tables",
    "one_model search --trials 12",
    "one_model run --cells all --seeds 5 --workers 2",
    "one_model store --folder .cache/one_model",
    "one_model.golf --entry base --minutes 3",
    "one_model.golf --entry all --minutes 3",
    "one_model.scaling",
    "site.mutation --sample 150 --seed 1",
)
"""All that runs on a processor; for what needs a GPU see README.md."""


def everything(again: bool) -> int:
    """Run what is not done yet, one after the other; how many failed."""
    done = read(DONE) if DONE.is_file() and not again else []
    failed = []
    for step in (bar := tqdm([s for s in STEPS if s not in done], unit="experiment")):
        bar.set_postfix_str(step)
        module, *options = step.split()
        command = [sys.executable, "-m", f"book.experiments.{module}", *options]
        if subprocess.run(command, cwd=ROOT).returncode:
            failed.append(step)
            bar.write(f"FAILED {step}")
        else:
            done = [*done, step]
            write_json(DONE, done)
    for step in failed:
        print(f"failed, and is tried again next time: {step}")
    return len(failed)


def main() -> int:
    """Return 1 if something disagrees or fails."""
    arguments = parser(__doc__, "only", "force")
    arguments.add_argument("--quick", action="store_true", help="a sample, compared, not stored")
    arguments.add_argument("--list", action="store_true", help="what would run")
    options = arguments.parse_args()
    if options.list:
        print(*STEPS, sep="\n")
        return 0
    if options.quick:
        return bool(quick(selected(options.only, CHAPTERS)))
    return bool(everything(options.force))


if __name__ == "__main__":
    sys.exit(main())
