"""Reports of the stored comparison of tokenizers (chapter 1).

``book/experiments/subwords`` measured; nothing here trains.  Each report gives rows for
`genopt_core.explorers.reports.table`.
"""

import re
from collections.abc import Sequence
from textwrap import fill
from typing import Any

from genopt_core import tables
from genopt_core.explorers.reports import Column, Estimate, Row, Spread, read

BITS, TOKENS = "held_bits_per_byte", "held_tokens_per_word"
REFERENCE = "hf_unigram_front"
EXTRA = {
    "counting": "counting the words, in Python",
    "ours_exported": "ours, exported to tokenizers",
    "ours_in_hf": "ours, its model behind the peers' splitting",
}
LANGUAGES = {
    "en": "English",
    "tr": "Turkish",
    "fi": "Finnish",
    "de": "German",
    "hi": "Hindi",
    "ja": "Japanese",
    "zh": "Chinese",
}
DJANGO_LANGUAGES = {
    **{code: LANGUAGES[code] for code in ("de", "fi", "hi", "ja", "tr")},
    **{"ar": "Arabic", "ru": "Russian", "zh_Hans": "Chinese"},
}
COLUMNS = {
    "words": ",",
    **dict.fromkeys(("bits, new words", "tokens, new words"), Column("+.2f", "%")),
    **dict.fromkeys(("bits, corpus only", "tokens, corpus only"), Column("+.2f", "%")),
    "bits per byte": Column(".3f", best="least"),
    "tokens per word": Column(".3f", best="least"),
    "above the bound": Column(".2f", "%", best="least"),
    **dict.fromkeys(("bits, change", "tokens, change"), Column("+.2f", "%")),
    **dict.fromkeys(("bits, ▁ at the end", "bits, ▁ in front"), Column("+.2f", "%")),
    **dict.fromkeys(("tokens, ▁ in front", "bits, λ = 5", "tokens, λ = 5"), Column("+.2f", "%")),
    **dict.fromkeys(("bits, fewest", "tokens, fewest"), Column("+.2f", "%")),
    "characters": Column(".0f", "%"),
    **dict.fromkeys(("bits, to characters", "tokens, to characters"), Column("+.2f", "%")),
    **dict.fromkeys(("bits, to the best peer", "tokens, to the best peer"), Column("+.2f", "%")),
    **dict.fromkeys(("above certify's bound", "above the better bound"), Column(".2f", "%")),
    **dict.fromkeys(("plain counts, change", "by file, change"), Column("+.2f", "%")),
    **dict.fromkeys(("size", "megabytes", "files"), ","),
    "time": Column(".1f", "s", best="least"),
    "memory": Column(".0f", "MB", best="least"),
    "over Unigram, by the clock": ".2f",
    "over Unigram, in processor time": ".2f",
    **dict.fromkeys(("ours", "exported"), Column(".1f", "MB a second")),
    "ours, times as fast": ".1f",
    "speed": Column(".1f", "MB a second", best="most"),
    "bits with context": ".4f",
    "bits without context": ".2f",
    "to BPE": "+.4f",
    "to sentencepiece": "+.4f",
}


def _quality() -> Any:
    return read("subwords_quality.json", "subwords-quality/1")


def _label(name: str) -> str:
    return EXTRA.get(name) or str(_quality()["contestants"][name]["label"])


def _rows(corpus: str, size: int | None = None) -> list[Row]:
    return [
        row
        for row in tables.records(_quality())
        if row["corpus"] == corpus and size in (None, row["size"])
    ]


def _is_ours(name: str) -> bool:
    return name.startswith("ours")


def _percent(value: float, base: float) -> float:
    """By how much ``value`` is above ``base``."""
    return 100 * (value / base - 1)


def ours() -> list[str]:
    """What tables call the tokenizers of this book."""
    return [_label(n) for n in [*_quality()["contestants"], *EXTRA] if _is_ours(n)]


def standings(size: int) -> list[Row]:
    """Every tokenizer on the held-out English text, the fewest bits first.

    Above the certified bound are the fewest tokens that its vocabulary allows on the training text.
    """
    gaps = ((row, row["fewest_gap_percent"]) for row in _rows("english", size))
    return [
        {
            "tokenizer": _label(row["contestant"]),
            "bits per byte": row[BITS],
            "tokens per word": row[TOKENS],
            "above the bound": gap,
        }
        for row, gap in sorted(gaps, key=lambda pair: pair[0][BITS])
    ]


def against_the_best_peer(corpus: str, size: int, names: Sequence[str]) -> list[Row]:
    """Some of ours against the best peer of each count, which need not be the same one."""
    rows = {row["contestant"]: row for row in _rows(corpus, size)}
    best = {m: min(rows[n][m] for n in rows if not _is_ours(n)) for m in (BITS, TOKENS)}
    return [
        {
            "tokenizer": _label(name),
            "bits, change": _percent(rows[name][BITS], best[BITS]),
            "tokens, change": _percent(rows[name][TOKENS], best[TOKENS]),
        }
        for name in names
        if name in rows
    ]


def english_against_the_best_peer() -> list[Row]:
    """All sizes of the English text, ours at best effort."""
    quick = ("ours_fast", "ours_standard")
    best = [n for n in _quality()["contestants"] if _is_ours(n) and n not in quick]
    sizes = sorted({r["size"] for r in _rows("english") if not _is_ours(r["contestant"])})
    return [
        {"size": size, **row}
        for size in sizes
        for row in against_the_best_peer("english", size, best)
    ]


def our_gaps() -> list[Row]:
    """Our fewest-tokens vocabulary above `certify`'s bound and above the better of two."""
    tokens = {
        r["size"]: r["train_tokens"] for r in _rows("english") if r["contestant"] == "ours_tokens"
    }
    bounds = tables.records(_quality(), "bounds", "bound_columns")
    return [
        {
            "size": bound["size"],
            "above certify's bound": _percent(tokens[bound["size"]], bound["certify_tokens"]),
            "above the better bound": _percent(tokens[bound["size"]], bound["bound_tokens"]),
        }
        for bound in sorted(bounds, key=lambda bound: bound["size"])
        if bound["corpus"] == "english"
    ]


def _timing(part: str) -> list[Row]:
    summary = read("subwords_timing.json", "subwords-timing/1")["summary"]
    return [entry for entry in summary if entry["part"] == part]


def training_costs(size: int = 8000) -> list[Row]:
    """Seconds and memory of training, and ratios to Unigram, none where they were not measured."""

    def ratio(entry: Row, kind: str) -> float | None:
        if entry["contestant"] == REFERENCE:
            return 1.0
        found = entry.get(f"{kind}over_{REFERENCE}")
        return found and float(found[0])

    entries = [entry for entry in _timing("training") if entry["size"] == size]
    return [
        {
            "tokenizer": _label(entry["contestant"]),
            "time": entry["seconds"][0],
            "memory": entry["peak_mb"],
            "over Unigram, by the clock": ratio(entry, ""),
            "over Unigram, in processor time": ratio(entry, "cpu_"),
        }
        for entry in sorted(entries, key=lambda entry: entry["seconds"][0])
    ]


def encoding_speeds() -> list[Row]:
    """Megabytes of the held-out text that are encoded in a second, on one thread."""
    return [
        {"tokenizer": _label(entry["contestant"]), "speed": entry["mb_per_second"]}
        for entry in sorted(_timing("encoding"), key=lambda entry: -entry["mb_per_second"])
    ]


WHOLE_TEXTS = {
    "moby-dick": "Moby-Dick",
    "python": "Python",
    "messages": "Japanese, Chinese",
}
STATES = {"first": "for the first time", "again": "again"}


def encoding_beside_the_exported() -> list[Row]:
    """Our encoder and the exported tokenizer, in its fastest form, on whole texts and one thread.

    Megabytes in a second of the processor, with the smallest and largest of all rounds, and how
    many times as fast ours is, round by round.
    """
    summary = read("subwords_encoding.json", "subwords-encoding/1")["summary"]
    cells: dict[tuple[str, str], dict[str, Row]] = {}
    for entry in summary:
        forms = cells.setdefault((entry["text"], entry["state"]), {})
        forms[entry["form"]] = entry
    found = []
    for text, label in WHOLE_TEXTS.items():
        for state, when in STATES.items():
            forms = dict(cells[text, state])
            ours = forms.pop("ours")
            peer = max(forms.values(), key=lambda entry: entry["mb_per_second"][0])
            found.append(
                {
                    "text": label,
                    "encoded": when,
                    "ours": Spread(*ours["mb_per_second"]),
                    "exported": Spread(*peer["mb_per_second"]),
                    "ours, times as fast": Spread(*peer["over_ours"]),
                }
            )
    return found


def languages(size: int = 4000) -> list[Row]:
    """Ours against the best peer of each count, in seven languages.

    With the word's marker at the end, as the peers of the figure, against three of them; with it in
    front, for the likelihood and with λ = 5, against four.
    """
    stored = tables.load("subword_languages")
    column = stored["measures"].index(BITS)
    rows = []
    for code, language in LANGUAGES.items():
        numbers = stored["languages"][code]["numbers"]
        bits = {name: values[column] for name, values in numbers.items()}
        peer = min(bits[name] for name in bits if not _is_ours(name))
        front, five = against_the_best_peer(f"words-{code}", size, ["ours_front", "ours_front_5"])
        rows.append(
            {
                "language": language,
                "bits, ▁ at the end": _percent(bits["ours_likelihood"], peer),
                "bits, ▁ in front": front["bits, change"],
                "tokens, ▁ in front": front["tokens, change"],
                "bits, λ = 5": five["bits, change"],
                "tokens, λ = 5": five["tokens, change"],
            }
        )
    return rows


TEXTS = {"python": "Python", "markdown": "Markdown", "json": "JSON"}
ON_TEXTS = {
    "ours_likelihood": "ours, likelihood",
    "ours_tokens": "ours, tokens",
    "ours_tokens_6": "ours, tokens, six times",
    "ours_tokens_ahead": "ours, tokens, new words",
    "ours_chosen": "ours, tokens, chosen",
    "ours_files": "ours, tokens, by file",
    "ours_bits": "ours, likelihood, chosen",
    "hf_bpe_files": "BPE, by file",
    "sp_counts_files": "sentencepiece, by file",
}
ON_TEXTS_PEERS = ("hf_bpe", "hf_unigram", "sp_counts")
WEIGHTED_PEERS = ("hf_bpe_files", "sp_counts_files")
ACROSS = {
    "ours_words": "ours in words",
    "ours_tokens": "ours, twice or more",
    "ours_chosen": "ours, chosen",
}


def texts() -> list[Row]:
    """Ours against the best peer of each count on code, Markdown and JSON, held out."""
    stored = tables.records(read("subwords_conventions.json", "subwords-conventions/1"))
    cells: dict[tuple[str, int], dict[str, Row]] = {}
    for row in stored:
        if row["rule"] == "gpt4" and row["contestant"] != "certified":
            cells.setdefault((row["corpus"], row["size"]), {})[row["contestant"]] = row
    found = []
    for (corpus, size), rows in cells.items():
        peers = [row for name, row in rows.items() if name in ON_TEXTS_PEERS]
        for name, label in ON_TEXTS.items():
            if name in rows:
                setting = _setting(rows[name]["setting"])
                entry: Row = {"text": TEXTS[corpus], "size": size, "tokenizer": label + setting}
                for column, measure in (("tokens", "held_tokens"), ("bits", BITS)):
                    best = min(row[measure] for row in peers)
                    entry[f"{column}, change"] = _percent(rows[name][measure], best)
                found.append(entry)
    return found


def _setting(name: str | None) -> str:
    """What was chosen, in words: "files" are weighted, "ahead" looks at new words."""
    if name is None:
        return ""
    *kind, last = name.split()
    if kind[0] in ("bpe", "sp"):
        return f": γ = {last}"
    if "ahead" in name:
        more = {"tokens": "", "ahead": "", "5": ", λ = 5"}
        return ": new words" + (f", γ = {last}" if kind[0] == "files" else more[last])
    return f": at least {last}" + (", γ = 0.5" if kind[0] == "files" else " times")


def texts_in_a_sentence() -> str:
    """Where the fewest-tokens vocabularies stand, and what nobody can reach on Python."""
    stored = read("subwords_conventions.json", "subwords-conventions/1")
    rows = [row for row in texts() if _is_ours(row["tokenizer"])]
    cells = {(row["text"], row["size"]) for row in rows}
    best = {
        cell: min(row["tokens, change"] for row in rows if (row["text"], row["size"]) == cell)
        for cell in cells
    }
    (text, size), last = max(best.items(), key=lambda item: item[1])
    words = stored["corpora"]["python"]["train_words"]
    (bpe,) = (
        row["train_tokens"]
        for row in tables.records(stored)
        if (row["corpus"], row["rule"], row["size"], row["contestant"])
        == ("python", "gpt4", 16000, "hf_bpe")
    )
    ahead, met = (sum(change <= bar for change in best.values()) for bar in (-1e-9, -3.0))
    weighted = {
        cell: min(row["tokens, change"] for row in peers)
        for cell in cells
        if (peers := [r for r in texts() if _by_file(r) and (r["text"], r["size"]) == cell])
    }
    met_by_all = sum(
        _percent(100 + change, 100 + min(0.0, weighted.get(cell, 0.0))) <= -3
        for cell, change in best.items()
    )
    bounds = {
        (row["corpus"], row["size"]): row["train_tokens"]
        for row in tables.records(stored)
        if row["contestant"] == "certified"
    }
    out = []
    for (corpus, at), bound in sorted(bounds.items()):
        least = min(
            row["train_tokens"]
            for row in tables.records(stored)
            if (row["corpus"], row["rule"], row["size"]) == (corpus, "gpt4", at)
            and row["contestant"] in ON_TEXTS_PEERS
        )
        if bound > 0.97 * least:
            out.append(f"{TEXTS[corpus]} at {at:,}")
    return fill(
        f"The best of ours needs fewer tokens than every peer in {ahead} of {len(best)} fields, at "
        f"least 3 % fewer in {met} ({met_by_all} beside peers with weights by file), at "
        f"worst {last:+.2f} % ({text}, {size:,}).  There BPE needs "
        f"{100 * (bpe / words - 1):.1f} % more tokens than the training text has words.  By the "
        f"certificates 3 % is out of reach for the training text of {', '.join(out)}.",
        88,
    )


def _by_file(row: Row) -> bool:
    """Whether a row of `texts` is of a peer with weighted words."""
    return row["tokenizer"].startswith(tuple(ON_TEXTS[name] for name in WEIGHTED_PEERS))


def by_file() -> list[Row]:
    """Plain counts and weights by file against BPE, by how much Python there is to train on."""
    stored = tables.records(read("subwords_by_file.json", "subwords-by-file/1"))
    cells: dict[tuple[int, int], dict[str, Row]] = {}
    for row in stored:
        cells.setdefault((row["size"], row["megabytes"]), {})[row["contestant"]] = row
    return [
        {
            "size": size,
            "megabytes": megabytes,
            "files": rows["hf_bpe"]["files"],
            **{
                label: _percent(rows[name]["held_tokens"], rows["hf_bpe"]["held_tokens"])
                for name, label in (
                    ("ours_plain", "plain counts, change"),
                    ("ours_files", "by file, change"),
                )
            },
        }
        for (size, megabytes), rows in sorted(cells.items())
    ]


def across_blanks() -> list[Row]:
    """Ours inside words and across blanks against the best peer of each count, held out.

    The peers are BPE in words, BoundlessBPE and SuperBPE.
    """
    stored = tables.records(read("subwords_across_blanks.json", "subwords-across-blanks/1"))
    cells: dict[tuple[str, int], dict[str, Row]] = {}
    for row in stored:
        if row["contestant"] != "certified":
            cells.setdefault((row["corpus"], row["size"]), {})[row["contestant"]] = row
    found = []
    for (corpus, size), rows in cells.items():
        peers = [row for name, row in rows.items() if not _is_ours(name)]
        for name, label in ACROSS.items():
            entry: Row = {"text": {**TEXTS, "english": "English"}[corpus], "size": size}
            least = str(rows[name]["setting"] or "").removeprefix("ours_tokens ")
            entry["tokenizer"] = label + (f": at least {least} times" if least else "")
            for column, measure in (("tokens", "held_tokens"), ("bits", BITS)):
                best = min(row[measure] for row in peers)
                entry[f"{column}, change"] = _percent(rows[name][measure], best)
            found.append(entry)
    return found


def across_in_a_sentence() -> str:
    """How often ours across blanks is ahead, where it loses, and how far its certificate is."""
    rows = [row for row in across_blanks() if row["tokenizer"].startswith(ACROSS["ours_chosen"])]
    ahead = sum(row["tokens, change"] < 0 > row["bits, change"] for row in rows)
    last = max(rows, key=lambda row: row["tokens, change"])
    stored = read("subwords_across_blanks.json", "subwords-across-blanks/1")
    trained: dict[tuple[str, int], dict[str, float]] = {}
    for row in tables.records(stored):
        cell = trained.setdefault((row["corpus"], row["size"]), {})
        cell[row["contestant"]] = row["train_tokens"]
    worst = trained[last["text"].lower(), last["size"]]
    learned = [_percent(worst[name], worst["superbpe"]) for name in ("ours_tokens", "ours_chosen")]
    (new,) = (
        row["tokens, change"]
        for row in across_blanks()
        if row["tokenizer"] == ACROSS["ours_tokens"]
        and (row["text"], row["size"]) == (last["text"], last["size"])
    )
    return fill(
        "With the least count that a development text chose, ours needs fewer tokens and fewer "
        f"bits than every peer in {ahead} of {len(rows)} fields.  At worst ({last['text']}, "
        f"{last['size']:,} sub-words) it needs {learned[1]:+.1f} % tokens beside SuperBPE on the "
        f"training text and {last['tokens, change']:+.1f} % on new text; with all sub-words that "
        f"occur twice or more {learned[0]:+.1f} % and {new:+.1f} %.",
        88,
        break_on_hyphens=False,
    )


def _drawn_words() -> dict[tuple[str, int], dict[str, Row]]:
    """Rows of the drawn words by language and size, sentencepiece's at 4,000 among them."""
    stored = read("subwords_languages.json", "subwords-languages/1")
    cells: dict[tuple[str, int], dict[str, Row]] = {}
    for row in tables.records(stored):
        cells.setdefault((row["language"], row["size"]), {})[row["contestant"]] = row
    for (language, size), rows in cells.items():
        for row in _rows(f"words-{language}", size):
            rows.setdefault(row["contestant"], row)
    return cells


def seven_languages() -> list[Row]:
    """Ours with λ = 5, marker in front, and for fewest tokens, against the best peer of each count.

    All sizes of the drawn words; every tokenizer with its own segmentation and code.
    Sentencepiece was run at 4,000 alone, in the comparison of all corpora.
    """
    cells = _drawn_words()
    found = []
    for code, language in LANGUAGES.items():
        for size in sorted(size for at, size in cells if at == code):
            rows = cells[code, size]
            if "ours_front_5" not in rows:  # the alphabet leaves no room
                continue
            peers = {name: row for name, row in rows.items() if not _is_ours(name)}
            best = min(peers, key=lambda name: peers[name]["held_tokens"])
            entry: Row = {
                "language": language,
                "size": size,
                "peers": len(peers),
                "fewest tokens": _label(best),
            }
            for name, label in (("ours_front_5", "λ = 5"), ("ours_tokens", "fewest")):
                for column, measure in (("tokens", "held_tokens"), ("bits", BITS)):
                    least = min(row[measure] for row in peers.values())
                    mine = rows.get(name)
                    entry[f"{column}, {label}"] = mine and _percent(mine[measure], least)
            found.append(entry)
    return found


def in_bytes() -> list[Row]:
    """Ours spelled in bytes where the alphabet is large: beside characters, and the best peer.

    ``characters`` is their share of a vocabulary of characters; the best peer, in characters or in
    bytes, is that of each count.
    """
    corpora = read("subwords_languages.json", "subwords-languages/1")["corpora"]
    found = []
    for (language, size), rows in _drawn_words().items():
        rivals = [row for name, row in rows.items() if not _is_ours(name)]
        for name, label in (("ours_front_5", "λ = 5"), ("ours_tokens", "fewest tokens")):
            if (mine := rows.get(f"{name}_bytes")) is None:
                continue
            entry: Row = {
                "language": LANGUAGES[language],
                "size": size,
                "characters": 100 * corpora[language]["alphabet"] / size,
                "ours, in bytes": label,
            }
            for column, measure in (("tokens", "held_tokens"), ("bits", BITS)):
                own = rows.get(name)
                least = min(row[measure] for row in rivals)
                entry[f"{column}, to characters"] = own and _percent(mine[measure], own[measure])
                entry[f"{column}, to the best peer"] = _percent(mine[measure], least)
            found.append(entry)
    return found


def seven_languages_in_a_sentence() -> str:
    """In how many fields λ = 5 is ahead in both counts, and where it loses most."""
    rows = seven_languages()
    ahead = [row for row in rows if row["tokens, λ = 5"] < 0 > row["bits, λ = 5"]]
    barely = sum(max(row["tokens, λ = 5"], row["bits, λ = 5"]) >= -0.02 for row in ahead)
    last = max(rows, key=lambda row: row["tokens, λ = 5"])
    return fill(
        f"With λ = 5 ours needs fewer tokens and fewer bits than every peer in {len(ahead)} of "
        f"{len(rows)} fields, in {barely} of them by 0.02 % or less.  At worst "
        f"{last['tokens, λ = 5']:+.2f} % tokens ({last['language']}, "
        f"{last['size']:,} sub-words, beside {last['fewest tokens']}).",
        88,
    )


def small_corpora(part: str) -> list[Row]:
    """Ours with λ = 5 against the best peer of each count, trained for new words or without them.

    ``part`` is "messages" (eight languages) or "growth" (one novel, more and more of it, then all
    the English text).  A peer has the better of two codes, its own and the best one for its pieces.
    """
    small = read("subwords_small.json", "subwords-small/1")
    cells: dict[tuple[str, int], dict[str, Row]] = {}
    for row in tables.records(small):
        if row["part"] == part:
            cells.setdefault((row["corpus"], row["size"]), {})[row["contestant"]] = row
    for corpus in ("moby-dick", "english") if part == "growth" else ():
        words = _quality()["corpora"][corpus]["train_words"]
        for row in _rows(corpus):
            name = "ours" if row["contestant"] == "ours_weight_5" else row["contestant"]
            cell = cells.setdefault((corpus, row["size"]), {})
            cell.setdefault(name, row | {"words": words})
    cells = {at: rows for at, rows in cells.items() if "ours" in rows}
    if part == "growth":
        cells = dict(sorted(cells.items(), key=lambda cell: (cell[1]["ours"]["words"], cell[0][1])))
    found = []
    for (corpus, size), rows in cells.items():
        rivals = [row for name, row in rows.items() if not _is_ours(name)]
        bits = min(min(row[BITS], row[f"optimal_{BITS}"]) for row in rivals)
        tokens = min(row[TOKENS] for row in rivals)
        own = rows["ours"]
        entry: Row = {"language": DJANGO_LANGUAGES.get(corpus, "English")}
        entry |= {"words": own["words"], "size": size}
        for mine, kind in ((own, "new words"), (rows.get("ours_without", own), "corpus only")):
            entry[f"bits, {kind}"] = _percent(mine[BITS], bits)
            entry[f"tokens, {kind}"] = _percent(mine[TOKENS], tokens)
        found.append(entry)
    return found


def small_corpora_in_a_sentence() -> str:
    """In how many fields ours is ahead, with and without new words, and its worst one."""
    rows = small_corpora("messages")

    def ahead(kind: str) -> int:
        return sum(row[f"bits, {kind}"] < 0 > row[f"tokens, {kind}"] for row in rows)

    def worst(row: Row) -> float:
        return float(max(row["bits, new words"], row["tokens, new words"]))

    last = max(rows, key=worst)
    return fill(
        "Ours needs fewer bits and fewer tokens than every peer that could be trained in "
        f"{ahead('new words')} of {len(rows)} fields, trained for the corpus alone in "
        f"{ahead('corpus only')}; at worst {worst(last):+.2f} % ({last['language']}, "
        f"{last['size']:,} sub-words).",
        88,
    )


def _minus(entry: Row, reference: str) -> Estimate | None:
    found = entry.get(f"minus_{reference}")
    return found and Estimate(found["mean"], found["half_interval"])


def _with_commas(text: str) -> str:
    return re.sub(r"\d+", lambda found: f"{int(found[0]):,}", text)


def context_models(size: int = 1000) -> list[Row]:
    """Bits per byte of language models on each tokenizer, and differences seed by seed."""
    ngram = read("subwords_ngram.json", "subwords-ngram/1")
    neural = read("subwords_lm.json", "subwords-lm/1")
    without = {row["contestant"]: row[BITS] for row in _rows("english", size)}
    found = [
        (model, _with_commas(stored["budgets"][entry["budget"]].split(":")[0]), entry)
        for model, stored, summary in (
            ("Kneser-Ney", ngram, ngram[f"summary_{size}"]),
            ("transformer", neural, neural["summary"]),
        )
        for entry in summary
    ]
    return [
        {
            "tokenizer": _label(entry["contestant"]),
            "model": model,
            "budget": budget,
            "bits with context": entry["mean"],
            "bits without context": without[entry["contestant"]],
            "to BPE": _minus(entry, "hf_bpe"),
            "to sentencepiece": _minus(entry, "sp_counts"),
            "seeds": len(entry["seeds"]),
        }
        for model, budget, entry in found
    ]
