"""Names, choices and refusals."""

from unittest import mock

import numpy as np
import pytest

import tinyseg as ts
from tinyseg import kernels, precision
from tinyseg.arithmetic import ConvGeometry
from tinyseg.errors import ArgumentError, ShapeError
from tinyseg.kernels import registry

GEOMETRY = ConvGeometry((4, 5), (3, 2))
STRIDED = ConvGeometry((4, 5), (3, 2), stride=(2, 1))
X, WEIGHT, Y = np.ones((2, 3, 4, 5)), np.ones((6, 3, 3, 2)), np.ones((2, 6, 2, 4))


@pytest.fixture
def empty_registry():
    with mock.patch.object(registry, "_kernels", {}):
        yield


def unit_stride_only(geometry):
    return None if geometry.stride == (1, 1) else f"stride {geometry.stride}; needs stride 1"


def text(error, function, *arguments, **options):
    with pytest.raises(error) as caught:
        function(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize("operation", ["conv2d", "conv2d_input_grad", "conv2d_weight_grad"])
def test_every_reading_of_a_convolution_has_every_algorithm(operation):
    assert kernels.algorithms(operation, dtype="float64") == kernels.algorithms("conv2d", dtype="float64")
    assert {"loops", "matrix", "im2col"} <= set(kernels.algorithms(operation))


def test_an_unknown_name_lists_the_names():
    names = ", ".join(kernels.algorithms("conv2d"))
    assert text(ArgumentError, kernels.conv2d, X, WEIGHT, GEOMETRY, "fft") == (
        f"conv2d: no algorithm 'fft'; legal: auto, {names}")
    for name in ("auto", *kernels.algorithms("conv2d", dtype="float64")):
        assert kernels.conv2d(X, WEIGHT, GEOMETRY, name).shape == Y.shape


def test_a_kernel_of_ones_own(empty_registry):
    def ones(x, weight, geometry):
        return np.full((len(x), len(weight), *geometry.output_size), 1.0)

    kernels.register("conv2d", "ones", ones)
    assert kernels.algorithms("conv2d") == ["ones"]
    for name in ("ones", "auto"):
        assert np.array_equal(kernels.conv2d(X, WEIGHT, GEOMETRY, name), Y)


def test_a_later_kernel_of_a_name_replaces_the_earlier(empty_registry):
    kernels.register("conv2d", "mine", lambda *_: 1)
    kernels.register("conv2d", "mine", lambda *_: 2)
    assert kernels.run("conv2d", X, algorithm="mine") == 2


def test_auto_takes_the_first_that_can(empty_registry):
    kernels.register("conv2d", "narrow", lambda *_: "narrow", refuses=unit_stride_only)
    kernels.register("conv2d", "general", lambda *_: "general")
    assert kernels.find("conv2d").algorithm == "narrow"
    assert kernels.run("conv2d", X, WEIGHT, GEOMETRY) == "narrow"
    assert kernels.run("conv2d", X, WEIGHT, STRIDED) == "general"


def test_a_refusal_says_why(empty_registry):
    kernels.register("conv2d", "narrow", lambda *_: "narrow", refuses=unit_stride_only)
    assert text(ArgumentError, kernels.run, "conv2d", X, STRIDED, algorithm="narrow") == (
        "conv2d: algorithm 'narrow' cannot do this: stride (2, 1); needs stride 1")
    assert text(ArgumentError, kernels.run, "conv2d", X, STRIDED) == (
        f"conv2d: no kernel on 'cpu' can do {STRIDED} in float64")


def test_a_device_without_kernels_says_what_to_do():
    assert text(ArgumentError, kernels.find, "conv2d", device="tpu") == (
        "conv2d: no kernel for arrays on 'tpu'; move them with .to(device)")


def test_auto_is_no_name_for_a_kernel():
    assert text(ArgumentError, kernels.register, "conv2d", "auto", print) == (
        'register: "auto" is the choice among algorithms; give the kernel a name of its own')


def test_kernels_see_plain_arrays(empty_registry):
    seen = []
    kernels.register("conv2d", "look", lambda *arrays: seen.extend(arrays[:2]))
    read_only = X.copy()
    read_only.flags.writeable = False
    kernels.run("conv2d", X[..., ::2], read_only, GEOMETRY)
    assert all(a.flags["C_CONTIGUOUS"] and a.flags["WRITEABLE"] for a in seen)
    kernels.run("conv2d", X, WEIGHT, GEOMETRY)
    assert seen[2] is X                              # no copy where none is needed
    assert seen[3] is WEIGHT


@pytest.mark.parametrize(("operation", "a", "b", "expected"), [
    (kernels.conv2d, X[0], WEIGHT, "conv2d: x of shape (3, 4, 5); this geometry needs four axes that end in (4, 5)"),
    (kernels.conv2d, X[..., 1:], WEIGHT,
     "conv2d: x of shape (2, 3, 4, 4); this geometry needs four axes that end in (4, 5)"),
    (kernels.conv2d, X, WEIGHT.swapaxes(2, 3),
     "conv2d: weight of shape (6, 3, 2, 3); this geometry needs four axes that end in (3, 2)"),
    (kernels.conv2d_input_grad, X, WEIGHT,
     "conv2d_input_grad: grad of shape (2, 3, 4, 5); this geometry needs four axes that end in (2, 4)"),
    (kernels.conv2d, X[:, :2], WEIGHT, "conv2d: x of 2 channels; needs weight.shape[1]·groups = 3"),
    (kernels.conv2d, X, WEIGHT[:0], "conv2d: 3 channels in, 0 out; needs multiples of groups = 1"),
    (kernels.conv2d_input_grad, Y[:, :4], WEIGHT, "conv2d_input_grad: grad of 4 channels; needs weight.shape[0] = 6"),
    (kernels.conv2d_weight_grad, Y[:1], X, "conv2d_weight_grad: grad of 1 images; needs as many as x, 2"),
])
def test_arrays_that_are_not_of_one_convolution(operation, a, b, expected):
    assert text(ShapeError, operation, a, b, GEOMETRY) == expected


def test_auto_keeps_to_the_chosen_precision_dtype_and_shapes(empty_registry):
    kernels.register("conv2d", "coarse", lambda *_: 1, precision="medium")
    kernels.register("conv2d", "vector", lambda *_: 2, dtypes=("float32",), precision="high",
                     suits=lambda geometry, x, weight: x[1] >= 16)
    kernels.register("conv2d", "exact", lambda *_: 3)

    def chosen(dtype="float32", channels=16):
        geometry = ConvGeometry.convolution(5, 3)
        shapes = (1, channels, 5, 5), (4, channels, 3, 3)
        return kernels.find("conv2d", "auto", "cpu", geometry, dtype, *shapes).algorithm

    assert chosen() == "vector"                      # high is the default
    with precision.float32_matmul_precision("highest"):
        assert chosen() == "exact"
    with precision.float32_matmul_precision("medium"):
        assert chosen() == "coarse"
    assert chosen("float64") == chosen(channels=8) == "exact"
    assert text(ArgumentError, kernels.find, "conv2d", "vector", "cpu", None, "float64") == (
        "conv2d: algorithm 'vector' cannot do this: it takes float32, no float64")


def test_precision_has_three_words():
    assert ts.get_float32_matmul_precision() == "high"
    assert text(ArgumentError, ts.set_float32_matmul_precision, "low") == (
        "set_float32_matmul_precision: 'low'; legal: highest, high, medium")
    with pytest.raises(RuntimeError), precision.float32_matmul_precision("medium"):
        raise RuntimeError
    assert ts.get_float32_matmul_precision() == "high"
