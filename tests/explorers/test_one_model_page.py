"""The figures with the trained model in them: their numbers are the core's, its files are right."""

import math
import re

import numpy as np
import pytest
import torch
from oracles.figures import drawn, marks
from places import TABLES
from tokenizers import Tokenizer

from book.experiments.one_model import page_text
from genopt_core import explorers as ex
from genopt_core import tables
from genopt_core.explorers.one_model import generation, travel
from genopt_core.kvcache import Staircase, parse_ladder
from genopt_core.one_model import DrawnBlocks, ForwardCache, ModelConfig, tokenizer_digest
from genopt_core.one_model.stored import stored_model
from genopt_core.torch.model import load_model

torch.set_num_threads(1)
NAMES = ("base", "all")
TEXTS = [
    "The American people, it's 1790: é ² ½ \n\n  two   blanks\t— “quotes” don't ٣ 中文 x² ",
    "  lead\n \n b",
    "we've CAN'T 12ab_c'd",
]


# ------------------------------------------------------------------ the stored models


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_model_is_torch_s_and_has_its_tokenizer(name):
    table = tables.load("one_model")
    row = {r["name"]: r for r in tables.records(table["checkpoints"])}[name]
    stored = stored_model(name)
    theirs = load_model(TABLES / row["file"], stored.model.tokenizer)
    ids = stored.tokenizer.encode("It is the duty of the Congress to provide for the people. ")
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(ids.astype(np.int64))[None])[0].numpy()
    np.testing.assert_allclose(stored.model.logits(ids), wanted, atol=1e-4)
    assert len(stored.tokenizer.tokens) == stored.model.config.vocabulary
    if name != "base":
        return
    library = Tokenizer.from_file(str(TABLES / row["tokenizer_file"]))
    assert tokenizer_digest(library) == stored.model.tokenizer
    for text in TEXTS:
        assert stored.tokenizer.encode(text).tolist() == library.encode(text).ids
        ids = stored.tokenizer.encode(text)
        assert stored.lengths[ids].sum() == len(text.encode())


def test_tokens_of_all_five_spell_their_bytes():
    stored = stored_model()
    for text in TEXTS:
        ids = stored.tokenizer.encode(text)
        assert stored.tokenizer.decode(ids) == text
        assert stored.lengths[ids].sum() == len(text.encode())


def test_checkpoints_are_small_and_the_passage_is_held_out():
    files = [p for p in TABLES.iterdir() if p.suffix in (".safetensors", ".tokenizer")]
    assert len(files) == 4
    assert sum(p.stat().st_size for p in files) <= 4_000_000
    assert tables.load("one_model_page")["passage"] == page_text.passage()


# ------------------------------------------------------------------ a sentence travels


@pytest.mark.parametrize("step", [1, 4, 9, travel.MOST])
def test_the_stations_of_a_token_are_the_core_s(step):
    sentence, layer, head = travel.SENTENCES[1], 1, 2
    model, tokenizer, *_ = stored_model()
    ids = tokenizer.encode(sentence).tolist()
    at = min(step, len(ids)) - 1
    figure = drawn("one-travel", sentence=sentence, step=step, layer=layer, head=head)
    boxes, scores, held, bars = figure["panels"]
    assert boxes["table"]["token"] == [f"“{tokenizer.tokens[i]}”" for i in ids]
    weights = [w for w in boxes["table"]["attention"] if w is not None]
    assert len(weights) == at + 1
    assert sum(weights) == pytest.approx(1, abs=2e-3)
    # bits are those that a cache of so many tokens really holds
    one = Staircase(travel.LADDER, chunk=travel.CHUNK, sink=travel.SINK, codec="rotated")
    one.append(np.ones((at + 1, 16), np.float16), np.ones((at + 1, 16), np.float16))
    (blocks,) = marks(held, "rect")
    bits = [s.bits for s in one.stairs() for _ in range(s.first, s.last)]
    assert blocks["columns"]["y2"] == bits
    kept = travel.walked(sentence).blocks.kept(layer - 1, head - 1, at)
    met = [z == travel.KEPT for z in blocks["columns"]["z"]]
    assert met == kept[np.arange(at + 1) // travel.BLOCK].tolist()
    assert all((w < 1e-12) or m for w, m in zip(weights, met, strict=True))
    # turning by position changes no score of a token with itself, and neither does the bias
    own = [scores["table"][name][-1] for name in (travel.CONTENT, travel.TURNED, travel.BIASED)]
    assert own[1:] == pytest.approx([own[0]] * 2, rel=1e-3, abs=1e-3)
    shown = marks(bars, "bar", travel.FULL) or marks(bars, "bar")
    names, values = shown[0]["columns"]["y"], shown[0]["columns"]["x"]
    z = model.logits(ids)[at].astype(float)
    full = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    for name, value, series in zip(names, values, shown[0]["columns"]["z"], strict=True):
        i = [f"“{travel.written(t)}”" for t in tokenizer.tokens].index(name)
        if series == travel.FULL:
            assert value == pytest.approx(full[i], rel=2e-3, abs=1e-5)


def test_the_preset_that_fails_says_what_all_kept_would_do():
    model, tokenizer, *_ = stored_model()
    preset = next(p for p in ex.get("one-travel").presets if p.fails)
    p = ex.get("one-travel").check(preset.params)
    ids = tokenizer.encode(p["sentence"]).tolist()[: p["step"]]
    seen = []
    model.logits(ids, seen=seen)
    weights = seen[p["layer"] - 1].weights[p["head"] - 1, -1]
    first, second = sorted(np.argsort(-weights)[:2])
    assert f"half of its attention on “{tokenizer.tokens[ids[first]]}”" in preset.note
    assert f"half on “{tokenizer.tokens[ids[second]]}”" in preset.note
    assert weights[[first, second]] == pytest.approx([0.5, 0.5], abs=0.05)
    walk = travel.walked(p["sentence"])
    best = walk.full[p["step"] - 1].argmax()
    ours = walk.probabilities[p["step"] - 1, best]
    assert ours / walk.full[p["step"] - 1, best] == pytest.approx(0.5, abs=0.1)


def test_a_sentence_of_too_many_tokens_is_refused_by_name():
    result = ex.run("one-travel", {"sentence": "§¶" * 14})
    assert result["error"] == f"sentence must have at most {travel.MOST} tokens, got 56"


# ------------------------------------------------------------------ words continued


@pytest.mark.parametrize(
    "params",
    [{}, {"model": "base"}, {"model": "base", "density": 1.0, "ladder": "16/2/1", "seed": 1}],
)
def test_the_continuations_are_the_core_s(params):
    figure = drawn("one-generate", **params)
    p = ex.get("one-generate").check(params)
    model, tokenizer, _, chunk, _ = stored_model(p["model"])
    passage = tables.load("one_model_page")["passage"].strip()
    base = p["model"] == "base"
    parts = [passage, " " + p["prompt"]] if base else [passage + " ", p["prompt"] + " "]
    ids = [i for part in parts for i in tokenizer.encode(part).tolist()]
    chips, _, apart, held = figure["panels"]
    texts = []
    for ladder, density in (("16", 1.0), (p["ladder"], p["density"])):
        small = ModelConfig(**(model.config.to_json() | {"block": generation.BLOCK}))
        rng = np.random.default_rng(0)
        blocks = DrawnBlocks.draw(small, generation.MOST, density, rng)
        cache = ForwardCache(model.config, parse_ladder(ladder), chunk=chunk, full_dtype="float16")
        z, rng, new = (
            model.logits(ids, cache, blocks=blocks)[-1],
            np.random.default_rng(p["seed"]),
            [],
        )
        for _ in range(generation.NEW):
            if new:
                z = model.logits(new[-1:], cache, blocks=blocks)[-1]
            order = np.argsort(-z, kind="stable")
            e = np.exp((z[order].astype(float) - z.max()) / p["temperature"])
            e /= e.sum()
            e[np.cumsum(e) - e >= generation.TOP_P] = 0
            q = np.zeros(len(z))
            q[order] = e / e.sum()
            new.append(int((np.cumsum(q) > rng.random()).argmax()))
        texts.append([f"“{generation.written(tokenizer.tokens[i])}”" for i in new])
        sizes = marks(held, "bar")[0]["columns"]["x"]
        at = len(texts) - 1
        assert sizes[at] == pytest.approx(cache.nbytes() / 1000, rel=1e-3)
    assert [chips["table"][name] for name in (generation.FULL, generation.SWITCHED)] == texts
    alike = sum(1 for _ in iter_alike(*texts))
    said = figure["readout"]
    assert said.startswith(f"{alike} of {generation.NEW} tokens ")
    (line,) = marks(apart, "line")
    mean = math.fsum(line["columns"]["y"]) / generation.NEW
    # the columns are rounded to four digits, so a half may fall to either side
    [printed] = re.findall(r"are (\d\.\d{3}) bits a token", said)
    assert float(printed) == pytest.approx(mean, abs=0.000501)


def iter_alike(one, two):
    for a, b in zip(one, two, strict=True):
        if a != b:
            return
        yield a


@pytest.mark.parametrize("model", NAMES)
def test_a_prompt_of_too_many_tokens_is_refused_by_name(model):
    result = ex.run("one-generate", {"prompt": "§€" * 40, "model": model})
    assert re.fullmatch(r"prompt must have at most 40 tokens, got \d+", result["error"])
    assert "figure" in ex.run("one-generate", {"prompt": "§" * 15, "model": model})
