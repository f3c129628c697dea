"""Arguments that attention over blocks refuses."""

import numpy as np
import pytest

from genopt_core.attention import blocks as att

X = np.zeros((2, 1))
KEPT = [[1, 0], [1, 1]]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: att.estimate(X, X, X, KEPT, [1.0, 1.0], 1, "horvitz-thompson", lse=[0.0]),
            ValueError,
            "lse must have the shape",
        ),
        (
            lambda: att.tiled_attention(X, X, X, KEPT, 1, log_weights=[[0.0]]),
            ValueError,
            "log_weights must be 2 x 2 numbers",
        ),
        (
            lambda: att.tiled_attention(X, X, X, KEPT, 1, log_weights=np.full((2, 2), np.nan)),
            ValueError,
            "log_weights must be 2 x 2 numbers",
        ),
        (
            lambda: att.expected_blocks([1.0, np.nan]),
            ValueError,
            "pi must be finite, one a distance",
        ),
        (
            lambda: att.expected_blocks([[1.0]]),
            ValueError,
            "pi must be finite, one a distance",
        ),
        (
            lambda: att.blocks_needed(1.0, [10, np.nan], 0.1, 0.1, 8),
            TypeError,
            "blocks must be whole numbers, got float64",
        ),
    ],
)
def test_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()
