"""Arguments that the division of bits refuses."""

import pytest

from genopt_core import kvcache as kv


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: kv.predicted_terms({4: [1.0, 1.0], 8: [1.0, 1.0]}, [0, 3, 8], (16, 8, 4), 2),
            ValueError,
            "edges must not cross a stair",
        ),
        (
            lambda: kv.allocate_layers([[1.0]], [[4.0]], 4.0, unit=0.0),
            ValueError,
            "unit must be positive",
        ),
    ],
)
def test_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()
