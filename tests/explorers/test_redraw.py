"""Every figure of the book follows the reader's hand."""

import math
import time

import pytest

from genopt_core import explorers


@pytest.mark.parametrize("name", explorers.names())
def test_a_redraw_is_quick(name):
    explorers.draw(name)
    best = math.inf
    for _ in range(10):
        start = time.process_time()
        explorers.draw(name)
        best = min(best, time.process_time() - start)
    assert best < 0.05, "5 ms on a free machine; ten times that is a defect"
