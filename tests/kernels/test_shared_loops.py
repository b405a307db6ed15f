"""Kernels whose loops threads share: compiled or not, on one thread or several."""

import numba
import numpy as np
import pytest

from tinyseg.arithmetic import ConvGeometry
from tinyseg.kernels import axis
from tinyseg.kernels.cpu import (
    avg_pool,
    cross_entropy,
    depthwise,
    depthwise_axis,
    diagonal,
    elementwise,
    matrix,
    normalize,
    optimize,
    pool,
    resample,
    softmax,
)
from tinyseg.kernels.registry import run

MODULES = [avg_pool, cross_entropy, depthwise, depthwise_axis, diagonal, elementwise, matrix, normalize, pool, resample,
           softmax]


def results(n, c, size, dtype):
    """What every operation makes of the same images."""
    rng = np.random.default_rng(0)
    x, grad = rng.standard_normal((2, n, c, size, size)).astype(dtype)
    weight, bias = rng.uniform(0.5, 2, (2, c)).astype(dtype)
    centre = rng.uniform(-1, 1, c)
    found = []
    for window in ({"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": 2}):
        geometry = ConvGeometry.pooling((size, size), **window)
        y, indices = run("max_pool2d", x, geometry)
        mean = run("avg_pool2d", x, geometry)
        found += [y, indices, run("max_pool2d_grad", y, indices, geometry),
                  mean, run("avg_pool2d_grad", mean, geometry)]
    bilinear = axis.bilinear(size, size + 3)
    found += [run("resample2d", x, bilinear, bilinear), run("resample2d", x, bilinear.T.T, bilinear.T.T)]

    for sizes in ((n, c, 1), (1, n, c)):
        y, mean, variance = run("normalize", x, weight, bias, sizes, 1e-5, True)
        found += [y, mean, variance,
                  *run("normalize_grad", grad, x, weight, bias, mean, variance, sizes, 1e-5, True)]
    y = run("relu", x)
    found += [y, run("relu_grad", grad, y), run("affine", x, centre, weight, bias, False), run("channel_sums", x),
              *run("channel_products", grad, x, centre), run("concatenate", 1, x, y, grad), run("copy", x[:, 1:])]

    kernels, few = rng.standard_normal((c, 1, 3, 3)).astype(dtype), x[:, :2, ::4, ::4]
    for stride in (1, 2) if dtype == "float32" else ():
        geometry = ConvGeometry.convolution((size, size), 3, stride, 1, groups=c)
        back = grad[:, :, :geometry.output_size[0], :geometry.output_size[1]].copy()
        found += [depthwise.conv2d(x, kernels, geometry), depthwise.conv2d_input_grad(back, kernels, geometry),
                  depthwise.conv2d_weight_grad(back, x, geometry)]
    if dtype == "float32":
        diagonals = np.where(np.eye(c, dtype=bool)[..., None, None], kernels, np.float32(0))
        found.append(diagonal.conv2d(x, diagonals, ConvGeometry.convolution((size, size), 3, padding=1)))
    geometry = ConvGeometry.convolution(few.shape[2:], 2, stride=2)
    found.append(matrix.conv2d(few, np.repeat(kernels[..., :2, :2], 2, axis=1), geometry))

    logits = x.reshape(n, c, -1)
    target = rng.integers(-1, c, (n, size * size))
    weights = weight, rng.uniform(0.5, 2, target.shape).astype(dtype)
    loss, pixels, *normalizers, _ = run("cross_entropy", logits, target, *weights, 0.1, -1)
    found += [*run("softmax", logits), loss, pixels, *normalizers,
              run("cross_entropy_grad", logits, *normalizers, target, *weights, 0.1, -1)]
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bodies_are_plain_python(dtype, monkeypatch):
    compiled = results(2, 3, 6, dtype)
    for module in MODULES:
        for name, body in vars(module).items():
            monkeypatch.setattr(module, name, getattr(body, "py_func", body))
    for a, b in zip(compiled, results(2, 3, 6, dtype), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, **({"rtol": 1e-6, "atol": 1e-6} if dtype == "float32" else {"rtol": 1e-13}))


def test_results_do_not_depend_on_the_number_of_threads():
    threads = numba.get_num_threads()
    several = results(2, 6, 150, "float32")
    try:
        numba.set_num_threads(1)
        alone = results(2, 6, 150, "float32")
    finally:
        numba.set_num_threads(threads)
    for a, b, c in zip(several, alone, results(2, 6, 150, "float32"), strict=True):
        assert a.tobytes() == b.tobytes() == c.tobytes()


def test_square_sums_do_not_depend_on_the_number_of_threads():
    x = np.random.default_rng(0).standard_normal(200_003).astype(np.float32)
    found = {optimize.square_sum(x), optimize.square_sum(x.astype(np.float64))}
    np.testing.assert_allclose(list(found), np.sum(x.astype(np.float64) ** 2), rtol=1e-13)
    threads, several = numba.get_num_threads(), optimize.square_sum(x)
    try:
        numba.set_num_threads(1)
        assert optimize.square_sum(x) == several
    finally:
        numba.set_num_threads(threads)


def test_softmax_of_many_small_rows():
    x = np.random.default_rng(0).standard_normal((70_000, 3, 1))
    p, logsumexp = run("softmax", x)
    np.testing.assert_allclose(p, np.exp(x - logsumexp[:, None]), rtol=1e-14)
