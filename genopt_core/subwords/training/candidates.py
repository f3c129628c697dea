"""A first vocabulary without any training: the characters and the most frequent substrings."""

import itertools
from collections.abc import Iterable, Mapping

from genopt_core.checks import real, whole
from genopt_core.subwords.segmentation.costs import check_words


def substring_counts(
    words: Mapping[str, float] | Iterable[str], max_piece: int, min_count: float = 1
) -> dict[str, float]:
    """How often each substring occurs in a corpus, overlaps included, most frequent first.

    Equals come longer first, then alphabetically.  O(characters of the distinct words * max_piece)
    time and memory.

    Parameters
    ----------
    words : mapping of str to number, or iterable of str
        Word counts; plain words count once each.
    max_piece : int
        Length of the longest substring counted, in characters.
    min_count : number
        Longer substrings that occur less often are left out; single characters always stay.

    Examples
    --------
    >>> substring_counts({"low▁": 5, "lower▁": 2}, max_piece=3, min_count=5)
    {'low': 7, 'lo': 7, 'ow': 7, 'l': 7, 'o': 7, 'w': 7, '▁': 7, 'ow▁': 5, 'w▁': 5, 'e': 2, 'r': 2}
    """
    counts = check_words(words)
    longest = whole(max_piece, "max_piece")
    if real(min_count, "min_count") < 0:
        raise ValueError(f"min_count must be at least 0, got {min_count!r}")
    total: dict[str, float] = {}
    for word, count in counts.items():
        for start in range(len(word)):
            for end in range(start + 1, min(start + longest, len(word)) + 1):
                piece = word[start:end]
                total[piece] = total.get(piece, 0) + count
    kept = [(s, c) for s, c in total.items() if c >= min_count or len(s) == 1]
    return dict(sorted(kept, key=lambda item: (-item[1], -len(item[0]), item[0])))


def substring_vocabulary(
    words: Mapping[str, float] | Iterable[str], size: int, max_piece: int
) -> dict[str, float]:
    """Probabilities of all characters and the most frequent longer substrings, ``size`` in all.

    With fewer substrings than that, all are taken.  Probabilities are proportional to the counts of
    `substring_counts` and sum to 1; characters come first, each group by falling count.  Every word
    over these characters has a path (the piece limit of book, eq. swe-corpus), and a smaller
    vocabulary of the same corpus is a part of a larger one.

    This is where training starts, not where it ends: frequent substrings overlap one another, and
    the best paths need only some of them.

    >>> vocabulary = substring_vocabulary({"low▁": 5, "lower▁": 2}, size=8, max_piece=3)
    >>> list(vocabulary)
    ['l', 'o', 'w', '▁', 'e', 'r', 'low', 'lo']
    """
    wanted = whole(size, "size")
    counts = substring_counts(words, max_piece)
    chosen = {s: c for s, c in counts.items() if len(s) == 1}
    if wanted < len(chosen):
        raise ValueError(
            f"size must be at least the {len(chosen)} different characters, got {wanted}"
        )
    longer = ((s, c) for s, c in counts.items() if len(s) > 1)
    chosen.update(itertools.islice(longer, wanted - len(chosen)))
    total = sum(chosen.values())
    return {piece: count / total for piece, count in chosen.items()}
