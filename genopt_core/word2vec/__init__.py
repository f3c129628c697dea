r"""Word vectors: word2vec's loss, corpora whose answer is known, scores, and a tabulated objective.

Chapter 2 of the book tunes word2vec, so it needs three things that live here.  *The loss*: one step
of skip-gram with negative sampling in NumPy, small enough to check by hand
(:func:`negative_sampling`).  *An objective*: gensim trains (:func:`train`), on text or on a corpus
drawn from planted vectors (:func:`planted_corpus`), and a score that training cannot cheat says how
good the vectors are.  *A copy of the objective that costs nothing*: every configuration of a grid
trained once and stored (:class:`TabularObjective`), so that searches can be compared exactly.

gensim and SciPy are imported by what uses them; importing this module needs NumPy alone.
"""

from genopt_core.word2vec.corpus import (
    PlantedCorpus,
    planted_corpus,
    similarity_pairs,
    text_sentences,
    wikipedia_sentences,
)
from genopt_core.word2vec.embedding import Embedding, train
from genopt_core.word2vec.negative_sampling import (
    context_pairs,
    discard_probability,
    negative_sampling,
    noise_distribution,
    sgd_step,
    softmax_log_probability,
)
from genopt_core.word2vec.scores import (
    Queries,
    heldout_auc,
    heldout_queries,
    planted_spearman,
    similarity_spearman,
)

__all__ = [
    "softmax_log_probability",
    "negative_sampling",
    "noise_distribution",
    "discard_probability",
    "context_pairs",
    "sgd_step",
    "PlantedCorpus",
    "planted_corpus",
    "text_sentences",
    "wikipedia_sentences",
    "similarity_pairs",
    "Embedding",
    "train",
    "Queries",
    "heldout_queries",
    "planted_spearman",
    "heldout_auc",
    "similarity_spearman",
]
