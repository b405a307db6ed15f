"""Intervals of medians: where they lie, how often they are right, and what overlapping means."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyseg.bench.statistics import different, exponent, geometric_mean, summarize


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=60))
def test_the_interval_holds_the_median(samples):
    s = summarize(samples)
    assert min(samples) <= s.low <= s.median <= s.high <= max(samples)
    assert s.p10 <= s.median <= s.p90
    assert 0 <= s.confidence <= 1
    assert s.n < 6 or s.confidence >= 0.95


def test_a_known_table():
    """For 10 samples the 2nd and 9th, 97.9 %; for 20 the 6th and 15th, 95.9 % (order statistics of the sign test)."""
    ten, twenty = summarize(range(1, 11)), summarize(range(1, 21))
    assert (ten.low, ten.high) == (2, 9)
    assert ten.confidence == pytest.approx(0.9785, abs=1e-4)
    assert (twenty.low, twenty.high) == (6, 15)
    assert twenty.confidence == pytest.approx(0.9586, abs=1e-4)
    assert summarize([3.0]).confidence == 0


@pytest.mark.parametrize("draw", ["exponential", "normal", "lognormal"])
def test_it_covers_the_true_median_as_often_as_it_says(draw):
    rng = np.random.default_rng(0)
    true = {"exponential": math.log(2), "normal": 0.0, "lognormal": 1.0}[draw]
    found = [summarize(getattr(rng, draw)(size=15)) for _ in range(1000)]
    covered = np.mean([s.low <= true <= s.high for s in found])
    assert covered > 0.95 - 3 * math.sqrt(0.05 * 0.95 / 1000)


def test_overlapping_intervals_are_not_different():
    a, b, c = summarize(np.linspace(1, 2, 20)), summarize(np.linspace(1.2, 2.2, 20)), summarize(np.linspace(3, 4, 20))
    assert not different(a, b)
    assert not different(b, a)
    assert different(a, c)
    assert different(c, b)


def test_means_and_exponents():
    assert geometric_mean([2, 8]) == pytest.approx(4)
    assert math.isnan(geometric_mean([]))
    x = [1, 2, 4, 8]
    assert exponent(x, [3 * v**2.5 for v in x]) == pytest.approx(2.5)
    assert math.isnan(exponent([1], [2]))
