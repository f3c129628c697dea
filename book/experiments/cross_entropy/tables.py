"""Two tables of real trainings for the search race: boosted trees and small transformers.

    python -m book.experiments.cross_entropy.tables trees          # and the development table
    python -m book.experiments.cross_entropy.tables transformer
    python -m book.experiments.cross_entropy.tables transformer --shapes 3    # not stored

Trees: scikit-learn's gradient boosting on its own small data sets (digits, held out; breast cancer,
development).  One training gives every smaller ensemble by staged prediction.  Transformers:
character models in PyTorch on State of the Union text; all settings that do not change a shape are
trained together by ``torch.func.vmap``.  Scores are larger-is-better on held-out data; the last
axis holds the independently seeded trainings.
"""

from __future__ import annotations

import itertools
import os
import time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from book.experiments.common.main import parser
from book.experiments.common.places import RESULTS
from book.experiments.common.store import provenance, write_results

TREES = (
    ("learning_rate", "ordinal", (0.05, 0.1, 0.2, 0.4, 0.8)),
    ("max_depth", "ordinal", (1, 2, 4)),
    ("subsample", "ordinal", (0.3, 0.6, 1.0)),
    ("max_features", "ordinal", (0.05, 0.15, 0.4)),
    ("loss", "categorical", ("log_loss", "exponential")),
    ("n_estimators", "ordinal", (4, 8, 15, 30)),
)
SHAPES = (
    ("heads", "ordinal", (1, 2, 4)),
    ("norm", "categorical", ("pre", "post", "none")),
    ("activation", "categorical", ("relu", "gelu")),
)
TRAINING = (
    ("learning_rate", "ordinal", (3e-4, 1e-3, 3e-3, 6e-3, 1e-2, 2e-2, 4e-2)),
    ("init_scale", "ordinal", (0.25, 0.5, 1.0, 2.0)),
    ("beta2", "ordinal", (0.9, 0.98)),
    ("warmup", "ordinal", (0, 20)),
)
STEPS, WIDTH, LENGTH, BATCH, LAYERS = 50, 16, 16, 8, 1


def axes(*groups: tuple[tuple[str, str, tuple], ...]) -> list[dict[str, Any]]:
    return [{"name": n, "kind": k, "levels": list(v)} for g in groups for n, k, v in g]


def settings(space: tuple[tuple[str, str, tuple], ...]) -> list[dict[str, Any]]:
    names = [n for n, _, _ in space]
    return [dict(zip(names, v, strict=True)) for v in itertools.product(*(v for *_, v in space))]


def store(name: str, table: list[dict[str, Any]], scores: np.ndarray, about: str) -> None:
    """Scores in units of 1e-4, configurations in the order of the axes, replicates last."""
    content = {
        "schema": "search-table/1",
        "provenance": provenance(("numpy", "scikit-learn", "torch")),
        "about": about,
        "axes": table,
        "unit": 1e-4,
        "replicates": scores.shape[-1],
        "scores": np.rint(scores.ravel() * 1e4).astype(int).tolist(),
    }
    size = write_results(RESULTS / f"ce_table_{name}.json", content)
    print(name, scores.shape, "best", scores.mean(-1).max(), "bytes", size)


# ------------------------------------------------------------------ trees


def trees(which: str, seeds: tuple[int, ...] = (0, 1)) -> np.ndarray:
    """Minus the log loss, by staged prediction; a shape of the axes and the seeds."""
    from sklearn.datasets import load_breast_cancer, load_digits
    from sklearn.ensemble import GradientBoostingClassifier

    data = load_digits() if which == "trees" else load_breast_cancer()
    x, y = data.data, data.target % 2 if which == "trees" else data.target
    stages = TREES[-1][2]
    rows = []
    for number, config in enumerate(settings(TREES[:-1])):
        row = []
        for seed in seeds:
            rng = np.random.default_rng(seed)
            order = rng.permutation(len(y))
            fit, held = order[:250], order[250:550]
            model = GradientBoostingClassifier(
                n_estimators=max(stages), random_state=seed, **config
            )
            model.fit(x[fit], y[fit])
            found = list(model.staged_predict_proba(x[held]))
            chance = np.array([found[n - 1][np.arange(len(held)), y[held]] for n in stages])
            row.append(np.log(np.clip(chance, 1e-4, 1)).mean(axis=1))
        rows.append(np.array(row).T)
        if number % 200 == 0:
            print(which, number, round(time.process_time()), flush=True)
    return np.array(rows).reshape(*[len(v) for *_, v in TREES], len(seeds))


# ------------------------------------------------------------------ transformers


def text() -> tuple[np.ndarray, int]:
    """State of the Union, lower case, as small integers, and how many there are."""
    from genopt_core import corpora

    characters = corpora.load("sotu").lower()[:200_000]
    alphabet = sorted(set(characters))
    index = {c: i for i, c in enumerate(alphabet)}
    return np.array([index[c] for c in characters]), len(alphabet)


def transformer(shape: dict[str, Any], seeds: tuple[int, ...] = (0, 1)) -> np.ndarray:
    """Minus the held-out loss in nats a character of every setting in ``TRAINING``."""
    import torch
    from torch.func import grad, vmap
    from torch.nn.functional import cross_entropy, gelu, layer_norm, relu

    torch.set_num_threads(1)
    codes, many = text()
    codes = torch.as_tensor(codes)
    cut = int(0.9 * len(codes))
    config = settings(TRAINING)
    act = relu if shape["activation"] == "relu" else gelu
    heads, mask = shape["heads"], torch.full((LENGTH, LENGTH), -1e9).triu(1)

    def norm(h: torch.Tensor, place: str) -> torch.Tensor:
        return layer_norm(h, (WIDTH,)) if shape["norm"] == place else h

    def loss(p: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        h = p["embed"][x] + p["place"]
        for i in range(LAYERS):
            a = norm(h, "pre") @ p[f"qkv{i}"]
            q, k, v = a.unflatten(-1, (3, heads, -1)).movedim(-3, 0).transpose(-3, -2).unbind(0)
            w = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + mask).softmax(-1)
            h = norm(h + (w @ v).transpose(-3, -2).flatten(-2) @ p[f"out{i}"], "post")
            h = norm(h + act(norm(h, "pre") @ p[f"up{i}"]) @ p[f"down{i}"], "post")
        return cross_entropy((norm(h, "pre") @ p["read"]).flatten(0, -2), y.flatten())

    def start(seed: int, scale: float) -> dict[str, torch.Tensor]:
        g = torch.Generator().manual_seed(seed)
        sizes = {"embed": (many, WIDTH), "place": (LENGTH, WIDTH), "read": (WIDTH, many)}
        for i in range(LAYERS):
            sizes |= {f"qkv{i}": (WIDTH, 3 * WIDTH), f"out{i}": (WIDTH, WIDTH)}
            sizes |= {f"up{i}": (WIDTH, 2 * WIDTH), f"down{i}": (2 * WIDTH, WIDTH)}
        return {n: scale * s[0] ** -0.5 * torch.randn(s, generator=g) for n, s in sizes.items()}

    def batch(first: int, last: int, size: int, g: torch.Generator) -> tuple:
        at = torch.randint(first, last - LENGTH - 1, (size,), generator=g)[:, None]
        window = codes[at + torch.arange(LENGTH + 1)]
        return window[:, :-1], window[:, 1:]

    found = []
    for seed in seeds:
        each = [start(seed, c["init_scale"]) for c in config]
        p = {n: torch.stack([e[n] for e in each]) for n in each[0]}
        m = {n: torch.zeros_like(v) for n, v in p.items()}
        s = {n: torch.zeros_like(v) for n, v in p.items()}
        column = {n: torch.tensor([float(c[n]) for c in config]) for n, _, _ in TRAINING}
        step_gradient = vmap(grad(loss), in_dims=(0, None, None))
        g = torch.Generator().manual_seed(100 + seed)
        for t in range(1, STEPS + 1):
            slope = step_gradient(p, *batch(0, cut, BATCH, g))
            ramp = torch.where(column["warmup"] > 0, t / column["warmup"], 1.0).clamp(max=1)
            rate = column["learning_rate"] * ramp * (1 - (t - 1) / STEPS)
            for n in p:
                b2, r = (v.view(-1, *[1] * (p[n].dim() - 1)) for v in (column["beta2"], rate))
                m[n] = 0.9 * m[n] + 0.1 * slope[n]
                s[n] = b2 * s[n] + (1 - b2) * slope[n] ** 2
                p[n] = p[n] - r * (m[n] / (1 - 0.9**t)) / ((s[n] / (1 - b2**t)).sqrt() + 1e-8)
        with torch.no_grad():
            held = batch(cut, len(codes), 256, torch.Generator().manual_seed(7))
            value = vmap(loss, in_dims=(0, None, None))(p, *held)
        found.append(-torch.nan_to_num(value, nan=9.0, posinf=9.0).clamp(max=9.0).numpy())
    return np.array(found).T


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("what", choices=("trees", "transformer"))
    arguments.add_argument("--shapes", type=int, help="only so many, not stored")
    args = arguments.parse_args()
    if args.what == "trees":
        for name, data in (
            ("trees_development", "breast cancer"),
            ("trees", "digits, odd or even"),
        ):
            about = f"gradient boosting on scikit-learn's {data}; minus the held-out log loss"
            store(name, axes(TREES), trees(name), about)
        return
    shapes = settings(SHAPES)[: args.shapes]
    scores = []
    for number, shape in enumerate(shapes):
        scores.append(transformer(shape))
        print(number, shape, scores[-1].max().round(4), round(time.process_time()), flush=True)
    if args.shapes is None:
        about = "character transformers on State of the Union; minus nats a held-out character"
        sizes = [len(v) for *_, v in (*SHAPES, *TRAINING)]
        store("transformer", axes(SHAPES, TRAINING), np.array(scores).reshape(*sizes, -1), about)


if __name__ == "__main__":
    main()
