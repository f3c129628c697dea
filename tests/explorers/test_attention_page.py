"""The numbers that chapter 4's evidence says in words are those that are stored."""

import functools
import json
import re
from statistics import fmean

import pytest
from places import BOOK, RESULTS

from book.ch4_attention import results
from genopt_core.explorers.attention import evidence_needles
from genopt_core.explorers.attention.evidence import OURS

WINDOW, ORACLE, RADIAL = "window + sink", "largest kept, oracle", "radial + sink"
WEIGHTED = "sink + near + harmonic, self-normalized"
TOGETHER = "mean of six"
DIVERGENCES = ("divided, divergence", "its divergence", "ours, divergence")


@functools.cache
def page(name):
    """The words of a page, without marks of emphasis and with plain minus signs."""
    path = BOOK / name
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return re.sub(r"\s+", " ", text.replace("*", "").replace("−", "-"))


def evidence_says(*fragments):
    for fragment in fragments:
        assert fragment in page("ch4_attention/evidence.ipynb"), fragment


def stored(name):
    return json.loads((RESULTS / f"attention_{name}.json").read_text(encoding="utf-8"))


def of(rows, design):
    return next(r for r in rows if r["design"] == design)


def pm(estimate, digits=1):
    return f"{estimate.value:.{digits}f} ± {estimate.error:.{digits}f}"


def told(name, asked):
    (row,) = (r for r in evidence_needles.told(asked) if r["name"] == name)
    low, high = 100 * row["low"], 100 * row["high"]
    return f"{row['told']} of {row['asked']} ({low:.0f} to {high:.0f} %)"


def test_errors():
    over = stored("quality")["summary"]["recommended over"]
    (_, paper, paper_43), (_, window, window_43) = over["plain harmonic"], over[WINDOW]
    evidence_says(
        f"error is {paper:.2f} of plain harmonic dropping's and {window:.1f} of a window's with a "
        f"sink, at 43 % {paper_43:.2f} and {window_43:.2f}"
    )
    pooled = {(r["estimator"], r["how"]): r for r in results.rounds()}
    plain, weighted = (pooled[n, results.WAYS["sums pooled"]] for n in ("plain", "self-normalized"))
    evidence_says(
        f"ends where it began, at {plain['R = 16']:.2f}", f"R^{{{weighted['slope']:.2f}}}"
    )


def test_blocks_shared_by_heads():
    mean = stored("quality")["summary"]["mean error"]
    ours, shared = mean[OURS], mean["recommended, shared by heads"]
    less = [100 * (1 - b / a) for a, b in zip(ours, shared, strict=True)]
    nine = {round(r["density"]): r["difference"].middle for r in results.shared_by_heads()}
    evidence_says(
        f"take {-nine[23]:.0f} % off the error of the output at 23 % of the blocks and "
        f"{-nine[50]:.0f} % at one half",
        f"three heads to share, {less[1]:.0f} % at 23 % and {less[2]:.0f} % at 43 %",
    )
    measured = set(stored("by_head")["errors"])
    assert len(measured - {stored("quality")["calibration"]}) == 3
    whole = {r["text"]: r for r in results.shared_in_the_model()}
    assert sum(r["windows"] for r in whole.values()) == 6
    with_it, without = ([r[way] for r in whole.values()] for way in ("shared", "ours"))
    moby, end = whole["Moby-Dick"], whole["Moby-Dick, end"]
    evidence_says(
        f"six windows of four texts, perplexity rises by {min(with_it):.1f} to {max(with_it):.1f} "
        f"% with them and by {min(without):.1f} to {max(without):.1f} without",
        f"Moby-Dick, end, {end['shared']:.2f} % against {end[results.BEST_PEER]:.2f}; on Moby-Dick "
        f"it is {moby['shared']:.2f} against {moby[results.BEST_PEER]:.2f}",
    )
    assert end["shared"] <= end[results.BEST_PEER] / 2
    assert moby["shared"] > moby[results.BEST_PEER] / 2


def test_blocks_divided_among_layers():
    content = stored("halves")
    alone = [line[content["steps"].index(results.HALF)] for line in content["pilot"].values()]
    found = {r["plan"]: r for r in results.candidates()}
    own, layers, small, top, row = (
        found[name]["divergence"].value
        for name in (
            *(OURS, "shared by heads and layers", "shared by heads and layers, blocks of 32"),
            "largest kept of heads and layers, others filled",
            "largest kept, others filled",
        )
    )
    fewer = content["density"] * 100 - found[content["chosen"]]["density"]
    assert content["chosen"] == "shared by heads and layers, blocks of 32" == next(iter(found))
    assert 900 < max(alone) / min(alone) < 1500
    evidence_says(
        f"by {min(alone):.0e} nats in one layer and by {max(alone):.0e} in another, a thousandfold",
        f"from {own:.1f} to {layers:.1f} thousandths of a nat",
        f"with {fewer:.0f} % of the blocks fewer, to {small:.1f}",
        f"{top:.1f} where layers share, {row:.1f} where nothing is shared",
    )


def test_blocks_divided_in_the_model():
    found = results.divided_in_the_model()
    moby, end, *others = found
    assert (len(found), sum(r["windows"] for r in found)) == (6, 11)
    peers = [r[results.BEST_PEER] for r in found]
    rises = [r["divided"] for r in others]
    moved = [[r[c] for r in found] for c in DIVERGENCES]
    evidence_says(
        f"change the perplexity of Moby-Dick by {moby['divided']:+.2f} % where the best peer has "
        f"{peers[0]:+.2f}, and of Moby-Dick, end by {end['divided']:+.2f} where it has "
        f"{peers[1]:+.2f}; on the other four it is {min(rises):+.2f} to {max(rises):+.2f} against "
        f"{min(peers[2:]):+.2f} to {max(peers[2:]):+.2f}.",
        "Divergence is {:.1f} to {:.1f} thousandths where the peer has {:.1f} to {:.1f} and the "
        "recommended plan {:.1f} to {:.1f}".format(*(f(m) for m in moved for f in (min, max))),
    )
    evidence_says(f"at most {max(map(results.share_of_the_peer, found)):.2f} of the peer's.")
    assert {r[2] for r in stored("halves")["rows"]} == {stored("halves")["chosen"]}
    assert all(r[3] < stored("halves")["density"] for r in stored("halves")["rows"])


def test_predictions_on_the_mean_and_by_text():
    half, quarter = (results.predictions(kept, TOGETHER) for kept in (results.HALF, 7))
    ours, window, paper = (of(half, n) for n in (OURS, WINDOW, "plain harmonic"))
    assert results.best_independent(results.HALF, TOGETHER, "rise") == RADIAL
    evidence_says(
        f"the recommended plan has {ours['divergence'].value:.0f} thousandths of a nat of "
        f"divergence, a window with a sink {window['divergence'].value:.0f}, harmonic dropping "
        f"alone {paper['divergence'].value:.0f}",
        f"Perplexity rises by {pm(ours['perplexity'], 2)} % against "
        f"{pm(of(half, RADIAL)['perplexity'])} %",
        f"{pm(of(half, WEIGHTED)['perplexity'])} % against {pm(window['perplexity'])} at one half, "
        f"{of(quarter, WEIGHTED)['perplexity'].value:.0f} ± "
        f"{of(quarter, WEIGHTED)['perplexity'].error:.0f} against "
        f"{of(quarter, WINDOW)['perplexity'].value:.0f} ± "
        f"{of(quarter, WINDOW)['perplexity'].error:.0f} at 23 %",
    )
    texts = [r for r in results.by_text() if "mean" not in r["text"]]
    code = next(r for r in texts if r["text"] == "code of transformers")
    prose = [r for r in texts if "code" not in r["text"]]
    mine, peers = ([r[n].value for r in prose] for n in ("ours", results.BEST_PEER))
    factors = [r["its divergence"] / r["ours, divergence"] for r in texts]
    missed = [r["text"] for r in texts if r["ours"].value > r[results.BEST_PEER].value / 2]
    assert missed == ["Moby-Dick", "Moby-Dick, end"]
    evidence_says(
        f"the peer loses {code[results.BEST_PEER].value:.0f} % and the plan "
        f"{code['ours'].value:.1f}; on prose it is {min(mine):.1f} to {max(mine):.1f} % against "
        f"{min(peers):.1f} to {max(peers):.1f}",
        f"by factors of {min(factors):.1f} to {max(factors):.1f}",
    )


def test_the_main_result_on_both_pages():
    half = results.predictions(results.HALF, TOGETHER)
    ours, peer, paper = (of(half, n)["perplexity"].value for n in (OURS, RADIAL, "plain harmonic"))
    shared = [r for r in results.cpu_times() if "rows" not in r["plan"]] + [
        r for r in results.gpu_times() if r["tokens"] == 16384
    ]
    times = [r[w] for r in shared if 20 < r["density"] < 30 for w in ("forward", "both") if r[w]]
    fast = f"attention at a quarter of the {{}} {min(times):.1f} to {max(times):.1f} times as fast"
    evidence_says(
        f"by {ours:.1f} %", f"by {peer:.1f} %", f"by {paper:.0f} %", fast.format("blocks")
    )
    index = page("ch4_attention/index.md")
    for words in (
        f"by {paper:.0f} %",
        f"by {ours:.1f} %",
        f"has {peer:.1f} %",
        fast.format("tiles"),
    ):
        assert words in index, words
    mean = stored("quality")["summary"]["mean error"]
    for design, words in (
        ("plain harmonic", "errs by {:.1f} times"),
        ("sink + near + harmonic, difference", "the same law errs by {:.2f}"),
        (WINDOW, "a window with a sink by {:.2f}"),
        (OURS, "probing queries errs by {:.2f}"),
    ):
        assert words.format(mean[design][1]) in index, words


def test_needles_in_long_prompts():
    rows = {(r["design"], r["kept"]): r for r in results.needles()}
    mine = [rows["recommended", kept]["log probability"] for kept in results.KEPT]
    evidence_says(
        f"at a mean log probability of {rows['full attention', 'all']['log probability']:.1f}",
        f"at {rows['oracle', 3]['log probability']:.1f}: a few blocks",
        f"has {mine[0]:.1f}, {mine[1]:.1f} and {mine[2]:.1f} at 12, 23 and 43 %",
        f"come to {rows['sink + near + harmonic, 8 rounds', 15]['log probability']:.1f} with "
        f"weights and to {rows['plain harmonic, 8 rounds', 15]['log probability']:.1f} with plain",
    )


def test_many_needles():
    law, shared = "sink + near + harmonic", "recommended, shared by heads"
    half, quarter, longer = evidence_needles.ASKED
    everything = {told(n, a) for n in ("full attention", "oracle") for a in (half, quarter, longer)}
    evidence_says(
        f"Full attention and the oracle tell {everything.pop()} each time",
        f"the recommended plan tells {told(OURS, half)}, with blocks shared by heads "
        f"{told(shared, half)}, in four rounds, whose blocks are drawn anew, "
        f"{told('recommended, 4 rounds', half)}",
        f"A window with a sink tells {told(WINDOW, half)}, all next to the question; the harmonic "
        f"law with weights {told(law, half)}, in four rounds {told(f'{law}, 4 rounds', half)}; "
        f"plain harmonic dropping {told('plain harmonic', half)}",
        f"the plan tells {told(OURS, quarter)} in 512 tokens and {told(OURS, longer)} in 1,024, "
        "window and law none in either",
    )
    assert not everything
    cases = f"finds it in {told(OURS, longer).split()[0]} cases of 40"
    assert cases in page("ch4_attention/evidence.ipynb")
    assert cases in page("ch4_attention/index.md")
    assert all(told(n, a).startswith("0 of") for n in (WINDOW, law) for a in (quarter, longer))
    (window,) = (r for r in evidence_needles.told(half) if r["name"] == WINDOW)
    (near,) = (r for r in evidence_needles.told(half, 90) if r["name"] == WINDOW)
    assert window["told"] == near["told"]
    content, found = stored("needle_short"), {}
    for values in content["rows"]:
        r = dict(zip(content["columns"], values, strict=True))
        if (r["length"], r["rounds"]) == (512, 1):
            found[r["design"]] = found.get(r["design"], 0) + sum(r["exact"])
    evidence_says(
        f"agree: {found[OURS]} of 25 for the recommended plan, {found[WINDOW]} for the window, "
        f"{found[WEIGHTED]} for the law"
    )
    counts = [told(n, a).split()[0] for n, a in ((OURS, half), (law, half), (OURS, quarter))]
    assert (
        f"the plan by contents finds {counts[0]} of 40, a law over distance {counts[1]}, at 23 % "
        f"they find {counts[2]} and none." in page("criticisms.md")
    )


def test_training():
    whole = {r["method"]: r for r in results.trained("whole text")}
    tenth = {r["method"]: r for r in results.trained("a tenth of the text")}
    plain, window = whole["plain harmonic, 25 %"], whole["window + sink, 25 %"]
    weighted = whole["sink + near + harmonic, 25 %"]
    ends = [r["1,200 steps"] for r in results.longer()]
    evidence_says(
        f"by {-plain['gap'].value:.2f} ± {plain['gap'].error:.2f} nats",
        f"a window with a sink by {-window['gap'].value:.2f} ± {window['gap'].error:.2f}",
        f"behind by {pm(weighted['gap'], 2)}",
        f"gains another {plain['gap'].value - plain['+ ln π'].value:.2f}",
        f"within {max(ends) - min(ends):.2f} nats",
        f"ends {-tenth['plain harmonic, 25 %']['gap'].value:.3f} ± "
        f"{tenth['plain harmonic, 25 %']['gap'].error:.3f} below",
    )


def test_times():
    shared = [r for r in results.cpu_times() if "rows" not in r["plan"]]

    def spread(density, way="both"):
        found = [r[way] for r in shared if abs(r["density"] - density) < 3]
        return f"{min(found):.1f} to {max(found):.1f}"

    rows = {
        (r["block"], round(r["density"]), r["plan"].rsplit(", ")[-1]): r
        for r in results.cpu_times()
        if "rows" in r["plan"]
    }
    kept = [r["both"] * r["density"] / 100 for r in shared if r["density"] < 60]
    at_23 = [
        rows[b, 23, e]["both"] * rows[b, 23, e]["density"]
        for e in ("self-normalized", "difference")
        for b in (128, 64)
    ]
    evidence_says(
        f"{shared[0]['both']:.1f} times as fast as PyTorch's dense call at 12 % of the blocks, "
        f"{spread(23)} at 23 % and {spread(49)} at 49 %",
        f"keep {100 * min(kept):.0f} to {100 * max(kept):.0f} % of what could be saved on a CPU",
        f"keep {at_23[0]:.0f} % in blocks of 128 and {at_23[1]:.0f} % in blocks of 64, or "
        f"{at_23[2]:.0f} and {at_23[3]:.0f} % with the centroid difference",
        f"{rows[64, 23, 'self-normalized']['both']:.1f} times as fast at 23 % in blocks of 64, "
        f"{rows[128, 23, 'self-normalized']['both']:.1f} in blocks of 128",
    )
    slow = {key for key, r in rows.items() if key[1] == 43 and r["both"] < 1}
    assert {k for k in rows if k[1] == 43} - slow == {(128, 43, "self-normalized")}
    gpu = {(r["call"], r["tokens"], r["heads × dim"]): r for r in results.gpu_times()}
    plain, weighted = (f"flex, distances, {n}, chosen options" for n in ("plain", "weighted"))
    narrow, wide, heavy, middle, short = (
        gpu[key]
        for key in (
            *((plain, 16384, f"16 × {d}") for d in (64, 128)),
            (weighted, 16384, "16 × 64"),
            *((plain, n, f"{h} × 64") for n, h in ((8192, 16), (4096, 32))),
        )
    )
    ours = gpu["pr_flash_attention, distances, plain", 16384, "16 × 64"]
    evidence_says(
        f"is {narrow['forward']:.1f} times as fast as FlashAttention forward and "
        f"{narrow['both']:.1f} both ways at 25 % with heads of 64, and {wide['forward']:.1f} and "
        f"{wide['both']:.1f} with heads of 128",
        f"before the change, it was {ours['forward']:.1f} and {ours['both']:.1f}",
        f"{heavy['forward']:.1f} times as fast as FlashAttention forward and {heavy['both']:.1f} "
        "both ways with heads of 64",
        f"without weights {middle['forward']:.1f} and {middle['both']:.1f} times at 8,192 tokens, "
        f"{short['forward']:.1f} and {short['both']:.1f} at 4,096",
    )
    tried = [r for r in stored("gpu_options")["tried"] if (r["dim"], r["way"]) == (64, "forward")]
    before, after = (
        next(r["ms"] for r in tried if r["options"] == o) for o in ({"mask": "plan"}, {})
    )
    evidence_says(f"it took {before:.2f} ms forward instead of {after:.2f}")
    assert min(r["ms"] for r in tried if not r["weighted"]) == after
    kept = heavy["of 1/density, both"]
    assert f"without weights, and {100 * kept:.0f} % with them" in page("criticisms.md")


@pytest.mark.parametrize("design", [OURS, WINDOW])
def test_a_mean_is_over_windows(design):
    content = stored("perplexity")
    names = ["full", *content["designs"]]
    rows = [dict(zip(content["columns"], r, strict=True)) for r in content["rows"]]
    mine = [r for r in rows if r["kept"] == results.HALF and names[r["design"]] == design]
    found = of(results.predictions(results.HALF, TOGETHER), design)["divergence"].value
    assert found == pytest.approx(1e3 * fmean(r["kl"] for r in mine), rel=1e-3)
