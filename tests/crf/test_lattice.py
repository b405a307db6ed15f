"""The permutohedral lattice: its geometry, its table of points, and what it filters."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyseg.crf.exact import Exact
from tinyseg.crf.lattice import Lattice
from tinyseg.crf.simplex import enclose, scales, vertex
from tinyseg.crf.table import Table
from tinyseg.errors import ArgumentError


def simplices(features):
    n, d = features.shape
    base, rank = np.empty((2, n, d + 1), np.int32)
    weight = np.empty((n, d + 1), np.float32)
    enclose(features, scales(d), base, rank, weight)
    return base, rank, weight


def elevated(features):
    """E · features by the matrix of the paper (Adams et al. 2010, page 5)."""
    d = features.shape[1]
    E = np.zeros((d + 1, d))
    for j in range(d):
        E[:j + 1, j] = 1
        E[j + 1, j] = -(j + 1)
    return features * scales(d) @ E.T


points = st.tuples(st.integers(1, 7), st.integers(0, 2**32 - 1)).map(
    lambda s: np.random.default_rng(s[1]).uniform(-20, 20, (10, s[0])))


@given(points)
def test_a_point_is_the_mixture_of_its_vertices(features):
    n, d = features.shape
    base, rank, weight = simplices(features)
    mixture = np.zeros((n, d + 1))
    for p in range(n):
        for k in range(d + 1):
            key = np.empty(d, np.int32)
            vertex(base[p], rank[p], k, key)
            corner = np.append(key, -key.sum())
            assert set(corner % (d + 1)) == {k}
            mixture[p] += weight[p, k] * corner
    assert (weight > -1e-6).all()
    np.testing.assert_allclose(weight.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(mixture, elevated(features), atol=1e-4)


def test_equal_lengths():
    E = elevated(np.eye(6))
    np.testing.assert_allclose(E @ E.T, np.eye(6) * (2 / 3 * 7**2), atol=1e-12)


def test_points_get_numbers_in_order_and_keep_them():
    features = np.random.default_rng(0).uniform(-9, 9, (3000, 4))
    base, rank, _ = simplices(features)
    table = Table(4)
    numbers = table.number(base, rank)
    known = {}
    for p in range(len(features)):
        for k in range(5):
            key = np.empty(4, np.int32)
            vertex(base[p], rank[p], k, key)
            assert numbers[p, k] == known.setdefault(tuple(key), len(known))
    assert table.count == len(known) > 1 << 10       # it had to grow
    beside = table.neighbours()
    for v, key in enumerate(table.keys[:500].tolist()):
        for axis in range(5):
            step = [4 if i == axis else -1 for i in range(4)]
            for side, sign in ((0, 1), (1, -1)):
                other = tuple(a + sign * b for a, b in zip(key, step, strict=True))
                assert beside[axis, side, v] == known.get(other, table.count)


def filtered(gaussian, x, **options):
    one = np.ones(len(x), x.dtype)
    return gaussian.filter(x, one, one, **options)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_the_transpose_is_the_adjoint(d):
    rng = np.random.default_rng(d)
    lattice = Lattice(rng.normal(0, 3, (200, d)))
    x, y = rng.normal(size=(2, 200, 3))
    before, after = rng.uniform(0.5, 2, (2, 200))
    forward = np.vdot(lattice.filter(x, before, after), y)
    assert forward == pytest.approx(np.vdot(x, lattice.filter(y, after, before, transposed=True)), rel=1e-12)
    if d > 1:                                        # and the order of the blurs matters where vertices are missing
        assert forward != pytest.approx(np.vdot(x, lattice.filter(y, after, before)), rel=1e-12)


@pytest.mark.parametrize("classes", [1, 3, 16, 17, 40])
def test_vectors_do_as_loops_do(classes):
    rng = np.random.default_rng(classes)
    lattice = Lattice(rng.normal(0, 2, (300, 3)).astype(np.float32))
    x = rng.random((300, classes))
    before, after = rng.uniform(0.5, 2, (2, 300))
    vectors = lattice.filter(*(a.astype(np.float32) for a in (x, before, after)))
    np.testing.assert_allclose(vectors, lattice.filter(x, before, after), rtol=2e-5)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_mass_of_a_dense_cloud(d):
    """Where points are dense, K1 over the integral of the Gaussian is α 2^(d+1) V / (2π)^(d/2), with V the volume of
    feature space for each vertex: (3/2)^(d/2) / sqrt(d+1).  0.97, 0.88, 0.80 for d = 1, 2, 3."""
    side, step = {1: (400, 0.05), 2: (80, 0.25), 3: (40, 0.4)}[d]
    grid = np.stack(np.meshgrid(*[np.arange(side) * step] * d), axis=-1).reshape(-1, d)
    inside = (np.abs(grid - side * step / 2) < side * step / 2 - 4).all(axis=1)
    mass = filtered(Lattice(grid), np.ones((len(grid), 1)))[inside]
    gaussian = (2 * math.pi)**(d / 2) / step**d
    ratio = 2**(d + 1) / (1 + 2.0**-d) * 1.5**(d / 2) / math.sqrt(d + 1) / (2 * math.pi)**(d / 2)
    assert mass.mean() / gaussian == pytest.approx(ratio, rel=0.01)
    assert mass.std() / mass.mean() < 0.03


def test_an_impulse_spreads_as_the_gaussian_does():
    """Mean and covariance of the response, over all places of the impulse in its simplex."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(-6, 6.01, 0.4)] * 2), axis=-1).reshape(-1, 2)
    middles = rng.uniform(-1, 1, (60, 2))
    lattice = Lattice(np.concatenate([grid, middles]))
    x = np.zeros((len(grid) + 60, 60))
    x[len(grid) + np.arange(60), np.arange(60)] = 1
    response = filtered(lattice, x)[:len(grid)]
    offsets = grid[:, None] - middles                                    # (grid, impulses, 2)
    mean = (response[..., None] * offsets).sum(axis=0) / response.sum(axis=0)[:, None]
    spread = np.einsum("gi,gia,gib->ab", response, offsets, offsets) / response.sum()
    assert np.abs(mean).max() < 0.05
    np.testing.assert_allclose(spread, np.eye(2), atol=0.1)


def test_exact_is_the_sum_over_pairs():
    rng = np.random.default_rng(0)
    features, x, before, after = rng.normal(size=(7, 3)), rng.normal(size=(7, 2)), rng.random(7), rng.random(7)
    expected = np.zeros((7, 2))
    for i in range(7):
        for j in range(7):
            near = math.exp(-0.5 * sum((features[i, a] - features[j, a])**2 for a in range(3)))
            for c in range(2):
                expected[i, c] += after[i] * near * before[j] * x[j, c]
    np.testing.assert_allclose(Exact(features).filter(x, before, after), expected, rtol=1e-13)


@pytest.mark.parametrize("bad", [1e12, math.nan, math.inf])
def test_features_beyond_the_integers(bad):
    with pytest.raises(ArgumentError, match="larger sigma"):
        Lattice(np.array([[0.0, 1.0], [bad, 0.0]]))
