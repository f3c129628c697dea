"""The schedule of training: from many candidates down to the size wanted, then local search."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from genopt_core.subwords.segmentation.trie import Index
from genopt_core.subwords.training.ascent import ascend
from genopt_core.subwords.training.em import Spelling, hard_em, prices, soft_step, spell
from genopt_core.subwords.training.pieces import Pieces
from genopt_core.subwords.training.pruning import pruned, removal_losses
from genopt_core.subwords.training.search import cut_back, improved
from genopt_core.subwords.training.substrings import Float, Mask, Substrings

TOKENS_FIRST = 1000.0
"""Nats per token of objective "tokens": more than the code length of any word of the corpus, so
that fewest tokens decide and code length breaks ties."""
SEARCH_WEIGHT = 100.0
"""Nats per token while searching for fewest tokens: a little code length left in the objective
leads past ties."""


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
        The same for code length plus a price per token.  Code length alone always starts from the
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
    """One step of training, for whoever watches.

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
        Code length of the corpus under refitted probabilities, and pieces it is spelled with.
    best : bool
        Whether this is the vocabulary that training would return now.
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


Progress = Callable[[Step], None]


class Trainer:
    """The steps of training, and the best vocabulary so far."""

    def __init__(
        self, table: Substrings, size: int, plan: Effort, progress: Progress | None
    ) -> None:
        self.table, self.size, self.plan, self.progress = table, size, plan, progress
        self.interrupted = False
        self._shown = table.single  # the pieces of the step shown last

    def cheapest(self, length_cost: float) -> tuple[Pieces, Spelling]:
        """Least code length plus ``length_cost`` nats per token."""
        steps = self.plan.weighted_ascent if length_cost > 0 else 0
        return self._searched(*self._started(steps, length_cost, 24))

    def fewest_tokens(self) -> tuple[Pieces, Spelling]:
        """Fewest tokens."""
        pieces, state = self._started(self.plan.ascent, SEARCH_WEIGHT, 48)
        self.plan = replace(self.plan, rounds=2 * self.plan.rounds)
        pieces, state = self._searched(pieces, state)
        state = hard_em(self.table, pieces.forwards, state.counts, TOKENS_FIRST, 10)
        self._show("end", pieces, state)
        return pieces, state

    def _started(self, steps: int, length_cost: float, cuts: int) -> tuple[Pieces, Spelling]:
        """A first vocabulary of the size: from the relaxation, or from frequent candidates."""
        longer = self.size - int(self.table.single.sum())
        if steps and longer:
            share = ascend(self.table, longer, steps).share
            return self._rounded_off(share, length_cost, cuts)
        start = frequent(self.table, self.plan.candidates * self.size)
        return self._pruned_to_size(Pieces(self.table, start), length_cost)

    def _pruned_to_size(self, pieces: Pieces, length_cost: float) -> tuple[Pieces, Spelling]:
        """From many candidates to ``size``: soft EM and halving, then hard EM and tenths."""
        table, size = self.table, self.size
        counts: Float = np.where(pieces.chosen, table.count * table.length, 0.0)
        cost = prices(counts, length_cost)
        while len(pieces) > 2 * size:
            cost, left = soft_step(table, pieces.forwards, pieces.chosen, cost, length_cost)
            pieces = pieces.only(_filled_up(table, left, pieces.chosen, size))
            state = spell(table, pieces.forwards, cost, length_cost)
            self._show("soft", pieces, state)
            if len(pieces) > size:
                loss = removal_losses(pieces, state)
                target = max(len(pieces) // 2, size + size // 4)
                pieces = pieces.only(pruned(table, pieces.chosen, state.counts, loss, target))
            counts = np.where(pieces.chosen, state.counts, 0.0)
        known = np.full(len(table), -np.inf)
        while len(pieces) > size:
            target = max(size, int(0.9 * len(pieces)))
            pieces, state, known = cut_back(
                pieces, counts, known, target, len(pieces), length_cost, settle=1
            )
            counts = state.counts
            self._show("hard", pieces, state)
        state = hard_em(table, pieces.forwards, counts, length_cost, 6)
        return pieces, state

    def _rounded_off(self, share: Float, length_cost: float, cuts: int) -> tuple[Pieces, Spelling]:
        """From the shares of the relaxation: the pieces with some share, then pruning."""
        table, size = self.table, self.size
        order = np.lexsort((np.arange(len(table)), -table.count, -np.round(share, 9)))
        chosen = table.single | (share > 0.02)
        chosen = _filled_up(table, chosen, np.ones(len(table), dtype=bool), size, order)
        pieces = Pieces(table, chosen)
        counts = np.where(chosen, table.count * np.maximum(share, 0.1), 0.0)
        known = np.full(len(table), -np.inf)
        step = max(1, (len(pieces) - size) // cuts)
        pieces, state, _ = cut_back(pieces, counts, known, size, step, length_cost)
        self._show("seeded", pieces, state)
        return pieces, state

    def _searched(self, pieces: Pieces, state: Spelling) -> tuple[Pieces, Spelling]:
        plan, found = self.plan, [(pieces, state)]

        def report(trial: Pieces, result: Spelling, better: bool) -> None:
            if better:
                found[0] = (trial, result)
            self._show("search", trial, result, better)

        try:
            improved(pieces, state, plan.rounds, plan.share, plan.cuts, report)
        except KeyboardInterrupt:
            self.interrupted = True
            warnings.warn(
                "training was interrupted: this is the best vocabulary so far", stacklevel=4
            )
        return found[0]

    def _show(self, stage: str, pieces: Pieces, state: Spelling, best: bool = True) -> None:
        if self.progress is None:
            return
        entered = np.flatnonzero(pieces.chosen & ~self._shown)
        left = np.flatnonzero(self._shown & ~pieces.chosen)
        self._shown = pieces.chosen
        bits = state.nats / math.log(2)
        self.progress(
            Step(
                stage=stage,
                pieces=len(pieces),
                entered=len(entered),
                left=len(left),
                examples_entered=self._examples(entered),
                examples_left=self._examples(left),
                bits=bits,
                tokens=state.tokens,
                best=best,
            )
        )

    def _examples(self, numbers: Index) -> tuple[str, ...]:
        order = np.argsort(-self.table.count[numbers], kind="stable")
        return tuple(self.table.texts(numbers[order[:8]]))


def frequent(table: Substrings, size: int) -> Mask:
    """Single characters and the candidates with the most characters in all, ``size`` together."""
    rank = np.where(table.single, -np.inf, -table.count * table.length)
    chosen = np.zeros(len(table), dtype=bool)
    chosen[np.lexsort((np.arange(len(table)), rank))[:size]] = True
    return chosen | table.single


def _filled_up(
    table: Substrings, chosen: Mask, among: Mask, size: int, order: Index | None = None
) -> Mask:
    """The chosen pieces, and if they are fewer than ``size`` the first others ``among`` those."""
    lack = size - int(chosen.sum())
    if lack <= 0:
        return chosen
    if order is None:
        order = np.lexsort((np.arange(len(table)), -table.count * table.length))
    more = order[(among & ~chosen)[order]][:lack]
    chosen = chosen.copy()
    chosen[more] = True
    return chosen
