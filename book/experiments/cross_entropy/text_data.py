"""Real text and human judgements of word2vec's experiments, most of them in gensim's wheel."""

import bz2
import re
from collections.abc import Iterable, Sequence

import numpy as np
from gensim.corpora.wikicorpus import extract_pages, filter_wiki
from gensim.test.utils import datapath
from scipy.stats import spearmanr

from genopt_core import checks
from genopt_core.word2vec import Embedding


def text_sentences(text: str, shortest: int = 5) -> list[list[str]]:
    """Lower-case words of each sentence of ``text``; sentences under ``shortest`` are dropped.

    Words are runs of letters a to z, sentences end at ``. ! ?`` or a line's end: enough for English
    word vectors, and the same everywhere.

    Examples
    --------
    >>> text_sentences("The state of the Union is strong. Yes!")
    [['the', 'state', 'of', 'the', 'union', 'is', 'strong']]
    """
    pieces = re.split(r"\n+|(?<=[.!?])\s+", text.lower())
    found = (re.findall(r"[a-z]+", piece) for piece in pieces)
    return [sentence for sentence in found if len(sentence) >= shortest]


def wikipedia_sentences(tokens: int | None = None) -> list[list[str]]:
    """Sentences of the Wikipedia extract (106 articles) that gensim's wheel carries.

    Stops at the first sentence beyond ``tokens``.  Takes about two seconds.
    """
    name = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
    found: list[list[str]] = []
    seen = 0
    with bz2.BZ2File(datapath(name)) as dump:
        for _, text, _ in extract_pages(dump, ("0",)):
            for sentence in text_sentences(filter_wiki(text)):
                found.append(sentence)
                seen += len(sentence)
                if tokens is not None and seen > tokens:
                    return found
    return found


def similarity_pairs(name: str) -> list[tuple[str, str, float]]:
    """Word pairs with human judgements: ``"wordsim353"`` or ``"simlex999"``."""
    files = {"wordsim353": "wordsim353.tsv", "simlex999": "simlex999.txt"}
    checks.one_of(name, "name", files)
    with open(datapath(files[name]), encoding="utf-8") as lines:
        return list(_pairs(lines))


def _pairs(lines: Iterable[str]) -> Iterable[tuple[str, str, float]]:
    for line in lines:
        if not line.startswith("#"):
            first, second, score = line.strip().split("\t")[:3]
            yield first.lower(), second.lower(), float(score)


def similarity_spearman(embedding: Embedding, pairs: Sequence[tuple[str, str, float]]) -> float:
    """Rank correlation of cosines with human judgements; unknown pairs get the median cosine.

    0 if no pair is known.  With 353 pairs its own sampling error is about 0.05, so a search that
    looks at it many times fits that error: report it at the end.
    """
    if len(pairs) < 3:
        raise ValueError(f"pairs must be 3 or more, got {len(pairs)}")
    first, second, judged = zip(*pairs, strict=True)
    i, j = embedding.rows(first), embedding.rows(second)
    known = (i >= 0) & (j >= 0)
    if not known.any():
        return 0.0
    cosine = (embedding.unit[i] * embedding.unit[j]).sum(axis=1)
    cosine = np.where(known, cosine, np.median(cosine[known]))
    return float(spearmanr(cosine, judged).statistic)
