"""The decoders of chapter 3, their tasks, and what is stored of their runs."""

import math

import numpy as np
import pytest
import torch
from places import RESULTS
from safetensors.torch import load_file

from book.experiments.common.store import read, write_json
from book.experiments.positions import recall, store
from book.experiments.positions.language import (
    FINAL,
    KEPT,
    STAGES,
    TIMES,
    WINDOWS,
    groups,
    scored,
    tokens_of,
    windows,
)
from book.experiments.positions.models import CHANGES, METHODS, Decoders, Shape, as_heads
from book.experiments.positions.training import last_token_nats, train
from genopt_core.positions import bias_by_distance, inverse_frequencies

torch.set_num_threads(1)
TINY = Shape(16, layers=2, width=16, heads=4, hidden=24)
TRAINED = 8


def decoders(*names, seeds=(1, 2)):
    return Decoders(list(names), list(seeds), TINY, TRAINED)


def drawn(*size, top=16):
    return torch.randint(top, size, generator=torch.Generator().manual_seed(5))


# ------------------------------------------------------------------ decoders


@pytest.mark.parametrize("length", [1, 2, 11])
@pytest.mark.parametrize("name", ["alibi", "rope-hdist", "windows", "rope-learned-fourfold"])
def test_a_square_of_bias_is_its_table_by_distance(name, length):
    table = bias_by_distance(METHODS[name].strengths(4), length, METHODS[name].distance)
    if METHODS[name].windows:
        seen = np.array(METHODS[name].windows)[:, None] > np.arange(length)
        table = np.where(seen, table, -np.inf)
    square = decoders("rope", name).bias(1, length)[2, 0].detach().numpy()
    for i in range(length):
        for j in range(length):
            expected = table[:, i - j] if j <= i else np.full(4, -np.inf)
            assert square[:, i, j] == pytest.approx(expected, rel=1e-5)


def test_replicas_as_heads_are_replicas_one_by_one():
    g = torch.Generator().manual_seed(1)
    q = torch.randn(3, 2, 4, 5, 8, generator=g)
    k, v = (torch.randn(3, 2, 4, 9, 8, generator=g) for _ in range(2))
    bias = torch.randn(3, 1, 4, 5, 9, generator=g)
    weights = (q @ k.transpose(-1, -2) / math.sqrt(8) + bias).softmax(-1)
    torch.testing.assert_close(as_heads(q, k, v, bias), weights @ v, atol=1e-5, rtol=0)


def test_a_part_is_the_method_alone():
    models, tokens = decoders("rope", "alibi", "fire"), drawn(1, 3, 12)
    with torch.no_grad():
        whole = models(tokens.expand(6, -1, -1))
        part = models.part("alibi")(tokens.expand(2, -1, -1))
    torch.testing.assert_close(part, whole[2:4], atol=1e-5, rtol=0)


def test_changes_are_of_the_angles_or_of_the_bias_and_leave_the_weights():
    models = decoders("rope", "alibi", "rope-alibi")
    for name, change in CHANGES.items():
        one = models.changed(change, 4)
        assert METHODS[change.base].learned == "fixed"
        assert all(
            torch.equal(w, models.part(change.base).weights[k]) for k, w in one.weights.items()
        )
        plain = models.part(change.base)
        if change.softer:
            torch.testing.assert_close(4 * one._fixed(32), plain._fixed(32))
        else:
            assert torch.equal(one._fixed(32), plain._fixed(32))
        expected = {
            "rope-interpolated": inverse_frequencies(4) / 4,
            "rope-ntk": inverse_frequencies(4, scaling="ntk", factor=4),
            "rope-yarn": inverse_frequencies(4, scaling="yarn", factor=4, trained_length=TRAINED),
            "rope-drope": np.zeros(2),
            "alibi-interpolated": np.zeros(2),
        }.get(name, inverse_frequencies(4))
        assert one.omega[1, 1].tolist() == pytest.approx(expected.tolist())
        warm = (0.1 * math.log(4) + 1) ** 2 if name == "rope-yarn" else 1.0
        assert one.sharper == pytest.approx(warm)


def test_at_the_trained_length_a_change_changes_nothing_but_drope():
    models, tokens = decoders("rope", "alibi", "rope-alibi"), drawn(1, 3, TRAINED)
    models.weights["0.qkv"].data *= 30  # so that positions matter
    for name, change in CHANGES.items():
        with torch.no_grad():
            one, plain = (
                each(tokens.expand(2, -1, -1))
                for each in (models.changed(change, 1), models.part(change.base))
            )
        assert torch.equal(one, plain) == (name != "rope-drope")


def test_interpolated_rope_reads_every_second_token_as_if_it_were_the_next():
    """At twice the length, angles are those of half the positions."""
    models = decoders("rope")
    once, twice = models.part("rope"), models.changed(CHANGES["rope-interpolated"], 2)
    torch.testing.assert_close(2 * twice.omega, once.omega)


def test_training_lowers_the_loss_of_every_replica_alone():
    """Replicas do not touch one another: alone or together, the losses are the same."""
    tokens = drawn(2, 4, TRAINED + 1, top=3)
    ones = torch.ones(2, 4, TRAINED)

    def losses(*names):
        models = decoders(*names)
        n = len(names)
        given = ((tokens.repeat(n, 1, 1), ones.repeat(n, 1, 1)) for _ in range(30))
        return train(models, given, 30)

    both, alone = losses("rope", "alibi"), losses("alibi")
    torch.testing.assert_close(both[2:], alone, atol=1e-4, rtol=0)
    assert (both < math.log(TINY.vocab) - 1).all()


def test_the_last_tokens_are_scored_whatever_the_chunk():
    models, held = decoders("rope", "fox"), drawn(200)
    chosen = windows(held, 16, 64, 5)
    assert chosen.shape == (5, 17)
    assert torch.equal(chosen[:, -1], windows(held, 64, 64, 5)[:, -1]), "the same ends"
    by_one, at_once = (last_token_nats(models, chosen, 4, chunk) for chunk in (1, 5))
    torch.testing.assert_close(by_one, at_once, atol=1e-6, rtol=0)
    with torch.no_grad():
        logits = models(chosen[None, :, :-1].expand(4, -1, -1))[..., -4:, :]
    nats = torch.nn.functional.cross_entropy(
        logits.flatten(0, 2), chosen[None, :, -4:].expand(4, -1, -1).flatten(), reduction="none"
    )
    torch.testing.assert_close(by_one.float(), nats.view(4, -1).mean(1), atol=1e-5, rtol=0)


def test_a_batch_has_all_methods_once_and_those_by_data_apart():
    found = groups(FINAL, 7)
    assert sorted(name for some in found for name in some) == sorted(FINAL)
    assert ["fox"] in found
    assert max(map(len, found)) <= 7


# ------------------------------------------------------------------ recall


@pytest.mark.parametrize("task", list(recall.PAIRS))
@pytest.mark.parametrize("distance", [2, 16, 200])
def test_a_key_comes_again_at_the_distance_and_its_value_follows(task, distance):
    count, length = recall.PAIRS[task], max(recall.TRAINED, distance + 16)
    gen = torch.Generator().manual_seed(3)
    gaps = torch.full((40, count), distance)
    tokens, counted = recall.pairs(40, length, count, gaps, gen)
    assert counted.sum() >= 40
    for row, at in counted.nonzero().tolist():
        key, value = tokens[row, at], tokens[row, at + 1]
        assert key < recall.KEYS <= value < recall.KEYS + recall.VALUES
        assert tokens[row, at - distance] == key
        assert tokens[row, at - distance + 1] == value
        assert (tokens[row] == key).sum() == 2


def test_a_string_is_copied_at_the_distance_behind_a_mark():
    tokens, counted = recall.copies(30, 64, torch.full((30,), 20), torch.Generator().manual_seed(3))
    for row in range(30):
        at = counted[row].nonzero().flatten() + 1
        assert len(at) == recall.STRING
        assert torch.equal(tokens[row, at], tokens[row, at - 20])
        assert tokens[row, at[0] - 1] == recall.MARK


def test_a_batch_is_the_same_for_a_seed_whatever_the_method():
    tokens, counted = next(recall.batches([3, 4], 2, "cpu"))
    rows = sum(recall.SHARES.values())
    assert tokens.shape == (4, rows, recall.TRAINED + 1)
    assert torch.equal(tokens[:2], tokens[2:])
    assert torch.equal(counted[:2], counted[2:])
    assert not torch.equal(tokens[0], tokens[1])


# ------------------------------------------------------------------ what is stored


def rows_of(method, device, text="sotu", trained=64, seeds=(0, 1, 2, 3, 4)):
    return [
        {
            "text": text,
            "trained": trained,
            "method": method,
            "seed": seed,
            "times": times,
            "nats": 2.0,
            "device": device,
        }
        for seed in seeds
        for times in TIMES
    ]


@pytest.fixture
def _nothing_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "STORED", {"final": tmp_path / "stored.json"})


@pytest.mark.usefixtures("_nothing_stored")
def test_a_method_counts_where_all_its_seeds_and_lengths_do(tmp_path):
    write_json(tmp_path / "language-final-a.json", rows_of("rope", "a"))
    write_json(tmp_path / "language-final-b.json", rows_of("alibi", "a", seeds=(0, 1)))
    assert {row["method"] for row in store.gathered("final", tmp_path)} == {"rope"}


@pytest.mark.usefixtures("_nothing_stored")
def test_machines_are_not_mixed_within_a_text_and_length(tmp_path):
    write_json(tmp_path / "language-final-a.json", rows_of("rope", "old"))
    content = store.result("final", store.gathered("final", tmp_path))
    assert content["machines"] == {"sotu/64": "old"}
    write_json(tmp_path / "stored.json", content)
    for device, kept in (("old", {"rope", "alibi"}), ("new", {"alibi"})):
        write_json(tmp_path / "language-final-a.json", rows_of("alibi", device))
        found = store.gathered("final", tmp_path)
        assert {row["method"] for row in found} == kept
        assert {row["device"] for row in found} == {device}
    write_json(tmp_path / "language-final-a.json", rows_of("alibi", "new", trained=128))
    found = store.gathered("final", tmp_path)
    assert {(row["trained"], row["device"]) for row in found} == {(64, "old"), (128, "new")}


@pytest.mark.parametrize("times", [1, 4])
def test_stored_losses_are_those_of_the_stored_weights(times):
    """The first seed's decoders in half precision: the GPU's losses to a thousandth of a nat."""
    weights = load_file(store.WEIGHTS)
    expected = {
        row[2]: row[5]
        for row in read(RESULTS / "positions_final.json")["rows"]
        if (row[0], row[1], row[3], row[4]) == ("sotu", 64, 0, times)
    }
    held = tokens_of("sotu", 256, store.SCRATCH)
    held = held[int(0.95 * len(held)) :]
    for name in KEPT:
        models = Decoders([name], [0], STAGES["final"]["shape"], 64)
        for key, w in models.weights.items():
            w.data.copy_(weights[f"{name}/{key}"][None])
        ((nats,),) = scored(models, held, times, WINDOWS)
        assert nats == pytest.approx(expected[name], abs=1e-3), name


def test_seeds_of_stages_are_apart():
    development = set(STAGES["development"]["seeds"])
    for stage in ("final", "large"):
        assert not development & set(STAGES[stage]["seeds"])
        assert STAGES[stage]["methods"] == FINAL
