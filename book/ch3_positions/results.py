"""Reports of the stored losses and recalls of chapter 3.

``book/experiments/positions`` trained and scored; nothing here does.  Each report gives rows for
`genopt_core.explorers.reports.table`, from whatever cells and methods have been run so far.
"""

import math
from collections.abc import Iterable, Sequence
from statistics import fmean

import numpy as np

from genopt_core.explorers.panels import counted
from genopt_core.explorers.positions import methods
from genopt_core.explorers.positions.methods import CHOSEN, label, stored_places
from genopt_core.explorers.reports import Column, Estimate, Row, half_interval, read
from genopt_core.positions import bias_by_distance, effective_context

FROM = 4  # times the trained length, from which on methods are compared
TRAINED = 64  # tokens of a sequence of the recall task
TASKS = ("one-key", "copy", "four-keys")
NEAR = 16  # tokens from which on recall asks for more than the last few
SIZES = {"token": "4 × 128", "byte": "2 × 64"}  # layers × width by what a decoder reads
STEPS = {"development": 600, "token": 700, "byte": 400}
SAME_TOTAL = (
    ("alibi", "harmonic-matched"),
    ("alibi-strong", "harmonic"),
    ("rope-alibi", "rope-harmonic-matched"),
    ("rope-alibi-strong", "rope-harmonic"),
    ("rope-alibi-double", "rope-harmonic-double"),
)
SSMAX = (
    "rope",
    "alibi",
    "rope-alibi",
    "rope-harmonic",
    "rope-learned",
    "nope",
    "fire",
    "kerple-log",
)
COLUMNS = {
    **{f"{t}×": Column(".3f", best="least") for t in (1, 2, 4, 8, 16)},
    "sd": Column(".3f"),
    "difference": Column("+.4f", "nats, 4× to 16×"),
    "p": Column(".1g"),
    "geometric": Column(".4f", "nats, 16×"),
    "harmonic": Column(".4f", "nats, 16×"),
    "widest, geometric": Column(".0f", "tokens"),
    "widest, harmonic": Column(".0f", "tokens"),
    "total": Column(".2f"),
    **{
        f"{task}, {where}": Column(".2f", tokens)
        for task in ("one key", "copy", "four keys")
        for where, tokens in (("near", "16 to 48"), ("far", "96 to 1,024"))
    },
    **{share: Column(".2f") for share in ("0", "0.01", "0.03", "0.1", "0.3", "1")},
    "loss": Column(".4f", "nats, 16×", best="least"),
}


def _far(place: str, name: str) -> np.ndarray:
    """Mean loss at 4 to 16 times the trained length, one a seed."""
    at = np.array(methods.times()) >= FROM
    return methods.losses(place)[name][:, at].mean(axis=1)


def _mean(place: str, name: str) -> float:
    return float(_far(place, name).mean())


def _ranked(place: str) -> list[str]:
    """Methods that depend on no data, from the lowest loss at 4 to 16 times the trained length.

    Without the rows that were added later.
    """
    found = [n for n in methods.losses(place) if n not in methods.LATER]
    names = [n for n in found if methods.described(n)["learned"] != "fox"]
    return sorted(names, key=lambda name: _mean(place, name))


# ------------------------------------------------------------------ what was run


def run_name(place: str) -> str:
    """A place in a few words.

    >>> run_name("development"), run_name("moby-dick/64"), run_name("large/sotu/128")
    ('development', 'Moby-Dick, 64 bytes', 'State of the Union, 128 tokens')
    """
    return "development" if place == "development" else methods.PLACES[place][len("final, ") :]


def runs() -> list[Row]:
    """What was trained, place by place, as far as it has been run."""
    rows = []
    for place in stored_places():
        found = methods.losses(place)
        seeds = len(next(iter(found.values())))
        unit = methods.UNITS[place]
        _, text, trained = methods.PLACES[place].split(", ")
        rows.append(
            {
                "run": "development" if place == "development" else "final",
                "text": text,
                "trained at": trained,
                "layers × width": SIZES[unit],
                "steps": STEPS.get(place, STEPS[unit]),
                "methods": len([name for name in found if name not in methods.LATER]),
                "seeds": seeds,
            }
        )
    return rows


def losses(place: str) -> list[Row]:
    """Mean loss of every method at every length, and how far its seeds are apart."""
    rows = []
    for name, values in methods.losses(place).items():
        row: Row = {"method": label(name), "kind": _kind(name)}
        for t, value in zip(methods.times(), values.mean(axis=0), strict=True):
            row[f"{t}×"] = float(value)
        rows.append(row | {"sd": float(values[:, -1].std(ddof=1))})
    return sorted(rows, key=lambda row: row["16×"])


def _kind(name: str) -> str:
    if methods.described(name)["learned"] == "fox":
        return "by data"
    if name in methods.LATER:
        return "later"
    if methods.is_reading(name):
        return "reading"
    return "peer" if methods.is_peer(name) else "harmonic"


def own() -> list[str]:
    """What tables set in bold: the chosen reading."""
    return [label(CHOSEN)]


# ------------------------------------------------------------------ duels


def duels() -> list[Row]:
    """The chosen reading against its rivals, seed by seed, wherever both have been run."""
    rows = []
    for place in stored_places():
        found = methods.losses(place)
        if CHOSEN not in found:
            continue
        peers = [name for name in _ranked(place) if methods.is_peer(name)]
        readings = [n for n in _ranked(place) if not methods.is_peer(n) and n != CHOSEN]
        rivals = dict.fromkeys([*peers[:1], *readings[:1], "rope-alibi", "alibi", "rope"])
        for rival in rivals:
            if rival in found:
                rows.append({"run": run_name(place)} | _duel(place, rival, peers[:1]))
    return rows


def _duel(place: str, rival: str, best: Sequence[str]) -> Row:
    gain = _far(place, CHOSEN) - _far(place, rival)
    mean, half, p = paired(gain)
    return {
        "against": label(rival) + (" (best peer)" if rival in best else ""),
        "difference": Estimate(mean, half),
        "p": p,
        "seeds won": f"{int((gain < 0).sum())} of {len(gain)}",
    }


def paired(gain: np.ndarray) -> tuple[float, float, float]:
    """Mean of differences, half its 95 % interval, and p of Student's paired test.

    >>> [round(x, 3) for x in paired(np.array([-1.0, -1.2, -0.8]))]
    [-1.0, 0.497, 0.013]
    """
    from scipy.stats import t  # not at import: Python in a page has no SciPy

    mean, error = float(gain.mean()), float(gain.std(ddof=1)) / math.sqrt(len(gain))
    p = 2 * float(t.sf(abs(mean) / error, len(gain) - 1)) if error else 0.0
    return mean, half_interval(error, len(gain)), p


# ------------------------------------------------------------------ the objection


def slopes_at_equal_total() -> list[Row]:
    """Geometric and harmonic slopes of the same total: widest head and loss, wherever both are.

    With the difference, harmonic minus geometric, over the seeds of the final runs.
    """
    rows = []
    for place in stored_places():
        found = methods.losses(place)
        for geometric, harmonic in SAME_TOTAL:
            if geometric not in found or harmonic not in found:
                continue
            one, other = (methods.described(name) for name in (geometric, harmonic))
            wide = [
                float(effective_context(bias_by_distance(each["strengths"], 1024)).max())
                for each in (one, other)
            ]
            row: Row = {
                "run": run_name(place),
                "rotation": "RoPE" if one["rotated"] else "none",
                "total": float(sum(one["strengths"])),
                "widest, geometric": wide[0],
                "widest, harmonic": wide[1],
                "geometric": float(found[geometric].mean(axis=0)[-1]),
                "harmonic": float(found[harmonic].mean(axis=0)[-1]),
            }
            if place != "development":  # of two seeds it would say nothing
                mean, half, p = paired(_far(place, harmonic) - _far(place, geometric))
                row |= {"difference": Estimate(mean, half), "p": p}
            rows.append(row)
    return rows


# ------------------------------------------------------------------ recall


def _recalled(name: str, low: int, high: int, tasks: Sequence[str] = TASKS) -> float:
    """Mean accuracy over the distances from ``low`` to ``high``, and over tasks."""
    found = []
    for task in tasks:
        distances, accuracy = methods.recall(task)
        chosen = [i for i, d in enumerate(distances) if low <= d <= high]
        found.append(float(accuracy[name].mean(axis=0)[chosen].mean()))
    return fmean(found)


def _within(name: str, tasks: Sequence[str] = TASKS) -> float:
    return _recalled(name, NEAR, TRAINED - 1, tasks)


def _beyond(name: str, tasks: Sequence[str] = TASKS) -> float:
    return _recalled(name, TRAINED + 1, 1024, tasks)


def recalls() -> list[Row]:
    """Recall within and beyond the trained length beside the loss on text (development).

    From the best recall beyond it, all tasks counting the same.
    """
    found = methods.losses("development")
    names = sorted(methods.recall(TASKS[0])[1], key=_beyond, reverse=True)
    rows = []
    for name in names:
        row: Row = {"method": label(name)}
        for task in TASKS:
            words = task.replace("-", " ")
            row[f"{words}, near"] = _within(name, [task])
            row[f"{words}, far"] = _beyond(name, [task])
        if name in found:
            row["loss"] = float(found[name].mean(axis=0)[-1])
        rows.append(row)
    return rows


def _trained_for() -> list[Row]:
    """The rows of `recalls` whose decoders are read as they were trained."""
    return [row for row in recalls() if "loss" in row]


def correlation() -> float:
    """Rank correlation of recall beyond the trained length with the (negated) loss on text."""
    loss = [row["loss"] for row in _trained_for()]  # from the best recall on
    worse = np.argsort(np.argsort(loss)).astype(float)
    return float(np.corrcoef(np.arange(len(loss)), worse)[0, 1])


# ------------------------------------------------------------------ a model that never saw a bias


def untrained() -> list[Row]:
    """SmolLM2 with biases that it was not trained for: nats and perplexity by share of the slopes.

    One row a method, a column a share.
    """
    stored = read("positions_untrained.json", None)["rows"]
    rows: dict[str, Row] = {}
    for one in stored:
        row = rows.setdefault(one["method"], {"method": one["method"]})
        row[f"{one['share']:g}"] = one["nats"]
    return list(rows.values())


# ------------------------------------------------------------------ what was predicted


def predictions() -> list[Row]:
    """The five predictions, what the stored rows say to each, and the verdict."""
    return [
        {"prediction": said, "found": found, "verdict": verdict}
        for said, (found, verdict) in (
            ("The rule will choose RoPE with harmonic slopes of 2/h or more.", _which_reading()),
            ("It has the lowest loss at every length; runner-up KERPLE-power.", _perplexity()),
            (
                "Beyond the trained length it is among the worst at recall, behind ALiBi.",
                _disagree(),
            ),
            (
                "Half of the heads free: under half of the lead is lost, recall within the length "
                "is back, beyond it only without rotation.",
                _head_mix(),
            ),
            ("SSMax does not help at these lengths.", _ssmax()),
        )
    ]


def _which_reading() -> tuple[str, str]:
    names = [n for n in _ranked("development") if not methods.is_peer(n)]
    best = next(n for n in names if not methods.described(n)["ssmax"])
    steepest = max(methods.described(best)["strengths"])
    held = methods.is_reading(best) and steepest >= 2
    return f"{label(best)}, steepest slope {steepest:.0f} at the start", _verdict([held])


def _perplexity() -> tuple[str, str]:
    told, lowest, second = [], [], []
    for place in stored_places():
        found = methods.losses(place)
        peers = [name for name in _ranked(place) if methods.is_peer(name)]
        if CHOSEN not in found or not peers:
            continue
        means = np.array([found[name].mean(axis=0) for name in _ranked(place)])
        wins = int((found[CHOSEN].mean(axis=0) <= means.min(axis=0)).sum())
        told.append(
            f"{run_name(place)}: lowest at {wins} of {len(means[0])} lengths among {len(means)}, "
            f"best peer {label(peers[0])}"
        )
        lowest.append(wins == len(means[0]))
        second.append(peers[0] == "kerple-power")
    return "; ".join(told), _verdict([*lowest, *second])


def _disagree() -> tuple[str, str]:
    order = [row["method"] for row in _trained_for()]
    rank = order.index(label(CHOSEN)) + 1
    ours, alibi = _beyond(CHOSEN), _beyond("alibi")
    found = (
        f"{ours:.2f} recalled on the mean of 96 to 1,024 tokens and three tasks, number {rank} "
        f"of {len(order)}; ALiBi {alibi:.2f}; rank correlation with the loss on text "
        f"{correlation():+.2f}"
    )
    return found.replace("-", "−"), _verdict([3 * rank > 2 * len(order), ours < alibi])


def _head_mix() -> tuple[str, str]:
    full, mix, free = "rope-harmonic-double", "rope-harmonic-double-mix", "harmonic-double-mix"
    lost = {}
    for place in stored_places():
        lead = _mean(place, "rope-alibi") - _mean(place, full)
        lost[place] = (_mean(place, mix) - _mean(place, full)) / lead
    within = {name: _within(name) for name in (full, mix, "rope")}
    beyond = {name: _beyond(name) for name in (full, mix, free)}
    back = within[mix] >= within["rope"] - 0.02
    told = ", ".join(f"{share:.0%} ({run_name(place)})" for place, share in lost.items())
    found = (
        f"of the lead over RoPE + ALiBi is lost: {told}; recall within the length, all tasks: "
        f"{within[full]:.2f} becomes {within[mix]:.2f} (RoPE {within['rope']:.2f}); beyond it "
        f"{beyond[mix]:.2f} with rotation and {beyond[free]:.2f} without"
    )
    held = [*(share < 0.5 for share in lost.values()), back, beyond[free] > beyond[mix]]
    return found.replace("%", " %"), _verdict(held)


def _ssmax() -> tuple[str, str]:
    changes = [
        _mean(place, f"{name}-ssmax") - _mean(place, name)
        for place in stored_places()
        for name in SSMAX
        if f"{name}-ssmax" in methods.losses(place) and name in methods.losses(place)
    ]
    worse = sum(change > 0 for change in changes)
    told = (
        f"worse in {worse} of {counted(len(changes), 'pair')} of a method with and without it, by "
        f"{fmean(changes):.3f} nats on the mean at 4 to 16 times the length"
    )
    return told, _verdict([worse == len(changes)])


def _verdict(parts: Iterable[bool]) -> str:
    """Whether all parts of a prediction hold, none, or some.

    >>> _verdict([True, False]), _verdict([True]), _verdict([False])
    ('held in part', 'held', 'failed')
    """
    parts = list(parts)
    return "held" if all(parts) else "held in part" if any(parts) else "failed"


def summary() -> str:
    """What may be said of the chosen reading, from the rows that are stored.

    The sentence of the page's main result, so that it changes with them.
    """
    said = []
    for row in duels():
        if "(best peer)" in row["against"]:
            peer = row["against"].removesuffix(" (best peer)")
            value = row["difference"].value
            word = "lower" if value < 0 else "higher"
            said.append(
                f"- {row['run']}:\n  {abs(value):.3f} nats {word} than {peer}, "
                f"{row['seeds won']} seeds won, p = {row['p']:.1g}"
            )
    return "\n".join([f"{label(CHOSEN)}, 4 to 16 times the trained length:", *said])
