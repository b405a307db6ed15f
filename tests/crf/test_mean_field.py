"""Mean field by the formulas of the paper, written out."""

import math

import numpy as np
import pytest

from tinyseg.crf import NORMALIZATIONS, NormalizedFilter, compatibility_matrix, free_energy, mean_field
from tinyseg.errors import ArgumentError, ShapeError


def naive_kernel(features, normalization):
    n = len(features)
    k = [[math.exp(-0.5 * sum((a - b)**2 for a, b in zip(features[i], features[j], strict=True)))
          for j in range(n)] for i in range(n)]
    mass = [sum(row) for row in k]
    for i in range(n):
        for j in range(n):
            if normalization == "symmetric":
                k[i][j] /= math.sqrt(mass[i] * mass[j])
            elif normalization == "after":
                k[i][j] /= mass[i]
            elif normalization == "before":
                k[i][j] /= mass[j]
    return k


def naive_softmax(scores):
    powers = [math.exp(s - max(scores)) for s in scores]
    return [p / sum(powers) for p in powers]


def naive_mean_field(unary, kernels, matrices, iterations):
    n, classes = unary.shape
    q = [naive_softmax([-u for u in row]) for row in unary]
    for _ in range(iterations):
        new = []
        for i in range(n):
            energy = list(unary[i])
            for k, mu in zip(kernels, matrices, strict=True):
                for label in range(classes):
                    for other in range(classes):
                        for j in range(n):
                            energy[label] += mu[label][other] * k[i][j] * q[j][other]
            new.append(naive_softmax([-e for e in energy]))
        q = new
    return np.array(q)


def problem(n=6, classes=3):
    rng = np.random.default_rng(0)
    return rng.uniform(0, 2, (n, classes)), rng.normal(size=(n, 2)), rng.normal(size=(n, 5))


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_by_the_formulas(normalization):
    unary, near, alike = problem()
    full = np.array([[-2.0, 1, 0.5], [1, -1, 0], [0.5, 0, -3]])
    pairwise = [(NormalizedFilter(near, normalization, "exact"), 3.0),
                (NormalizedFilter(alike, normalization, "exact"), full)]
    kernels = [naive_kernel(near.tolist(), normalization), naive_kernel(alike.tolist(), normalization)]
    potts = [[-3.0 if a == b else 0.0 for b in range(3)] for a in range(3)]
    for iterations in (0, 1, 4):
        expected = naive_mean_field(unary, kernels, [potts, full.tolist()], iterations)
        np.testing.assert_allclose(mean_field(unary, pairwise, iterations), expected, rtol=1e-12, atol=1e-15)


def test_potts_is_a_cost_of_disagreement():
    unary, near, _ = problem()
    filter_ = NormalizedFilter(near, method="exact")
    disagreement = 3 * (1 - np.eye(3))
    np.testing.assert_allclose(mean_field(unary, [(filter_, 3)], 5), mean_field(unary, [(filter_, disagreement)], 5),
                               rtol=1e-12)


def test_compatibilities():
    assert np.array_equal(compatibility_matrix(2, 2), [[-2, 0], [0, -2]])
    assert np.array_equal(compatibility_matrix([-1, 3], 2), [[-1, 0], [0, 3]])   # costs: their sign is not turned
    assert np.array_equal(compatibility_matrix([[0, 4], [2, 0]], 2), [[0, 3], [3, 0]])
    with pytest.raises(ShapeError, match=r"needs a number, \(3,\) or \(3, 3\)"):
        compatibility_matrix(np.eye(2), 3)
    with pytest.raises(ArgumentError, match="nan"):
        compatibility_matrix([1, math.nan], 2)


def test_free_energy():
    unary, near, _ = problem()
    q = mean_field(unary, [], 0)
    k = np.array(naive_kernel(near.tolist(), "symmetric"))
    expected = sum(q[i, a] * (math.log(q[i, a]) + unary[i, a]) for i in range(6) for a in range(3))
    assert free_energy(unary, [], q) == pytest.approx(expected)
    expected += sum(-3 * q[i, a] * k[i, j] * q[j, a] for i in range(6) for j in range(6) for a in range(3))
    pairwise = [(NormalizedFilter(near, method="exact"), 3)]
    assert free_energy(unary, pairwise, q) == pytest.approx(expected)
    after = [free_energy(unary, pairwise, mean_field(unary, pairwise, n)) for n in (0, 1, 10)]
    assert after[0] > after[1] > after[2]


def test_large_energies_do_not_overflow():
    unary = np.array([[0.0, 2000], [-2000, 0], [3e4, 3e4]], np.float32)
    assert np.array_equal(mean_field(unary, [], 0), [[1, 0], [1, 0], [0.5, 0.5]])


@pytest.mark.parametrize(("options", "message"), [
    ({"normalization": "both"}, "legal: none, before, after, symmetric"),
    ({"method": "fast"}, "legal: lattice, exact")])
def test_words_that_are_not_legal(options, message):
    with pytest.raises(ArgumentError, match=message):
        NormalizedFilter(np.zeros((2, 1)), **options)
