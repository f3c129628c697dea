"""Arguments that formulas of positions refuse."""

import numpy as np
import pytest

from genopt_core import positions as pos


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: pos.distance_cost(3, "log", [[1.0]]),
            ValueError,
            "parameter must be a number or one a head",
        ),
        (
            lambda: pos.bias_by_distance([1.0, 1.0], 3, "power", [1.0, 1.0, 2.0]),
            ValueError,
            "parameter must be a number or of shape",
        ),
        (
            lambda: pos.weights_by_distance([0.0]),
            ValueError,
            "table must have the shape",
        ),
        (
            lambda: pos.linear_effective_context(0.0, 4),
            ValueError,
            "strength must be finite and above 0",
        ),
        (
            lambda: pos.inverse_frequencies(8, theta=1.0),
            ValueError,
            "theta must be above 1",
        ),
        (
            lambda: pos.inverse_frequencies(8, scaling="yarn", factor=0.5, trained_length=8),
            ValueError,
            "factor must be at least 1",
        ),
        (
            lambda: pos.rotate(np.ones((2, 4)) * 1j, np.ones((2, 2))),
            TypeError,
            "x must be real numbers",
        ),
        (
            lambda: pos.rotate(np.ones(4), np.ones((1, 2))),
            ValueError,
            "x must have the shape",
        ),
        (
            lambda: pos.yarn_temperature(0.5),
            ValueError,
            "factor must be at least 1",
        ),
        (
            lambda: pos.tail_bound([0.0], 1.0, 1.0, 4),
            ValueError,
            "table must be numbers of the shape",
        ),
        (
            lambda: pos.skippable_blocks([0.5], 2, 4),
            ValueError,
            "from_distance must be whole numbers",
        ),
    ],
)
def test_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()
