"""The trained models that travel with the package, each with its tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from genopt_core import tables
from genopt_core.checks import one_of
from genopt_core.conventions import END_OF_WORD, Convention, byte_letters
from genopt_core.one_model.forward import Forward
from genopt_core.one_model.tokens import token_bytes, tokenizer_digest
from genopt_core.subwords.tokenizer.peers import peer_from_json
from genopt_core.subwords.tokenizer.tokenizer_json import load_tokenizer_json

TABLE = "one_model"
"""The stored table that names the files."""


class Tokenizer(Protocol):
    """What a stored model asks of its tokenizer; a `genopt_core.subwords.Vocabulary` has it.

    >>> tokenizer: Tokenizer = stored_model("base").tokenizer
    >>> len(tokenizer.encode("the union")), len(tokenizer.tokens)
    (4, 1024)
    """

    @property
    def tokens(self) -> Sequence[str]:
        """What each id stands for, with U+2581 for a blank."""

    def encode(self, text: str) -> npt.NDArray[np.int32]:
        """Ids of the tokens of a text, a vector."""


class ByteLevel:
    """A byte-level BPE from the content of its ``tokenizer.json``, without the library.

    Examples
    --------
    >>> base = stored_model("base").tokenizer
    >>> "".join(base.tokens[i] for i in base.encode("the union"))
    'the▁union'
    """

    def __init__(self, content: Mapping[str, Any]):
        self._peer = peer_from_json(content)
        self._ids = {piece: i for i, piece in enumerate(self._peer.pieces)}
        self.tokens = tuple(map(_shown, self._peer.pieces))
        self.lengths = np.array([len(piece) for piece in self._peer.pieces], dtype=np.int64)

    def encode(self, text: str) -> npt.NDArray[np.int32]:
        """Ids of the tokens of a text, a vector; U+2581 is read as a blank."""
        words = Convention("gpt2").cut(text)
        pieces = (p for word in words for p in self._peer.segment(word.replace(" ", END_OF_WORD)))
        return np.array([self._ids[piece] for piece in pieces], dtype=np.int32)


def _shown(piece: str) -> str:
    """Bytes in GPT-2's letters as text; those that are none of their own by number."""
    code = bytes(byte_letters().index(letter) for letter in piece)
    try:
        return code.decode("utf-8").replace(" ", END_OF_WORD)
    except UnicodeDecodeError:
        return "".join(f"<0x{byte:02X}>" for byte in code)


class Stored(NamedTuple):
    """A trained model and what belongs to it."""

    model: Forward
    tokenizer: Tokenizer
    ladder: tuple[int, ...]
    """Of the cache that it was scored over."""
    chunk: int
    """Tokens of a chunk of that cache."""
    lengths: npt.NDArray[np.int64]
    """Bytes of each token."""


@cache
def stored_model(name: str = "all") -> Stored:
    """A trained model, read once and shared.

    Parameters
    ----------
    name : {"all", "base"}
        That with all five methods, or that with none.

    Examples
    --------
    >>> model, tokenizer, ladder, chunk, lengths = stored_model()
    >>> len(tokenizer.tokens) == model.config.vocabulary
    True
    """
    table = tables.load(TABLE)
    rows = {row["name"]: row for row in tables.records(table["checkpoints"])}
    row = rows[one_of(name, "name", rows)]
    folder = resources.files(tables)
    with resources.as_file(folder / row["tokenizer_file"]) as path:
        content = json.loads(path.read_bytes())
        own = content["model"]["type"] == "Unigram"
        tokenizer: Any = load_tokenizer_json(path) if own else ByteLevel(content)
    digest = tokenizer_digest(tokenizer if own else content)
    with resources.as_file(folder / row["file"]) as path:
        model = Forward.load(path, digest)
    lengths = token_bytes(tokenizer) if own else tokenizer.lengths
    scale = table["scale"]
    return Stored(model, tokenizer, tuple(scale["ladder"]), scale["chunk"], lengths)
