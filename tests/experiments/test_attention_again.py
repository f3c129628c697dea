"""A part of what chapter 4 measured on a GPU, measured again on a CPU."""

import pytest
import torch
from oracles.models import smollm

from book.experiments.attention import needle, perplexity
from book.experiments.attention.designs import designs
from book.experiments.attention.whole_model import Drawing, attention_of, log_probabilities
from book.experiments.common.store import read
from genopt_core import corpora
from genopt_core.torch.attention import pr_flash_attention

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def loaded():
    tokenizer, model = smollm()
    model.set_attn_implementation("sdpa")
    return tokenizer, model


def stored_needle(design, kept):
    content = read(needle.TARGET)
    for values in content["rows"]:
        row = dict(zip(content["columns"], values, strict=True))
        if (row["design"], row["kept"], row["rounds"]) == (design, kept, 1):
            return row["log"][0], content["depths"]
    raise AssertionError(design)


def test_a_needle_again(loaded):
    """Float32 in both: sums of some thousand terms in another order, through thirty layers.

    A relative rounding of 6e-8 grows to about 1e-5 of scores up to 30; the six tokens of an answer
    add up, and four digits are stored.  The core, which computes what is kept alone, stands in for
    the script's attention: test_attention_whole_model.py has that both are the same.
    """
    tokenizer, model = loaded
    design, kept = "window + sink", 7
    logs, depths = stored_needle(design, kept)
    text = corpora.load("moby-dick")[300_000:420_000]
    prose = tokenizer(text, return_tensors="pt").input_ids[0]
    at = depths.index(95)
    ids, _, answer = needle.prompt(tokenizer, prose, needle.NUMBERS[0], 95, 4096)
    compared = designs(perplexity.stored_law())[design]

    def attend(layer, q, k, v):
        plan = compared.draw(q, k, kept, torch.Generator())
        return pr_flash_attention(q, k, v, plan, estimator=compared.estimator)

    with attention_of(model, attend):
        (found,), _ = needle.scores(model, ids[None], answer)
    assert found == pytest.approx(logs[at], rel=1e-3, abs=1e-3)


def test_divergence_is_nothing_where_a_window_sees_everything(loaded):
    """And more where it does not, on the first 1024 tokens of a scored text."""
    tokenizer, model = loaded
    name = next(iter(perplexity.texts()["scored"]))
    text = perplexity.texts()["scored"][name]
    ids = tokenizer(text, return_tensors="pt").input_ids[:, :1024]
    exact = log_probabilities(model, ids)[0]
    drawing = Drawing(designs(perplexity.stored_law())["window + sink"], 3, 0)
    with attention_of(model, drawing):
        found = log_probabilities(model, ids)[0]
    early, late = (
        perplexity.row(exact[:257], found[:257], ids[0, :257]),
        perplexity.row(exact, found, ids[0]),
    )
    assert abs(early["kl"]) < 1e-6
    assert late["kl"] > 1e-4
