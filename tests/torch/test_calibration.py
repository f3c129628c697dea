"""Ladders by layer: measured costs against plain runs of the model, and the division of bits."""

import copy
import itertools
import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.models import alternating, tiny
from transformers import DynamicCache

from genopt_core import kvcache as kv
from genopt_core.torch.kvcache import Calibration, StaircaseCache, calibration
from genopt_core.torch.kvcache.calibration import (
    LADDERS,
    calibrate_ladders,
    choose_ladders,
    divergence,
    layer_costs,
)

SMALL = {"decoded": 24, "chunk": 16, "sink": 2}
CHOICE = ((16, 4, 1), (16, 8, 2), (16,))


def text(rows=1, tokens=100):
    return torch.randint(3, 128, (rows, tokens), generator=torch.Generator().manual_seed(3))


# ------------------------------------------------------------------ division (kv-layers)


@settings(max_examples=80, deadline=None)
@given(data=st.data(), rows=st.integers(1, 4), options=st.integers(1, 4), extra=st.floats(0, 5))
def test_division_is_the_best_of_all(data, rows, options, extra):
    """Brute force over every assignment."""

    def table(numbers):
        row = st.lists(numbers, min_size=options, max_size=options)
        return data.draw(st.lists(row, min_size=rows, max_size=rows))

    costs, bits = table(st.floats(0, 10, allow_nan=False)), table(st.integers(1, 16))
    c, b = np.array(costs), np.array(bits, float)
    budget = b.min(axis=1).mean() + extra
    b += data.draw(st.sampled_from([0.0, 0.375, 0.5]))  # whole units of 1/64 still
    budget += b.min() - np.array(bits).min()
    at = np.arange(rows)
    every = [list(o) for o in itertools.product(range(options), repeat=rows)]
    sizes = data.draw(st.lists(st.sampled_from([3, 6, 15]), min_size=rows, max_size=rows))
    for size in (None, sizes):
        mean = np.ones(rows) if size is None else np.array(size, float)
        mean /= mean.sum()
        least = budget if size is None else mean @ b.min(axis=1) + extra
        chosen = kv.allocate_layers(c, b, least, sizes=size)
        assert mean @ b[at, chosen] <= least + 1e-9
        fit = [c[at, o].sum() for o in every if mean @ b[at, o] <= least + 1e-12]
        assert c[at, chosen].sum() <= min(fit) + 1e-9


def test_bits_between_units_are_rounded_up():
    """A third of a bit in units of 1/64: never over the budget, at most a unit under."""
    costs, bits = np.tile([3.0, 1.0], (6, 1)), [2 + 1 / 3, 3 + 1 / 3]
    for budget in np.linspace(2.35, 3.4, 30):
        chosen = np.array(kv.allocate_layers(costs, bits, budget))
        spent = np.take(bits, chosen).mean()
        assert spent <= budget + 1e-9
        assert chosen.sum() >= min(6, np.floor(6 * (budget - 1 / 64 - bits[0])))


@pytest.mark.parametrize(
    ("costs", "bits", "budget", "message"),
    [
        ([], [2], 3, "costs"),
        ([[1.0, np.nan]], [2, 4], 3, "costs"),
        ([1.0, 2.0], [2, 4], 3, "costs"),
        ([[1.0, 2.0]], [2], 3, "bits"),
        ([[1.0, 2.0]], [2, np.inf], 3, "bits"),
        ([[1.0, 2.0]], [2, 4], 1.9, "budget .* got 1.9"),
        ([[1.0, 2.0]], [2, 4], np.nan, "budget"),
    ],
)
def test_division_refuses(costs, bits, budget, message):
    with pytest.raises(ValueError, match=message):
        kv.allocate_layers(costs, bits, budget)


@pytest.mark.parametrize(
    "sizes", [[1], [1, 2, 3], [[1, 2]], [1, 0], [1, -1], [1, np.nan], [1, np.inf]]
)
def test_division_refuses_sizes(sizes):
    with pytest.raises(ValueError, match=r"sizes must be 2 positive numbers, one a row, got \["):
        kv.allocate_layers([[1.0, 2.0]] * 2, [2, 4], 3, sizes=sizes)
    with pytest.raises(ValueError, match=r"at least the fewest bits, 3.5, got 3"):
        kv.allocate_layers([[1.0]] * 2, [[2], [4]], 3, sizes=[1, 3])


# ------------------------------------------------------------------ divergence


def test_divergence_is_that_of_torch_and_never_negative():
    p, q = (torch.randn(7, 50, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    p, q = p.log_softmax(-1), q.log_softmax(-1)
    plain = torch.nn.functional.kl_div(q.double(), p.double(), reduction="none", log_target=True)
    torch.testing.assert_close(divergence(p, q), plain.sum(-1), rtol=1e-5, atol=1e-7)
    assert (divergence(p, p + 1e-7 * torch.randn_like(p)) >= 0).all()
    never = torch.tensor([0.0, -torch.inf])  # a word that cannot follow
    assert divergence(never, torch.tensor([0.5, 0.5]).log()).item() == pytest.approx(np.log(2))
    assert divergence(never, never).item() == 0
    with pytest.raises(ValueError, match="shape"):
        divergence(p, q[:3])


def test_divergence_in_blocks_is_that_of_all_rows_at_once(monkeypatch):
    """To the last bit: stored costs stay what they are."""
    p, q = (torch.randn(3, 11, 50, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    p, q = p.log_softmax(-1), q.log_softmax(-1)
    p[1, 2, :7] = -torch.inf
    monkeypatch.setattr(calibration, "BLOCK", 10**9)
    whole = divergence(p, q)
    for block in (1, 50, 120, 700):
        monkeypatch.setattr(calibration, "BLOCK", block)
        assert torch.equal(divergence(p, q), whole)
    e = p.double().exp()
    gap = (q - p).double()
    plain = torch.where(e > 0, e * (gap.expm1() - gap), q.double().exp()).sum(-1)
    assert torch.equal(whole, plain)
    assert divergence(p[0, 0], q[0, 0]).shape == ()
    assert divergence(p[:0], q[:0]).shape == (0, 11)


# ------------------------------------------------------------------ costs


@pytest.mark.parametrize("codec", ["rotated", "grid"])
def test_costs_are_those_of_whole_runs_with_a_staircase(codec):
    """Oracle: the cache itself in the model, one side of one layer on a ladder, no replay."""
    model, ids = tiny(), text(rows=2)
    options = {"chunk": 16, "sink": 2, "codec": codec, "group_size": 16}
    costs = list(layer_costs(model, ids, CHOICE, decoded=24, **options))
    assert np.shape(costs) == (3, 2, 3)

    def run(keys, values):
        cache = StaircaseCache(model.config, keys, values, **options)
        model(ids[:, :-24], past_key_values=cache)
        return model(ids[:, -24:], past_key_values=cache).logits.log_softmax(-1)

    full = [(16,)] * 3
    exact = run(full, full)
    for layer, side, option in [(0, 0, 0), (1, 1, 0), (2, 0, 1), (2, 1, 1)]:
        sides = [list(full), list(full)]
        sides[side][layer] = CHOICE[option]
        whole = divergence(exact, run(*sides)).mean().item()
        assert costs[layer][side, option] == pytest.approx(whole, rel=1e-3)
        assert whole > 1e-10
    assert np.abs(np.array(costs)[:, :, 2]).max() < 1e-10  # full precision costs nothing


@pytest.mark.parametrize("order", [("sliding", "full", "sliding", "full"), ("full", "sliding")])
def test_costs_of_models_with_windows_are_those_of_whole_runs(order):
    """Layers with a window are nobody's choice, and hold what they hold in a plain run."""
    model, ids = alternating(window=16, kinds=order), text(rows=2) % 97
    options = {"chunk": 16, "sink": 2}
    costs = list(layer_costs(model, ids, CHOICE, decoded=24, **options))
    full = order.count("full")
    assert np.shape(costs) == (full, 2, 3)

    def run(cache):
        model(ids[:, :-24], past_key_values=cache)
        return model(ids[:, -24:], past_key_values=cache).logits.log_softmax(-1)

    exact = run(DynamicCache(config=model.config))
    for layer, side, option in itertools.product(range(full), (0, 1), (0, 1)):
        sides = [[(16,)] * full, [(16,)] * full]
        sides[side][layer] = CHOICE[option]
        whole = divergence(exact, run(StaircaseCache(model.config, *sides, **options)))
        assert costs[layer][side, option] == pytest.approx(whole.mean().item(), rel=1e-3)
    keys, values = calibrate_ladders(model, ids, 8.0, CHOICE, progress=False, **SMALL)
    assert len(keys) == len(values) == full
    assert StaircaseCache(model.config, keys, values, **options).limit_bits() <= 8


def test_the_caller_and_the_model_are_left_as_they_were_even_when_interrupted():
    model = tiny()
    own = model.model.layers[0].forward
    model.model.layers[0].forward = own  # as accelerate does
    two = [layer_costs(model, text(), CHOICE, **SMALL) for _ in range(2)]
    for costs in two:
        next(costs), next(costs)
        assert torch.is_grad_enabled()
    for costs in two:
        costs.close()
    assert torch.is_grad_enabled()
    assert model.model.layers[0].__dict__["forward"] is own
    assert all("forward" not in layer.__dict__ for layer in model.model.layers[1:])
    assert not any(layer._forward_hooks for layer in model.model.layers)
    whole = list(layer_costs(model, text(), CHOICE, **SMALL))
    some = list(layer_costs(model, text(), CHOICE, layers=[2], **SMALL))
    np.testing.assert_array_equal(some[0], whole[2])


def test_chosen_ladders_fit_the_budget_and_beat_one_ladder_for_all():
    model = tiny()
    seen = []
    run = {"recall": False, "progress": seen.append, **SMALL}
    keys, values = calibrate_ladders(model, text(tokens=160), 4.0, **run)
    assert [(record.done, record.total) for record in seen] == [(1, 3), (2, 3), (3, 3)]
    cache = StaircaseCache(model.config, keys, values, chunk=16, sink=2)
    assert cache.limit_bits() <= 4.0
    assert {*keys, *values} <= set(LADDERS)
    costs = np.array(list(layer_costs(model, text(tokens=160), LADDERS, **SMALL)))
    np.testing.assert_array_equal([record.cost for record in seen], costs)
    at = [[LADDERS.index(k), LADDERS.index(v)] for k, v in zip(keys, values, strict=True)]
    picked = np.take_along_axis(costs, np.array(at)[..., None], -1).sum()
    assert picked <= costs[:, :, 1].sum()  # 2 bits everywhere fit the budget too


# ------------------------------------------------------------------ stored, resumed


def test_a_result_is_saved_and_loaded(tmp_path):
    model = tiny()
    found = calibrate_ladders(model, text(tokens=160), 4.0, progress=False, **SMALL)
    keys, values = found
    assert found == (keys, values)
    path = tmp_path / "ladders.json"
    found.save(path)
    back = Calibration.load(path)
    assert back == found
    assert (back.budget, back.length, back.measured.ladders) == (4.0, None, LADDERS)
    np.testing.assert_array_equal(back.measured.costs, found.measured.costs)
    assert choose_ladders(model.config, back.measured.costs, 4.0, chunk=16, sink=2) == found
    for other in (copy.copy(found), pickle.loads(pickle.dumps(found))):
        assert other == found
        assert other.measured.about == found.measured.about
    content = json.loads(path.read_text())
    assert content["about"]["text"]["tokens"] == [1, 160]
    own = {"chunk": "16", "decoded": "24", "sink": "2"}
    assert content["about"]["options"].items() >= own.items()
    assert content["made with"]["torch"] == torch.__version__
    assert [f.name for f in tmp_path.iterdir()] == ["ladders.json"]


def test_an_interrupted_run_goes_on_where_it_was(tmp_path, monkeypatch):
    model, path = tiny(), tmp_path / "costs.json"
    run = {"store": path, **SMALL}
    whole = calibrate_ladders(model, text(tokens=160), 4.0, progress=False, **SMALL)

    def stops(record):
        if record.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate_ladders(model, text(tokens=160), 4.0, progress=stops, **run)
    with pytest.raises(ValueError, match="must hold all layers, got 2 of a run that"):
        Calibration.load(path)
    seen = []
    again = calibrate_ladders(model, text(tokens=160), 4.0, progress=seen.append, **run)
    assert [record.done for record in seen] == [3]  # two layers were not measured again
    assert again == whole == Calibration.load(path)
    np.testing.assert_array_equal(again.measured.costs, whole.measured.costs)

    # another budget, and the model is not even asked
    monkeypatch.setattr(calibration, "_prompt", lambda *args: pytest.fail("measured again"))
    more = calibrate_ladders(model, text(tokens=160), 8.0, progress=False, **run)
    assert more != whole
    assert Calibration.load(path).budget == 8.0


def test_time_left_comes_from_the_layers_that_are_done(monkeypatch):
    seen, clock = [], itertools.count(0.0, 10.0)
    monkeypatch.setattr(calibration.time, "monotonic", lambda: next(clock))
    calibrate_ladders(tiny(), text(tokens=160), 4.0, progress=seen.append, **SMALL)
    left = [record.seconds_left for record in seen]
    head = 128 * 64 / sum(p.numel() for p in tiny().model.layers[0].parameters())
    expected = [10 * (3 + 2 * head) / (3 + head), 20 * (1 + head) / (5 + 2 * head), 0]
    assert left == pytest.approx(expected)


def test_costs_of_something_else_are_refused(tmp_path):
    path = tmp_path / "costs.json"
    ids = text(tokens=160)
    calibrate_ladders(tiny(), ids, 4.0, store=path, progress=False, **SMALL)
    other = tiny()
    other.model.layers[2].mlp.up_proj.weight.add_(1e-3)
    for change, message in (
        ({"model": other}, "another model"),
        ({"ids": ids.flip(1)}, "another text"),
        ({"ladders": CHOICE}, "another ladders"),
        ({"decoded": 25}, r"another decoded \(24, not 25\)"),
    ):
        given = {"model": tiny(), "ids": ids, "budget": 8.0, "store": path, **SMALL, **change}
        with pytest.raises(ValueError, match=message):
            calibrate_ladders(progress=False, **given)
    for damaged in ("", "{}", path.read_text()[:-40], path.read_text().replace("-1", "-2", 1)):
        bad = tmp_path / "bad.json"
        bad.write_text(damaged)
        with pytest.raises(ValueError, match=r"must be a file of calibrate_ladders \(genopt"):
            Calibration.load(bad)
    with pytest.raises(FileNotFoundError):
        Calibration.load(tmp_path / "nothing.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoded": 100}, "decoded=100"),
        ({"decoded": 0}, "decoded must be at least 1, got 0"),
        ({"chunk": 0}, "chunk"),
        ({"codec": "none"}, "codec"),
        ({"ladders": ((16, 5),)}, "widths of codec 'rotated'"),
        ({"ladders": ()}, "ladders must not be empty"),
        ({"ladders": LADDERS}, "at least 138 tokens, got 100: 114 .* decoded=24"),
    ],
)
def test_costs_refuse(change, message):
    with pytest.raises(ValueError, match=message):
        next(layer_costs(tiny(), text(), **{"ladders": CHOICE, **SMALL, **change}))


def test_a_budget_at_a_length_is_kept_by_the_bytes_held():
    """Oracle: a real cache of that many tokens, over one chunk of lengths."""
    config = tiny().config
    costs = np.random.default_rng(0).random((3, 2, 5)).cumsum(-1)[..., ::-1] ** 4
    keys, values = choose_ladders(config, costs, 6.0, length=128, chunk=16, sink=2)
    cache = StaircaseCache(config, keys, values, chunk=16, sink=2, full_dtype=torch.float16)
    held = []
    x = torch.randn(1, 2, 128, 16, generator=torch.Generator().manual_seed(0))
    for i in range(128):
        for layer in range(3):
            cache.update(x[:, :, i : i + 1], x[:, :, i : i + 1], layer)
        held.append(cache.bits_per_element())
    assert 5.5 < np.mean(held[-16:]) <= 6.0
    with pytest.raises(ValueError, match="length must be at least chunk=16, got 10"):
        choose_ladders(config, costs, 6.0, length=10, chunk=16)


def test_choice_refuses():
    config = tiny().config
    with pytest.raises(ValueError, match=r"costs must be \(3, 2, 5\)"):
        choose_ladders(config, np.zeros((2, 2, 5)), 3.0)
    with pytest.raises(ValueError, match=r"budget .* got 1"):
        choose_ladders(config, np.zeros((3, 2, 5)), 1.0)
    with pytest.raises(ValueError, match="widths of codec 'rotated'"):
        choose_ladders(config, np.zeros((3, 2, 2)), 8.0, ((16, 8), (16, 5)))
    with pytest.raises(ValueError, match="evaluation mode"):
        layer_costs(tiny().train(), text(), CHOICE, **SMALL)
    with pytest.raises(ValueError, match="layers cannot be chosen"):
        calibrate_ladders(tiny(), text(), 4.0, layers=[1], **SMALL)
    with pytest.raises(ValueError, match=r"budget .* got 1"):  # before anything is measured
        calibrate_ladders(tiny(), text(tokens=10), 1.0, **SMALL)
    with pytest.raises(ValueError, match="ids must be"):
        next(layer_costs(tiny(), text()[0]))
