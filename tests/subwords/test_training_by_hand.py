"""Steps of training written out, and small trainings of record."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import digamma

from genopt_core.subwords import exact_vocabulary, train, train_on_text
from genopt_core.subwords.segmentation.arrays import ascending, rounded, run_starts, tally
from genopt_core.subwords.segmentation.corpus import best_paths
from genopt_core.subwords.segmentation.lattice import Lattice
from genopt_core.subwords.training import ascent, em, new_words, search, trainer
from genopt_core.subwords.training import train as training
from genopt_core.subwords.training.arcs import Pieces
from genopt_core.subwords.training.dual import (
    evaluate_all,
    piece_values,
    price_sums,
    sum_of_largest,
)
from genopt_core.subwords.training.likelihood import fit_probabilities
from genopt_core.subwords.training.new_words import NextText
from genopt_core.subwords.training.substrings import Substrings
from genopt_core.subwords.training.trainer import Effort, Trainer, _filled_up
from genopt_core.subwords.training.unit import common_unit, in_units

TOY = {"low▁": 5, "lower▁": 2, "newest▁": 6, "widest▁": 3}


def words(count):
    rng = np.random.default_rng(0)
    shares = [0.35, 0.25, 0.2, 0.12, 0.08]
    made = ["".join(rng.choice(list("abcde"), rng.integers(2, 9), p=shares)) for _ in range(count)]
    return {word: int(rng.integers(1, 30)) for word in made}


# ------------------------------------------------------------------ trainings of record

RECORD = {
    ("likelihood", "standard", False): (
        """soft 146 141 0 17519.859 2754 yes
        soft 73 0 73 17781.218 3131 yes
        hard 33 0 40 19328.802 5383 yes
        hard 30 0 3 19288.553 5862 yes
        search 30 5 5 18206.023 6343 yes
        search 30 0 0 18206.023 6343 no""",
        "eb ecbdc aecbdbb deeaeddb dcdccdd bdcacbab abadbe ceebcb bbeea ecdaaa accccaa caabbbd "
        "adabeceb cbacbabd ecaaddba dcdcbb aedbdcc bbaaead dbaabbb adabbaba bcbbaca acabcaac "
        "eacee ecdaacca cbbdaccc",
    ),
    ("tokens", "standard", False): (
        """seeded 30 25 0 22086.442 4977 yes
        search 30 5 5 21499.474 4880 yes
        search 30 2 2 21541.279 4858 yes
        search 30 1 1 21553.33 4872 no
        search 30 2 2 21473.688 4840 yes
        end 30 0 0 21473.688 4840 yes""",
        "ba aa ab ac ad bb cb bd ca be cd dc aaa ae bba ea aecbdbb deeaeddb dcdccdd bdcacbab "
        "ceebcb accccaa adabeceb ecaaddba aedbdcc",
    ),
    (3.0, "best", False): (
        """seeded 30 25 0 21404.899 5063 yes
        search 30 5 5 20902.582 5013 yes
        search 30 1 1 20864.171 4991 yes
        search 30 1 1 21093.973 4918 yes
        search 30 1 1 21106.763 4915 yes
        search 30 0 0 21106.763 4915 no
        search 30 0 0 21106.763 4915 no""",
        "ba bb ac cb bd ca ad ae daa be dc aab abc aecbdbb deeaeddb dcdccdd bdcacbab abadbe ceebcb "
        "ecdaaa accccaa adabeceb ecaaddba aedbdcc adabbaba",
    ),
    (3.0, "standard", True): (
        """hard 75 70 0 18910.783 3267 yes
        hard 67 0 8 18907.652 3354 yes
        hard 60 0 7 18952.691 3496 yes
        hard 54 0 6 19157.981 3671 yes
        hard 48 0 6 19374.773 3935 yes
        hard 43 0 5 19821.853 4159 yes
        hard 38 0 5 20139.122 4467 yes
        hard 34 0 4 20591.825 4708 yes
        hard 30 0 4 20886.82 5053 yes
        search 30 4 4 20724.476 4931 yes
        search 30 0 0 20724.476 4931 no""",
        "aa ba bb ab ad bd ae cb be aca ea daaa acc ecbdc aecbdbb deeaeddb dcdccdd bdcacbab ceebcb "
        "adabeceb cbacbabd ecaaddba dcdcbb aedbdcc ecdaacca",
    ),
}


@pytest.mark.parametrize(("objective", "effort", "ahead"), list(RECORD))
@pytest.mark.restates
def test_a_training_of_record(objective, effort, ahead):
    """Its schedule and its tuning are arbitrary, but the vocabularies of the book hang on them."""
    told, pieces = RECORD[objective, effort, ahead]
    steps = []
    least = None if ahead else 1
    found = train(
        words(120), 30, objective, effort=effort, min_count=least, new_words=ahead,
        progress=steps.append,
    )  # fmt: skip
    for number, (step, line) in enumerate(zip(steps, told.split("\n"), strict=True), 1):
        stage, size, entered, left, bits, tokens, best = line.split()
        assert (step.stage, step.pieces, step.entered, step.left) == (
            stage, int(size), int(entered), int(left),
        )  # fmt: skip
        assert (step.tokens, step.best) == (float(tokens), best == "yes")
        assert step.bits == pytest.approx(float(bits), abs=1e-3)
        assert (step.done, step.total) == (number, 0)
    assert " ".join(found.pieces[5:]) == pieces
    c = found.counts
    expected = np.log(np.maximum(c, 0.5) / c.sum())
    if ahead:  # as the next text pays
        expected = np.log((c + 0.5) / (c.sum() + 0.5 * 30))
    np.testing.assert_allclose(found.log_probabilities, expected, atol=1e-9)


@pytest.mark.restates
def test_an_ascent_of_record():
    table = Substrings(words(60), 8)
    steps = []
    found = ascent.ascend(table, 9, 40, steps.append)
    assert [(s.done, s.total) for s in steps] == [(n, 40) for n in range(1, 41)]
    bounds = [1408.6, 1408.6, 2790.742251244, 2790.742251244, 2823.8489357]
    assert [s.bound for s in steps[::8]] == pytest.approx(bounds, rel=1e-9)
    first = [1.0, 0.9954435345469673, 0.4908881026941624, 1.0, 1.0]
    assert found.prices[:5] == pytest.approx(first, rel=1e-9)
    assert found.prices.sum() == pytest.approx(273.0274511352118, rel=1e-9)
    share = {t: s for t, s in zip(table.texts(), found.share, strict=True) if s > 0.05}
    assert share == pytest.approx(
        {
            "aa": 1.0, "ac": 0.845778, "ba": 0.996857, "bb": 0.518978, "be": 1.0,
            "ca": 0.161559, "cb": 0.503364, "db": 0.308206, "adb": 0.665257, "ceebcb": 1.0,
            "abceabc": 1.0, "bdcacbab": 1.0,
        },
        abs=1e-6,
    )  # fmt: skip
    every = ascent.ascend(table, len(table) - table.singles, 40, steps.append)
    assert every.share.tolist() == [0.0] * table.singles + [1.0] * (len(table) - table.singles)
    assert (steps[-1].done, steps[-1].total) == (1, 1)


# ------------------------------------------------------------------ the ascent, step by step


def test_a_step_is_that_of_adam():
    price, slope, square = np.array([0.5, 0.2, 0.99, 0.01]), np.zeros(4), np.zeros(4)
    p, m, v = price.copy(), np.zeros(4), np.zeros(4)
    for step in range(4):
        gradient = np.array([0.3, -0.7, 1.0, -1.0]) / (step + 1)
        m, v = 0.9 * m + 0.1 * gradient, 0.98 * v + 0.02 * gradient**2
        move = m / (1 - 0.9 ** (step + 1)) / (np.sqrt(v / (1 - 0.98 ** (step + 1))) + 0.02)
        p = np.clip(p + 0.03 * move, 0, 1)
        ascent._adam(price, gradient.copy(), slope, square, step, 0.03)
        np.testing.assert_allclose(price, p, rtol=1e-12)
    assert price[2:].tolist() == [1, 0]
    assert [ascent._between(0.2, 0.002, d) for d in (0, 0.5, 1)] == pytest.approx(
        [0.2, 0.02, 0.002]
    )
    value = np.array([3.0, 1, 4, 1, 5])
    assert [ascent._kth_largest(value, k) for k in (0, 1, 2, 4, 5)] == [0, 5, 4, 1, 0]
    assert [sum_of_largest(value, k) for k in (0, 1, 2, 5, 9)] == [0, 5, 9, 14, 14]


@pytest.mark.parametrize("k", [1, 3, 6, 7])
def test_soft_shares_sum_to_k_over_one_threshold(k):
    rng = np.random.default_rng(k)
    value, width = rng.uniform(0, 5, 7), rng.uniform(0.1, 2, 7)
    found = ascent.soft_largest(value, k, width)
    assert found.sum() == pytest.approx(k)
    if k < 7:
        ramp = lambda t: np.clip((value - t) / width + 0.5, 0, 1)  # noqa: E731
        threshold = brentq(lambda t: ramp(t).sum() - k, -5, 10, xtol=1e-13)
        np.testing.assert_allclose(found, ramp(threshold), atol=1e-10)


def test_cover_and_shares_place_by_place():
    table = Substrings(words(9), 4)
    rng = np.random.default_rng(0)
    price, width, k = rng.random(len(table.character_weight)), 0.15, 4
    _, places = evaluate_all(table, price, 2 * width)
    near = ~table.single
    pieces = np.flatnonzero(near)
    active = [ascent._only(group, near) for group in places]
    cover, share = ascent._cover(active, price_sums(price), width, k, table.count[pieces])
    texts, value, ramps = table.texts(), np.zeros(len(table)), []
    at, exact = 0, np.zeros(len(table))
    for word, weight in zip(table.words, table.weight, strict=True):
        for i in range(len(word)):
            for j in range(i + 2, min(i + 4, len(word)) + 1):
                t, s = texts.index(word[i:j]), price[at + i : at + j].sum() - 1
                exact[t] += weight * max(s, 0)
                value[t] += weight * (s if s > width else max(s + width, 0) ** 2 / (4 * width))
                ramps.append((t, at + i, at + j, min(max(0.5 + s / (2 * width), 0), 1)))
        at += len(word)
    np.testing.assert_allclose(piece_values(table, price), exact, atol=1e-12)
    shares = ascent.soft_largest(value[pieces], k, 0.5 * width * table.count[pieces])
    np.testing.assert_allclose(share, shares, atol=1e-9)
    wanted = np.zeros(len(price))
    for t, i, j, ramp in ramps:
        wanted[i:j] += ramp * shares[t - len(table) + len(pieces)]
    np.testing.assert_allclose(cover, wanted, atol=1e-9)


def test_places_beyond_the_margin_are_left_out():
    table = Substrings({"ab": 1, "cd": 1, "ef": 1}, 2)
    price = np.array([0.5, 0.5, 0.5, 0.25, 0.25, 0.25])
    kept = [len(evaluate_all(table, price, m)[1][0].end) for m in (0.0, 0.1, 0.25, 0.3, 0.5, 0.6)]
    assert kept == [0, 1, 1, 2, 2, 3]


# ------------------------------------------------------------------ expectation and pruning


def test_one_round_of_soft_em_is_the_formula():
    table = Substrings(words(30), 4)
    pieces = Pieces(table, np.ones(len(table), bool))
    cost = em.fitted_costs(table.count * table.length, 0.7)
    expected, _ = em.expected_counts(pieces.forwards, cost, table.end_weight)
    new, left = em.soft_step(table, pieces.forwards, pieces.chosen, cost, 0.7)
    assert left.tolist() == [
        bool(single or e >= 0.5) for single, e in zip(table.single, expected, strict=True)
    ]
    assert 0 < (~left).sum() < len(left)
    least = np.maximum(expected, 0.5)
    log_p = digamma(least) - digamma(least[left].sum())
    log_p -= math.log(np.exp(log_p[left]).sum())
    np.testing.assert_allclose(new, 0.7 - log_p, rtol=1e-10)
    assert em.x_log_x(np.array([0.0, 1.0, math.e])).tolist() == pytest.approx([0, 0, math.e])
    counts = np.array([3.0, 0.2, 1.0])
    assert em.fitted_costs(counts, 2.0) == pytest.approx(2 - np.log(np.array([3, 0.5, 1]) / 4.2))


def test_pruning_goes_in_cuts_and_settles(monkeypatch):
    table = Substrings(words(30), 4)
    order = np.argsort(-table.count, kind="stable")
    chosen = table.single.copy()
    chosen[order[:25]] = True
    size = int(chosen.sum())
    rounds, sizes = [], []
    fit, cut = search.hard_em, search.pruned

    def fitted(*arguments):
        rounds.append(arguments[-1])
        return fit(*arguments)

    def pruned(*arguments):
        sizes.append(arguments[-1])
        return cut(*arguments)

    monkeypatch.setattr(search, "hard_em", fitted)
    monkeypatch.setattr(search, "pruned", pruned)
    counts = np.where(chosen, table.count, 0.0)
    unknown = np.full(len(table), -np.inf)
    pieces, state, known = search.prune_to_size(
        Pieces(table, chosen), counts, unknown, size - 9, 4, 0.5
    )
    assert sizes == [size - 4, size - 8, size - 9]
    assert rounds == [3, 2, 2, 5]
    assert len(pieces) == size - 9
    assert np.isfinite(known[pieces.chosen & ~table.single]).all()
    assert state.length_cost == 0.5
    search.prune_to_size(Pieces(table, chosen), counts, unknown, size - 2, 9, 0.5, settle=1)
    assert rounds[4:] == [3, 1]


def test_a_search_tries_fewer_after_every_round_and_goes_on_from_the_better(monkeypatch):
    table = Substrings(words(60), 4)
    chosen = table.single | (np.arange(len(table)) < 40)
    objectives = iter([50.0, 50.0 * (1 - 1.9e-6), 50.0 * (1 - 2.1e-6), 49.0])
    tried, gains = [], []

    def pruned(pieces, counts, known, size, step, length_cost):
        tried.append((int(pieces.chosen.sum()) - size, step))
        assert (known[pieces.chosen & ~chosen] == -np.inf).all()
        assert (counts[pieces.chosen & ~chosen] == 7.0).all()
        return Pieces(table, chosen), state(next(objectives)), known

    def state(objective):
        counts = np.where(chosen, 3.0, 0.0)
        return SimpleNamespace(objective=objective, counts=counts, length_cost=0.0)

    def gained(pieces, given):
        gains.append(given.objective)
        return np.where(chosen, 0.0, 1.0), np.full(len(table), 7.0)

    monkeypatch.setattr(search, "prune_to_size", pruned)
    monkeypatch.setattr(search, "removal_losses", lambda pieces, state: np.zeros(len(table)))
    monkeypatch.setattr(search, "insertion_gains", gained)
    found = list(search.local_search(Pieces(table, chosen), state(100.0), 4, 0.5, 3))
    assert [better for _, _, better in found] == [True, False, True, True]
    assert tried == [(20, 7), (16, 6), (8, 3), (6, 2)]
    assert gains == [100.0, 50.0, 50.0 * (1 - 2.1e-6), 49.0]


def test_a_search_for_the_next_text_does_the_same():
    table = Substrings(words(60), 4)
    chosen = table.single | (np.arange(len(table)) < 40)
    objectives = iter([50.0, 50.0 * (1 - 1.9e-6), 50.0 * (1 - 2.1e-6), 49.0, 49.0])
    tried, asked, steps = [], [], []
    cost = np.full(len(table), 3.0)
    state = em.segment_all(table, Pieces(table, chosen).forwards, cost, 0.5)

    def seen(objective):
        counts = np.where(chosen, 3.0, 0.0)
        return SimpleNamespace(objective=objective, counts=counts, states=[state])

    def cut(text, wider, counts, size, step):
        new = wider & ~chosen
        tried.append((int(new.sum()), size, step))
        assert (counts[new] == 7.0).all()
        first = np.lexsort((np.arange(len(table)), -table.count, chosen))[: new.sum()]
        assert new[first].all(), "of equal gains the most frequent"
        return chosen, seen(next(objectives))

    def gains(given, chosen):
        asked.append(given.objective)
        return np.where(chosen, 0.0, 1.0), np.full(len(table), 7.0)

    own = Trainer(table, 40, Effort(rounds=5, share=0.5, cuts=3), steps.append)
    own._cut = cut
    _, found = own._searched_ahead(SimpleNamespace(gains=gains), chosen, seen(100.0))
    assert tried == [(20, 40, 7), (16, 40, 6), (8, 40, 3), (6, 40, 2), (5, 40, 2)]
    assert asked == [100.0, 50.0, 50.0, 50.0 * (1 - 2.1e-6), 49.0]
    assert [step.best for step in steps] == [True, False, True, True, False]
    assert found.objective == 49.0
    nothing = SimpleNamespace(gains=lambda seen, chosen: (0.0 * cost, cost))
    assert own._searched_ahead(nothing, chosen, seen(9.0))[1].objective == 9.0
    assert len(tried) == 5


def test_what_is_used_but_once_gains_nothing():
    table = Substrings({"abcabc": 1, "dede": 1, "de": 1, "ab": 1}, 3)
    pieces = Pieces(table, table.single)
    state = em.segment_all(table, pieces.forwards, np.full(len(table), 9.0), 0.0)
    gain, uses = search.insertion_gains(pieces, state)
    assert (uses == 1).any()
    assert (gain[uses <= 1] == 0).all()
    assert (gain[uses > 1] > 0).all()


@pytest.mark.parametrize("seed", range(2))
def test_the_gain_of_a_piece_for_the_next_text_is_the_formula(seed):
    rng = np.random.default_rng(seed)
    made = ("".join(rng.choice(list("abc"), rng.integers(2, 7))) for _ in range(14))
    table = Substrings({word: int(rng.integers(1, 4)) for word in made}, max_piece=4)
    chosen = table.single | (rng.random(len(table)) < 0.3)
    text = NextText(table, int(chosen.sum()), length_cost=1.3)
    seen = text.look(text.pieces(chosen), np.where(chosen, rng.uniform(1, 9, len(table)), 0.0), 1)
    gain, uses = text.gains(seen, chosen)
    names = table.texts()
    prices = []
    for part, state in zip(text.parts, seen.states, strict=True):
        allowed = part.allowed & chosen
        prices.append({n: c for n, c, ok in zip(names, state.cost, allowed, strict=True) if ok})
    known = {}

    def cost(p, word):
        if (p, word) not in known:
            known[p, word] = best_paths(Lattice([word], prices[p])).cost[0] if word else 0.0
        return known[p, word]

    total = math.log(seen.counts.sum() + 0.5 * text.size) + 1.3
    positive = 0
    for number in np.flatnonzero(~chosen):
        piece, places = names[number], []
        for p, part in enumerate(text.parts):
            if not part.allowed[number]:
                continue
            for word, comes, weight in zip(table.words, part.weight, table.weight, strict=True):
                for i in range(len(word)):
                    if word.startswith(piece, i):
                        room = cost(p, word) - cost(p, word[:i]) - cost(p, word[i + len(piece) :])
                        places.append((room, weight if p == 0 else 0.0, comes))
        n = sum(occurs for _, occurs, _ in places)
        for _ in range(3):
            limit = total - math.log(n + 0.5)
            places = [place for place in places if place[0] - limit > 1e-12]
            n = sum(occurs for _, occurs, _ in places)
        assert uses[number] == pytest.approx(n)
        expected = sum(comes * (room - limit) for room, _, comes in places)
        assert gain[number] == pytest.approx(expected, abs=1e-9)
        positive += expected > 0
    assert positive > 3
    assert (gain[chosen] == 0).all()


def test_rounds_go_on_while_much_is_gained():
    table = Substrings(words(200), 5)
    chosen = table.single | (np.arange(len(table)) % 3 == 0)
    text = NextText(table, int(chosen.sum()), 0.0)
    forwards = Pieces(table, chosen).forwards
    counts = np.where(chosen, 1.0 + np.arange(len(table)) % 7, 0.0)
    for objective in (
        lambda rounds: text.look(text.pieces(chosen), counts, rounds).objective,
        lambda rounds: em.hard_em(table, forwards, counts, 0.0, rounds).objective,
    ):
        values = np.array([objective(rounds) for rounds in (1, 2, 3, 4)])
        assert (-np.diff(values) > 2e-5 * values[1:]).all()


def test_chosen_pieces_are_filled_up_in_order():
    chosen = np.array([True, False, False, True, False])
    order = np.array([3, 4, 1, 2, 0])
    assert _filled_up(chosen, 4, order).tolist() == [True, True, False, True, True]
    assert _filled_up(chosen, 1, order).tolist() == chosen.tolist()
    table = Substrings(TOY, 3)
    first = Trainer(table, 12, None, None)._frequent_first
    texts = np.array(table.texts())[first]
    assert (np.char.str_len(texts[: table.singles]) == 1).all()
    worth = (table.count * table.length)[first][table.singles :]
    assert (np.diff(worth) <= 0).all()


# ------------------------------------------------------------------ what training is given


@pytest.mark.parametrize(
    ("total", "objective", "least"),
    [
        (400_000, "likelihood", 2), (760_000, "likelihood", 3), (1_100_000, 1.0, 4),
        (2_400_000, "tokens", 2), (2_600_000, "tokens", 3),
    ],
)  # fmt: skip
def test_the_least_count_of_a_candidate(total, objective, least):
    counts = {"abcd": total // 2, "bcda": total - total // 2 - 1, "ce": 1}
    found = train(counts, 6, objective, effort="fast", new_words=False)
    assert found.provenance["min_count"] == least
    assert found.provenance["words"] == total
    assert found.provenance["distinct_words"] == 3


def test_at_most_so_many_are_the_substrings_that_are_worth_it():
    table = Substrings(TOY, 16, 2)
    table = table.only(table.maximal())
    found = train(TOY, 1000, at_most=True, new_words=False)
    assert set(found.pieces) == set(table.texts())
    assert found.provenance["min_count"] == 2
    three = train(TOY, 1000, at_most=True, min_count=3)
    table = Substrings(TOY, 16, 3)
    assert set(three.pieces) == set(table.only(table.maximal()).texts())


def test_at_most_takes_what_occurs_twice_also_of_a_large_corpus():
    counts = {"abcd": 400_000, "bcda": 400_000, "eaea": 1, "ce": 1}
    found = train(counts, 1000, at_most=True, new_words=False)
    assert found.provenance["min_count"] == 2
    assert "ea" in found.pieces
    few = train(counts, 6, at_most=True, new_words=False)
    assert few.provenance["min_count"] == 3


def test_each_objective_has_its_start_and_its_rounds(monkeypatch):
    table = Substrings(words(60), 6)
    started, searched, pruned = [], [], []
    plan = Effort(rounds=3, ascent=5, weighted_ascent=2)
    own = Trainer(table, 20, plan, lambda step: None)
    state = em.segment_all(table, Pieces(table, table.single).forwards, np.ones(len(table)), 0.0)
    pieces = Pieces(table, table.single)
    monkeypatch.setattr(own, "_started", lambda *a: started.append(a) or (pieces, state))
    monkeypatch.setattr(own, "_searched", lambda *a: searched.append(a[2]) or (pieces, state))
    own.cheapest(0.0), own.cheapest(0.5), own.fewest_tokens()
    assert started == [(0, 0.0, 24), (2, 0.5, 24), (5, 100.0, 48)]
    assert searched == [3, 3, 6]
    monkeypatch.undo()
    cut = trainer.prune_to_size
    monkeypatch.setattr(trainer, "prune_to_size", lambda *a: pruned.append(a) or cut(*a))
    share = np.where(table.single, 0.0, 0.03)
    share[-30:] = 0.02
    own._rounded_off(share, 0.5, 4)
    there = len(table) - 30
    first, counts, known, size, step, length_cost = pruned[0]
    assert (len(first), size, step, length_cost) == (there, 20, (there - 20) // 4, 0.5)
    assert counts[first.chosen].tolist() == (table.count * 0.1)[first.chosen].tolist()
    assert (known == -np.inf).all()
    share[table.singles :] = 0.0
    share[-3:] = [0.5, 0.6, 0.7]
    own._rounded_off(share, 0.5, 400)
    first, counts, _, _, step, _ = pruned[1]
    assert (len(first), step) == (20, 1)
    assert counts[-3:] == pytest.approx(table.count[-3:] * [0.5, 0.6, 0.7])


def test_how_often_costs_are_refitted(monkeypatch):
    table = Substrings(words(40), 4)
    own = Trainer(table, 20, Effort(candidates=3), lambda step: None)
    fits, looks = [], []
    fit, look = trainer.hard_em, NextText.look
    monkeypatch.setattr(trainer, "hard_em", lambda *a: fits.append(a[3:]) or fit(*a))
    monkeypatch.setattr(NextText, "look", lambda *a: looks.append(a[3]) or look(*a))
    own.fewest_tokens()
    own.cheapest(0.5)
    assert fits == [(100.0, 6), (1000.0, 10), (0.5, 6)]
    own.for_new_words(0.5, False)
    assert looks == [3, 5] * 10 + [5]  # from 60 by tenths to 20
    looks.clear()
    own.for_new_words(0.5, True)
    assert looks[-2:] == [5, 2]
    text = NextText(table, 20, 0.5)
    looks.clear()
    chosen = table.single | (np.arange(len(table)) < 40)
    left, seen = own._cut(text, chosen, np.where(chosen, table.count, 0.0), 25, 6)
    assert (looks, left.sum(), len(seen.pieces)) == ([3, 2, 2, 5], 25, 7)
    searched = Trainer(table, 25, Effort(rounds=2, share=0.4, cuts=3), lambda step: None)
    cuts = []
    cut = Trainer._cut
    monkeypatch.setattr(Trainer, "_cut", lambda *a: cuts.append(a[2:]) or cut(*a))
    searched._searched_ahead(text, left, seen)
    first, _, size, step = cuts[0]
    assert (first.sum(), size, step) == (35, 25, 4)
    assert len(cuts) <= 2


def test_where_training_looks_at_new_words_by_itself(monkeypatch):
    counts = words(40)
    size = sum(map(len, counts))
    share = [0.3]
    monkeypatch.setattr(training, "new_word_share", lambda counts: share[0])
    for value, small in ((0.1, True), (0.5, True), (0.0999, False), (0.501, False)):
        share[0] = value
        assert training._is_small(counts) == small
    share[0] = 0.3
    for most, small in ((size, True), (size - 1, False)):
        monkeypatch.setattr(training, "SMALL_CORPUS", most)
        assert training._is_small(counts) == small
    monkeypatch.setattr(training, "SMALL_CORPUS", size)
    first = next(iter(counts))
    assert training._is_small({**counts, first: 1.5})  # as in a mixture


def test_long_words_are_cut_and_counts_of_equal_chunks_add_up():
    exactly = {"a" * 256: 2, "b": 1}
    assert training._in_chunks(exactly) is exactly
    longer = training._in_chunks({"a" * 257 + "b" * 255: 2, "a" * 256: 3, "c": 1})
    assert longer == {"a" * 256: 5, "a" + "b" * 255: 2, "c": 1}


def test_messages_and_lengths():
    assert "at least once, got 9" in training._too_many(5, 4, 1.0, 9)
    assert "at least twice, got 9" in training._too_many(5, 4, 2.0, 9)
    assert "at least 0.25 times, got 9" in training._too_many(5, 4, 0.25, 9)
    long = Substrings({"a" * 300: 1}, 300)
    assert long.length.tolist() == list(range(1, 301))
    assert Substrings({"a" * 256: 1}, 256).length[-1] == 256
    assert Substrings({"a" * 9: 1}, 255).length.dtype == np.uint8
    assert Substrings({"ab": 3}, 2).texts(np.array([], int)) == []


def test_an_interruption_is_told_where_train_was_called():
    def stop(step):
        if step.stage == "search":
            raise KeyboardInterrupt

    for options in ({"new_words": False}, {"new_words": True}, {"objective": "tokens"}):
        with pytest.warns(UserWarning, match="interrupted") as told:
            train(words(20), 9, progress=stop, **options)
        assert told[0].filename == __file__


def test_a_text_that_is_the_name_of_a_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ab").write_text("abab ab")
    with pytest.raises(ValueError, match="got the name of a file 'ab'"):
        train_on_text("ab", 3)
    for text in ("ab ab\n", "ba bb"):
        assert train_on_text(text, 3, convention="textbook").pieces
    found = train_on_text(tmp_path / "ab", 4, specials=["<s>"])
    assert found.specials == ("<s>",)


def test_a_fit_ends_after_so_many_rounds_or_with_a_small_gain():
    counts, costs = {"ab": 3, "b": 1, "abb": 2}, {"a": 0.25, "b": 0.5, "ab": 0.25}
    for rounds in (1, 2, 5):
        found = fit_probabilities(counts, costs, tolerance=0.0, max_rounds=rounds)
        assert len(found.log_likelihoods) == rounds + 1
        assert not found.converged
    done = fit_probabilities(counts, costs)
    assert done.converged
    assert done.log_likelihoods[-1] - done.log_likelihoods[-2] < 1e-9
    assert min(done.probabilities.values()) > 0


# ------------------------------------------------------------------ arrays


def test_small_operations_on_arrays():
    rng = np.random.default_rng(0)
    for size in range(1, 18):
        key = rng.integers(0, 5, size)
        order, ordered = ascending(key)
        assert order.tolist() == np.argsort(key, kind="stable").tolist()
        assert ordered.tolist() == sorted(key.tolist())
    for high in (2**61, 2**62, 2**63 - 1):
        order, ordered = ascending(np.array([high, 5, high][: 2 + (high == 2**61)], np.int64))
        assert order.tolist()[:2] == [1, 0]
        assert ordered.tolist()[0] == 5
        assert ordered.max() == high
    assert ascending(np.array([], np.int64))[0].tolist() == []
    assert rounded(np.array([3.0, -0.75, 1 + 0.75 * 2**-29])).tolist() == [3, -0.75, 1 + 2**-29]
    assert tally(np.array([], int), np.array([]), 3).tolist() == [0, 0, 0]
    assert tally(np.array([2, 0, 2]), np.array([1.0, 2, 3])).tolist() == [2, 0, 4]
    assert run_starts(np.array([1, 1, 2]), np.array([4, 5, 5])).tolist() == [True] * 3
    assert run_starts(np.array([1, 1]), np.array([4, 4])).tolist() == [True, False]


def test_units_at_the_edge_of_rounding():
    assert common_unit([1, 3 + 0.9e-4]) == pytest.approx(1.00003, abs=1e-8)
    assert common_unit([1, 3 + 4e-4]) < 0.9 or common_unit([1, 3 + 4e-4]) == 1
    assert common_unit([2.0**53, 2.0**53 - 2]) == 2.0
    assert common_unit([0.5, 1.5, 2.5]) == 0.5
    assert common_unit([7]) == 3.5
    assert in_units({"a": 1.0, "b": 3 + 0.9e-4}, 1.0) == {"a": 1.0, "b": 3.0}
    assert in_units({"a": 1.0, "b": 3 + 1.1e-4}, 1.0) == {"a": 1.0, "b": 3 + 1.1e-4}


def test_discounts_of_few():
    assert new_words.discount([]) == 0
    assert new_words.discount([1]) == 1
    assert new_words.discount([1, 1, 2, 3]) == 0.5
    assert new_words.discount([2, 2]) == 0


def test_a_relaxation_has_shares_and_says_which():
    whole = exact_vocabulary(TOY, 13)
    relaxed = exact_vocabulary(TOY, 13, relaxed=True)
    assert (whole.shares == 1).all()
    assert len(whole.pieces) == len(set(whole.pieces)) == 13
    assert relaxed.value <= whole.value
    assert relaxed.value == pytest.approx(relaxed.bound)
    assert relaxed.shares.sum() == pytest.approx(13, abs=1e-6)
    assert relaxed.proved
    assert (relaxed.shares > 1e-9).all()


def test_at_most_keeps_whatever_the_next_text_uses(monkeypatch):
    counts = {
        "xab": 1,
        "yab": 1,
        "zab": 1,
        "qcd": 1,
        "rcde": 1,
        "x": 2,
        "yz": 2,
        "qr": 3,
        "abcd": 1,
    }
    table = Substrings(counts, 4)
    seen = []
    look = NextText.look
    monkeypatch.setattr(NextText, "look", lambda *a: seen.append(look(*a)) or seen[-1])
    own = Trainer(table, len(table), Effort(), lambda step: None)
    pieces, _ = own.for_new_words(3.0, True)
    before = seen[-2]
    uses = before.uses
    assert ((uses > 0) & (uses <= 1) & ~table.single).any()
    assert ((uses == 0) & ~table.single).any()
    wanted = before.pieces[0].chosen & ((uses > 0) | table.single)
    assert pieces.chosen.tolist() == wanted.tolist()
