"""Blocks of a plan in models of transformers: against dense masks, with caches, biases, padding."""

import pytest
import torch
from oracles.models import alternating, tiny
from torch.nn.functional import cross_entropy
from transformers import DynamicCache, MistralConfig, MistralForCausalLM

from genopt_core.integrations import positions
from genopt_core.integrations.attention import NAME, register, use
from genopt_core.torch.attention import DistanceLaw, Plan, near, plan_rows, sample, sink
from genopt_core.torch.kvcache import StaircaseCache
from genopt_core.torch.positions import encoding

torch.set_num_threads(1)
TOKENS, BLOCK = 45, 4
FEW = sink(1) | near(1) | sample(DistanceLaw.harmonic(), 2)
ALL = sink(1) | near(1) | sample(DistanceLaw.harmonic(), density=1.0)


def ids(rows=2, tokens=TOKENS, seed=1):
    return torch.randint(3, 128, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def the_largest(q, k, generator):
    return plan_rows(q, k, 3, block=BLOCK, choose="top")


def by_rows(q, k, generator):
    return plan_rows(q, k, 3, block=BLOCK, generator=generator)


def logits(model, x, design, **options):
    with use(model, design, block=BLOCK, **options):
        return model(x).logits


# ------------------------------------------------------------------ what it computes


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("estimator", ["plain", "self-normalized", "difference"])
def test_all_blocks_are_the_stock_model(kv_heads, estimator):
    model, x = tiny(kv_heads), ids()
    expected = model(x).logits
    found = logits(model, x, ALL, estimator=estimator)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert torch.equal(model(x).logits, expected)
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("weighted", [True, False])
def test_a_plan_is_the_stock_model_with_its_dense_mask(kv_heads, weighted):
    model, x = tiny(kv_heads), ids()
    for each in ("plan", "head", "row"):
        design = sink(1) | near(1) | sample(DistanceLaw.harmonic(), 2, each=each)
        plan = design.plan(TOKENS, block=BLOCK, heads=4, generator=seeded(3))
        square = plan.to_dense_bias(weighted=weighted, dtype=torch.float32)
        expected = model(x, attention_mask=square.expand(2, -1, -1, -1)).logits
        found = logits(model, x, plan, estimator="self-normalized" if weighted else "plain")
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_callable_makes_a_plan_of_queries_and_keys():
    model, x = tiny(), ids()
    seen = []

    def draw(q, k, generator):
        assert (q.shape, k.shape) == ((2, 4, TOKENS, 16), (2, 2, TOKENS, 16))
        seen.append(by_rows(q, k, generator))
        return seen[-1]

    g = seeded()
    found = logits(model, x, draw, estimator="difference", generator=g)
    assert len(seen) == 3
    again = iter(seen)
    torch.testing.assert_close(
        logits(model, x, lambda q, k, g: next(again), estimator="difference"), found
    )
    assert (found - model(x).logits).abs().max() > 1e-4
    expected = logits(model, x, by_rows, estimator="difference", generator=seeded())
    assert torch.equal(found, expected)


def test_one_seed_is_one_result_and_another_another():
    model, x = tiny(), ids()
    first, again, other = (logits(model, x, FEW, generator=seeded(s)) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_layers_and_heads_have_designs_of_their_own():
    model, x = tiny(), ids()
    expected = model(x).logits
    torch.testing.assert_close(logits(model, x, {}), expected)
    torch.testing.assert_close(logits(model, x, {0: ALL, 2: ALL}), expected, atol=1e-5, rtol=0)
    plans = {}

    def draw(layer, count):
        def call(q, k, generator):
            plans[layer] = near(count).plan(TOKENS, block=BLOCK)
            return plans[layer]

        return call

    logits(model, x, {1: draw(1, 2)})
    assert list(plans) == [1]
    heads = [near(n) for n in range(4)]
    found = logits(model, x, heads)
    square = torch.cat(
        [n.plan(TOKENS, block=BLOCK).to_dense_bias(dtype=torch.float32) for n in heads], 1
    )
    wanted = model(x, attention_mask=square.expand(2, -1, -1, -1)).logits
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_rounds_come_near_the_stock_model():
    model, x = tiny(), ids()
    expected = model(x).logits
    one, many = (
        (logits(model, x, FEW, rounds=r, generator=seeded()) - expected).norm() for r in (1, 64)
    )
    assert many < one / 4


# ------------------------------------------------------------------ padding


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("design", [near(2), the_largest])
def test_padding_is_as_if_it_were_not_there(side, design):
    model, x = tiny(), ids(3)
    lengths = (TOKENS, TOKENS - 7, TOKENS - 20)
    mask = torch.stack([torch.arange(TOKENS) < n for n in lengths]).long()
    mask = mask.flip(1) if side == "left" else mask
    places = (mask.cumsum(1) - 1).clamp_min(0)
    with use(model, design, block=BLOCK):
        found = model(x, attention_mask=mask, position_ids=places).logits
        for row, n in enumerate(lengths):
            seen = mask[row].bool()
            alone = model(x[row, seen][None]).logits[0]
            assert len(alone) == n
            torch.testing.assert_close(found[row, seen], alone, atol=1e-5, rtol=0)
    assert found.isfinite().all()


def test_padding_between_tokens_is_refused():
    model, x = tiny(), ids()
    mask = torch.ones_like(x)
    mask[0, 5] = 0
    with use(model, FEW, block=BLOCK), pytest.raises(ValueError, match="got padding between"):
        model(x, attention_mask=mask)


@pytest.mark.parametrize("size", [TOKENS, TOKENS + 1, 4096])
def test_a_window_that_is_not_shorter_than_the_text_is_none(size):
    model, plain, x = windows(size), windows(None), ids()
    plain.load_state_dict(model.state_dict())
    mask = torch.ones_like(x)
    mask[0, :9] = 0
    for given in ({}, {"attention_mask": mask}):
        found = []
        for one in (model, plain):
            with use(one, FEW, block=BLOCK, generator=seeded()), torch.no_grad():
                found.append(one(x, **given).logits)
        assert torch.equal(*found)


def test_a_window_that_is_shorter_is_named_with_its_layer():
    model, x = windows(), ids()
    words = r"got \(2, 1, 45, 45\) in layer 0 with a window of 8 tokens"
    with use(model, FEW, block=BLOCK), pytest.raises(ValueError, match=words):
        model(x)
    with use(model, FEW, block=BLOCK), torch.no_grad():
        model(x[:, :8], attention_mask=torch.ones(2, 8).tril(6).long())


def test_layers_without_a_window_are_chosen_by_their_numbers():
    model = alternating(window=16, kinds=("sliding", "full"))
    x = ids() % 97
    mask = torch.ones_like(x)
    mask[0, :9] = 0
    expected = model(x, attention_mask=mask).logits
    with use(model, {1: ALL}, block=BLOCK):
        found = model(x, attention_mask=mask).logits
    torch.testing.assert_close(found[mask == 1], expected[mask == 1], atol=1e-5, rtol=1e-4)
    with (
        use(model, FEW, block=BLOCK),
        pytest.raises(ValueError, match="layer 0 with a window of 16"),
    ):
        model(x, attention_mask=mask)


# ------------------------------------------------------------------ caches and encodings


@pytest.mark.parametrize("name", ["stock", "rope+alibi", "kerple-log", "nope"])
def test_prefill_by_blocks_then_decoding_over_everything(name):
    model, x = tiny(), ids()
    if name != "stock":
        positions.use(model, encoding(name, 4))
    expected = model(x).logits
    with use(model, ALL, block=BLOCK):
        cache = DynamicCache()
        found = [model(x[:, :30], past_key_values=cache).logits]
        found += [model(t, past_key_values=cache).logits for t in x[:, 30:40].split(1, 1)]
        found += [model(x[:, 40:], past_key_values=cache).logits]
    torch.testing.assert_close(torch.cat(found, 1), expected, atol=1e-5, rtol=0)
    plan = FEW.plan(TOKENS, block=BLOCK, generator=seeded())
    with use(model, {1: plan}):
        sparse = model(x).logits
    assert (sparse - expected).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["rope+alibi", "rope+harmonic", "rope+windows"])
def test_a_bias_of_chapter_3_and_a_plan_are_a_dense_mask(name):
    options = {"windows": (9, 17), "free": 2} if "windows" in name else {}
    model, x, one = tiny(), ids(), encoding(name, 4, **options)
    plan = FEW.plan(TOKENS, block=BLOCK, generator=seeded())
    i = torch.arange(TOKENS)
    square = plan.to_dense_bias(dtype=torch.float32)
    square = square + one.bias(TOKENS)[:, (i[:, None] - i).clamp_min(0)]
    expected = model(x, attention_mask=square.expand(2, -1, -1, -1)).logits
    positions.use(model, one)
    torch.testing.assert_close(logits(model, x, plan), expected, atol=1e-5, rtol=0)
    assert model.config._attn_implementation == positions.NAME


@pytest.mark.parametrize("name", ["stock", "rope+alibi"])
@pytest.mark.parametrize("design", [ALL, FEW, by_rows])
def test_the_staircase_cache_takes_over_after_the_prompt(name, design):
    model, x = tiny(), ids()
    if name != "stock":
        positions.use(model, encoding(name, 4))

    def run(cache):
        out = [model(x[:, :40], past_key_values=cache).logits]
        return torch.cat(
            out + [model(t, past_key_values=cache).logits for t in x[:, 40:].split(1, 1)], 1
        )

    with use(model, design, block=BLOCK, generator=seeded()):
        expected = run(DynamicCache())
    with use(model, design, block=BLOCK, generator=seeded()):
        stairs = StaircaseCache(model.config, (16,), chunk=8)  # all full: nothing may change
        torch.testing.assert_close(run(stairs), expected, atol=1e-5, rtol=0)
    with use(model, design, block=BLOCK, generator=seeded()):
        packed = run(StaircaseCache(model.config, (16, 8), chunk=8))
    torch.testing.assert_close(packed[:, :40], expected[:, :40], atol=1e-5, rtol=0)
    assert ((packed - expected).norm() / expected.norm()) < 0.01


def test_generate_runs():
    model, x = tiny(), ids(1)
    stock = model.generate(x, max_new_tokens=5, do_sample=False)
    with use(model, ALL, block=BLOCK):
        found = model.generate(x, max_new_tokens=5, do_sample=False)
    assert torch.equal(found, stock)


# ------------------------------------------------------------------ training


def test_a_model_learns_through_the_blocks_of_a_draw():
    model, x = tiny().train().requires_grad_(True), ids()
    plan = FEW.plan(TOKENS, block=BLOCK, generator=seeded())

    def gradients(mask=None):
        out = model(x, attention_mask=mask).logits
        loss = cross_entropy(out[:, :-1].flatten(0, 1), x[:, 1:].flatten())
        return torch.autograd.grad(loss, list(model.parameters()))

    square = plan.to_dense_bias(dtype=torch.float32).expand(2, -1, -1, -1)
    expected = gradients(square)
    with use(model, plan):
        found = gradients()
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_slopes_that_learn_get_their_gradients():
    x, plan = ids(), FEW.plan(TOKENS, block=BLOCK, generator=seeded())
    everything = ALL.plan(TOKENS, block=BLOCK)

    def gradients(design):
        model = tiny()
        positions.use(model, encoding("rope+alibi", 4, learned=True))
        (raw,) = [p for name, p in model.named_parameters() if name.endswith("raw")]
        model.requires_grad_(False)
        raw.requires_grad_()
        if design is not None:
            use(model, design)
        out = model(x).logits
        loss = cross_entropy(out[:, :-1].flatten(0, 1), x[:, 1:].flatten())
        return torch.autograd.grad(loss, raw)[0]

    torch.testing.assert_close(gradients(everything), gradients(None), atol=1e-6, rtol=1e-3)
    assert gradients(plan).abs().min() > 0
    assert not torch.allclose(gradients(plan), gradients(None), rtol=1e-2)


def test_dropout_is_refused_with_a_hint():
    model, x = tiny().train(), ids()
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.1
    with use(model, FEW, block=BLOCK), pytest.raises(ValueError, match="set the model's attention"):
        model(x)


@pytest.mark.parametrize("name", ["stock", "rope+alibi"])
def test_evaluation_by_what_draws_come_to_on_average(name):
    model, x = tiny(), ids()
    if name != "stock":
        positions.use(model, encoding(name, 4))
    expected = model(x).logits
    for options in ({"evaluate": "full"}, {"evaluate": "full", "estimator": "plain"}):
        assert torch.equal(logits(model, x, FEW, **options), expected)
    assert torch.equal(logits(model, x, FEW, evaluate="expected"), expected)
    found = logits(model, x, FEW, evaluate="expected", estimator="plain")
    assert torch.equal(found, logits(model, x, FEW, evaluate="expected", estimator="plain"))
    # errors of pooled rounds fall with the root of their number, here about 8: twice the bound
    pooled = logits(model, x, FEW, rounds=64, estimator="plain", generator=seeded())
    few = logits(model, x, FEW, rounds=1, estimator="plain", generator=seeded())
    assert (found - expected).norm() > 4 * (pooled - found).norm()
    assert (few - found).norm() > 4 * (pooled - found).norm()
    with use(model.train(), FEW, block=BLOCK, evaluate="full", generator=seeded()):
        trained = model(x).logits
    assert torch.equal(trained, logits(model.eval(), x, FEW, generator=seeded()))


# ------------------------------------------------------------------ turning it on and off


def test_an_encoding_may_come_before_or_after():
    x, plan = ids(), FEW.plan(TOKENS, block=BLOCK, generator=seeded())
    found = []
    for first in (True, False):
        model = tiny()
        if first:
            positions.use(model, encoding("rope+alibi", 4))
        with use(model, plan):
            if not first:
                positions.use(model, encoding("rope+alibi", 4))
            found.append(model(x).logits)
        assert model.config._attn_implementation == positions.NAME
        found.append(model(x).logits)
        positions.use(model, None)
        torch.testing.assert_close(model(x).logits, tiny()(x).logits)
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], found[3])
    assert not torch.equal(found[0], found[1])


def test_it_stays_until_it_is_taken_away():
    model, x = tiny(), ids()
    expected = model(x).logits
    use(model, near(1), block=BLOCK)
    sparse = model(x).logits
    assert model.config._attn_implementation == NAME
    with use(model, near(2), block=BLOCK):
        assert not torch.equal(model(x).logits, sparse)
    assert torch.equal(model(x).logits, sparse)
    use(model, None)
    assert torch.equal(model(x).logits, expected)
    assert model.config._attn_implementation == "sdpa"


def test_an_error_inside_takes_it_away_too():
    model = tiny()
    with pytest.raises(ZeroDivisionError), use(model, FEW):
        1 / 0  # noqa: B018
    assert model.config._attn_implementation == "sdpa"


def test_register_twice():
    assert register() == register() == NAME


# ------------------------------------------------------------------ refusals


def windows(size=8):
    config = MistralConfig(
        vocab_size=128,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        sliding_window=size,
    )
    return MistralForCausalLM(config).eval()


def plan_of(tokens):
    return near(1).plan(tokens, block=BLOCK)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: use("llama", FEW), "model must be a causal decoder .* got str"),
        (lambda: use(tiny(), {3: FEW}), "design must name layers from 0 to 2, got 3"),
        (lambda: use(tiny(), [FEW] * 3), "a Design for each of 4 query heads"),
        (lambda: use(tiny(), FEW, estimator="horvitz-thompson"), "estimator must be one of"),
        (lambda: use(tiny(), FEW, rounds=0), "rounds must be at least 1, got 0"),
        (lambda: use(tiny(), FEW, block=0), "block must be at least 1, got 0"),
        (lambda: use(tiny(), FEW, path="sdpa"), "path must be one of"),
        (lambda: use(tiny(), FEW, evaluate="mean"), "evaluate must be one of"),
        (lambda: logits(tiny(), ids(), plan_of(40)), "for 45 tokens, got one for 40"),
        (lambda: logits(windows(), ids(), FEW), "attention_mask must be padding alone"),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_wrong_types_are_named():
    with pytest.raises(TypeError, match=r"design must be a Design, a Plan.* got 'harmonic'"):
        use(tiny(), "harmonic")
    with pytest.raises(TypeError, match=r"generator must be a torch.Generator .* got 3"):
        use(tiny(), FEW, generator=3)
    with pytest.raises(TypeError, match="design must give a Plan when it is called, got None"):
        logits(tiny(), ids(), lambda q, k, g: None)
    assert isinstance(plan_of(8), Plan)
