"""Seeded faults are caught by the property that should catch them, and correct kernels by none.

`python tests/verify/faults.py` prints the table.
"""

import os

import pytest
from verify.faults import FAULTS, caught_by

from tinyseg import kernels
from tinyseg.kernels.axis import means
from tinyseg.verify import OPERATIONS, Request, Subject
from tinyseg.verify.properties import properties_of
from tinyseg.verify.subject import load
from tinyseg.verify.testing import assert_holds

DEEP = os.environ.get("TINYSEG_TEST_PROFILE") == "deep"
# To the kernels a transposed convolution is a `conv2d_input_grad`; under their own names they are tested at home.
CORRECT = [(name, algorithm) for name, op in OPERATIONS.items() for algorithm in kernels.algorithms(op.registered)
           if DEEP or name != op.registered]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.name.replace(" ", "-"))
def test_is_caught(fault):
    outcome, _ = caught_by(fault)
    assert outcome is not None, f"{', '.join(fault.properties)} let {fault.name!r} pass"
    assert outcome.property.name in fault.properties


def test_the_gallery_is_large_and_its_names_are_its_own():
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names) >= 60


@pytest.mark.parametrize("seed", range(1, 21) if DEEP else [1])
@pytest.mark.parametrize(("operation", "algorithm"), CORRECT)
def test_no_false_alarm(operation, algorithm, seed):
    subject = load(Request(algorithm, operation))
    for prop in properties_of(operation, subject.supports):
        large = prop.draw.get("large")
        if DEEP or not large:
            assert_holds(prop, subject, examples=100 if DEEP and not large else 15, seed=seed)


def test_means_by_dense_matrices():
    def mean(x, geometry):
        return kernels.run("resample2d", x, *means(geometry), algorithm="matrix")

    subject = Subject.of(mean, "avg_pool2d")
    for prop in properties_of("avg_pool2d", subject.supports):
        if prop.name != "special values":            # 0 · inf is nan, and the matrices are full of zeros
            assert_holds(prop, subject, examples=15)
