"""Bits per byte: by its definition, and that bytes are counted right on real text."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from genopt_core import corpora
from genopt_core.conventions import Convention
from genopt_core.one_model import ModelConfig, bits_per_byte, token_bytes, tokenizer_digest
from genopt_core.subwords import Vocabulary, train, train_on_text
from genopt_core.torch.model import Decoder, token_nats

END = "<|endoftext|>"
ODD = "Ça va?  \t\n\r\n ▁ naïve – 東京 🙂 e\u0301 \x00 _ __ 1,234 end"


@pytest.fixture(scope="module")
def text():
    return corpora.load("moby-dick")[:120_000]


@pytest.fixture(scope="module")
def swe(text):
    words = corpora.count_words(text, "lossless")
    return train(words, 400, effort="fast").with_specials([END])


@pytest.fixture(scope="module")
def bpe(text):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


@pytest.fixture(params=["bpe", "swe"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


def encode(tokenizer, text):
    ids = tokenizer.encode(text)
    return np.array(ids if isinstance(tokenizer, Vocabulary) else ids.ids, dtype=np.int32)


def test_tokens_of_a_text_have_its_bytes(tokenizer, text):
    lengths = token_bytes(tokenizer)
    size = len(tokenizer.tokens) if isinstance(tokenizer, Vocabulary) else 500
    assert lengths.shape == (size,)
    assert (lengths == 0).sum() == (2 if isinstance(tokenizer, Vocabulary) else 1)  # <unk>, end
    for part in (text, ODD, "", " ", "▁", "\n\n"):
        assert lengths[encode(tokenizer, part)].sum() == len(part.encode()), part


@settings(max_examples=40)
@given(st.text(max_size=40))
def test_of_any_text(bpe_and_swe, part):
    for tokenizer in bpe_and_swe:
        assert token_bytes(tokenizer)[encode(tokenizer, part)].sum() == len(part.encode())


@pytest.fixture(scope="module")
def bpe_and_swe(bpe, swe):
    return bpe, swe


@pytest.mark.parametrize("convention", ["gpt2", "none", Convention(alphabet="bytes")])
def test_tokens_of_a_vocabulary_in_bytes(convention):
    text = "low é lower <unk> 日本\n" * 50
    made = train_on_text(text, 290, convention=convention, at_most=True, specials=[END])
    lengths = token_bytes(made)
    assert lengths.shape == (len(made.tokens),)
    assert lengths[-1] == 0 < lengths[:-1].min()
    for part in (text, ODD, "", " ", "▁", "\n\n", END):
        assert lengths[made.encode(part)].sum() == len(part.replace(END, "").encode()), part


def test_every_token_alone(swe, bpe):
    """Token by token, where a token is a text of its own."""
    lengths = token_bytes(swe)
    for i, token in enumerate(swe.tokens[: len(swe.pieces)]):
        assert lengths[i] == len(swe.decode([i]).encode()), token
    lengths = token_bytes(bpe)
    for i in range(bpe.get_vocab_size()):
        decoded = bpe.decode([i], skip_special_tokens=False)
        if "\ufffd" not in decoded and decoded != END:
            assert lengths[i] == len(decoded.encode())


def test_end_of_text_has_no_bytes_and_no_loss(tokenizer, text):
    ids = encode(tokenizer, text[:500])
    end = tokenizer.tokens.index(END) if isinstance(tokenizer, Vocabulary) else 0
    lengths = token_bytes(tokenizer)
    nats = np.linspace(0.1, 5, len(ids))
    plain = bits_per_byte(nats, lengths[ids])
    assert plain == pytest.approx(nats.sum() / math.log(2) / len(text[:500].encode()))
    at = [0, 7, len(ids)]
    more = bits_per_byte(np.insert(nats, at, 1e9), lengths[np.insert(ids, at, end)])
    assert more == plain


def test_a_model_that_knows_nothing_spends_the_logarithm_of_its_vocabulary(tokenizer, text):
    lengths = token_bytes(tokenizer)
    model = Decoder(ModelConfig(vocabulary=len(lengths))).eval()
    torch.nn.init.zeros_(model.embedding)
    ids = encode(tokenizer, text[:2000])
    with torch.no_grad():
        nats = token_nats(model, torch.from_numpy(ids)[None])[0].numpy()
        assert token_nats(model, torch.from_numpy(ids)[None], 5).shape == (1, 5)
    bits = bits_per_byte(nats, lengths[ids[1:]])
    assert bits == pytest.approx(
        (len(ids) - 1) * math.log2(len(lengths)) / lengths[ids[1:]].sum(), rel=1e-5
    )


def test_another_tokenizer_has_another_digest(bpe, swe, text):
    words = corpora.count_words(text, "lossless")
    other = train(words, 401, effort="fast")
    again = Tokenizer.from_str(bpe.to_str())
    assert tokenizer_digest(again) == tokenizer_digest(bpe)
    digests = {tokenizer_digest(t) for t in (bpe, swe, other, other.with_specials([END]))}
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("nats", "lengths", "message"),
    [
        ([1.0], [1, 2], r"lengths must have the shape \(1,\) of nats, got \(2,\)"),
        ([1.0], [-1], "lengths must be whole numbers of at least 0"),
        ([1.0], [1.5], "lengths must be whole numbers of at least 0"),
        ([1.0], [0], "lengths must have a token with bytes, got none"),
        ([math.nan], [1], "nats must be finite and at least 0"),
        ([-1.0], [1], "nats must be finite and at least 0"),
    ],
)
def test_what_is_refused(nats, lengths, message):
    with pytest.raises(ValueError, match=message):
        bits_per_byte(nats, lengths)


def test_only_tokenizers_whose_bytes_are_known():
    with pytest.raises(TypeError, match=r"or a byte-level .*, got Tokenizer"):
        token_bytes(Tokenizer(models.WordPiece()))
    with pytest.raises(TypeError, match=r"tokenizer must be a Vocabulary or .*, got str"):
        tokenizer_digest("bpe")
