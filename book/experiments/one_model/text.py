"""A text in the tokens of either tokenizer, read in the same order of bytes by both.

Training text is cut into stretches of `STRETCH` bytes; a seed puts them in an order, and the tokens
that begin in a stretch are read when it comes.  So two tokenizers read the same bytes in the same
order, but for a token at each edge.  Held-out text is scored at places given in bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from book.experiments.common.store import sha256
from genopt_core import corpora, subwords
from genopt_core.files import whole_file, write_text
from genopt_core.one_model import token_bytes, tokenizer_digest
from genopt_core.subwords.tokenizer.tokenizer_json import tokenizer_json

STRETCH, HELD = 2048, 0.05
BYTES_AND_UNKNOWN = 257
"""Tokens that a vocabulary of chapter 1 has beside its pieces."""
OBJECTIVE: Literal["likelihood", "tokens"] | float = "tokens"
"""What a vocabulary of chapter 1 is trained for: on development text and seed 100 it had 2.412 bits
a byte, byte pairs 2.456, λ = 1 2.476 and λ = 5 2.496."""


@dataclass(frozen=True)
class Tokens:
    """A text in tokens, its last part held out."""

    train: NDArray[np.int32]
    held: NDArray[np.int32]
    lengths: NDArray[np.int64]
    """Bytes of each token of the vocabulary."""
    digest: str
    """Of the tokenizer."""

    def stretches(self) -> list[NDArray[np.int32]]:
        """The training text, cut where a multiple of `STRETCH` bytes is passed."""
        starts = np.cumsum(self.lengths[self.train]) - self.lengths[self.train]
        cuts = np.searchsorted(starts, np.arange(STRETCH, starts[-1] + 1, STRETCH))
        return np.split(self.train, cuts)

    def stream(self, seed: int, tokens: int | None = None, size: int | None = None) -> Tensor:
        """So many tokens, or all that end within so many bytes, in the order of a seed."""
        rng, parts = np.random.default_rng(seed), self.stretches()
        found: list[NDArray[np.int32]] = []
        have = 0
        while have < ((tokens if tokens is not None else size) or 0):
            for i in rng.permutation(len(parts)):
                found.append(parts[i])
                have += len(parts[i]) if tokens is not None else int(self.lengths[parts[i]].sum())
                if have >= ((tokens if tokens is not None else size) or 0):
                    break
        ids = np.concatenate(found)
        if tokens is None:
            tokens = int(np.searchsorted(np.cumsum(self.lengths[ids]), size, side="right"))
        return torch.from_numpy(ids[:tokens].astype(np.int64))

    def windows(self, context: int, longest: int, count: int, size: int) -> tuple[Tensor, Tensor]:
        """Held-out windows (count, context + 1) that end at fixed bytes, and what is scored.

        The second is True where a predicted token begins in the last ``size`` bytes of its window,
        (count, context): the same tokens whatever the context is.
        """
        starts = np.cumsum(self.lengths[self.held]) - self.lengths[self.held]
        end_bytes = np.linspace(starts[longest + 1], starts[-1], count)
        ends = np.searchsorted(starts, end_bytes)
        first = np.searchsorted(starts, starts[ends] - size)
        at = ends[:, None] + np.arange(-context - 1, 0)
        scored = at[:, 1:] >= first[:, None]
        return torch.from_numpy(self.held[at].astype(np.int64)), torch.from_numpy(scored)


def tokens(text: str, tokenizer: str, vocabulary: int, part: float, folder: Path) -> Tokens:
    """The first ``part`` of a corpus with a tokenizer trained on what is not held out of it."""
    content = corpora.load(text)
    content = content[: round(part * len(content))]
    cut = content.rindex(" ", 0, round((1 - HELD) * len(content))) + 1
    train, held = content[:cut], content[cut:]
    made_from = sha256(f"{tokenizer} {vocabulary} {OBJECTIVE} {cut}\n{content}")
    path = folder / f"{text}-{tokenizer}-{vocabulary}.npz"
    if path.is_file():
        with np.load(path) as file:
            if str(file["made_from"]) == made_from:
                return Tokens(file["train"], file["held"], file["lengths"], str(file["digest"]))
    made, encode = {"bpe": _bpe, "swe": _swe}[tokenizer](train, vocabulary)
    found = Tokens(encode(train), encode(held), token_bytes(made), tokenizer_digest(made))
    for ids, of in ((found.train, train), (found.held, held)):
        if found.lengths[ids].sum() != len(of.encode()):
            raise ValueError(f"tokens of {tokenizer} must spell all bytes of {text}, got others")
    folder.mkdir(parents=True, exist_ok=True)
    as_json = json.dumps(tokenizer_json(made)) if tokenizer == "swe" else made.to_str()
    write_text(path.with_suffix(".json"), as_json)
    with whole_file(path) as file:
        np.savez_compressed(file, made_from=made_from, **vars(found))
    return found


def _bpe(text: str, vocabulary: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator([text], trainer)
    return made, lambda part: np.array(made.encode(part).ids, dtype=np.int32)


def _swe(text: str, vocabulary: int) -> Any:
    counts = corpora.count_words(text, "lossless")
    made = subwords.train(counts, vocabulary - BYTES_AND_UNKNOWN, OBJECTIVE)
    return made, lambda part: np.asarray(made.encode(part), dtype=np.int32)
