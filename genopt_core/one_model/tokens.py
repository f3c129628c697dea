"""What a model has to know of its tokenizer: how many bytes each token spells, and which it was."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genopt_core.corpora import END_OF_WORD
from genopt_core.subwords.tokenizer.encoding import BYTE_TOKENS
from genopt_core.subwords.tokenizer.tokenizer_json import tokenizer_json
from genopt_core.subwords.tokenizer.vocabulary import Vocabulary


def token_bytes(tokenizer: Any) -> NDArray[np.int64]:
    """Bytes of UTF-8 that each token spells, by token id; special tokens spell none.

    Their sum over the tokens of a text is the number of its bytes, whatever the text is.

    Parameters
    ----------
    tokenizer : Vocabulary or ``tokenizers.Tokenizer``
        The latter on the level of bytes, as byte-pair encodings are.

    Examples
    --------
    >>> from genopt_core.subwords import Vocabulary
    >>> v = Vocabulary(("é▁", "a"), np.log([0.5, 0.5]), [1, 1], specials=("<|end|>",))
    >>> lengths = token_bytes(v)
    >>> lengths[:2].tolist(), lengths[2:-2].tolist() == [1] * 256, lengths[-2:].tolist()
    ([3, 1], True, [0, 0])
    """
    if isinstance(tokenizer, Vocabulary):
        if tokenizer.convention.in_bytes:  # every letter of a piece stands for one byte
            spelled = [len(piece) for piece in tokenizer.pieces]
        else:
            spelled = [len(p.replace(END_OF_WORD, " ").encode()) for p in tokenizer.pieces]
            spelled += [1] * len(BYTE_TOKENS)
        rest = len(tokenizer.tokens) - len(spelled)
        return np.array([*spelled, *[0] * rest], dtype=np.int64)
    if type(getattr(tokenizer, "decoder", None)).__name__ != "ByteLevel":
        raise TypeError(
            "tokenizer must be a Vocabulary or a byte-level tokenizers.Tokenizer, got "
            f"{type(tokenizer).__name__}"
        )
    # on the level of bytes every letter of a token stands for one byte
    lengths = np.zeros(tokenizer.get_vocab_size(), dtype=np.int64)
    for token, i in tokenizer.get_vocab().items():
        lengths[i] = len(token)
    for i, added in tokenizer.get_added_tokens_decoder().items():
        lengths[i] = 0 if added.special else len(added.content.encode())
    return lengths


def tokenizer_digest(tokenizer: Any) -> str:
    """SHA-256 of all that decides which tokens a text becomes.

    Parameters
    ----------
    tokenizer : Vocabulary, ``tokenizers.Tokenizer``, or mapping
        The last is the content of the ``tokenizer.json`` that the second would be.

    Examples
    --------
    >>> from genopt_core.subwords import Vocabulary
    >>> a, b = (Vocabulary(("a", "b"), np.log([p, 1 - p]), [1, 1]) for p in (0.5, 0.25))
    >>> tokenizer_digest(a) == tokenizer_digest(a), tokenizer_digest(a) == tokenizer_digest(b)
    (True, False)
    """
    if isinstance(tokenizer, Vocabulary):
        content: Any = [tokenizer_json(tokenizer), tokenizer.length_cost]
    elif isinstance(tokenizer, Mapping):
        content = tokenizer
    elif hasattr(tokenizer, "to_str"):
        content = json.loads(tokenizer.to_str())
    else:
        raise TypeError(
            "tokenizer must be a Vocabulary or a tokenizers.Tokenizer, got "
            f"{type(tokenizer).__name__}"
        )
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def check_digest(digest: str, name: str = "tokenizer") -> str:
    """``digest`` if it is one, or empty: of no tokenizer."""
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}|", digest):
        raise ValueError(f"{name} must be a SHA-256 of 64 hexadecimal digits, got {digest!r}")
    return digest
