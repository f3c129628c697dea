"""Seven languages at three sizes: the stored table holds together, and how its rows are counted."""

import json
from collections import Counter

import pytest

from book.ch1_subwords import results
from book.experiments.subwords import corpora, languages, peers
from book.experiments.subwords.metrics import evaluate
from genopt_core.conventions import byte_letters, spelled_in_bytes
from genopt_core.tables import records
from tests.places import BOOK, RESULTS

WORDS = {"low▁": 50, "lower▁": 20, "newest▁": 60, "widest▁": 30, "fen▁": 3, "brine▁": 2}
OTHER = {"lowest▁": 20, "wider▁": 10, "newer▁": 4, "zoo▁": 1}


def tiny(tmp_path):
    sizes = {f"{part}_bytes": corpora.text_bytes(w) for part, w in
             (("train", WORDS), ("held", OTHER))}  # fmt: skip
    return corpora.Corpus("tiny", WORDS, OTHER, sizes, tmp_path)


@pytest.mark.parametrize("name", ["ours_front_5", "ours_tokens", "ours_front_5_bytes"])
def test_rows_are_counted_as_in_the_table_of_all_metrics(name, tmp_path):
    corpus = tiny(tmp_path)
    trained = peers.train(name, corpus, 16)
    found = languages.scored(trained, corpus)
    sizes = tuple(corpus.facts[f"{part}_bytes"] for part in ("train", "held"))
    wanted = evaluate(
        trained.pieces, trained.segment, WORDS, OTHER, sizes, trained.view, trained.plain
    )
    assert found == pytest.approx({key: wanted[key] for key in found})


@pytest.mark.parametrize(
    ("name", "end"), [("ours_front_5_bytes", "Ġ語"), ("ours_tokens_bytes", "語Ġ")]
)
def test_in_bytes_every_tokenizer_sees_the_same_bytes(name, end, tmp_path):
    words = {word.replace("e", "語"): count for word, count in WORDS.items()}
    held = {word.replace("e", "語"): count for word, count in OTHER.items()}
    sizes = {f"{part}_bytes": corpora.text_bytes(w) for part, w in
             (("train", words), ("held", held))}  # fmt: skip
    corpus = corpora.Corpus("tiny", words, held, sizes, tmp_path)
    trained = peers.train(name, corpus, 30)
    assert len(trained.pieces) == 256 + 30 - len(corpus.alphabet)
    bytes_of = {letter: byte for byte, letter in enumerate(byte_letters())}
    vocabulary = trained.notes["vocabulary"]
    for word in [*words, *held, "語▁"]:
        mine = bytes(bytes_of[letter] for letter in trained.view(word))
        theirs = peers.as_bytes(word).encode("latin-1").replace(b"\x01", b" ")
        assert sorted(mine) == sorted(theirs)  # the marker stands in front or at the end
        (path,) = trained.segment([trained.view(word)])
        assert "".join(path) == trained.view(word)
        assert cost(vocabulary, path) == pytest.approx(
            cost(vocabulary, vocabulary.segment(trained.view(word)))
        )
    assert trained.view("語▁") == spelled_in_bytes(end.replace("Ġ", " "))
    found = languages.scored(trained, corpus)
    assert found["held_tokens"] == sum(
        n * len(vocabulary.segment(trained.view(word))) for word, n in held.items()
    )


def cost(vocabulary, path):
    return sum(vocabulary.costs[piece] for piece in path)


def test_what_spells_in_bytes_needs_no_room_for_characters(tmp_path):
    words = {chr(0x4E00 + i) + "▁": 9 - i % 3 for i in range(300)}
    sizes = dict.fromkeys(("train_bytes", "held_bytes"), corpora.text_bytes(words))
    corpus = corpora.Corpus("tiny", words, words, sizes, tmp_path)
    assert peers.spells_in_bytes("greedtok", corpus)
    assert not peers.spells_in_bytes("greedtok", tiny(tmp_path))
    assert len(peers.train("ours_tokens_bytes", corpus, 270).pieces) == 270
    with pytest.raises(peers.CannotTrainError, match="270 pieces do not hold an alphabet of 301"):
        peers.train("ours_tokens", corpus, 270)
    with pytest.raises(peers.CannotTrainError, match="256 pieces do not hold an alphabet of 256"):
        peers.train("ours_tokens_bytes", corpus, 256)


def test_an_unknown_character_of_a_training_word_is_refused(tmp_path):
    corpus = tiny(tmp_path)
    known = set("".join(WORDS)) - {"f"}
    numbers = dict.fromkeys(("seconds", "cpu_seconds", "base_mb", "peak_mb"), 0.0)
    trained = peers.Trained(
        sorted(known), lambda words: [[c for c in w if c in known] for w in words], **numbers
    )
    with pytest.raises(RuntimeError, match="1 training words of tiny are not spelled"):
        languages.scored(trained, corpus)


STORED = json.loads((RESULTS / "subwords_languages.json").read_text(encoding="utf-8"))


def test_rows_are_of_the_words_of_the_comparison_of_all_corpora():
    quality = json.loads((RESULTS / "subwords_quality.json").read_text(encoding="utf-8"))
    for language, facts in STORED["corpora"].items():
        before = quality["corpora"][f"words-{language}"]
        assert {k: facts[k] for k in before} == before
    rows = {(r["language"], r["size"], r["contestant"]): r for r in records(STORED)}
    twice = 0
    for old in records(quality):
        key = (old["corpus"].removeprefix("words-"), old["size"], old["contestant"])
        if key in rows:  # the same tokenizer, on another machine
            twice += 1
            for measure in languages.MEASURES:
                assert rows[key][measure] == pytest.approx(old[measure], rel=2e-3), key
    assert twice >= 20


def test_rows_are_possible_and_say_where_they_were_made():
    for row in records(STORED):
        facts = STORED["corpora"][row["language"]]
        assert row["train_tokens"] >= facts["train_words"]
        assert row["held_tokens"] >= facts["held_words"]
        assert row["size"] * 0.99 <= row["pieces"] <= row["size"]
        assert row["machine"] in STORED["provenance"]["machines"]
    left_out = {tuple(entry[:3]) for entry in STORED["skipped"]}
    assert not left_out & {(r["language"], r["size"], r["contestant"]) for r in records(STORED)}


def test_a_run_in_a_fresh_clone_goes_on_from_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(languages, "KEPT", tmp_path)
    languages.restore(STORED)
    lying = {p.name: json.loads(p.read_text(encoding="utf-8")) for p in tmp_path.iterdir()}
    peers = [row for row in records(STORED) if not row["contestant"].startswith("ours")]
    skipped = [entry for entry in STORED["skipped"] if not entry[2].startswith("ours")]
    assert len(lying) == len(peers) + len(skipped)
    for row in peers:
        job = (row["language"], row["size"], row["contestant"])
        found = lying[languages.kept(job).name]
        assert {name: found[name] for name in languages.COLUMNS[3:]} == {
            name: row[name] for name in languages.COLUMNS[3:]
        }
        facts = STORED["corpora"][job[0]]
        hashes = [facts["train_counts_sha256"], facts["held_counts_sha256"]]
        assert found["fingerprint"] == [*job, *hashes]
        assert found["versions"] == STORED["provenance"]["machines"][row["machine"]]
    for *job, reason in skipped:
        found = lying[languages.kept(tuple(job)).name]
        assert (found.get("skipped") or f"{found['pieces']} pieces") == reason
    languages.kept(job := ("fi", 4000, "hf_bpe")).write_text("{}", encoding="utf-8")
    languages.restore(STORED)  # what is there already stays
    assert languages.kept(job).read_text(encoding="utf-8") == "{}"


def prose():
    cells = json.loads((BOOK / "ch1_subwords" / "evidence.ipynb").read_text("utf-8"))["cells"]
    return " ".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def test_what_the_page_says_of_the_three_sizes():
    rows = results.seven_languages()
    fields = {(row["language"], row["size"]) for row in rows}
    assert len(fields) == 19
    assert {("Japanese", 1000), ("Chinese", 1000)}.isdisjoint(fields)
    best = Counter(row["fewest tokens"] for row in rows)
    assert len(best) == 3
    assert (
        f"PathPiece needs the fewest tokens of these peers in {best['PathPiece (emulated)']} "
        f"fields, MinGram in {best['MinGram (emulated)']}, GreedTok in {best['GreedTok']}."
    ) in prose()
    for name in ("pathpiece", "greedtok"):
        ran = {(r["language"], r["size"]) for r in records(STORED) if r["contestant"] == name}
        more = {("ja", 1000), ("zh", 1000)} if name == "greedtok" else set()  # in bytes
        assert len(ran) == len(fields) + len(more)
        assert more <= ran
    covered = {
        row["language"]
        for row in rows
        if row["size"] == 4000 and row["fewest tokens"] == "GreedTok"
    }
    assert covered == {"Japanese", "Chinese"}
    sizes = [f"{STORED['corpora'][language]['alphabet']:,}" for language in ("ja", "zh")]
    assert f"spends {sizes[0]} and {sizes[1]} of the 4,000 sub-words on characters" in prose()
    short = {
        name: {
            r[0]: r[3].removesuffix(" pieces") for r in STORED["skipped"] if r[1:3] == [16000, name]
        }
        for name in ("hf_unigram_front", "mingram")
    }
    assert set(short["hf_unigram_front"]) == {"hi", "ja", "zh"}
    assert set(short["mingram"]) == {"hi"}
    assert (
        f"MinGram in Hindi ({int(short['mingram']['hi']):,}), "
        "where BPE, PathPiece and GreedTok are left" in prose()
    )
    assert [
        (r["language"], r["size"])
        for r in rows
        if r["peers"] <= 3 and r["size"] > 4000 and r["language"] == "Hindi"
    ] == [("Hindi", 16000)]
    said = " ".join(results.seven_languages_in_a_sentence().split())
    both = sum(row["tokens, λ = 5"] < 0 > row["bits, λ = 5"] for row in rows)
    assert f"in {both} of 19 fields, in 1 of them by 0.02 % or less." in said


def test_what_the_page_says_of_where_a_token_penalty_is_behind():
    rows = results.seven_languages()

    def at(size, count):
        return {r["language"]: r[f"{count}, λ = 5"] for r in rows if r["size"] == size}

    def behind(size, count):
        return {language for language, percent in at(size, count).items() if percent > 0}

    tokens, bits = at(4000, "tokens"), at(4000, "bits")
    ahead = {language: -percent for language, percent in tokens.items() if percent < 0}
    assert set(ahead) == {"English", "Turkish", "Finnish", "German", "Hindi"}
    assert behind(4000, "tokens") == {"Japanese", "Chinese"}
    assert behind(4000, "bits") == {"Japanese", "Chinese"}
    assert behind(1000, "tokens") == {"German"}
    assert not behind(1000, "bits")
    assert (
        f"At 1,000 λ = 5 is behind in tokens in German ({at(1000, 'tokens')['German']:.2f} %)"
        in (prose())
    )
    assert (min(ahead, key=ahead.get), max(ahead, key=ahead.get)) == ("German", "Turkish")
    assert (
        f"At 4,000 it is ahead by {ahead['German']:.2f} (German) "
        f"to {ahead['Turkish']:.1f} % (Turkish), "
        f"and behind in Japanese ({tokens['Japanese']:.1f} % of tokens; {bits['Japanese']:.1f} % "
        f"of bits, there behind PathPiece) and Chinese ({tokens['Chinese']:.1f} % of tokens, "
        f"{bits['Chinese']:.1f} % of bits)"
    ) in prose()
    fewest = {r["language"]: r["tokens, fewest"] for r in rows if r["size"] == 4000}
    others = [-percent for language, percent in fewest.items() if language in ahead]
    assert (
        f"Ours for the fewest tokens loses there too ({fewest['Japanese']:.1f} and "
        f"{fewest['Chinese']:.1f} %); in the other five languages it is {min(others):.1f} to "
        f"{max(others):.1f} % ahead."
    ) in prose()
    late = at(16000, "tokens")
    assert behind(16000, "tokens") == {"German", "Japanese", "Finnish"}
    assert (
        f"At 16,000 λ = 5 is behind in tokens in German ({late['German']:.1f} %), "
        f"Japanese ({late['Japanese']:.1f} %) and Finnish ({late['Finnish']:.2f} %)."
    ) in prose()


def test_what_the_page_says_of_bytes():
    text = prose()
    rows = results.in_bytes()
    assert len(rows) == 2 * 3 * len(languages.LARGE_ALPHABETS)
    stored = {(r["language"], r["size"], r["contestant"]): r for r in records(STORED)}

    def some(label, sizes, column, language=None):
        return [
            r[column]
            for r in rows
            if r["ours, in bytes"] == label
            and r["size"] in sizes
            and language in (None, r["language"])
        ]

    fewest = some("fewest tokens", (1000, 4000), "tokens, to the best peer")
    assert len(fewest) == 4
    assert max(fewest) < 0
    assert f"by {-max(fewest):.1f} to {-min(fewest):.1f} %, and fewer bits than GreedTok" in text
    for language in languages.LARGE_ALPHABETS:
        for size in languages.SIZES:
            greedtok = stored[language, size, "greedtok"]
            for name in languages.IN_BYTES[:2]:
                measure = "held_bits_per_byte"
                assert stored[language, size, name][measure] < greedtok[measure]
    five = some("λ = 5", (1000, 4000), "tokens, to the best peer")
    bits = some("λ = 5", (1000, 4000), "bits, to the best peer")
    assert f"λ = 5 needs {min(five):.1f} to {max(five):.1f} % more tokens than GreedTok" in text
    assert sum(b > 0 for b in bits) == 1
    assert f"but in Japanese at 4,000 ({max(bits):.2f} % more than PathPiece)" in text

    def range_of(language, sizes, sign):
        found = [
            sign * v
            for label in ("λ = 5", "fewest tokens")
            for v in some(label, sizes, "tokens, to characters", language)
        ]
        return f"{min(found):.1f} to {max(found):.1f} %"

    share = {(r["language"], r["size"]): f"{r['characters']:.0f}" for r in rows}
    assert (
        f"At 4,000 bytes save ours {range_of('Chinese', (4000,), -1)} of the tokens in Chinese, "
        f"where characters are {share['Chinese', 4000]} % of the sub-words, and "
        f"{range_of('Japanese', (4000,), -1)} in Japanese ({share['Japanese', 4000]} %); at 16,000 "
        f"({share['Chinese', 16000]} and {share['Japanese', 16000]} %) they cost it "
        f"{range_of(None, (16000,), 1)}"
    ) in text
    small = json.loads((RESULTS / "subwords_small.json").read_text(encoding="utf-8"))
    cells = {(r["corpus"], r["size"], r["contestant"]): r for r in records(small)}
    dearer = {
        measure: [
            100 * (row[measure] / cells[language, size, "ours"][measure] - 1)
            for (language, size, name), row in cells.items()
            if name == "ours_bytes"
        ]
        for measure in ("held_tokens_per_word", "held_bits_per_byte")
    }
    assert [len(values) for values in dearer.values()] == [6, 6]
    tokens, bits = ((min(values), max(values)) for values in dearer.values())
    filled = small["corpora"]["messages-zh_Hans"]["alphabet"] / 10  # percent of 1,000
    assert (
        f"λ = 5 needs {tokens[0]:.1f} to {tokens[1]:.1f} % more tokens in bytes, and "
        f"{bits[0]:.1f} to {bits[1]:.1f} % more bits, even where characters are {filled:.0f} %"
    ) in text
