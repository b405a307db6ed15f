"""The trimap."""

import numpy as np
import pytest

from tinyseg.errors import ArgumentError, ShapeError
from tinyseg.metrics import near_borders


def test_by_hand():
    truth = np.array([[0, 0, 0, 0, 1, 1, 1, 1]])
    assert near_borders(truth, 1).tolist() == [[255, 255, 255, 0, 1, 255, 255, 255]]
    assert near_borders(truth, 2).tolist() == [[255, 255, 0, 0, 1, 1, 255, 255]]
    assert np.array_equal(near_borders(truth, 9), truth)
    assert (near_borders(np.zeros((3, 4), np.uint8)) == 255).all()


@pytest.mark.parametrize("width", [1, 2, 3])
def test_by_the_distance(width):
    truth = np.random.default_rng(0).integers(0, 2, (4, 5)).repeat(4, axis=0).repeat(4, axis=1)
    near = near_borders(truth, width) != 255
    edges = [(i, j) for i in range(16) for j in range(20)
             if any(0 <= a < 16 and 0 <= b < 20 and truth[a, b] != truth[i, j]
                    for a, b in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)))]
    for i in range(16):
        for j in range(20):
            assert near[i, j] == any(max(abs(i - a), abs(j - b)) < width for a, b in edges)


def test_bad_input():
    with pytest.raises(ArgumentError, match="at least 1 pixel"):
        near_borders(np.zeros((2, 2), int), 0)
    with pytest.raises(ShapeError, match="one mask"):
        near_borders(np.zeros((2, 2, 2), int))
