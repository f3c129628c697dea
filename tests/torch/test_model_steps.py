"""Training, first weights and generation against what is written out step by step."""

import dataclasses
import math

import pytest
import torch

from genopt_core.one_model import ModelConfig
from genopt_core.torch.model import Decoder, Run, train
from genopt_core.torch.model.serving import ModelCache, generate
from genopt_core.torch.model.storage import read
from genopt_core.torch.model.training import CHECKPOINT, Done

torch.set_num_threads(1)
SHAPE = ModelConfig(vocabulary=7, layers=1, width=8, heads=2, key_heads=1, hidden=4)
IDS = torch.arange(40)[None] % 7


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def run(**changes):
    return Run(**({"model": SHAPE, "steps": 4, "rate": 0.01} | changes))


def small(seed=0):
    return Decoder(SHAPE, seeded(seed)).eval()


def batch(step):
    return (torch.arange(9) * (step + 1) + torch.tensor([[0], [3]])) % 7


def test_rates_rise_in_a_line_and_fall_along_a_cosine():
    r = run(steps=12, rate=2.0, warm_up=0.25, last=0.1)
    assert [r.rate_at(i) for i in range(3)] == pytest.approx([2 / 3, 4 / 3, 2])
    for i in range(3, 12):
        wave = 0.5 + 0.5 * math.cos(math.pi * (i - 2) / 9)
        assert r.rate_at(i) == pytest.approx(2 * (0.1 + 0.9 * wave))
    assert r.rate_at(11) == pytest.approx(0.2)
    assert run(steps=2, warm_up=0.0, rate=1.0).rate_at(0) == 1.0  # one step of warm-up at least
    assert run(steps=2, warm_up=1.0, rate=1.0).rate_at(1) == 1.0


def adamw(weights, gradients, run, steps):
    """AdamW as its paper writes it; gradients cut to a length, decay of matrices alone."""
    first, second = ({n: torch.zeros_like(w) for n, w in weights.items()} for _ in range(2))
    for step in range(steps):
        found = gradients(weights, step)
        length = math.sqrt(sum(g.square().sum().item() for g in found.values()))
        for name, w in weights.items():
            g = found[name] * min(1.0, run.clip / (length + 1e-6))
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = run.beta * second[name] + (1 - run.beta) * g.square()
            rate = run.rate_at(step)
            mean = first[name] / (1 - 0.9 ** (step + 1))
            size = (second[name] / (1 - run.beta ** (step + 1))).sqrt()
            kept = 1 - rate * run.decay if w.dim() > 1 else 1
            weights[name] = w * kept - rate * mean / (size + 1e-8)
    return weights


@pytest.mark.parametrize("clip", [1e-3, 100.0])
@pytest.mark.parametrize("special", [False, True])
def test_steps_are_those_of_adamw(clip, special):
    one = run(steps=3, clip=clip, beta=0.8, decay=0.3, warm_up=0.0, seed=5)
    lengths = torch.tensor([1, 1, 0, 1, 2, 1, 1]) if special else None
    start = Decoder(SHAPE, seeded(5))
    losses = []

    def gradients(weights, step):
        leaves = {n: w.clone().requires_grad_() for n, w in weights.items()}
        windows = batch(step)
        logits = torch.func.functional_call(start, leaves, (windows[:, :-1],))
        nats = -logits.log_softmax(-1).gather(-1, windows[:, 1:, None])[..., 0]
        spelled = torch.ones(7) if lengths is None else (lengths > 0).float()
        counted = spelled[windows[:, 1:]]
        loss = (nats * counted).sum() / counted.sum()
        losses.append(loss.item())
        return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))

    wanted = adamw({n: p.detach().clone() for n, p in start.named_parameters()}, gradients, one, 3)
    found = train(one, batch, lengths=lengths)
    assert found.losses.tolist() == pytest.approx(losses, rel=1e-5)
    for name, weight in found.model.named_parameters():
        torch.testing.assert_close(weight.detach(), wanted[name], rtol=1e-4, atol=2e-5)
    assert not found.model.training


def same(a, b):
    return torch.equal(a.losses, b.losses) and all(
        torch.equal(x, y) for x, y in zip(a.model.parameters(), b.model.parameters(), strict=True)
    )


def test_a_short_run_that_is_cut_anywhere_is_the_run(tmp_path):
    drawn = dataclasses.replace(SHAPE, density=0.7, block=1)
    one = run(model=drawn, steps=4)
    whole = train(one, batch)
    for every, cut, kept in ((2, 3, 3), (1, 2, 2), (9, 1, 1)):
        path, seen = tmp_path / f"{every}-{cut}", []

        def stop(done, cut=cut, seen=seen):
            seen.append(done)
            if done.done == cut:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(one, batch, path=path, every=every, progress=stop)
        tensors, content = read(path, CHECKPOINT)
        assert content == {"run": one.to_json(), "step": kept}
        assert tensors["losses"].tolist() == [*whole.losses[:kept].tolist(), *[0.0] * (4 - kept)]
        assert seen[-1] == Done(cut, 4, whole.losses[cut - 1].item())
        asked = []
        again = train(one, lambda i, asked=asked: asked.append(i) or batch(i), path=path)
        assert asked == list(range(kept, 4))
        assert same(again, whole)
        assert read(path, CHECKPOINT)[1]["step"] == 4
    with pytest.raises(ValueError, match=r"^steps must be that of the checkpoint"):
        train(run(model=drawn, steps=5), batch, path=path)


def test_checkpoints_come_every_so_many_steps_and_at_the_end(tmp_path, monkeypatch):
    from genopt_core.torch.model import training

    steps, save = [], training._save
    monkeypatch.setattr(training, "_save", lambda *a: steps.append(a[5]) or save(*a))
    train(run(steps=5), batch, path=tmp_path / "a", every=2)
    assert steps == [2, 4, 5]
    steps.clear()
    train(run(steps=4), batch, path=tmp_path / "b", every=4)
    assert steps == [4]
    steps.clear()

    def stop(done):
        if done.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # what is stored already is not stored again
        train(run(steps=4), batch, path=tmp_path / "c", every=2, progress=stop)
    assert steps == [2]
    with pytest.raises(KeyboardInterrupt):  # nothing is left where no path is
        train(run(steps=4), batch, progress=stop)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "c"]


def test_first_weights_have_the_size_that_keeps_sums():
    wide = ModelConfig(vocabulary=300, hidden=96, positions="alibi", learned=True)
    for name, w in Decoder(wide, seeded()).named_parameters():
        last = name.rpartition(".")[2]
        if w.dim() > 1:
            size = 0.02 if name == "embedding" else w.shape[1] ** -0.5
            size /= 2 if last in ("out", "down") else 1  # sqrt(2 * layers)
            assert w.std().item() == pytest.approx(size, rel=0.05), name
    assert Decoder(wide).parameter_count == sum(p.numel() for p in Decoder(wide).parameters())
    assert torch.equal(Decoder(wide).embedding, Decoder(wide, seeded()).embedding)


def test_generation_without_heat_takes_the_likeliest_and_with_it_draws():
    model = small()
    found = generate(model, IDS[:, :3], 3, temperature=0.0)
    for i in range(3, 6):
        assert found[0, i] == model(found[:, :i])[0, -1].argmax()
    drawn = generate(model, IDS[:, :3], 1, temperature=2.0, generator=seeded(4))
    chances = (model(IDS[:, :3])[0, -1] / 2).softmax(-1)
    assert drawn[0, 3] == torch.multinomial(chances, 1, generator=seeded(4))
    assert ModelCache.full_bytes(SHAPE, 10, 2) == 2 * 1 * 1 * 4 * 10 * 2
