"""Numbers that pages say in words and that no cell of theirs prints."""

import json
import math

import numpy as np
import pytest
from places import RESULTS, page_words

from book.ch1_subwords import results as subwords
from book.ch5_kvcache import results as kvcache
from genopt_core import cross_entropy as ce
from genopt_core import tables
from genopt_core.kvcache.grid import recode_table, step_ratio
from genopt_core.one_model.budget import bias_window


def says(name, *fragments):
    for fragment in fragments:
        assert fragment in page_words(name), fragment


def test_where_the_fast_effort_is_ahead_of_every_peer():
    leads = {}
    for size in (1000, 4000, 8000, 16000):
        bits = {row["tokenizer"]: row["bits per byte"] for row in subwords.standings(size)}
        fast = bits["ours, fast"]
        peers = [
            x
            for n, x in bits.items()
            if n not in subwords.ours() and not n.startswith(("ours", "counting"))
        ]
        leads[size] = 100 * (fast / min(peers) - 1)
    assert leads.pop(8000) < 0
    one, four, sixteen = leads.values()
    says(
        "ch1_subwords/evidence.ipynb",
        "here its bits per byte are still below every peer's (at 1,000, 4,000 and 16,000 the best "
        f"peer is ahead by {one:.1f}, {four:.1f} and {sixteen:.1f} %)",
    )


def test_how_long_a_vocabulary_of_english_stays_ahead():
    """The main result of chapter 1, its claim, and the languages on the scoreboard."""
    stored = json.loads((RESULTS / "subwords_quality.json").read_text(encoding="utf-8"))
    sizes = {row["size"] for row in tables.records(stored) if row["corpus"] == "english"}
    assert sizes == {1000, 4000, 8000, 16000}
    says("ch1_subwords/index.md", "at four sizes of vocabulary on 10.8 MB of English")
    says("claims.yml", "at four sizes of vocabulary on 10.8 MB of English")
    transformer = {
        row["budget"]: row["to BPE"].value
        for row in subwords.context_models()
        if (row["model"], row["tokenizer"]) == ("transformer", "ours, likelihood")
    }
    short, long = transformer["750,000 training tokens"], transformer["2,250,000 training tokens"]
    assert long / short == pytest.approx(0.5, abs=0.05)
    says("criticisms.md", "a large lead, which halves with three times the tokens")


def test_half_lives_of_diversity():
    name = "ch2_search/cross_entropy.ipynb"
    for draws, share, words in (
        (20, 0.25, "134: $0.693/{-\\ln(1-0.49/5)}=6.7$ generations of 20"),
        (10, 0.25, "$3.9$ generations, 39 trainings"),
    ):
        n_elite = max(2, math.ceil(share * draws))
        half = math.log(2) / -math.log1p(-0.49 / n_elite)
        assert ce.drift_law(2, n_elite, 0.7, 1)[1] == pytest.approx(0.5 * 0.5 ** (1 / half))
        assert f"{half:.1f}$ generations" in words
        assert f"{half * draws:.0f}" in words
        says(name, words)
    half = math.log(2) / -math.log1p(-0.49 / 10)
    assert half == pytest.approx(14, abs=0.3)
    says(name, "a half-life of about 14 generations")


def test_what_a_first_generation_meets_of_blocks_of_bits():
    """Three blocks of four bits, twenty draws."""
    met = 1 - (1 - 1 / 16) ** (3 * 20)
    says(
        "ch2_search/cross_entropy.ipynb",
        f"meets a whole block of ones by accident ({100 * met:.0f} %)",
        "three of the ten runs end there",
    )
    space = ce.SearchSpace({f"bit {i}": ce.Categorical([0, 1]) for i in range(12)})
    pay = np.array([3, 2, 1, 0, 5])
    best = [
        ce.minimize(
            lambda x: -pay[np.reshape([*x.values()], (3, 4)).sum(axis=1)].sum(),
            space, 400, method="plain", patience=None, deterministic=True, seed=seed,
        ).best.value
        for seed in range(10)
    ]  # fmt: skip
    assert best.count(-15) == 3


def test_grids_with_their_metadata():
    rows = [row for row in kvcache.objections() if row["objection"] == "metadata"]
    of = {
        (row["code"], float(row["beside it"].split()[0]), row["design"]): row["error"]
        for row in rows
    }
    error = {
        (bits, group): next(
            e
            for (c, _, d), e in of.items()
            if (c, d) == ("grid", f"{bits} bits, groups of {group}")
        )
        for bits in (2, 3)
        for group in (16, 32, 64)
    }
    rotated = {total: e for (code, total, _), e in of.items() if code == "rotated"}
    says(
        "ch5_kvcache/evidence.ipynb",
        f"at 4 bits in all, 3 bits in groups of 32 err by {error[3, 32]:.1f} % and 2 bits in "
        f"groups of 16 by {error[2, 16]:.1f}. The rotated code at 3 bits takes 3.3 and errs by "
        f"{rotated[3.31]:.1f}; at 2 bits (2.3) it errs by {rotated[2.31]:.1f}, between the grids "
        f"that take 3 and 3.5 bits ({error[2, 32]:.1f} and {error[3, 64]:.1f})",
    )


def test_ladders_that_end_with_the_direct_codes():
    def others(a, b, c):
        return int((recode_table(b, c)[recode_table(a, b)] != recode_table(a, c)).sum())

    assert others(8, 4, 2) == 0
    assert others(4, 3, 2) > 0
    name = "ch5_kvcache/staircase.ipynb"
    says(name, "> - 8/6/4 > - 8/4/2 > - 4/3/2", f"{others(8, 6, 4)} of 256 codes")
    assert 1 / step_ratio(3, 2) == pytest.approx(3 / 7)
    says(name, "(3/7 from 2 to 3 bits, nearly ½ from 4 on)")


def test_how_far_biased_heads_look_back():
    slopes = 4 / np.arange(1, 33)
    near, far = (bias_window(slopes, bound, 1e-3)[[0, -1]] for bound in (50, 74))
    says(
        "ch6_one_model/budget.ipynb",
        f"look back {near[0]:.0f} to {near[1]:.0f} tokens with scores within ±50, and "
        f"{far[0]:.0f} to {far[1]:,.0f} within ±74",
    )
