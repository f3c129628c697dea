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


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: pos.output_error_bound(x, 1.0), "eps must be finite and not negative"),
        (lambda x: pos.output_error_bound(0.1, [1.0, x]), "v_norm must be finite"),
        (lambda x: pos.rotary_angles([0, 3], [1.0, x]), "frequencies must be finite"),
        (lambda x: pos.windowed([[0.0, x]], [1]), "table must have no NaN"),
        (
            lambda x: pos.factored_scores(np.ones((1, 1, 2)), np.ones((1, 2, 2)), [[0.0, x]]),
            "table must have no NaN",
        ),
    ],
)
def test_what_is_no_number_is_refused_and_not_handed_on(call, words):
    with pytest.raises(ValueError, match=words):
        call(np.nan)


def test_a_negative_weight_or_norm_is_refused_and_a_bias_of_minus_infinity_is_not():
    with pytest.raises(ValueError, match="eps must be finite and not negative"):
        pos.output_error_bound(-0.1, 1.0)
    with pytest.raises(ValueError, match="v_norm must be finite and not negative"):
        pos.output_error_bound(0.1, -1.0)
    assert pos.windowed([[0.0, -np.inf]], [0]).tolist() == [[0.0, -np.inf]]
