"""The schedule of training: from many candidates down to the size wanted, then local search."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from genopt_core.subwords.segmentation.arrays import Float, Index, Mask, rounded
from genopt_core.subwords.training.arcs import Pieces
from genopt_core.subwords.training.ascent import ascend
from genopt_core.subwords.training.em import (
    Segmentation,
    fitted_costs,
    hard_em,
    segment_all,
    soft_step,
)
from genopt_core.subwords.training.new_words import Files, NextText, Outlook
from genopt_core.subwords.training.pruning import pruned, removal_losses
from genopt_core.subwords.training.search import local_search, prune_to_size
from genopt_core.subwords.training.substrings import Substrings

TOKENS_FIRST = 1000.0
"""Nats per token of objective "tokens": more than the code length of any word of the corpus, so
that fewest tokens decide and code length breaks ties."""
SEARCH_WEIGHT = 100.0
"""Nats per token while searching for fewest tokens: a little code length left in the objective
leads past ties."""
SEED_CUTS = 24
"""In how many cuts the start from the relaxation prunes to size; twice as many for tokens."""


@dataclass(frozen=True)
class Effort:
    """How hard to try.

    Attributes
    ----------
    candidates : int
        Pieces at the start, as a multiple of the vocabulary size.
    rounds : int
        Rounds of local search; twice as many for objective "tokens".
    share : float
        Share of the vocabulary that the first round tries to replace.
    cuts : int
        In how many cuts a round prunes back to size: more are slower and find more.
    ascent : int
        Steps of the ascent of (book, eq. swe-dual) whose shares are the start of objective
        "tokens"; 0 starts from the most frequent candidates.
    weighted_ascent : int
        The same for code length plus a token penalty.  Code length alone always starts from the
        most frequent candidates: the relaxation counts tokens, and knows nothing of it.
    """

    candidates: int = 5
    rounds: int = 0
    share: float = 0.5
    cuts: int = 5
    ascent: int = 0
    weighted_ascent: int = 0


EFFORTS = {
    "fast": Effort(),
    "standard": Effort(rounds=2, ascent=60),
    "best": Effort(rounds=6, cuts=8, ascent=250, weighted_ascent=60),
}


@dataclass(frozen=True)
class Step:
    """One step of training, as a progress function gets it.

    Attributes
    ----------
    stage : str
        "soft" or "hard" (expectation-maximization while pruning), "seeded", "search" or "end".
    pieces : int
        Size of the vocabulary after the step.
    entered, left : int
        Pieces that came in and went out in this step.
    examples_entered, examples_left : tuple of str
        Up to eight of them, most frequent first.
    bits, tokens : float
        Code length of the corpus under refitted probabilities, and its tokens.
    best : bool
        Whether this is the vocabulary that training would return now.
    done, total : int
        Number of the step; 0, because nobody knows how many there will be.

    Examples
    --------
    >>> from genopt_core.subwords import train
    >>> steps: list[Step] = []
    >>> _ = train({"low▁": 5, "lower▁": 2, "newest▁": 6}, 12, progress=steps.append)
    >>> steps[-1].stage, steps[-1].pieces
    ('hard', 12)
    """

    stage: str
    pieces: int
    entered: int
    left: int
    examples_entered: tuple[str, ...]
    examples_left: tuple[str, ...]
    bits: float
    tokens: float
    best: bool
    done: int = 0
    total: int = 0


class Trainer:
    """The steps of training, and the best vocabulary so far."""

    def __init__(
        self, table: Substrings, size: int, plan: Effort, progress: Callable[[Step], object]
    ) -> None:
        self.table, self.size, self.plan, self.progress = table, size, plan, progress
        self.interrupted = False
        self._shown, self._steps = table.single, 0  # pieces of the step shown last, and its number

    def cheapest(self, length_cost: float) -> tuple[Pieces, Segmentation]:
        """Least code length plus ``length_cost`` nats per token."""
        steps = self.plan.weighted_ascent if length_cost > 0 else 0
        return self._searched(*self._started(steps, length_cost, SEED_CUTS), self.plan.rounds)

    def fewest_tokens(self) -> tuple[Pieces, Segmentation]:
        """Fewest tokens."""
        start = self._started(self.plan.ascent, SEARCH_WEIGHT, 2 * SEED_CUTS)
        pieces, state = self._searched(*start, 2 * self.plan.rounds)
        state = hard_em(self.table, pieces.forwards, state.counts, TOKENS_FIRST, 10)
        self._show("end", pieces, state)
        return pieces, state

    def for_new_words(
        self, length_cost: float, at_most: bool, files: Files | None = None
    ) -> tuple[Pieces, Segmentation]:
        """Least cost of the next text, new words included (`new_words.NextText`).

        The schedule is that of the other two, pruning and local search, with the losses and gains
        of the next text; ``at_most`` leaves out pieces for which it has no use.
        """
        text = NextText(self.table, self.size, length_cost, files)
        chosen = self.table.single.copy()
        chosen[self._frequent_first[: self.plan.candidates * self.size]] = True
        counts: Float = np.where(chosen, self.table.count, 0.0)
        while (there := int(chosen.sum())) > self.size:
            target = max(self.size, there // 2 if there > 4 * self.size else int(0.9 * there))
            chosen, seen = self._cut(text, chosen, counts, target, there)
            counts = seen.counts
            self._show("hard", *self._as_corpus(seen, chosen))
        seen = text.look(text.pieces(chosen), counts, 5)
        chosen, seen = self._searched_ahead(text, chosen, seen)
        if at_most:
            chosen = chosen & ((seen.uses > 0) | self.table.single)
            seen = text.look(text.pieces(chosen), np.where(chosen, seen.counts, 0.0), 2)
        return self._as_corpus(seen, chosen)

    def _cut(
        self, text: NextText, chosen: Mask, counts: Float, size: int, step: int
    ) -> tuple[Mask, Outlook]:
        """`prune_to_size` for the next text."""
        seen = text.look(text.pieces(chosen), counts, 3)
        while (there := int(chosen.sum())) > size:
            left = max(size, there - step)
            loss = text.losses(seen, chosen)
            chosen = pruned(self.table, chosen, seen.counts + seen.uses, loss, left)
            fewer = [
                own.only(chosen & part.allowed)
                for own, part in zip(seen.pieces, text.parts, strict=True)
            ]
            counts = np.where(chosen, seen.counts, 0.0)
            seen = text.look(fewer, counts, 2 if left > size else 5)
        return chosen, seen

    def _searched_ahead(self, text: NextText, chosen: Mask, seen: Outlook) -> tuple[Mask, Outlook]:
        """`local_search` for the next text."""
        share, index = self.plan.share, np.arange(len(self.table))
        try:
            for _ in range(self.plan.rounds):
                gain, uses = text.gains(seen, chosen)
                new = np.lexsort((index, -self.table.count, -rounded(gain)))
                new = new[: int(share * self.size)]
                new = new[gain[new] > 0]
                if not len(new):
                    break
                wider, counts = chosen.copy(), seen.counts.copy()
                wider[new], counts[new] = True, uses[new]
                step = -(-len(new) // self.plan.cuts)
                trial, result = self._cut(text, wider, counts, int(chosen.sum()), step)
                better = result.objective < seen.objective * (1 - 2e-6)
                if better:
                    chosen, seen = trial, result
                self._show("search", *self._as_corpus(result, trial), better)
                share *= 0.8 if better else 0.5
        except KeyboardInterrupt:
            self._interrupted()
        return chosen, seen

    def _as_corpus(self, seen: Outlook, chosen: Mask) -> tuple[Pieces, Segmentation]:
        return Pieces(self.table, chosen), seen.states[0]

    def _started(self, steps: int, length_cost: float, cuts: int) -> tuple[Pieces, Segmentation]:
        """A first vocabulary of the size: from the relaxation, or from frequent candidates."""
        longer = self.size - self.table.singles
        if steps and longer:
            share = ascend(self.table, longer, steps).share
            return self._rounded_off(share, length_cost, cuts)
        rank = self._frequent_first[: self.plan.candidates * self.size]
        start = self.table.single.copy()
        start[rank] = True
        return self._pruned_to_size(Pieces(self.table, start), length_cost)

    def _pruned_to_size(self, pieces: Pieces, length_cost: float) -> tuple[Pieces, Segmentation]:
        """From many candidates to ``size``: soft EM and halving, then hard EM and tenths."""
        table, size = self.table, self.size
        counts: Float = np.where(pieces.chosen, table.count * table.length, 0.0)
        cost = fitted_costs(counts, length_cost)
        while len(pieces) > 2 * size:
            cost, left = soft_step(table, pieces.forwards, pieces.chosen, cost, length_cost)
            pieces = pieces.only(
                _filled_up(left, size, self._frequent_first[pieces.chosen[self._frequent_first]])
            )
            state = segment_all(table, pieces.forwards, cost, length_cost)
            self._show("soft", pieces, state)
            if len(pieces) > size:
                loss = removal_losses(pieces, state)
                target = max(len(pieces) // 2, size + size // 4)
                pieces = pieces.only(pruned(table, pieces.chosen, state.counts, loss, target))
            counts = np.where(pieces.chosen, state.counts, 0.0)
        known = np.full(len(table), -np.inf)
        while len(pieces) > size:
            target = max(size, int(0.9 * len(pieces)))
            pieces, state, known = prune_to_size(
                pieces, counts, known, target, len(pieces), length_cost, settle=1
            )
            counts = state.counts
            self._show("hard", pieces, state)
        state = hard_em(table, pieces.forwards, counts, length_cost, 6)
        return pieces, state

    def _rounded_off(
        self, share: Float, length_cost: float, cuts: int
    ) -> tuple[Pieces, Segmentation]:
        """From the shares of the relaxation: the pieces with some share, then pruning."""
        table, size = self.table, self.size
        order = np.lexsort((np.arange(len(table)), -table.count, -np.round(share, 9)))
        chosen = table.single | (share > 0.02)
        chosen = _filled_up(chosen, size, order)
        pieces = Pieces(table, chosen)
        counts = np.where(chosen, table.count * np.maximum(share, 0.1), 0.0)
        known = np.full(len(table), -np.inf)
        step = max(1, (len(pieces) - size) // cuts)
        pieces, state, _ = prune_to_size(pieces, counts, known, size, step, length_cost)
        self._show("seeded", pieces, state)
        return pieces, state

    def _searched(
        self, pieces: Pieces, state: Segmentation, rounds: int
    ) -> tuple[Pieces, Segmentation]:
        """The best vocabulary of a local search, also of one that is interrupted."""
        try:
            for trial, result, better in local_search(
                pieces, state, rounds, self.plan.share, self.plan.cuts
            ):
                if better:
                    pieces, state = trial, result
                self._show("search", trial, result, better)
        except KeyboardInterrupt:
            self._interrupted()
        return pieces, state

    def _interrupted(self) -> None:
        self.interrupted = True
        warnings.warn("training was interrupted: this is the best vocabulary so far", stacklevel=5)

    def _show(self, stage: str, pieces: Pieces, state: Segmentation, best: bool = True) -> None:
        entered = np.flatnonzero(pieces.chosen & ~self._shown)
        left = np.flatnonzero(self._shown & ~pieces.chosen)
        self._shown, self._steps = pieces.chosen, self._steps + 1
        self.progress(
            Step(
                stage=stage,
                pieces=len(pieces),
                entered=len(entered),
                left=len(left),
                examples_entered=self._examples(entered),
                examples_left=self._examples(left),
                bits=state.nats / math.log(2),
                tokens=state.tokens,
                best=best,
                done=self._steps,
            )
        )

    def _examples(self, numbers: Index) -> tuple[str, ...]:
        order = np.argsort(-self.table.count[numbers], kind="stable")
        return tuple(self.table.texts(numbers[order[:8]]))

    @cached_property
    def _frequent_first(self) -> Index:
        """Single characters, then the candidates with the most characters in all."""
        table = self.table
        rank = np.where(table.single, -np.inf, -table.count * table.length)
        return np.lexsort((np.arange(len(table)), rank))


def _filled_up(chosen: Mask, size: int, order: Index) -> Mask:
    """The chosen pieces, and if they are fewer than ``size`` the first others of ``order``."""
    more = order[~chosen[order]][: max(size - int(chosen.sum()), 0)]
    chosen = chosen.copy()
    chosen[more] = True
    return chosen
