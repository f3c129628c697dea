r"""The vocabulary as a ``tokenizer.json`` file of Hugging Face, and back; no library is needed.

The file holds a Unigram model, whose scores are minus the costs, behind a ``Split`` by the regular
expression of the vocabulary's convention.  In the alphabet of characters it has 256 byte tokens
more, and the end-of-word symbol U+2581 is written as the blank it stands for, so that the exported
tokenizer needs no normalizer, keeps the offsets of the text and confuses no blank with a literal
U+2581; where a word could hold the name of a byte token a second ``Split`` keeps the model from
taking it for the token.  In the alphabet of bytes ``ByteLevel`` follows on the split.  Counts,
token penalty, provenance and convention are the key ``"genopt"`` of the model: Hugging Face reads
past it, and drops it when *it* saves the file.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from genopt_core.conventions import (
    END_OF_WORD,
    EXPRESSIONS,
    LOSSLESS,
    RESERVED,
    Alphabet,
    Convention,
)
from genopt_core.files import whole_file, write_json
from genopt_core.subwords.segmentation.paths import UNKNOWN
from genopt_core.subwords.tokenizer.encoding import BYTE_TOKENS, word_pattern
from genopt_core.subwords.tokenizer.peers import Peer, peer_from_json
from genopt_core.subwords.tokenizer.vocabulary import Vocabulary

ROLES = ("bos_token", "eos_token", "pad_token", "sep_token", "cls_token", "mask_token")
"""What a special token can be for in ``transformers``."""

OWN_KEY = "genopt"
"""Where in the model's JSON object counts, token penalty and provenance are."""


_BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": False,
    "use_regex": False,
}


def tokenizer_json(vocabulary: Vocabulary, byte_fallback: bool = True) -> dict[str, Any]:
    """A vocabulary as the JSON object of Hugging Face's ``tokenizer.json``.

    An unknown character becomes bytes, without ``byte_fallback`` ``<unk>``; the ids are the same.
    In the alphabet of bytes there is none.

    >>> vocabulary = Vocabulary(("a", "b▁"), np.log([0.5, 0.5]), np.ones(2))
    >>> model = tokenizer_json(vocabulary)["model"]
    >>> model["type"], model["vocab"][:2], model["unk_id"]
    ('Unigram', [['a', -0.6931471806], ['b ', -0.6931471806]], 258)
    """
    check_vocabulary(vocabulary)
    costs, convention = vocabulary.costs, vocabulary.convention
    scores: list[list[Any]] = [[s.replace(END_OF_WORD, " "), 0.0 - c] for s, c in costs.items()]
    if not convention.in_bytes:
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
    steps: list[dict[str, Any]] = [_split(word_pattern(vocabulary.pieces, convention), "Isolated")]
    if convention.cuts_names:
        steps.append(_split(RESERVED, "MergedWithPrevious"))
    if convention.in_bytes:
        steps.append(_BYTE_LEVEL)
    decoders = [{"type": "ByteFallback"}, {"type": "Fuse"}]
    own: dict[str, Any] = {
        "counts": vocabulary.counts.tolist(),
        "length_cost": vocabulary.length_cost,
        "provenance": dict(vocabulary.provenance),
    }
    if convention != LOSSLESS:
        own["convention"] = asdict(convention)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}
        if len(steps) > 1
        else steps[0],
        "post_processor": None,
        "decoder": _BYTE_LEVEL
        if convention.in_bytes
        else {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "Unigram",
            "unk_id": None if convention.in_bytes else len(scores) - 1,
            "vocab": scores,
            "byte_fallback": byte_fallback and not convention.in_bytes,
            OWN_KEY: own,
        },
    }


def _split(expression: str, behavior: str) -> dict[str, Any]:
    return {
        "type": "Split",
        "pattern": {"Regex": expression},
        "behavior": behavior,
        "invert": False,
    }


def check_vocabulary(vocabulary: Vocabulary) -> None:
    """Refuse anything else, such as the name of a file."""
    if not isinstance(vocabulary, Vocabulary):
        raise TypeError(f"vocabulary must be a Vocabulary, got {type(vocabulary).__name__}")


def check_roles(roles: Mapping[str, Any]) -> None:
    """Refuse what is no special token by its role.

    >>> check_roles({"eos": "</s>"})
    Traceback (most recent call last):
    ValueError: role must be one of 'bos_token', ..., got eos='</s>'; ...
    """
    for role, token in roles.items():
        if role not in ROLES:
            raise ValueError(
                f"role must be one of {', '.join(map(repr, ROLES))}, got {role}={token!r}; other "
                "special tokens are specials, other settings are set on the tokenizer as loaded"
            )
        if not isinstance(token, str):
            raise TypeError(f"{role} must be a str, got {token!r}")


def save_tokenizer_json(
    vocabulary: Vocabulary, path: str | os.PathLike[str], byte_fallback: bool = True
) -> None:
    """Write a vocabulary as ``tokenizer.json``: the whole file or, if anything fails, nothing.

    The same vocabulary gives the same bytes on every platform.  Raises ``OSError`` if the file
    cannot be written; one that was there stays as it was.

    >>> import tempfile
    >>> vocabulary = Vocabulary(("l", "o", "w", "▁", "low"), [-1.0] * 5, [1] * 5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_tokenizer_json(vocabulary, f"{folder}/tokenizer.json")
    ...     same = load_tokenizer_json(f"{folder}/tokenizer.json")
    ...     peer = read_tokenizer(f"{folder}/tokenizer.json")
    >>> same.pieces == vocabulary.pieces, peer.kind, peer.segment("low")
    (True, 'Unigram', ('low',))
    """
    content = tokenizer_bytes(vocabulary, byte_fallback)
    with whole_file(path) as file:
        file.write(content)


def tokenizer_bytes(vocabulary: Vocabulary, byte_fallback: bool = True) -> bytes:
    """The content of the file that `save_tokenizer_json` writes."""
    content = tokenizer_json(vocabulary, byte_fallback)
    return json.dumps(content, ensure_ascii=False, indent=1).encode("utf-8")


def save_transformers(
    vocabulary: Vocabulary, folder: str | os.PathLike[str], **roles: str
) -> Vocabulary:
    """Write the folder that ``transformers.AutoTokenizer.from_pretrained`` reads.

    ``folder`` is made if it is not there; two files are written to it.  ``roles`` say what a
    special token is for, such as ``eos_token="</s>", pad_token="<pad>"``; it is made one if it is
    not.  No token has the role ``unk_token``, so a text that says ``<unk>`` keeps it.  Returns the
    vocabulary with the special tokens as they were written.  Raises ``OSError`` if the folder
    cannot be written to.

    >>> import os, tempfile
    >>> vocabulary = Vocabulary(("l", "o", "w", "▁", "low"), [-1.0] * 5, [1] * 5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = save_transformers(vocabulary, folder, eos_token="</s>")
    ...     sorted(os.listdir(folder))
    ['tokenizer.json', 'tokenizer_config.json']
    >>> written.specials
    ('</s>',)
    """
    check_roles(roles)
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
        **roles,
    }
    write_json(target / "tokenizer_config.json", settings, indent=1)
    return vocabulary


def load_tokenizer_json(path: str | os.PathLike[str]) -> Vocabulary:
    """Read a vocabulary that `save_tokenizer_json` wrote, also after Hugging Face saved it again.

    Counts are then 0, and the provenance says so.  Raises ``FileNotFoundError`` if there is no such
    file, ``ValueError`` if it is not JSON or not a tokenizer of this form (`read_tokenizer` reads
    others).

    >>> import tempfile
    >>> vocabulary = Vocabulary(("l", "o", "w", "▁", "low"), [-1.0] * 5, [1] * 5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_tokenizer_json(vocabulary, f"{folder}/tokenizer.json")
    ...     load_tokenizer_json(f"{folder}/tokenizer.json")
    Vocabulary(5 pieces, 'l' to 'low')
    """
    content = _read_json(path)
    not_ours = f"{os.fspath(path)} must be a tokenizer.json that genopt_core wrote"
    try:
        model = content["model"]
        vocab = model["vocab"]
        if model["type"] != "Unigram":
            raise ValueError(f"{not_ours}, its model is {model['type']}")
        steps = _pre_tokenizers(content)
        in_bytes = any(step["type"] == "ByteLevel" for step in steps)
        after = 0 if in_bytes else 257
        ends = [token for token, _ in vocab[len(vocab) - after :]]
        if not in_bytes and ends != [*BYTE_TOKENS, UNKNOWN]:
            raise ValueError(f"{not_ours}, its vocabulary does not end with 256 bytes and <unk>")
        vocab = vocab[: len(vocab) - after]
        pieces = tuple(token.replace(" ", END_OF_WORD) for token, _ in vocab)
        logs = np.array([score for _, score in vocab], dtype=np.float64)
        specials = tuple(token["content"] for token in content["added_tokens"])
        own = model.get(OWN_KEY, {})
        counts = own.get("counts", np.zeros(len(pieces)))
        provenance = dict(own.get("provenance", {"note": "counts and provenance lost by a resave"}))
        length_cost = own.get("length_cost")
        if length_cost is None:  # files of version 0.1 had it, and the specials, in the provenance
            provenance.pop("specials", None)
            length_cost = provenance.pop("length_cost", 0.0)
        cuts = [step["pattern"]["Regex"] for step in steps if step["type"] == "Split"]
        if not cuts:
            raise ValueError(f"{not_ours}, it cuts words differently")
        saved_again = OWN_KEY not in model
        convention = (
            _convention_of(cuts[0], pieces, "bytes" if in_bytes else "characters")
            if saved_again
            else Convention(**own["convention"])
            if "convention" in own
            else LOSSLESS
        )
    except KeyError as error:
        raise ValueError(f"{not_ours}, it has no {error}") from None
    except (TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{not_ours}: {error}") from None
    ours = [word_pattern(pieces, convention), *([RESERVED] if convention.cuts_names else [])]
    # Files of before have one expression, and cut no names of tokens.
    if cuts not in (ours, ours[:1]) or in_bytes != convention.in_bytes:
        raise ValueError(f"{not_ours}, it cuts words differently")
    return Vocabulary(
        pieces, logs + length_cost, counts, provenance, length_cost, specials, convention
    )


def _pre_tokenizers(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps before the model, one after the other."""
    first = content.get("pre_tokenizer")
    if first is None:
        return []
    steps: list[dict[str, Any]] = first["pretokenizers"] if first["type"] == "Sequence" else [first]
    return steps


def _convention_of(expression: str, pieces: tuple[str, ...], alphabet: Alphabet) -> Convention:
    """The convention with this expression: one with a name, or the expression by itself."""
    named = (Convention(name, alphabet=alphabet) for name in EXPRESSIONS)
    same = (c for c in named if word_pattern(pieces, c) == expression)
    return next(same, None) or Convention("regex", expression, alphabet)


def read_tokenizer(path: str | os.PathLike[str]) -> Peer:
    """Read the model of any BPE, WordPiece or Unigram ``tokenizer.json``, to segment words with it.

    Only the model: the words are to be cut as the file's own pre-tokenizer would.  A byte-level
    file (GPT-2 and its kin) gets its words as bytes.  The `Peer` has ``kind``, ``pieces`` and
    ``segment(word)``.  Raises ``FileNotFoundError`` if there is no such file, ``ValueError`` if it
    is not JSON or has another kind of model.

    >>> import tempfile
    >>> vocabulary = Vocabulary(("l", "o", "w", "▁", "low"), [-1.0] * 5, [1] * 5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_tokenizer_json(vocabulary, f"{folder}/tokenizer.json")
    ...     peer = read_tokenizer(f"{folder}/tokenizer.json")
    >>> peer.kind, peer.segment("low")
    ('Unigram', ('low',))
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
