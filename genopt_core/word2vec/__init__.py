r"""Word vectors: word2vec's loss, a corpus whose answer is known, training, scores.

Chapter 2 of the book tunes word2vec, so it needs three things that live here.  *The loss*: one step
of skip-gram with negative sampling in NumPy, small enough to check by hand (`negative_sampling`).
*An objective*: gensim trains (`train`) on a corpus drawn from planted vectors (`planted_corpus`) or
on any other.  *Scores* that training cannot cheat (`planted_spearman`, `heldout_auc`).

gensim and SciPy are imported by what uses them; importing this module needs NumPy alone.
"""

from genopt_core.word2vec.corpus import PlantedCorpus, planted_corpus
from genopt_core.word2vec.embedding import Embedding, train
from genopt_core.word2vec.negative_sampling import (
    context_pairs,
    discard_probability,
    negative_sampling,
    noise_distribution,
    sgd_step,
    softmax_log_probability,
)
from genopt_core.word2vec.scores import heldout_auc, heldout_queries, planted_spearman

__all__ = [
    "softmax_log_probability",
    "negative_sampling",
    "noise_distribution",
    "discard_probability",
    "context_pairs",
    "sgd_step",
    "PlantedCorpus",
    "planted_corpus",
    "Embedding",
    "train",
    "heldout_queries",
    "planted_spearman",
    "heldout_auc",
]
