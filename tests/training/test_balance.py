"""Class weights by arithmetic."""

import math

import numpy as np
import pytest

from tinyseg.data import Sample
from tinyseg.errors import ArgumentError, DataError
from tinyseg.training.balance import class_weights


class Masks(list):
    classes = ("a", "b", "c", "never")


def masks(*rows):
    return Masks(Sample(np.zeros((1, len(row), 3), np.uint8), np.array([row], np.uint8)) for row in rows)


DATA = masks([0, 0, 0, 1], [0, 0, 2, 255])           # 5, 1, 1 of 7 pixels; a in 7 pixels of images, b in 4, c in 3
NEEDED = {"balanced": [(7 / 5) ** 0.5, 7 ** 0.5, 7 ** 0.5],
          "median-frequency": [(1 / 3) / (5 / 7), (1 / 3) / (1 / 4), 1],
          "inverse-log": [1 / math.log(1.02 + 5 / 7), 1 / math.log(1.02 + 1 / 7), 1 / math.log(1.02 + 1 / 7)]}


@pytest.mark.parametrize("rule", NEEDED)
def test_by_hand(rule):
    expected = np.array(NEEDED[rule])
    if rule == "balanced":
        expected /= expected.mean()
    np.testing.assert_allclose(class_weights(DATA, rule), [*expected, 0], rtol=1e-6)


def test_what_has_no_weights():
    with pytest.raises(DataError, match="no labelled pixel"):
        class_weights(masks([255, 255]))
    with pytest.raises(ArgumentError, match="legal: balanced, median-frequency, inverse-log"):
        class_weights(DATA, "fair")
