"""The kit in Python: strategies, cases that print as they can be pasted, tests for somebody's own suite."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given

from tinyseg.errors import ArgumentError
from tinyseg.kernels.cpu import loops
from tinyseg.verify import (
    OPERATIONS,
    PROPERTIES,
    Case,
    ConvGeometry,
    PoolGeometry,
    Subject,
    Violation,
    check,
    kernel_tests,
    runner,
)
from tinyseg.verify.cases import LAYOUTS, VALUES
from tinyseg.verify.strategies import cases
from tinyseg.verify.testing import assert_holds, named

EVERYTHING = {"stride", "padding", "dilation", "groups", "output_padding", "ceil_mode", "asymmetric padding"}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda op: op.name)
def test_cases_print_as_they_can_be_pasted_and_travel_light(operation):
    @given(case=cases(operation, EVERYTHING, VALUES, dtypes=("float32", "float64"), layouts=LAYOUTS, plain=False))
    def test(case):
        again = eval(repr(case), {"Case": Case, "ConvGeometry": ConvGeometry, "PoolGeometry": PoolGeometry})
        assert again == case == pickle.loads(pickle.dumps(case))
        for name in operation.operands:
            assert np.array_equal(again[name], case[name], equal_nan=True)
            assert name == "indices" or case[name].dtype == case.dtype
        assert len(pickle.dumps(case)) < 2000
    test()


def test_every_property_says_what_it_states_and_where_that_is_from():
    assert len({p.name for p in PROPERTIES}) == len(PROPERTIES) >= 20
    for prop in PROPERTIES:
        assert prop.formula
        assert prop.source
        assert set(prop.operations) <= set(OPERATIONS)


def wrong(x, weight, stride):
    return x[:, :1, ::stride[0], ::stride[1]]


def test_check_repeats_one_property_on_one_case():
    with pytest.raises(Violation, match="expected shape"):
        check(wrong, "output size", Case(ConvGeometry((2, 2), (2, 2))), op="conv2d")
    check(wrong, "output size", Case(ConvGeometry((2, 2), (1, 1))), op="conv2d")
    with pytest.raises(ArgumentError, match="legal: output size"):
        check(wrong, "size", Case(ConvGeometry((2, 2), (1, 1))))


@pytest.mark.parametrize(("arguments", "supports"), [
    ("x, weight", set()), ("x, w, padding, stride", {"stride", "padding"}), ("x, w, a, b", {"stride", "padding"}),
    ("x, w, geometry", EVERYTHING - {"output_padding", "ceil_mode"}),
])
def test_a_kernel_supports_the_options_that_it_takes(arguments, supports):
    space = {}
    exec(f"def conv({arguments}): pass", space)
    assert Subject.of(space["conv"]).supports == supports
    assert Subject.of(space["conv"], supports=["padding"]).supports == supports & {"padding", "asymmetric padding"}


MINE = """
from tinyseg.verify import kernel_tests
from tinyseg.kernels.cpu.loops import conv2d
test_right = kernel_tests(conv2d, op="conv2d", examples=20)

def conv(x, weight, stride):
    return -conv2d(x, weight, __import__("tinyseg").arithmetic.ConvGeometry.convolution(x.shape[2:], weight.shape[2:],
                                                                                        stride))
test_wrong = kernel_tests(conv, examples=20)
"""


def test_three_lines_in_a_suite_of_ones_own(tmp_path):
    (tmp_path / "test_mine.py").write_text(MINE)
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"],
                          cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "FAILED test_mine.py::test_wrong[definition]" in done.stdout
    assert "input 1x1, kernel 1x1" in done.stdout
    assert "test_right" not in done.stdout.split("short test summary")[1]


def test_without_hypothesis_one_line_says_what_to_install(tmp_path):
    code = ("import sys; sys.modules['hypothesis'] = None; sys.argv = ['tinyseg', 'verify', 'im2col']; "
            "from tinyseg.cli import main; main()")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip() == 'tinyseg: verify: hypothesis is not installed; pip install "tinyseg[verify]"'


def test_a_slow_kernel_meets_no_case_too_large_for_it(monkeypatch):
    clock, calls = [0.0], []

    def slow(x, weight, geometry):
        y = loops.conv2d(x, weight, geometry)
        calls.append(1e-5 * y.size * (weight[0].size + 20))
        clock[0] += calls[-1]
        return y

    monkeypatch.setattr(runner, "perf_counter", lambda: clock[0])
    assert_holds(named("larger sizes"), Subject.of(slow, "conv2d"), examples=200)
    assert 0.1 < max(calls) <= 1.01 * runner.LONGEST


def test_kernel_tests_take_names_too():
    assert callable(kernel_tests("im2col", "conv_transpose2d", also=["float64 sums"]))
