"""The kernel matrix C itself."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given

from tinyseg import kernels
from tinyseg.arithmetic import ConvGeometry
from tinyseg.errors import ArgumentError
from tinyseg.kernels.cpu import loops, matrix
from tinyseg.kernels.cpu.matrix import kernel_matrix
from tinyseg.verify.strategies import convolutions


def unit_images(shape):
    """Every image with a single 1, as one batch."""
    return np.eye(int(np.prod(shape))).reshape(-1, *shape)


@given(operands=convolutions(batch=[1], channels=range(1, 3)))
def test_columns_are_the_images_of_unit_vectors(operands):
    x, weight, _, geometry = operands
    images = loops.conv2d(unit_images(x.shape[1:]), weight, geometry)    # (columns of C, O, H', W')
    assert np.array_equal(kernel_matrix(weight, geometry).dense(), images.reshape(len(images), -1).T)


@given(operands=convolutions())
def test_transpose_is_the_transpose(operands):
    _, weight, _, geometry = operands
    c = kernel_matrix(weight, geometry)
    assert c.T.shape == c.shape[::-1]
    assert np.array_equal(c.T.dense(), c.dense().T)
    assert np.array_equal(c.T.T.dense(), c.dense())


@given(operands=convolutions())
def test_products_are_those_of_the_dense_matrix(operands):
    x, weight, y, geometry = operands
    c = kernel_matrix(weight, geometry)
    x, y = x.reshape(len(x), -1), y.reshape(len(y), -1)
    assert np.array_equal(c @ x, x @ c.dense().T)
    assert np.array_equal(c.T @ y, y @ c.dense())


@given(operands=convolutions())
def test_rows_are_compressed_in_order(operands):
    _, weight, _, geometry = operands
    c = kernel_matrix(weight, geometry)
    cells = list(zip(c.rows.tolist(), c.indices.tolist(), strict=True))
    assert len(set(cells)) == len(cells)             # no element of the matrix is stored twice
    assert c.rows.tolist() == sorted(c.rows.tolist())
    assert (c.indptr[0], c.indptr[-1]) == (0, len(cells))


def test_a_matrix_too_large_is_refused():
    geometry = ConvGeometry((8, 8), (3, 3))
    x, weight = np.zeros((1, 2, 8, 8)), np.zeros((5, 2, 3, 3))
    entries = 36 * 9 * 2 * 5                         # output pixels, taps, channels in and out
    matrix._pattern.cache_clear()
    with mock.patch.object(matrix, "LARGEST", entries - 1), pytest.raises(ArgumentError) as caught:
        kernels.conv2d(x, weight, geometry, "matrix")
    assert str(caught.value) == ('algorithm "matrix": C would have 3,240 entries; needs at most 3,239. '
                                 'Use algorithm="im2col", or a smaller input')
    with mock.patch.object(matrix, "LARGEST", entries):
        assert kernels.conv2d(x, weight, geometry, "matrix").shape == (1, 5, 6, 6)
