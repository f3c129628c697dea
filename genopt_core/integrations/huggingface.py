r"""The vocabulary as a ``tokenizer.json`` file of Hugging Face, and back.

That JSON is also this book's own format.  Writing and reading it needs no library; running it at
full speed needs ``tokenizers``, and `to_transformers` needs transformers.

The file holds a Unigram model with 256 byte tokens.  The end-of-word symbol U+2581 is written
there as the blank it stands for, so that the exported tokenizer needs no normalizer, keeps the
offsets of the text and confuses no blank with a literal U+2581.  Counts and provenance are the
key ``"genopt"`` of the model: Hugging Face reads past it, and drops it when *it* saves the file.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genopt_core.corpora import END_OF_WORD
from genopt_core.files import whole_file
from genopt_core.subwords.segmentation.paths import UNKNOWN
from genopt_core.subwords.tokenizer.encoding import BYTE_TOKENS, word_pattern
from genopt_core.subwords.tokenizer.peers import Peer, peer_from_json
from genopt_core.subwords.tokenizer.vocabulary import Vocabulary

if TYPE_CHECKING:
    import tokenizers
    import transformers

OWN_KEY = "genopt"
"""Where in the model's JSON object the counts and the provenance are."""


def tokenizer_json(vocabulary: Vocabulary, byte_fallback: bool = True) -> dict[str, Any]:
    """A vocabulary as the JSON object of Hugging Face's ``tokenizer.json``.

    Parameters
    ----------
    vocabulary : Vocabulary
    byte_fallback : bool
        Whether an unknown character becomes bytes; otherwise ``<unk>``.  The ids are the same.

    Raises
    ------
    TypeError, ValueError
        If ``vocabulary`` is not a `Vocabulary`, or a piece has no UTF-8 form (a lone surrogate).

    Examples
    --------
    >>> vocabulary = Vocabulary(("a", "b▁"), np.log([0.5, 0.5]), np.ones(2))
    >>> model = tokenizer_json(vocabulary)["model"]
    >>> model["type"], model["vocab"][:2], model["unk_id"]
    ('Unigram', [['a', -0.6931471806], ['b ', -0.6931471806]], 258)
    """
    if not isinstance(vocabulary, Vocabulary):
        raise TypeError(f"vocabulary must be a Vocabulary, got {type(vocabulary).__name__}")
    for piece in vocabulary.pieces:
        if any("\ud800" <= c <= "\udfff" for c in piece):
            raise ValueError(f"vocabulary has the piece {piece!r}, which no file can hold")
    logs = vocabulary.log_probabilities.tolist()
    scores = [
        [piece.replace(END_OF_WORD, " "), log]
        for piece, log in zip(vocabulary.pieces, logs, strict=True)
    ]
    # Never chosen for their score, but the price of an unknown character is set by the least one.
    scores += [[token, min(logs)] for token in (*BYTE_TOKENS, UNKNOWN)]
    added = [
        {
            "id": len(scores) + index,
            "content": special,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for index, special in enumerate(vocabulary.specials)
    ]
    words = {"Regex": word_pattern(vocabulary.pieces)}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Split",
            "pattern": words,
            "behavior": "Isolated",
            "invert": False,
        },
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "Unigram",
            "unk_id": len(scores) - 1,
            "vocab": scores,
            "byte_fallback": byte_fallback,
            OWN_KEY: {"counts": vocabulary.counts.tolist(), "provenance": vocabulary.provenance},
        },
    }


def save_tokenizer_json(
    vocabulary: Vocabulary, path: str | os.PathLike[str], byte_fallback: bool = True
) -> None:
    """Write a vocabulary as ``tokenizer.json``: the whole file or, if anything fails, nothing.

    The same vocabulary gives the same bytes on every platform.

    Raises
    ------
    TypeError
        If ``vocabulary`` is not a `Vocabulary`.
    OSError
        If the file cannot be written; one that was there stays as it was.
    """
    content = tokenizer_json(vocabulary, byte_fallback)
    with whole_file(path) as file:
        file.write(json.dumps(content, ensure_ascii=False, indent=1).encode("utf-8"))


def load_tokenizer_json(path: str | os.PathLike[str]) -> Vocabulary:
    """Read a vocabulary that `save_tokenizer_json` wrote, also after Hugging Face saved it again.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not JSON, or not a tokenizer of this form (`read_tokenizer` reads others).

    Notes
    -----
    After Hugging Face has saved the file, counts are 0 and the provenance says so.
    """
    content = _read_json(path)
    wanted = "a tokenizer.json written by this book: read_tokenizer reads other ones"
    try:
        model = content["model"]
        vocab = model["vocab"]
        ends = [token for token, _ in vocab[-257:]]
        if model["type"] != "Unigram" or ends != [*BYTE_TOKENS, UNKNOWN]:
            raise ValueError(f"{os.fspath(path)} is not {wanted}")
        pieces = tuple(token.replace(" ", END_OF_WORD) for token, _ in vocab[:-257])
        logs = np.array([score for _, score in vocab[:-257]], dtype=np.float64)
        specials = [token["content"] for token in content["added_tokens"]]
        own = model.get(OWN_KEY, {})
        counts = own.get("counts", np.zeros(len(pieces)))
        provenance = own.get("provenance", {"note": "counts and provenance lost by a resave"})
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{os.fspath(path)} is not {wanted} ({error!r})") from None
    if specials:
        provenance = {**provenance, "specials": specials}
    vocabulary = Vocabulary(pieces, logs, counts, provenance)
    pattern = content["pre_tokenizer"].get("pattern") if content["pre_tokenizer"] else None
    if pattern != {"Regex": word_pattern(pieces)}:
        raise ValueError(f"{os.fspath(path)} cuts words differently; it is not {wanted}")
    return vocabulary


def read_tokenizer(path: str | os.PathLike[str]) -> Peer:
    """Read the model of any BPE, WordPiece or Unigram ``tokenizer.json``, to segment words with it.

    Only the model: the words are to be cut as the file's own pre-tokenizer would.  A byte-level
    file (GPT-2 and its kin) gets its words as bytes.

    Returns
    -------
    Peer
        With ``kind``, ``pieces`` and ``segment(word)``; see `genopt_core.subwords.tokenizer.peers`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not JSON, or has another kind of model.
    """
    content = _read_json(path)
    try:
        return peer_from_json(content)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)} is not a tokenizer.json: {error}") from None


def to_tokenizers(
    vocabulary: Vocabulary, specials: Iterable[str] | None = None, byte_fallback: bool = True
) -> "tokenizers.Tokenizer":
    """A vocabulary as a ``tokenizers.Tokenizer``: same ids, written in Rust.

    Parameters
    ----------
    vocabulary : Vocabulary
    specials : iterable of str, optional
        Special tokens in place of the vocabulary's own.
    byte_fallback : bool
        As in `tokenizer_json`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of this form.
    ImportError
        If the package tokenizers is not installed.

    Notes
    -----
    Its ``decode`` leaves special tokens out unless told ``skip_special_tokens=False``.
    """
    import tokenizers

    if specials is not None:
        vocabulary = vocabulary.with_specials(specials)
    content = tokenizer_json(vocabulary, byte_fallback)
    return tokenizers.Tokenizer.from_str(json.dumps(content, ensure_ascii=False))


def to_transformers(
    vocabulary: Vocabulary, specials: Iterable[str] | None = None, **roles: str
) -> "transformers.PreTrainedTokenizerFast":
    """A vocabulary as a ``transformers.PreTrainedTokenizerFast``.

    Parameters
    ----------
    vocabulary : Vocabulary
    specials : iterable of str, optional
        Special tokens in place of the vocabulary's own.
    **roles : str
        What a special token is for, such as ``eos_token="</s>"``; it is made one if it is not.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of this form.
    ImportError
        If the package transformers is not installed.

    Notes
    -----
    No token has the role ``unk_token``: every text has a spelling in bytes.
    """
    import transformers

    names = vocabulary.specials if specials is None else tuple(specials)
    extra = dict.fromkeys(name for name in roles.values() if name not in names)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=to_tokenizers(vocabulary, (*names, *extra)),
        clean_up_tokenization_spaces=False,
        **roles,
    )


def _read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        content = json.loads(Path(path).read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{os.fspath(path)} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{os.fspath(path)} must hold a JSON object")
    return content
