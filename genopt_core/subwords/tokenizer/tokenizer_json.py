r"""The vocabulary as a ``tokenizer.json`` file of Hugging Face, and back; no library is needed.

The file holds a Unigram model with 256 byte tokens, whose scores are minus the costs.  The
end-of-word symbol U+2581 is written there as the blank it stands for, so that the exported
tokenizer needs no normalizer, keeps the offsets of the text and confuses no blank with a literal
U+2581.  Counts, token penalty and provenance are the key ``"genopt"`` of the model: Hugging Face
reads past it, and drops it when *it* saves the file.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from genopt_core.checks import one_of
from genopt_core.corpora import END_OF_WORD
from genopt_core.files import whole_file, write_json
from genopt_core.subwords.segmentation.paths import UNKNOWN
from genopt_core.subwords.tokenizer.encoding import BYTE_TOKENS, word_pattern
from genopt_core.subwords.tokenizer.peers import Peer, peer_from_json
from genopt_core.subwords.tokenizer.vocabulary import Vocabulary

ROLES = ("bos_token", "eos_token", "pad_token", "sep_token", "cls_token", "mask_token")
"""What a special token can be for in ``transformers``."""

OWN_KEY = "genopt"
"""Where in the model's JSON object counts, token penalty and provenance are."""


def tokenizer_json(vocabulary: Vocabulary, byte_fallback: bool = True) -> dict[str, Any]:
    """A vocabulary as the JSON object of Hugging Face's ``tokenizer.json``.

    An unknown character becomes bytes, without ``byte_fallback`` ``<unk>``; the ids are the same.

    >>> vocabulary = Vocabulary(("a", "b▁"), np.log([0.5, 0.5]), np.ones(2))
    >>> model = tokenizer_json(vocabulary)["model"]
    >>> model["type"], model["vocab"][:2], model["unk_id"]
    ('Unigram', [['a', -0.6931471806], ['b ', -0.6931471806]], 258)
    """
    check_vocabulary(vocabulary)
    costs = vocabulary.costs
    scores: list[list[Any]] = [[s.replace(END_OF_WORD, " "), 0.0 - c] for s, c in costs.items()]
    # Never chosen for their score, but the least one sets the cost of an unknown character.
    least = 0.0 - max(costs.values())
    scores += [[token, least] for token in (*BYTE_TOKENS, UNKNOWN)]
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
            OWN_KEY: {
                "counts": vocabulary.counts.tolist(),
                "length_cost": vocabulary.length_cost,
                "provenance": dict(vocabulary.provenance),
            },
        },
    }


def check_vocabulary(vocabulary: Vocabulary) -> None:
    """Refuse anything else, such as the name of a file."""
    if not isinstance(vocabulary, Vocabulary):
        raise TypeError(f"vocabulary must be a Vocabulary, got {type(vocabulary).__name__}")


def save_tokenizer_json(
    vocabulary: Vocabulary, path: str | os.PathLike[str], byte_fallback: bool = True
) -> None:
    """Write a vocabulary as ``tokenizer.json``: the whole file or, if anything fails, nothing.

    The same vocabulary gives the same bytes on every platform.  Raises ``OSError`` if the file
    cannot be written; one that was there stays as it was.
    """
    content = tokenizer_json(vocabulary, byte_fallback)
    with whole_file(path) as file:
        file.write(json.dumps(content, ensure_ascii=False, indent=1).encode("utf-8"))


def save_transformers(
    vocabulary: Vocabulary, folder: str | os.PathLike[str], **roles: str
) -> Vocabulary:
    """Write the folder that ``transformers.AutoTokenizer.from_pretrained`` reads.

    ``folder`` is made if it is not there; two files are written to it.  ``roles`` say what a
    special token is for, such as ``eos_token="</s>", pad_token="<pad>"``; it is made one if it is
    not. ``unk_token`` is ``<unk>`` without being named.  Returns the vocabulary with the special
    tokens as they were written.  Raises ``OSError`` if the folder cannot be written to.
    """
    for role in roles:
        one_of(role, "role", ROLES)
    specials = vocabulary.specials
    vocabulary = vocabulary.with_specials(
        (*specials, *(name for name in dict.fromkeys(roles.values()) if name not in specials))
    )
    target = Path(folder)
    target.mkdir(exist_ok=True)
    save_tokenizer_json(vocabulary, target / "tokenizer.json")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "unk_token": UNKNOWN,
        **roles,
    }
    write_json(target / "tokenizer_config.json", settings, indent=1)
    return vocabulary


def load_tokenizer_json(path: str | os.PathLike[str]) -> Vocabulary:
    """Read a vocabulary that `save_tokenizer_json` wrote, also after Hugging Face saved it again.

    Counts are then 0, and the provenance says so.  Raises ``FileNotFoundError`` if there is no such
    file, ``ValueError`` if it is not JSON or not a tokenizer of this form (`read_tokenizer` reads
    others).
    """
    content = _read_json(path)
    not_ours = f"{os.fspath(path)} must be a tokenizer.json that genopt_core wrote"
    try:
        model = content["model"]
        vocab = model["vocab"]
        if model["type"] != "Unigram":
            raise ValueError(f"{not_ours}, its model is {model['type']}")
        ends = [token for token, _ in vocab[-257:]]
        if ends != [*BYTE_TOKENS, UNKNOWN]:
            raise ValueError(f"{not_ours}, its vocabulary does not end with 256 bytes and <unk>")
        pieces = tuple(token.replace(" ", END_OF_WORD) for token, _ in vocab[:-257])
        logs = np.array([score for _, score in vocab[:-257]], dtype=np.float64)
        specials = tuple(token["content"] for token in content["added_tokens"])
        own = model.get(OWN_KEY, {})
        counts = own.get("counts", np.zeros(len(pieces)))
        provenance = dict(own.get("provenance", {"note": "counts and provenance lost by a resave"}))
        length_cost = own.get("length_cost")
        if length_cost is None:  # files of version 0.1 had it, and the specials, in the provenance
            provenance.pop("specials", None)
            length_cost = provenance.pop("length_cost", 0.0)
    except KeyError as error:
        raise ValueError(f"{not_ours}, it has no {error}") from None
    except (TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{not_ours}: {error}") from None
    vocabulary = Vocabulary(pieces, logs + length_cost, counts, provenance, length_cost, specials)
    pattern = content["pre_tokenizer"].get("pattern") if content["pre_tokenizer"] else None
    if pattern != {"Regex": word_pattern(pieces)}:
        raise ValueError(f"{not_ours}, it cuts words differently")
    return vocabulary


def read_tokenizer(path: str | os.PathLike[str]) -> Peer:
    """Read the model of any BPE, WordPiece or Unigram ``tokenizer.json``, to segment words with it.

    Only the model: the words are to be cut as the file's own pre-tokenizer would.  A byte-level
    file (GPT-2 and its kin) gets its words as bytes.  The `Peer` has ``kind``, ``pieces`` and
    ``segment(word)``.  Raises ``FileNotFoundError`` if there is no such file, ``ValueError`` if it
    is not JSON or has another kind of model.
    """
    content = _read_json(path)
    try:
        return peer_from_json(content)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)} is not a tokenizer.json: {error}") from None


def _read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        content = json.loads(Path(path).read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{os.fspath(path)} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{os.fspath(path)} must hold a JSON object")
    return content
