"""Arguments that the division of bits refuses, and numbers that are none."""

import math

import numpy as np
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


NAN = math.nan


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: kv.squared_mass_by_age([[0.5, x]], [1], 1, 2), "weights must be finite"),
        (lambda x: kv.ideal_bits([2.0, 1.0], x), "mean_bits must be finite"),
        (lambda x: kv.allocate_widths([2.0, 1.0], x), "budget must be at least"),
        (
            lambda x: kv.allocate_widths([1.0], 4, (2, 4), distortion=[1.0, x]),
            "distortion must be one finite number a width",
        ),
        (lambda x: kv.allocate_uniform([[[1.0, x]]], [[2, 4]], 4), "costs must be finite"),
        (lambda x: kv.allocate_uniform([[[1.0, 2.0]]], [[2, x]], 4), "bits must be finite"),
        (lambda x: kv.allocate_uniform([[[1.0, 2.0]]], [[2, 4]], x), "budget must be at least"),
        (lambda x: kv.metadata_bits("grid", "key", dim=4, chunk=4, meta_bits=x), "meta_bits"),
        (lambda x: kv.cache_bits(9, (16, 2), 4, metadata=x), "metadata must be finite"),
        (lambda x: kv.cache_bits(9, (16, 2), 4, full_bits=x), "full_bits must be finite"),
        (lambda x: kv.design_bits((16, 2), (16, 2), 9, 4, key_metadata=x), "metadata must be"),
        (lambda x: kv.limit_bits((16, 2), (16,), key_metadata=x), "key_metadata must be finite"),
        (lambda x: kv.limit_bits((16, 2), (16, 2), value_metadata=x), "value_metadata must be"),
        (lambda x: kv.ridged([[x, 0.0], [0.0, 1.0]]), "moment must be finite"),
        (lambda x: kv.ridged([[1.0, x], [x, 1.0]]), "moment must be finite"),
        (lambda x: kv.ridged([[1.0]], share=x), "share must be finite"),
        (lambda x: kv.levels(x), "bits must be a whole number from 1 to 8, got nan"),
    ],
)
def test_what_is_no_number_is_refused_and_not_handed_on(call, words):
    with pytest.raises(ValueError, match=words):
        call(NAN)


@pytest.mark.parametrize("name", ["dim", "chunk", "group_size"])
@pytest.mark.parametrize("value", [NAN, 4.0])
def test_sizes_of_metadata_are_whole_numbers(name, value):
    sizes = {"dim": 4, "chunk": 4, "group_size": 4} | {name: value}
    with pytest.raises(TypeError, match=f"{name} must be a whole number, got"):
        kv.metadata_bits("grid", "key", **sizes)


def test_positions_and_widths_are_whole_numbers():
    with pytest.raises(TypeError, match="positions must be whole numbers, got float64"):
        kv.squared_mass_by_age([[0.5, 0.5]], [NAN], 1, 2)
    with pytest.raises(TypeError, match=r"widths must be a whole number, got 2\.5"):
        kv.allocate_widths([1.0], 4, (2.5, 4))
    with pytest.raises(ValueError, match="bits must be a whole number from 1 to 8, got inf"):
        kv.levels(math.inf)


def test_a_moment_is_square():
    with pytest.raises(ValueError, match=r"moment must be finite, \(..., dim, dim\)"):
        kv.ridged(np.ones((2, 3)))
