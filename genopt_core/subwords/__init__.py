"""Chapter 1, optimal sub-word encoding: words cut into pieces of a vocabulary at the least cost.

Four rooms, each using only those before it, and each with a reading order of its own:

- `genopt_core.subwords.segmentation` — the cheapest segmentation of a word under given costs
- `genopt_core.subwords.tokenizer` — a vocabulary at work: texts, token ids, files
- `genopt_core.subwords.training` — how a vocabulary is found
- `genopt_core.subwords.bounds` — what is proved about it

``python -m genopt_core.subwords`` does all this from the command line.
"""

from genopt_core.subwords.bounds.certificate import Certificate, certify
from genopt_core.subwords.bounds.exact import Exact, exact_vocabulary, exhaustive_vocabulary
from genopt_core.subwords.choosing import Choice, Tried, choose_min_count, development_cost
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
from genopt_core.subwords.tokenizer.counting import (
    count_words_by_file,
    count_words_in_files,
    file_weights,
)
from genopt_core.subwords.tokenizer.vocabulary import Vocabulary
from genopt_core.subwords.training.candidates import substring_counts, substring_vocabulary
from genopt_core.subwords.training.dual import bound_from_prices
from genopt_core.subwords.training.from_text import train_on_text
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
    "count_words_by_file",
    "file_weights",
    "STORED_SIZES",
    "stored_word_counts",
    "stored_costs",
    "train",
    "train_on_text",
    "choose_min_count",
    "Choice",
    "Tried",
    "development_cost",
    "Step",
    "EFFORTS",
    "certify",
    "Certificate",
    "bound_from_prices",
    "exact_vocabulary",
    "exhaustive_vocabulary",
    "Exact",
]
