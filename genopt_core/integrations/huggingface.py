r"""A vocabulary in the hands of Hugging Face's ``tokenizers`` and ``transformers``.

The file that both read is written by `genopt_core.subwords.tokenizer.tokenizer_json`, without any
library; its functions have their names here too.
"""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from genopt_core.checks import extra
from genopt_core.subwords.tokenizer.tokenizer_json import (
    OWN_KEY,
    check_roles,
    check_vocabulary,
    load_tokenizer_json,
    read_tokenizer,
    save_tokenizer_json,
    save_transformers,
    tokenizer_json,
)
from genopt_core.subwords.tokenizer.vocabulary import Vocabulary, check_specials

if TYPE_CHECKING:
    import tokenizers
    import transformers

__all__ = [
    "OWN_KEY",
    "tokenizer_json",
    "save_tokenizer_json",
    "save_transformers",
    "load_tokenizer_json",
    "read_tokenizer",
    "to_tokenizers",
    "to_transformers",
]


def to_tokenizers(
    vocabulary: Vocabulary, specials: Iterable[str] | None = None, byte_fallback: bool = True
) -> "tokenizers.Tokenizer":
    """A vocabulary as a ``tokenizers.Tokenizer``: same ids, written in Rust.

    ``specials`` are special tokens in place of the vocabulary's own; ``byte_fallback`` is that of
    `tokenizer_json`.  Its ``decode`` leaves special tokens out unless told
    ``skip_special_tokens=False``.  Raises ``ImportError`` without the package tokenizers.

    >>> from genopt_core.subwords import Vocabulary
    >>> vocabulary = Vocabulary(("l", "o", "w", "▁", "low"), [-1.0] * 5, [1] * 5)
    >>> to_tokenizers(vocabulary).encode("low").tokens
    ['low']
    """
    with extra("transformers"):
        import tokenizers

    check_vocabulary(vocabulary)
    if specials is not None:
        vocabulary = vocabulary.with_specials(specials)
    content = tokenizer_json(vocabulary, byte_fallback)
    return tokenizers.Tokenizer.from_str(json.dumps(content, ensure_ascii=False))


def to_transformers(
    vocabulary: Vocabulary, specials: Iterable[str] | None = None, **roles: str
) -> "transformers.PreTrainedTokenizerFast":
    """A vocabulary as a ``transformers.PreTrainedTokenizerFast``.

    ``specials`` are special tokens in place of the vocabulary's own; ``roles`` say what a special
    token is for, such as ``eos_token="</s>"``, and it is made one if it is not.  No token has the
    role ``unk_token``: every text has a spelling in bytes.  Raises ``ImportError`` without the
    package transformers.

    >>> from genopt_core.subwords import Vocabulary
    >>> vocabulary = Vocabulary(("l", "o", "w", "▁", "low"), [-1.0] * 5, [1] * 5)
    >>> fast = to_transformers(vocabulary, eos_token="</s>")
    >>> fast.convert_ids_to_tokens(fast("low")["input_ids"]), fast.eos_token
    (['low'], '</s>')
    """
    with extra("transformers"):
        import transformers

    check_vocabulary(vocabulary)
    check_roles(roles)
    names = vocabulary.specials if specials is None else check_specials(specials)
    more = dict.fromkeys(name for name in roles.values() if name not in names)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=to_tokenizers(vocabulary, (*names, *more)),
        clean_up_tokenization_spaces=False,
        **roles,
    )
