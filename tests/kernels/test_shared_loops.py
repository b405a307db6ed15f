"""Pooling, resampling, normalisation and cross-entropy kernels: compiled or not, on one thread or several."""

import numba
import numpy as np
import pytest

from tinyseg.arithmetic import ConvGeometry
from tinyseg.kernels import axis
from tinyseg.kernels.cpu import normalize, pool, resample, softmax
from tinyseg.kernels.registry import run

LOOPS = [(normalize, "_moments"), (normalize, "_products"), (normalize, "_affine"), (normalize, "_combination"),
         (pool, "_max_pool"), (pool, "_scatter"), (resample, "_resample"),
         (softmax, "_cross_entropy"), (softmax, "_cross_entropy_grad")]


def results(n, c, size, dtype):
    """What every operation makes of the same images."""
    rng = np.random.default_rng(0)
    x, grad = rng.standard_normal((2, n, c, size, size)).astype(dtype)
    geometry = ConvGeometry.pooling((size, size), 3, 2, 1)
    y, indices = run("max_pool2d", x, geometry)
    bilinear = axis.bilinear(size, size + 3)

    planes, logits = (x.reshape(n * c, -1), grad.reshape(n * c, -1)), x.reshape(n, c, -1)
    mean, variance = run("plane_moments", planes[0])
    probability, logsumexp = run("softmax", logits)
    target = rng.integers(-1, c, logsumexp.shape)
    weights = rng.uniform(0.5, 2, c).astype(dtype), rng.uniform(0.5, 2, logsumexp.shape).astype(dtype)
    return [y, indices, run("max_pool2d_grad", y, indices, geometry),
            run("resample2d", x, bilinear, bilinear), run("resample2d", x, bilinear.T.T, bilinear.T.T),
            mean, variance, *run("plane_products", planes[1], planes[0], mean),
            run("plane_affine", planes[0], mean, variance),
            run("plane_combination", planes[1], planes[0], mean, variance, mean),
            probability, logsumexp,
            *run("cross_entropy", logits, logsumexp, target, *weights, 0.1, -1)[:2],
            run("cross_entropy_grad", probability, target, *weights, 0.1, -1)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bodies_are_plain_python(dtype, monkeypatch):
    compiled = results(2, 3, 6, dtype)
    for module, name in LOOPS:
        body = getattr(module, name)
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


def test_softmax_of_many_small_rows():
    x = np.random.default_rng(0).standard_normal((70_000, 3, 1))
    p, logsumexp = run("softmax", x)
    np.testing.assert_allclose(p, np.exp(x - logsumexp[:, None]), rtol=1e-14)
