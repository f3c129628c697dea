"""Chapter 1: tokenizers."""

from collections.abc import Iterator
from types import ModuleType

from genopt_core import tables
from genopt_core.explorers.reports import read
from scoreboard.comparison import Cell, Comparison, around, cell, least, results

SIZES = (1000, 4000, 8000, 16000)
MODELS = (
    ("Kneser-Ney", "5,000,000 training bytes", "ours, λ = 5"),
    ("transformer", "750,000 training tokens", "ours, likelihood"),
)


def rows() -> Iterator[Comparison]:
    yield from _english()
    yield from _languages()
    yield from _code()
    yield from _small()
    yield from _models()
    yield from _times()


def _is_peer(name: str) -> bool:
    own = results(1).ours()
    return name not in own and not name.startswith(("ours", "counting"))


def _english() -> Iterator[Comparison]:
    for ours in ("ours, λ = 5", "ours, likelihood"):
        for column, what in (
            ("bits per byte", "Bits a byte"),
            ("tokens per word", "Tokens a word"),
        ):
            yield Comparison(
                chapter=1,
                what=f"{what}, English",
                ours=ours,
                cells=[
                    cell(results(1).standings(n), "tokenizer", column, ours, _is_peer)
                    for n in SIZES
                ],
                spread_of="four sizes",
                report="standings",
                section="bits-and-tokens-at-every-size",
                claim="penalty" if "λ" in ours else "likelihood",
            )


def _languages() -> Iterator[Comparison]:
    r = results(1)
    fields = [rows for rows in r._drawn_words().values() if "ours_front_5" in rows]
    for measure, what in ((r.BITS, "Bits a byte"), ("held_tokens", "Tokens a word")):
        cells = []
        for rows in fields:
            peers = {r._label(n): row[measure] for n, row in rows.items() if not r._is_ours(n)}
            cells.append(Cell(rows["ours_front_5"][measure], peers))
        yield Comparison(
            chapter=1,
            what=f"{what}, words of seven languages",
            ours="ours, λ = 5, front marker",
            cells=cells,
            spread_of=f"{len(cells)} languages and sizes",
            report="seven_languages",
            section="other-languages",
            claim="likelihood",
        )


def _of_contestants(found: dict[str, float], ours: str) -> Cell:
    known = results(1)._quality()["contestants"]
    return Cell(
        found[ours],
        {
            str(known[name]["label"]): value
            for name, value in found.items()
            if name in known and not name.startswith("ours")
        },
    )


def _code() -> Iterator[Comparison]:
    stored = tables.records(read("subwords_conventions.json", "subwords-conventions/1"))
    for size, texts in ((4000, ("python", "markdown", "json")), (16000, ("python",))):
        cells = [
            _of_contestants(
                {
                    row["contestant"]: row["held_tokens"]
                    for row in stored
                    if (row["corpus"], row["rule"], row["size"]) == (text, "gpt4", size)
                },
                "ours_tokens_6" if size == 4000 else "ours_tokens_ahead",
            )
            for text in texts
        ]
        yield Comparison(
            chapter=1,
            what=f"Tokens of {'code, Markdown, JSON' if len(texts) > 1 else 'Python'}, "
            f"{size:,} sub-words",
            ours="ours, fewest tokens" + ("" if size == 4000 else ", new words"),
            cells=cells,
            spread_of="three texts" if len(texts) > 1 else "one text",
            report="texts",
            section="source-code-markdown-json",
            claim="code",
        )


def _small() -> Iterator[Comparison]:
    r = results(1)
    places = {
        "messages": "messages in eight languages",
        "growth": "a growing novel, English at 2,000",
    }
    for part, where in places.items():
        for measure, what in ((r.BITS, "Bits a byte"), (r.TOKENS, "Tokens a word")):
            cells = [*_small_cells(r, part, measure)]
            yield Comparison(
                chapter=1,
                what=f"{what}, {where}",
                ours="ours, λ = 5",
                cells=cells,
                spread_of=f"{len(cells)} sizes and texts",
                report="small_corpora",
                section="small-corpora",
                claim="small",
            )


def _small_cells(r: ModuleType, part: str, measure: str) -> Iterator[Cell]:
    """As in `small_corpora` a peer has the better of two codes, its own and the best one."""
    stored = read("subwords_small.json", "subwords-small/1")
    found: dict[tuple, dict[str, float]] = {}
    for row in tables.records(stored):
        name = row["contestant"]
        if row["part"] != part or (name.startswith("ours") and name != "ours"):
            continue
        values = [row[measure]]
        if measure == r.BITS and name != "ours":
            values.append(row[f"optimal_{measure}"])
        place = found.setdefault((row["corpus"], row["words"], row["size"]), {})
        place[name] = min(values)
    for one in found.values():
        ours = one.pop("ours")
        yield Cell(ours, {stored["labels"][name]: value for name, value in one.items()})


def _models() -> Iterator[Comparison]:
    for model, budget, ours in MODELS:
        found = [
            row
            for row in results(1).context_models()
            if (row["model"], row["budget"]) == (model, budget)
        ]
        one = cell(found, "tokenizer", "bits with context", ours, _is_peer)
        best = least(one.peers)
        (row,) = (row for row in found if row["tokenizer"] == ours)
        gain = row["to BPE" if "BPE" in best else "to sentencepiece"]
        yield Comparison(
            chapter=1,
            what=f"Bits a byte with context, {model}",
            ours=ours,
            cells=[one],
            spread_of=f"95 %, {row['seeds']} seeds",
            report="context_models",
            section="four-objections-answered",
            claim="language-model",
            interval=around(one, gain, best),
        )


def _times() -> Iterator[Comparison]:
    r = results(1)
    for ours in ("ours, fast", "ours, standard", "ours, likelihood"):
        yield Comparison(
            chapter=1,
            what="Time to train 8,000 sub-words",
            ours=ours,
            cells=[cell(r.training_costs(), "tokenizer", "time", ours, _is_peer)],
            spread_of="one machine",
            report="training_costs",
            section="what-it-costs",
            claim="training-time",
        )
    yield Comparison(
        chapter=1,
        what="Speed of encoding, one thread",
        ours="ours, standard",
        cells=[cell(r.encoding_speeds(), "tokenizer", "speed", "ours, standard", _is_peer)],
        spread_of="one machine",
        report="encoding_speeds",
        section="what-it-costs",
        claim="training-time",
        more=True,
    )
