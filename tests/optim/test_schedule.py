import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyseg.errors import ArgumentError
from tinyseg.nn import Parameter
from tinyseg.optim import SCHEDULES, SGD, Constant, Cosine, Exponential, Poly, Step, WarmUp, build_schedule

totals = st.integers(1, 1000)


@given(total=totals, power=st.floats(0.1, 3))
def test_poly(total, power):
    rule = Poly(total, power)
    assert rule(0) == 1
    assert rule(total) == rule(2 * total) == 0
    assert rule(total // 2) == pytest.approx((1 - (total // 2) / total) ** power)


@given(total=totals, floor=st.floats(0, 1))
def test_cosine(total, floor):
    rule = Cosine(2 * total, floor)
    assert rule(0) == pytest.approx(1)
    assert rule(total) == pytest.approx((1 + floor) / 2)
    assert rule(2 * total) == rule(9 * total) == pytest.approx(floor)


def test_step():
    rule = Step([3, 5], 0.1)
    assert [rule(n) for n in range(7)] == pytest.approx([1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_exponential_falls_after_every_epoch():
    rule = Exponential(3, 0.5)
    assert [rule(n) for n in range(7)] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]
    assert build_schedule("exponential", 100, epoch=10)(99) == 0.995 ** 9


def test_milestones_are_shares_of_the_run():
    """DeepLab v1: a tenth every 2,000 of 6,000 steps; and the same shape in a shorter run."""
    for total in (6000, 60):
        rule = build_schedule("step", total, milestones=(1 / 3, 2 / 3))
        assert [rule(n * total // 6000) for n in (0, 1900, 2000, 3900, 4000)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])


@given(steps=st.integers(0, 50), start=st.floats(0, 0.9))
def test_warm_up_rises_evenly_and_ends(steps, start):
    rule = WarmUp(Constant(), steps, start)
    rises = np.diff([rule(n) for n in range(steps + 1)])
    assert rule(0) > 0
    np.testing.assert_allclose(rises, rises[0] if steps else 0, atol=1e-12)
    assert rule(steps) == rule(steps + 7) == 1


@given(name=st.sampled_from(SCHEDULES), total=totals, warmup=st.integers(0, 20))
def test_factors_by_name(name, total, warmup):
    rule = build_schedule(name, total, warmup)
    factors = [rule(n) for n in range(total)]
    assert all(0 <= f <= 1 for f in factors)
    assert factors[0] > 0 or total == 1
    assert factors == [build_schedule(name, total, warmup)(n) for n in range(total)]


def test_set_scales_every_group_from_its_own_rate():
    a, b = Parameter(np.ones(1)), Parameter(np.ones(1))
    optimizer = SGD([{"params": [a]}, {"params": [b], "lr": 0.01}], lr=0.1)
    rule = Poly(10)
    for step in (9, 3, 0, 5):                        # in any order: nothing is remembered
        assert rule.set(optimizer, step) == 0.1 * rule(step)
        assert [g["lr"] for g in optimizer.param_groups] == [0.1 * rule(step), 0.01 * rule(step)]


def test_values_that_make_no_sense():
    for build in (lambda: Poly(0), lambda: Cosine(0), lambda: Step([5, 3]), lambda: WarmUp(Constant(), -1),
                  lambda: Exponential(0), lambda: Poly(5).set(SGD([Parameter(np.ones(1))]), -1)):
        with pytest.raises(ArgumentError, match="needs"):
            build()
    with pytest.raises(ArgumentError, match="legal: constant"):
        build_schedule("linear", 5)
    assert math.isclose(build_schedule("step", 9)(8), 0.01)
