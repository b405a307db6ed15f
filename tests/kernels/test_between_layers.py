"""The kernels of normalisation, ReLU, pooling and cross-entropy against their definitions, and within their arrays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyseg.arithmetic import ConvGeometry
from tinyseg.jit import jit
from tinyseg.kernels.cpu import cross_entropy, elementwise, normalize, pool
from tinyseg.kernels.cpu import cross_entropy_definition as cross_entropy_by_definition
from tinyseg.kernels.cpu import elementwise_definition as elementwise_by_definition
from tinyseg.kernels.cpu import normalize_definition as by_definition
from tinyseg.kernels.cpu.vector import LANES, load, store
from tinyseg.kernels.cpu.vector_math import exp
from tinyseg.kernels.registry import run

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 9), st.integers(1, 40))
POISON = 1e30


@pytest.fixture
def guarded(monkeypatch):
    """Results lie inside larger arrays; the returned function checks that what is around them is untouched."""
    buffers = []

    def empty(shape, dtype=np.float32):
        size = int(np.prod(shape))
        buffer = np.full(size + 128, POISON, dtype) if dtype == np.float32 else np.full(size + 128, 77, dtype)
        buffers.append((buffer, size))
        return buffer[64:64 + size].reshape(shape)

    for module in (cross_entropy, elementwise, normalize, pool):
        for name, replacement in (("empty", empty), ("empty_like", lambda a: empty(a.shape, a.dtype)),
                                  ("past_cache", lambda a: False)):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, replacement)

    def check():
        assert buffers
        for buffer, size in buffers:
            assert (buffer[:64] == buffer[0]).all()
            assert (buffer[64 + size:] == buffer[0]).all()
            assert not (buffer[64:64 + size] == np.float32(POISON)).any()    # every element is written
        buffers.clear()
    return check


def close(found, expected, scale=1.0):
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6 * max(scale, float(np.abs(b).max(initial=0))))


def images(shape, seed, offset=0.0):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(shape) * 2 + offset).astype(np.float32)
    return x, rng.standard_normal(shape).astype(np.float32), *rng.uniform(-2, 2, (2, shape[1])).astype(np.float32)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("relu", [False, True])
def test_normalisation_is_its_definition(seed, relu, guarded):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in (rng.integers(1, 4), rng.choice([2, 4, 6]), rng.integers(2, 9), rng.integers(1, 40)))
    x, grad, weight, bias = images(shape, seed, offset=rng.choice([0, 1000, -1e5]))
    exact = [a.astype(np.float64) for a in (x, grad)]
    for sizes in ((shape[0], shape[1], 1), (1, 2 * shape[0], shape[1] // 2)):
        expected = by_definition.normalize(exact[0], weight, bias, sizes, 1e-5, relu)
        close(normalize.normalize(x, weight, bias, sizes, 1e-5, relu), expected)
        guarded()
        arguments = weight, bias, *expected[1:], sizes, 1e-5, relu
        # An element whose y is within rounding of 0 may be cut off in one precision and not in the other.
        if not relu or np.abs(by_definition.normalize(exact[0], weight, bias, sizes, 1e-5, False)[0]).min() > 1e-5:
            close(normalize.normalize_grad(grad, x, *arguments),
                  by_definition.normalize_grad(exact[1], exact[0], *arguments))
            guarded()
    close([normalize.affine(x, expected[1][:shape[1]].repeat(shape[1])[:shape[1]], weight, bias, relu)],
          [by_definition.affine(exact[0], expected[1][:shape[1]].repeat(shape[1])[:shape[1]], weight, bias, relu)],
          scale=100)


def test_what_is_not_finite_stays_so():
    x, grad, weight, bias = images((2, 3, 4, 20), 0)
    for value in (np.nan, np.inf, -np.inf):
        bad = x.copy()
        bad[0, 1, 2, 3] = value
        for relu in (False, True):
            with np.errstate(invalid="ignore"):
                y, mean, variance = normalize.normalize(bad, weight, bias, (2, 3, 1), 1e-5, relu)
                dx, *_ = normalize.normalize_grad(grad, bad, weight, bias, mean, variance, (2, 3, 1), 1e-5, relu)
            assert np.isnan(y[:, 1]).all()
            assert np.isnan(dx[:, 1]).all()
            assert np.isfinite(y[:, [0, 2]]).all()
            assert np.isfinite(dx[:, [0, 2]]).all()
    bad = np.array([np.nan, np.inf, -np.inf, -0.0, 1.0] * 9, np.float32)
    np.testing.assert_array_equal(elementwise.relu(bad), np.maximum(bad, 0))


@given(shape=SHAPES, seed=st.integers(0, 99))
def test_elementwise_kernels_are_their_definitions(shape, seed):
    x, grad, _, centre = images(shape, seed)
    y = elementwise.relu(x)
    np.testing.assert_array_equal(y, elementwise_by_definition.relu(x))
    np.testing.assert_array_equal(elementwise.relu_grad(grad, y), elementwise_by_definition.relu_grad(grad, y))
    np.testing.assert_allclose(elementwise.channel_sums(x), elementwise_by_definition.channel_sums(x), atol=1e-10)
    for a, b in zip(elementwise.channel_products(grad, x, centre),
                    elementwise_by_definition.channel_products(grad, x, centre), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)
    for axis in range(4):
        np.testing.assert_array_equal(elementwise.concatenate(axis, x, y, x), np.concatenate([x, y, x], axis))
    np.testing.assert_array_equal(elementwise.copy(x.T), x.T)
    assert elementwise.copy(x.T).flags.c_contiguous


def test_large_copies_are_whole():
    x = np.arange(3 * 700 * 701, dtype=np.int64).reshape(3, 700, 701)
    np.testing.assert_array_equal(elementwise.copy(x.T), x.T)
    np.testing.assert_array_equal(elementwise.concatenate(1, x, x[:, :5]), np.concatenate([x, x[:, :5]], 1))
    assert elementwise.concatenate(0, x, np.float32([[[1] * 701] * 700])).dtype == np.float64


@pytest.mark.parametrize("seed", range(20))
def test_halving_is_max_pooling_by_its_definition(seed, guarded):
    """Ties, NaN and infinities, any width; float32, whose windows of 2x2 are vectors."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in (rng.integers(1, 3), rng.integers(1, 4), rng.integers(2, 9), rng.integers(2, 100)))
    x = rng.integers(-2, 3, shape).astype(np.float32)
    x[rng.random(shape) < 0.1] = np.nan
    x[rng.random(shape) < 0.1] = -np.inf
    geometry = ConvGeometry.pooling(shape[2:], 2)
    y, indices = pool.max_pool2d(x, geometry)
    guarded()
    expected, where = run("max_pool2d", x, geometry, algorithm="loops")
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(indices, where)
    grad = rng.standard_normal(y.shape).astype(np.float32)
    dx = pool.max_pool2d_grad(grad, indices, geometry)
    guarded()
    np.testing.assert_array_equal(dx, run("max_pool2d_grad", grad, where, geometry, algorithm="loops"))


@pytest.mark.parametrize("seed", range(16))
def test_cross_entropy_is_its_definition(seed, guarded):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in (rng.integers(1, 3), rng.integers(1, 7), rng.choice([1, 15, 16, 17, 600])))
    x = rng.normal(0, 5, shape).astype(np.float32)
    target = rng.integers(0, shape[1], (shape[0], shape[2]))
    target[rng.random(target.shape) < 0.2] = ignore = rng.choice([255, 0])
    x[:, 0][target == ignore] = np.inf               # it does not matter there
    options = rng.uniform(0.5, 2, shape[1]).astype(np.float32), rng.uniform(0.5, 2, target.shape).astype(np.float32), \
        rng.choice([0.0, 0.1]), ignore
    with np.errstate(invalid="ignore"):              # inf - inf, in pixels that do not count
        *found, stray = cross_entropy.cross_entropy(x, target, *options)
        dx = cross_entropy.cross_entropy_grad(x, *found[2:], target, *options)
    *expected, expected_stray = cross_entropy_by_definition.cross_entropy(x.astype(np.float64), target, *options)
    assert stray == expected_stray
    counted = target != ignore
    close([a[counted] for a in found], [a[counted] for a in expected])
    assert (found[0][~counted] == 0).all()
    assert (found[1][~counted] == 0).all()
    guarded()
    close([dx], [cross_entropy_by_definition.cross_entropy_grad(x.astype(np.float64), *expected[2:], target, *options)])
    assert (dx.transpose(0, 2, 1)[~counted] == 0).all()


@jit
def _exp_of_all(x, y):
    for i in range(0, x.size, LANES):
        store(y, i, exp(load(x, i)))


def test_exp():
    x = np.concatenate([np.linspace(-110, 89, 32_000), np.linspace(-1e-3, 1e-3, 1000),
                        [0, 200, 88.72, 88.73, -103, -200, np.nan, np.inf, -np.inf]])
    x = np.resize(x, x.size - x.size % LANES + LANES).astype(np.float32)
    y = np.empty_like(x)
    _exp_of_all(x, y)
    with np.errstate(over="ignore"):
        expected = np.exp(x.astype(np.float64)).astype(np.float32)
    np.testing.assert_allclose(y, expected, rtol=2e-7, atol=3e-45)
