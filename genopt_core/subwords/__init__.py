"""Optimal sub-word encoding: spelling words with pieces of a vocabulary at the least cost.

Read in this order: ``prices`` (what a piece costs), ``lattice`` (all spellings of a word),
``paths`` (the cheapest one), ``corpus_paths`` (of all words at once), ``likelihood`` (fitting the
prices), ``candidates`` (a first vocabulary), ``constraints`` (the same as a linear program),
``stored`` (small tables for the explorers); then ``vocabulary`` (a trained one, and what can be
asked of it), ``sampling`` (n best, sum over all and random spellings), ``encoding`` (whole texts),
``counting`` (files of any size) and ``peers`` (other tokenizers' segmentations).

How a vocabulary is trained: ``substrings`` (all candidates), ``sweeps`` (their arcs), ``pieces``,
``em`` (fitting prices), ``pruning`` (exact losses), ``search`` (insertion and exchange),
``schedule`` and ``training``; what is proved about it: ``certificate``, ``ascent`` and ``exact``.
"""

from genopt_core.subwords.bounds.certificate import Certificate, bound_from_prices, certify
from genopt_core.subwords.bounds.exact import Exact, exact_vocabulary, exhaustive_vocabulary
from genopt_core.subwords.segmentation.corpus import CorpusPaths, best_paths, exact_step_cost_table
from genopt_core.subwords.segmentation.costs import piece_costs
from genopt_core.subwords.segmentation.lattice import Arc, Lattice, word_arcs
from genopt_core.subwords.segmentation.paths import (
    UNKNOWN,
    UNKNOWN_EXTRA,
    Path,
    exact_step_costs,
    greedy_path,
    greedy_paths,
    one_pass_path,
    shortest_path,
    viterbi_path,
)
from genopt_core.subwords.segmentation.program import FlowProgram, flow_program
from genopt_core.subwords.segmentation.sampling import log_marginal, n_best_paths, sample_path
from genopt_core.subwords.tokenizer.counting import count_words_in_files
from genopt_core.subwords.tokenizer.vocabulary import Vocabulary
from genopt_core.subwords.training.candidates import substring_counts, substring_vocabulary
from genopt_core.subwords.training.likelihood import (
    Fit,
    corpus_log_likelihood,
    fit_probabilities,
    hard_em_step,
    profile_log_likelihood,
)
from genopt_core.subwords.training.train import train
from genopt_core.subwords.training.trainer import EFFORTS, Step
from genopt_core.tables import STORED_SIZES, stored_costs, stored_word_counts

__all__ = [
    "piece_costs",
    "Arc",
    "word_arcs",
    "Lattice",
    "UNKNOWN",
    "UNKNOWN_EXTRA",
    "Path",
    "shortest_path",
    "exact_step_costs",
    "viterbi_path",
    "greedy_path",
    "greedy_paths",
    "one_pass_path",
    "CorpusPaths",
    "best_paths",
    "exact_step_cost_table",
    "Fit",
    "profile_log_likelihood",
    "corpus_log_likelihood",
    "hard_em_step",
    "fit_probabilities",
    "substring_counts",
    "substring_vocabulary",
    "FlowProgram",
    "flow_program",
    "n_best_paths",
    "log_marginal",
    "sample_path",
    "Vocabulary",
    "count_words_in_files",
    "STORED_SIZES",
    "stored_word_counts",
    "stored_costs",
    "train",
    "Step",
    "EFFORTS",
    "certify",
    "Certificate",
    "bound_from_prices",
    "exact_vocabulary",
    "exhaustive_vocabulary",
    "Exact",
]
