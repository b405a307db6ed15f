"""Winograd's algorithms: the matrices from their points in exact arithmetic, and every way through the tiles."""

import os
import subprocess
import sys
from fractions import Fraction
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config

from tinyseg.arithmetic import ConvGeometry
from tinyseg.kernels.cpu import im2col, loops, winograd, winograd2, winograd4, workspace
from tinyseg.precision import ERRORS
from tinyseg.verify.strategies import convolutions

MODULES = {"winograd2": (winograd2, "highest"), "winograd4": (winograd4, "high")}
POINTS = {"winograd2": (0, 1, -1), "winograd4": (0, 1, -1, 2, -2)}
every_module = pytest.mark.parametrize("name", MODULES)
compiled_only = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="too slow")
OPERATIONS = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")


# ---- the matrices --------------------------------------------------------------------------------------------------

def matrix(transform, columns):
    """The matrix that a transform multiplies by: its images of the unit vectors, as fractions."""
    function = getattr(transform, "py_func", transform)
    units = np.eye(columns, dtype=int)
    images = [function(tuple(int(number) for number in unit)) for unit in units]
    return [[Fraction(image[i]).limit_denominator(100) for image in images] for i in range(len(images[0]))]


def transposed(rows):
    return [list(column) for column in zip(*rows, strict=True)]


def values(points, degree):
    """The matrix from a polynomial's coefficients to its values at the points and at ∞, the leading one."""
    return [[Fraction(a) ** k for k in range(degree + 1)] for a in points] + [[Fraction(0)] * degree + [Fraction(1)]]


def inverse(rows):
    """Gauss and Jordan's."""
    n = len(rows)
    wide = [row + [Fraction(int(i == k)) for k in range(n)] for i, row in enumerate(rows)]
    for k in range(n):
        pivot = next(i for i in range(k, n) if wide[i][k])
        wide[k], wide[pivot] = wide[pivot], wide[k]
        wide[k] = [number / wide[k][k] for number in wide[k]]
        for i in range(n):
            if i != k:
                wide[i] = [a - wide[i][k] * b for a, b in zip(wide[i], wide[k], strict=True)]
    return [row[n:] for row in wide]


def scale(row, other):
    """The factor from `other` to `row`, of which one must be a multiple of the other."""
    factor = next(a / b for a, b in zip(row, other, strict=True) if b)
    assert row == [factor * b for b in other]
    return factor


@every_module
def test_the_matrices_are_those_of_cook_and_toom(name):
    """(B)(G g * A y) multiplies polynomials; each point's rows may be scaled as long as the factors cancel."""
    module, points = MODULES[name][0], POINTS[name]
    n, m = len(points) + 1, len(points) - 1
    ours = (transposed(matrix(module.output_transform, n)), matrix(module.filter_transform, 3),
            matrix(module.input_transform, n))
    toom = values(points, m - 1), values(points, 2), transposed(inverse(values(points, n - 1)))
    for rows in zip(*ours, *toom, strict=True):
        assert np.prod([scale(row, other) for row, other in zip(rows[:3], rows[3:], strict=True)]) == 1


@every_module
def test_transposed_transforms_are_transposes(name):
    module, n = MODULES[name][0], len(POINTS[name]) + 1
    assert matrix(module.output_transform_transposed, n - 2) == transposed(matrix(module.output_transform, n))
    assert matrix(module.filter_transform_transposed, n) == transposed(matrix(module.filter_transform, 3))


# ---- the results ---------------------------------------------------------------------------------------------------

def operands(rng, batch, channels, outputs, size, padding):
    geometry = ConvGeometry(size, (3, 3), padding=padding)
    shapes = (batch, channels, *size), (outputs, channels, 3, 3), (batch, outputs, *geometry.output_size)
    return *(rng.standard_normal(shape).astype(np.float32) for shape in shapes), geometry


def arguments(operation, x, weight, y):
    return {"conv2d": (x, weight), "conv2d_input_grad": (y, weight), "conv2d_weight_grad": (y, x)}[operation]


def check(name, x, weight, y, geometry):
    """All three directions against the definition in float64, within the precision that is stated."""
    module, precision = MODULES[name]
    for operation in OPERATIONS:
        a, b = arguments(operation, *(array.astype(np.float32) for array in (x, weight, y)))
        expected = getattr(loops, operation)(a.astype(np.float64), b.astype(np.float64), geometry)
        # Relative to the largest result that operands like these could have: one result may be near 0.
        size = np.abs(a).max(initial=0) * np.abs(b).sum(axis=tuple(range(1, 4))).max(initial=0)
        with np.errstate(all="ignore"):              # lanes beyond the last tile compute with what memory held
            got = getattr(module, operation)(a, b, geometry)
        assert got.shape == expected.shape
        assert got.dtype == np.float32
        assert np.abs(got - expected).max(initial=0) <= ERRORS[precision] * size, operation


TILED = {"kernel": (3,), "stride": (1,), "dilation": (1,), "groups": (1,), "padding": range(6)}
KINDS = {"small": {"outputs": range(1, 12), "batch": (0, 1, 3)},
         "wide": {"outputs": (33, 41, 65, 130, 257), "batch": (1,), "channels": (1, 2)},
         "channels": {"channels": (1, 3, 16, 21, 33, 50, 65), "outputs": range(1, 10)},
         "batch": {"batch": (8, 17), "outputs": range(1, 7)}}


@every_module
@given(drawn=convolutions(**TILED | {"outputs": range(1, 6), "channels": (1, 2)}))
@settings(max_examples=15)
def test_small(name, drawn):
    """Runs without the compiler too, where every load and store is held to its array."""
    check(name, *drawn)


@compiled_only
@every_module
@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_every_geometry(name, kind, data):
    check(name, *data.draw(convolutions(**TILED | KINDS[kind])))


@compiled_only
@every_module
@pytest.mark.parametrize("shape", [(1, 3, 5, (1, 1), ((1, 1), (2, 0))), (2, 7, 65, (3, 257), ((0, 5), (9, 0))),
                                   (8, 21, 21, (33, 41), ((1, 1), (1, 1))), (1, 70, 40, (65, 33), ((2, 2), (0, 0)))])
def test_by_hand(name, shape):
    check(name, *operands(np.random.default_rng(0), *shape))


@every_module
@pytest.mark.parametrize("way", ["tiles", "filters, parts of the depth", "filters", "points"])
@given(data=st.data())
@settings(max_examples=10)
def test_every_way(name, way, data):
    """Caches so small that blocks, groups, parts and sums follow one another."""
    few = config.DISABLE_JIT
    drawn = data.draw(convolutions(**TILED | {
        "outputs": (2, 5) if few else (2, 5, 9, 30), "channels": (3,) if few else (3, 9, 50), "batch": (2,)}))
    small = {"tiles": {"CACHE": 1 << 40, "SHARED": 1 << 40, "PART": 2, "CHAIN": 2},
             "filters, parts of the depth": {"CACHE": 1, "SHARED": 1, "RUN": 16, "CHAIN": 2},
             "filters": {"CACHE": 1 << 30, "SHARED": 1, "RUN": 16}, "points": {"CACHE": 1, "SHARED": 1, "CHAIN": 3}}
    with mock.patch.multiple(winograd, **small[way]):
        check(name, *drawn)


@every_module
@given(drawn=convolutions(**TILED | {"outputs": (2, 5), "channels": (2,)}), relu=st.booleans())
@settings(max_examples=10)
def test_epilogue(name, drawn, relu):
    x, weight, y, geometry = drawn
    for operation in OPERATIONS[:2]:
        kernel = getattr(MODULES[name][0], operation)
        a, b = (v.astype(np.float32) for v in arguments(operation, x, weight, y))
        with np.errstate(all="ignore"):
            plain = kernel(a, b, geometry)
            bias = np.arange(plain.shape[1], dtype=np.float32) - 1
            got = kernel(a, b, geometry, bias=bias, relu=relu)
        expected = plain + bias[:, None, None]
        np.testing.assert_allclose(got, np.maximum(expected, 0) if relu else expected, rtol=1e-6, atol=1e-5)


@every_module
@given(value=st.sampled_from([np.inf, -np.inf, np.nan, 3e38]), seed=st.integers(0, 99), relu=st.booleans())
@settings(max_examples=10)
def test_what_is_not_finite_is_where_the_definition_has_it(name, value, seed, relu):
    """Also what only the transforms make infinite is found."""
    rng = np.random.default_rng(seed)
    x, weight, y, geometry = operands(rng, 2, 2, 3, (7, 6), ((1, 1), (0, 2)))
    bias = np.ones(3, np.float32)
    for array in (x, y):
        array[tuple(rng.integers(array.shape))] = value
    with np.errstate(all="ignore"):
        for operation in OPERATIONS:
            a, b = arguments(operation, x, weight, y)
            got, expected = (getattr(m, operation)(a, b, geometry) for m in (MODULES[name][0], im2col))
            np.testing.assert_array_equal(np.isfinite(got), np.isfinite(expected))
            if not np.isfinite(expected).all():
                np.testing.assert_array_equal(got, expected)
        got = MODULES[name][0].conv2d(x, weight, geometry, bias=bias, relu=relu)
        if np.isnan(value):
            assert np.isnan(got).any()               # the rectifier keeps it


@every_module
@pytest.mark.parametrize("size", [(6, 9), pytest.param((33, 65), marks=compiled_only)])
def test_nothing_is_written_outside_the_arrays(name, size):
    """Every array from the pool lies between guards here, full of what is no number."""
    guards, fence = [], 1024

    def guarded(shape, dtype=np.float32):
        shape = shape if isinstance(shape, tuple) else (shape,)
        wide = np.full(int(np.prod(shape)) + 2 * fence, np.nan, dtype)
        guards.append(wide)
        return wide[fence:-fence].reshape(shape)

    def zeros(shape, dtype=np.float32):
        array = guarded(shape, dtype)
        array[...] = 0
        return array

    padding = ((1, 1), (0, 2))
    nobody = mock.Mock(side_effect=AssertionError("computed again: what memory held before looks like a result"))
    with (mock.patch.multiple(workspace, empty=guarded, zeros=zeros),
          mock.patch.multiple(im2col, **dict.fromkeys(OPERATIONS, nobody))):
        for small in ({"CACHE": winograd.CACHE}, {"CACHE": 1, "SHARED": 1}):
            with mock.patch.multiple(winograd, **small):
                check(name, *operands(np.random.default_rng(0), 2, 3, 9, size, padding))
    assert guards
    for wide in guards:
        assert np.isnan(wide[:fence]).all()
        assert np.isnan(wide[-fence:]).all()


@compiled_only
def test_without_the_compiler(tmp_path):
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__], text=True, capture_output=True,
        timeout=400, env=os.environ | {"NUMBA_DISABLE_JIT": "1", "NUMBA_CACHE_DIR": str(tmp_path)})
    assert finished.returncode == 0, finished.stdout
