"""A bias and a cut below zero, applied by the kernel itself or after it: the same numbers, whoever computes."""

import numpy as np
import pytest

from tinyseg import kernels
from tinyseg.arithmetic import ConvGeometry

GEOMETRIES = [ConvGeometry.convolution((9, 19), 3, padding=1), ConvGeometry.convolution((7, 6), 2, stride=2),
              ConvGeometry.convolution((6, 17), 1), ConvGeometry.convolution((11, 11), 3, padding=2, dilation=2),
              ConvGeometry.convolution((8, 9), 3, padding=1, groups=20)]
CASES = [pytest.param(operation, algorithm, geometry, id=f"{operation}-{algorithm}-{k}")
         for operation in ("conv2d", "conv2d_input_grad") for algorithm in kernels.algorithms(operation)
         for k, geometry in enumerate(GEOMETRIES)
         if kernels.find(operation, algorithm).cannot(geometry, "float32") is None]


def operands(operation, geometry):
    rng = np.random.default_rng(0)
    size = geometry.input_size if operation == "conv2d" else geometry.output_size
    first = rng.standard_normal((2, 20, *size), dtype=np.float32)
    weight = rng.standard_normal((20, 20 // geometry.groups, *geometry.kernel_size), dtype=np.float32)
    return first, weight, rng.standard_normal(20, dtype=np.float32)


@pytest.mark.parametrize(("operation", "algorithm", "geometry"), CASES)
def test_bias_and_relu(operation, algorithm, geometry):
    first, weight, bias = operands(operation, geometry)
    kernel = getattr(kernels, operation)
    plain = kernel(first, weight, geometry, algorithm)
    biased = plain + bias[:, None, None]
    close = {"rtol": 1e-6, "atol": 1e-5 * abs(plain).max()}
    np.testing.assert_allclose(kernel(first, weight, geometry, algorithm, bias), biased, **close)
    np.testing.assert_allclose(kernel(first, weight, geometry, algorithm, bias, True), biased.clip(0), **close)
    np.testing.assert_allclose(kernel(first, weight, geometry, algorithm, relu=True), plain.clip(0), **close)


@pytest.mark.parametrize(("operation", "algorithm", "geometry"), CASES)
def test_a_cut_below_zero_keeps_nan(operation, algorithm, geometry):
    first, weight, bias = operands(operation, geometry)
    first[0, 3, 2, 1] = np.nan
    kernel = getattr(kernels, operation)
    spoiled = np.isnan(kernel(first, weight, geometry, "loops"))
    found = np.isnan(kernel(first, weight, geometry, algorithm, bias, True))
    assert found[spoiled].all()
    assert not found[1].any()
