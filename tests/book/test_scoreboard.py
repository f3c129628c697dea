"""The scoreboard has every comparison of the pages of evidence, with the numbers stored."""

import json
import re
import sys
from statistics import fmean, median

import nbformat
import pytest
from places import BOOK, RESULTS

sys.path.insert(0, str(BOOK / "_ext"))
import claims
import scoreboard
from scoreboard import page
from scoreboard.comparison import Cell, folder

ROWS = scoreboard.comparisons()
# Tables of evidence in which nothing of ours stands beside a method of others, or not on its own.
NO_COMPARISON = {
    1: {
        "our_gaps": "ours against a bound",
        "english_against_the_best_peer": "as standings",
        "across_blanks": "on its page only: two texts, two sizes, settings chosen for each",
        "languages": "as seven_languages, 4,000 of them, against fewer peers",
        "in_bytes": "on its page only: two of the seven languages",
        "encoding_beside_the_exported": "ours against ours, exported",
        "by_file": "ours with weights by file against ours without; BPE stands for the scale",
    },
    2: {
        "suite": "problems",
        "standings": "as duels, which have the intervals",
        "by_problem": "as duels, by problem",
        "recommendations": "ours against ours",
        "beyond_the_grid": "settings",
        "tunings": "what is stored",
        "tuning_ranks": "no interval is stored, and most duels with TPE are not told from chance",
        "tuning_duels": "as tuning_ranks",
        "first_report": "one development problem, on its page only: ours beside TPE, GP and random",
        "arms": "what is stored",
        "arm_ranks": "on its page only: ours against ours, on problems that were looked at",
        "arm_duel": "ours against ours",
    },
    3: {
        "runs": "what was run",
        "losses": "as duels, all lengths",
        "slopes_at_equal_total": "an objection: slopes of equal total",
        "untrained": "a model that was trained for none of them",
        "predictions": "what we expected",
    },
    4: {
        "rounds": "ours against ours",
        "sharing": "ours against ours",
        "shared_by_heads": "ours against ours",
        "shared_in_the_model": "ours against ours; the peers are in by_text",
        "divided_in_the_model": "ours against ours; the peers are in by_text",
        "candidates": "ours against ours",
        "by_layer": "as errors, by layer",
        "by_text": "as predictions, by text",
        "longer": "one seed of what trained has",
    },
    5: {
        "objections": "ours against ours",
        "sums_and_wholes": "ours against ours",
        "scores": "as by_text, means",
        "held": "bits, counted",
        "kinds_of_text": "on its page only: one cache and texts of many kinds",
        "copying_windows": "on its page only: kinds that copy, windows of 2,048 tokens",
        "aims": "aims",
    },
    6: {"yates": "effects", "speeds": "as costs", "settings": "settings", "aims": "aims"},
}


def cells(chapter):
    return nbformat.read(folder(chapter) / "evidence.ipynb", 4).cells


def stored(name):
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def row(what, ours=None):
    (found,) = (r for r in ROWS if r.what == what and ours in (None, r.ours))
    return found


@pytest.mark.parametrize("chapter", range(1, 7))
def test_every_table_of_evidence_is_compared_or_has_a_reason(chapter):
    sources = [cell.source for cell in cells(chapter) if "table(" in cell.source]
    asides = {"results", "race", "several", "confirmation", "own", "ours", "chosen"} - {
        r.report for r in ROWS if r.chapter == chapter
    }
    shown = {name for s in sources for name in re.findall(r"results\.([a-z_]+)\(", s)} - asides
    compared = {r.report for r in ROWS if r.chapter == chapter}
    explorers = {name for name in compared if "-" in name}
    assert shown == (compared - explorers) | set(NO_COMPARISON[chapter])
    assert not compared & set(NO_COMPARISON[chapter])
    text = "\n".join(cell.source for cell in cells(chapter))
    assert all(f'explore("{name}"' in text for name in explorers)


@pytest.mark.parametrize("one", ROWS, ids=lambda r: f"{r.chapter} {r.what[:40]}, {r.ours}")
def test_a_row_leads_to_a_heading_and_to_a_claim(one):
    texts = [cell.source for cell in cells(one.chapter) if cell.cell_type == "markdown"]
    heads = [h for text in texts for h in re.findall(r"(?m)^#+ (.+)$", text)]
    slugs = {re.sub(r"[^a-z0-9]+", "-", head.lower()).strip("-") for head in heads}
    assert one.section in slugs
    assert claims.named(one.claim).id.startswith("claim-")
    low, high = one.spread or (one.ratio, one.ratio)
    assert low <= one.ratio <= high
    assert one.against(1.0, 1.0) == 1.0


def test_every_claim_with_a_name_is_compared_and_ids_differ():
    assert {claim.name for claim in claims.claims() if claim.name} == {r.claim for r in ROWS}
    ids = [claim.id for claim in claims.claims()]
    assert len(ids) == len(set(ids))


def test_numbers_are_the_stored_ones():
    """From the files themselves, without a function of the book."""
    quality = stored("subwords_quality")
    table = [dict(zip(quality["columns"], r, strict=True)) for r in quality["rows"]]
    ratios = []
    for size in (1000, 4000, 8000, 16000):
        here = {
            r["contestant"]: r["held_bits_per_byte"]
            for r in table
            if (r["corpus"], r["size"]) == ("english", size)
        }
        peers = [v for n, v in here.items() if not n.startswith("ours")]
        ratios.append(here["ours_weight_5"] / min(peers))
    found = row("Bits a byte, English", "ours, λ = 5")
    assert found.ratio == pytest.approx(median(ratios))
    assert found.spread == pytest.approx((min(ratios), max(ratios)))

    languages = stored("subwords_languages")
    fields: dict = {}
    for r in (dict(zip(languages["columns"], r, strict=True)) for r in languages["rows"]):
        fields.setdefault((r["language"], r["size"]), {})[r["contestant"]] = r["held_tokens"]
    for r in table:  # sentencepiece was run at 4,000 alone, in the comparison of all corpora
        field = fields.get((r["corpus"].removeprefix("words-"), r["size"]), {})
        field.setdefault(r["contestant"], r["held_tokens"])
    ratios = [
        of["ours_front_5"] / min(v for n, v in of.items() if not n.startswith("ours"))
        for of in fields.values()
        if "ours_front_5" in of
    ]
    found = row("Tokens a word, words of seven languages")
    assert found.spread == pytest.approx((min(ratios), max(ratios)))
    assert found.spread_of == f"{len(ratios)} languages and sizes"
    assert found.ratio == pytest.approx(median(ratios))

    race = stored("cross_entropy")
    means = {
        s["method"]: s["mean"]
        for s in race["summary"]
        if (s["half"], s["budget"]) == ("held-out", 60)
    }
    best = min(v for n, v in means.items() if n not in ("posterior", "plus", "plain"))
    assert row("Mean regret after 60 evaluations").ratio == pytest.approx(means["posterior"] / best)

    error = stored("attention_quality")["texts"]
    scored = [t["error"] for n, t in error.items() if n != "sotu 19th century"]
    designs = stored("attention_quality")["designs"]
    peers = [n for n, d in designs.items() if d["family"].startswith("data-")]
    ratios = [t["recommended"][1] / min(t[n][1] for n in peers) for t in scored]
    assert row("Output error, 23 % of the blocks").ratio == pytest.approx(median(ratios))

    speed = stored("kv_speed")["model"]["least ms"]
    ratio = speed["SAQ+ 16/8/4/2"] / speed["DynamicCache"]
    assert row("Time of a decoding step").ratio == pytest.approx(ratio)

    chosen, best = [
        fmean(
            nats
            for text, trained, method, _, times, nats in stored("positions_final")["rows"]
            if (text, trained, method) == ("moby-dick", 64, name) and times >= 4
        )
        for name in ("rope-learned-fourfold", "rope-kerple-power")
    ]
    found = row("Loss at 4 to 16 times the length, Moby-Dick, 64 bytes")
    assert found.ratio == pytest.approx(chosen / best, rel=1e-4)

    volumes: dict = {}
    objectives = stored("cross_entropy_objectives")
    for problem, method, _, *missing, _ in objectives["rows"]:
        volumes.setdefault(problem, {}).setdefault(method, []).append(missing[-1])
    ratios = [
        fmean(v["posterior"])
        / min(fmean(x) for n, x in v.items() if n not in ("posterior", "plus"))
        for v in volumes.values()
    ]
    assert row("Missing hypervolume after 100 trials").ratio == pytest.approx(median(ratios))


def test_what_was_measured_once_is_undecided_within_five_percent():
    once = [r for r in ROWS if r.spread is None]
    assert once
    for r in once:
        assert (r.verdict == "open") == (1 / 1.05 <= r.ratio <= 1 / 0.95), r.what


def test_wins_and_losses_of_every_chapter_are_drawn():
    drawn = page.figure(str)
    assert drawn.count('class="sb-row"') == len(ROWS)
    listed = page.table(str)
    assert listed.count("<tr>") == len(ROWS) + 1
    for chapter in range(1, 7):
        verdicts = {r.verdict for r in ROWS if r.chapter == chapter}
        assert {"ahead", "behind"} <= verdicts, chapter
    for r in ROWS:
        assert 0 < page.place(r.ratio) < 100
        assert page.told(r.ratio) in drawn
    assert all(name in listed for r in ROWS for name in ("<details>", page.VERDICTS[r.verdict]))


def test_a_cell_that_cannot_be_divided_is_refused():
    with pytest.raises(ValueError, match=r"BPE must be positive, got 0.0"):
        Cell(1.0, {"BPE": 0.0})
