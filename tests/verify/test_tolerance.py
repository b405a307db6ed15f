"""Kernels that are not exact: the kit holds them to the tolerance that they state, and still sees what is wrong."""

from dataclasses import replace

import numpy as np
import pytest
from verify.winograd import FAULTS, Winograd, wrong_coefficients

from tinyseg import kernels
from tinyseg.kernels import registry
from tinyseg.kernels.cpu import loops
from tinyseg.verify import Case, ConvGeometry, Request, Subject, Violation, check
from tinyseg.verify.properties import properties_of
from tinyseg.verify.runner import Outcome, hunt
from tinyseg.verify.subject import Refused, load
from tinyseg.verify.testing import assert_holds, named

TOLERANCE = {2: 1e-6, 4: 1e-5}


def subject(kernel, **options):
    return Subject.of(kernel, "conv2d", kernel=[3], name="winograd", **{"tolerance": TOLERANCE[kernel.m], **options})


def small(prop):
    return replace(prop, draw={**prop.draw, "large": False})


def caught_by(kernel, names, examples=100):
    """The first of these properties that a kernel fails."""
    for name in names:
        outcome = Outcome(prop := named(name))
        hunt(prop, subject(kernel), outcome, examples, 0, 20.0, shrinking=0.2)
        if outcome.failed:
            return name
    return None


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_a_stated_tolerance_raises_no_false_alarm(m, seed):
    kernel = subject(Winograd(m))
    for prop in properties_of("conv2d", kernel.supports):
        outcome = assert_holds(small(prop) if seed else prop, kernel, examples=40 if seed else 15, seed=seed)
        assert outcome.held > 5, f"{prop.name} was hardly tried"


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_caught(m, fault):
    assert caught_by(Winograd(m, fault=fault), FAULTS[fault]) is not None


@pytest.mark.parametrize("m", [2, 4])
def test_one_wrong_coefficient_is_caught(m):
    passed = [name for name, kernel in wrong_coefficients(m) if caught_by(kernel, ["definition"], 30) is None]
    assert not passed


@pytest.mark.parametrize("digits", [2, 3, 4])
def test_a_coefficient_with_too_few_digits_is_caught(digits):
    kernel = Winograd(4, {"G": np.round(Winograd(4).transform("G"), digits)})
    assert caught_by(kernel, ["definition", "rounding"]) is not None


def test_an_exact_kernel_is_held_to_exactness_and_a_transform_fails_it():
    for m, name in ((2, "rounding"), (4, "definition")):
        with pytest.raises(AssertionError):
            assert_holds(named(name), subject(Winograd(m), tolerance=None), 200)


def shorter(array):
    """Rounded to bfloat16, 8 bits."""
    words = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = (words + (0x7FFF + (words >> 16 & 1))) & np.uint32(0xFFFF0000)
    return np.where(np.isfinite(array), rounded.view(np.float32), array).astype(array.dtype)


def bfloat(x, weight, geometry):
    return loops.conv2d(shorter(x), shorter(weight), geometry)


def test_products_of_shorter_numbers_hold_within_their_tolerance_and_not_within_less():
    kernel = Subject.of(bfloat, "conv2d", tolerance=4e-3)
    for prop in properties_of("conv2d", kernel.supports):
        assert_holds(small(prop), kernel, examples=40)
    with pytest.raises(AssertionError, match="tolerance that it states"):
        assert_holds(named("rounding"), Subject.of(bfloat, "conv2d", tolerance=1e-4), 100)
    flipped = Subject.of(lambda x, weight, geometry: bfloat(x, weight[..., ::-1, :], geometry), "conv2d",
                         tolerance=4e-3)
    with pytest.raises(AssertionError):
        assert_holds(named("definition"), flipped, 100)


def test_inf_may_spread_over_its_image_but_must_not_be_lost():
    cases = [Case(ConvGeometry((6, 6), (3, 3)), batch=3, values="special", seed=seed) for seed in range(20)]
    case = next(case for case in cases if np.isfinite(case.x).all((1, 2, 3)).any())
    images = np.isfinite(case.x).all((1, 2, 3))
    prop = named("special values")

    def spread(x, weight, geometry):
        y = loops.conv2d(x, weight, geometry)
        y[~images] = np.nan
        return y
    prop.check(Subject.of(spread, "conv2d", tolerance=1e-6), case)
    with pytest.raises(Violation):
        prop.check(Subject.of(spread, "conv2d"), case)

    def elsewhere(x, weight, geometry):
        return np.full_like(spread(x, weight, geometry), np.nan)
    with pytest.raises(Violation):
        prop.check(Subject.of(elsewhere, "conv2d", tolerance=1e-6), case)


def test_registered_kernels_state_their_precision_and_what_they_take(monkeypatch):
    monkeypatch.setattr(registry, "_kernels", {key: dict(value) for key, value in registry._kernels.items()})

    def only(geometry):
        return None if (geometry.kernel_size, geometry.stride, geometry.dilation, geometry.groups) == (
            (3, 3), (1, 1), (1, 1), 1) else "it needs 3x3"

    def winograd(x, weight, geometry):
        assert x.dtype == np.float32
        return Winograd(4)(x, weight, geometry.near_padding)[:, :, :geometry.output_size[0], :geometry.output_size[1]]
    kernels.register("conv2d", "mine", winograd, refuses=only, precision="high", dtypes=("float32",))
    found = load(Request("mine", "conv2d"))
    assert found.tolerance == 3e-5
    assert found.supports == {"padding", "asymmetric padding"}
    assert load(Request("mine", "conv2d", tolerance=1e-3)).tolerance == 1e-3
    for name in ("type", "shift", "batch"):
        found.supports = frozenset({"padding"})      # this one cannot pad one side alone
        assert assert_holds(named(name), found, 30).held > 20


def test_what_a_kernel_refuses_is_not_held_against_it():
    kernel = subject(Winograd(2))
    assert {name: kernel.possible[name] for name in ("kernel", "stride")} == {"kernel": [3], "stride": [*range(1, 9)]}
    with pytest.raises(Refused, match=r"kernel \(2, 2\); needs sides of \[3\]"):
        check(Winograd(2), "definition", Case(ConvGeometry((4, 4), (2, 2))), op="conv2d", kernel=[3])
