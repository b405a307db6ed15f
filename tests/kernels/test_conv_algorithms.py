"""What every algorithm of a convolution and a pooling must do.

The formulas are the properties of `tinyseg.verify`, the same that judge anybody's kernel.  Here is what only ours have:
bands, threads of their own, empty batches.
"""

from contextlib import contextmanager
from unittest import mock

import numba
import numpy as np
import pytest
from hypothesis import assume, given, settings

from tinyseg import kernels
from tinyseg.arithmetic import ConvGeometry
from tinyseg.kernels.cpu import im2col
from tinyseg.verify import OPERATIONS, Request
from tinyseg.verify.properties import properties_of
from tinyseg.verify.strategies import convolutions, integers
from tinyseg.verify.subject import load
from tinyseg.verify.testing import assert_holds, named

every_algorithm = pytest.mark.parametrize("algorithm", kernels.algorithms("conv2d", dtype="float64"))
# To the kernels a transposed convolution is a `conv2d_input_grad`: one name is enough.
SUBJECTS = [load(Request(algorithm, name)) for name, operation in OPERATIONS.items() if name == operation.registered
            for algorithm in kernels.algorithms(name)]
PROPERTIES = [pytest.param(subject, prop, id=f"{subject.operation.name}-{subject.name.split()[-1]}-{prop.name}")
              for subject in SUBJECTS for prop in properties_of(subject.operation.name, subject.supports)]


@pytest.mark.parametrize(("subject", "prop"), PROPERTIES)
def test_property(subject, prop):
    share = 3 if prop.draw.get("large") else 1       # of the time, not of the worth
    assert_holds(prop, subject, examples=settings().max_examples // share)


@pytest.mark.parametrize("subject", [s for s in SUBJECTS if s.name in ("algorithm loops", "algorithm matrix")
                                     and s.operation.name in named("float64 sums").operations],
                         ids=lambda s: f"{s.operation.name}-{s.name.split()[-1]}")
def test_sums_are_kept_in_float64(subject):
    assert_holds(named("float64 sums"), subject, examples=settings().max_examples)


def attempt(operation, a, b, geometry, algorithm):
    """Run a kernel; an example that its algorithm refuses is no example."""
    assume(kernels.find(operation, algorithm).refuses(geometry) is None)
    return kernels.run(operation, a, b, geometry, algorithm=algorithm)


def all_three(x, weight, y, geometry, algorithm):
    return (attempt("conv2d", x, weight, geometry, algorithm),
            attempt("conv2d_input_grad", y, weight, geometry, algorithm),
            attempt("conv2d_weight_grad", y, x, geometry, algorithm))


def same(these, those):
    """Equal shapes, types and values."""
    return all(a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a, b)
               for a, b in zip(these, those, strict=True))


@every_algorithm
@given(operands=convolutions(batch=[0]))
def test_an_empty_batch_has_empty_results_and_a_zero_gradient(algorithm, operands):
    x, weight, y, _ = operands
    assert same(all_three(*operands, algorithm), (y, x, np.zeros_like(weight)))


@every_algorithm
@given(x=integers((2, 3, 4, 5)), weight=integers((2, 3, 1, 1)))
def test_1x1_is_a_matrix_over_channels(algorithm, x, weight):
    geometry = ConvGeometry((4, 5), (1, 1))
    assert same([attempt("conv2d", x, weight, geometry, algorithm)], [np.einsum("oc,nchw->nohw", weight[..., 0, 0], x)])


@every_algorithm
@given(operands=convolutions(outputs=range(1, 8)))
def test_many_bands_equal_one(algorithm, operands):
    expected = all_three(*operands, algorithm)
    with mock.patch.object(im2col, "BAND_BYTES", 1):
        assert same(all_three(*operands, algorithm), expected)


@contextmanager
def threads(n):
    before = numba.get_num_threads()
    numba.set_num_threads(n)
    try:
        yield
    finally:
        numba.set_num_threads(before)


@every_algorithm
@given(operands=convolutions(groups=range(1, 6), channels=range(1, 6)))
def test_the_number_of_threads_does_not_matter(algorithm, operands):
    with threads(1):
        expected = all_three(*operands, algorithm)
    for n in range(2, min(4, numba.config.NUMBA_NUM_THREADS) + 1):
        with threads(n):
            assert same(all_three(*operands, algorithm), expected)
