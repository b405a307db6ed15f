"""`conv2d` and `conv_transpose2d` as a net uses them: values, gradients by differences, and every error."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinyseg as ts
import tinyseg.functional as F
from tinyseg import kernels
from tinyseg.errors import ArgumentError, DTypeError, ShapeError
from tinyseg.kernels import registry
from tinyseg.kernels.cpu import loops
from tinyseg.verify.strategies import convolutions, floats, integers

ALGORITHMS = kernels.algorithms("conv2d", dtype="float64")
every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
few = settings(max_examples=max(1, settings().max_examples // 5))
SMALL = {"kernel": range(1, 4), "outputs": range(1, 3), "padding": range(3), "groups": range(1, 3),
         "channels": range(1, 3)}


def convolve(x, weight, bias, geometry, algorithm="auto"):
    return F.conv2d(x, weight, bias, geometry.stride, geometry.padding, geometry.dilation, geometry.groups, algorithm)


def transpose(y, weight, bias, geometry, algorithm="auto"):
    return F.conv_transpose2d(y, weight, bias, geometry.stride, geometry.padding, geometry.output_padding,
                              geometry.groups, geometry.dilation, algorithm)


@every_algorithm
@given(operands=convolutions(output_padding=False), data=st.data())
def test_conv2d_is_the_kernel_and_a_bias_for_each_channel(algorithm, operands, data):
    x, weight, y, geometry = operands
    bias = data.draw(integers(y.shape[1]))
    expected = kernels.conv2d(x, weight, geometry, "loops") + bias[:, None, None]
    assert np.array_equal(convolve(x, weight, bias, geometry, algorithm).data, expected)


@every_algorithm
@given(operands=convolutions(), data=st.data())
def test_conv_transpose2d_is_the_transposed_kernel_and_a_bias(algorithm, operands, data):
    x, weight, y, geometry = operands
    bias = data.draw(integers(x.shape[1]))
    expected = kernels.conv2d_input_grad(y, weight, geometry, "loops") + bias[:, None, None]
    assert np.array_equal(transpose(y, weight, bias, geometry, algorithm).data, expected)


@given(operands=convolutions(output_padding=False))
def test_each_is_the_others_gradient(operands):
    """dx of a convolution is the transposed convolution of dy; dy of a transposed convolution the convolution of dx."""
    x, weight, y, geometry = operands
    leaf = ts.tensor(x, requires_grad=True)
    convolve(leaf, weight, None, geometry).backward(y)
    assert np.array_equal(leaf.grad.data, transpose(y, weight, None, geometry).data)
    leaf = ts.tensor(y, requires_grad=True)
    transpose(leaf, weight, None, geometry).backward(x)
    assert np.array_equal(leaf.grad.data, convolve(x, weight, None, geometry).data)


@every_algorithm
@few
@given(operands=convolutions(floats, output_padding=False, **SMALL), bias=floats(4))
def test_gradients_of_conv2d(algorithm, operands, bias):
    x, weight, y, geometry = operands
    ts.gradcheck(lambda *t: convolve(*t, geometry, algorithm), [x, weight, bias[:y.shape[1]]])


@every_algorithm
@few
@given(operands=convolutions(floats, **SMALL), bias=floats(4))
def test_gradients_of_conv_transpose2d(algorithm, operands, bias):
    x, weight, y, geometry = operands
    ts.gradcheck(lambda *t: transpose(*t, geometry, algorithm), [y, weight, bias[:x.shape[1]]])


@every_algorithm
@few
@given(operands=convolutions(floats, outputs=range(4, 12), channels=range(2, 6), output_padding=False))
def test_gradients_along_random_directions(algorithm, operands):
    x, weight, y, geometry = operands
    ts.gradcheck_directional(lambda *t: convolve(*t, None, geometry, algorithm), [x, weight], atol=1e-6)
    ts.gradcheck_directional(lambda *t: transpose(*t, None, geometry, algorithm), [y, weight], atol=1e-6)


def test_a_cut_below_zero_is_relu_in_value_and_gradient():
    rng = np.random.default_rng(0)
    x, weight, bias = (ts.tensor(rng.standard_normal(shape), requires_grad=True)
                       for shape in ((2, 3, 5, 6), (4, 3, 3, 3), 4))
    upward = rng.standard_normal((2, 4, 5, 6))
    gradients = []
    for y in (F.conv2d(x, weight, bias, padding=1, relu=True), F.relu(F.conv2d(x, weight, bias, padding=1))):
        (y * upward).sum().backward()
        gradients.append([y.data, *(t.grad.data.copy() for t in (x, weight, bias))])
        for t in (x, weight, bias):
            t.grad = None
    assert all(np.array_equal(a, b) for a, b in zip(*gradients, strict=True))
    ts.gradcheck(lambda *t: F.conv_transpose2d(t[0], t[1], t[2], stride=2, relu=True),
                 [rng.standard_normal(shape) for shape in ((1, 2, 3, 3), (2, 3, 2, 2), 3)])


def test_only_the_gradients_that_are_needed_are_computed():
    """The fixed up-sampling of an FCN has no gradient in its weight, nor a first layer one in the image."""
    x, weight = ts.tensor(np.ones((1, 1, 4, 4))), ts.tensor(np.ones((1, 1, 3, 3)))
    for operation in (F.conv2d, F.conv_transpose2d):
        for leaf, unneeded in ((x, ["conv2d_weight_grad"]),
                               (weight, ["conv2d_input_grad" if operation is F.conv2d else "conv2d"])):
            leaf.requires_grad_()
            result = operation(x, weight)
            with mock.patch.multiple(kernels, **dict.fromkeys(unneeded)):
                result.backward(np.ones(result.shape))
            assert leaf.grad is not None
            leaf.requires_grad_(False)


def train(algorithm, steps=5):
    """A net that halves and doubles an image's size, fitted to another image; its parameters after some steps."""
    rng = np.random.default_rng(0)
    image, target = rng.standard_normal((2, 2, 3, 9, 8))
    net = [ts.Tensor(rng.standard_normal(shape) / 5, requires_grad=True)
           for shape in ((4, 3, 3, 3), (4,), (6, 2, 3, 2), (6,), (6, 3, 3, 4), (3,))]
    for _ in range(steps):
        hidden = F.relu(F.conv2d(image, *net[0:2], padding="same", dilation=2, algorithm=algorithm))
        hidden = F.relu(F.conv2d(hidden, *net[2:4], stride=2, padding=(1, 0), groups=2, algorithm=algorithm))
        answer = F.conv_transpose2d(hidden, *net[4:6], stride=2, padding=1, algorithm=algorithm)
        assert answer.shape == target.shape
        ((answer - target) ** 2).mean().backward()
        with ts.no_grad():
            for parameter in net:
                with parameter.writing() as array:
                    array -= 0.1 * parameter.grad.data
                parameter.grad = None
    return net


@every_algorithm
def test_a_net_trains_alike_by_any_algorithm(algorithm):
    start, expected, found = train("im2col", 0), train("im2col"), train(algorithm)
    for before, a, b in zip(start, expected, found, strict=True):
        assert np.abs(a.data - before.data).max() > 1e-4                 # it did learn
        assert np.abs(a.data - b.data).max() <= 1e-12


def test_a_kernel_of_ones_own_trains_though_it_has_no_gradients():
    def mine(x, weight, geometry):
        return loops.conv2d(x, weight, geometry)

    known = {key: dict(value) for key, value in registry._kernels.items()}
    with mock.patch.object(registry, "_kernels", known):
        kernels.register("conv2d", "mine", mine)
        start, expected, found = (train_forward(*how) for how in (("im2col", 0), ("im2col",), ("mine",)))
        assert np.abs(expected - start).max() > 1e-4                     # it did learn
        assert np.abs(expected - found).max() <= 1e-12
        with pytest.raises(ArgumentError, match="conv_transpose2d: no algorithm 'mine'"):
            F.conv_transpose2d(Y, BACK, algorithm="mine")


def train_forward(algorithm, steps=3):
    """A convolution fitted to an image; its weight after some steps."""
    rng = np.random.default_rng(0)
    image, target = rng.standard_normal((2, 1, 3, 6, 6))
    weight = ts.Tensor(rng.standard_normal((3, 3, 3, 3)) / 5, requires_grad=True)
    for _ in range(steps):
        loss = ((F.conv2d(F.conv2d(image, weight, padding=1, algorithm=algorithm), weight, padding=1,
                          algorithm=algorithm) - target) ** 2).mean()
        loss.backward()
        with ts.no_grad(), weight.writing() as array:
            array -= 0.1 * weight.grad.data
        weight.grad = None
    return weight.data


def test_paddings():
    x, weight = np.ones((1, 1, 7, 9)), np.ones((1, 1, 3, 4))

    def size(padding, **options):
        return F.conv2d(x, weight, padding=padding, **options).shape[2:]

    assert size(0) == size("valid") == (5, 6)
    assert size(1) == (7, 8)
    assert size((1, 2)) == size([1, 2]) == size(np.array([1, 2])) == (7, 10)
    assert size(((1, 0), (0, 3))) == (6, 9)
    assert size("same") == size("same", dilation=2) == (7, 9)
    corner = F.conv2d(np.ones((1, 1, 1, 1)), np.arange(4.0).reshape(1, 1, 2, 2), padding="same")
    assert corner.item() == 0                        # an even kernel pads below and to the right: its first tap stays


X, WEIGHT, BIAS = np.ones((1, 4, 9, 9)), np.ones((6, 4, 3, 3)), np.ones(6)


@pytest.mark.parametrize(("arguments", "options", "error", "text"), [
    ((X[0], WEIGHT), {}, ShapeError, "conv2d: input of shape (4, 9, 9); needs (N, C, H, W)"),
    ((X, WEIGHT[0]), {}, ShapeError, "conv2d: weight of shape (4, 3, 3); needs four axes"),
    ((X.astype(int), WEIGHT), {}, DTypeError, "conv2d: input is int64; needs float32 or float64"),
    ((X, WEIGHT.astype("uint8")), {}, DTypeError, "conv2d: weight is uint8; needs float32 or float64"),
    ((X, WEIGHT.astype("float32")), {}, DTypeError,
     "conv2d: input is float64, weight float32; needs one type for both"),
    ((X[:, :3], WEIGHT), {}, ShapeError,
     "conv2d: input of 3 channels, weight (6, 4, 3, 3) with groups 1; needs C = weight.shape[1]·groups = 4"),
    ((X, WEIGHT), {"groups": 2}, ShapeError,
     "conv2d: input of 4 channels, weight (6, 4, 3, 3) with groups 2; needs C = weight.shape[1]·groups = 8"),
    ((X, WEIGHT), {"groups": 4}, ArgumentError,
     "conv2d: groups 4 with 4 channels in and 6 out; needs a whole number >= 1 that divides both"),
    ((X, WEIGHT), {"groups": 0}, ArgumentError,
     "conv2d: groups 0 with 4 channels in and 6 out; needs a whole number >= 1 that divides both"),
    ((X, WEIGHT), {"groups": 1.0}, ArgumentError,
     "conv2d: groups 1.0 with 4 channels in and 6 out; needs a whole number >= 1 that divides both"),
    ((X[:, :0], WEIGHT[:, :0]), {}, ShapeError, "conv2d: 0 channels in, 6 out; needs multiples of groups = 1"),
    ((X, WEIGHT, BIAS[:5]), {}, ShapeError, "conv2d: bias of shape (5,); needs (6,)"),
    ((X, WEIGHT, BIAS.astype("float32")), {}, DTypeError,
     "conv2d: input is float64, bias float32; needs one type for all"),
    ((X, WEIGHT), {"padding": "same", "stride": 2}, ArgumentError,
     'conv2d: padding "same" with stride (2, 2): needs stride 1; with another stride give the padding as numbers'),
    ((X, WEIGHT), {"padding": "reflect"}, ArgumentError,
     "conv2d: padding 'reflect': needs a number, a pair, \"same\" or \"valid\""),
    ((X, WEIGHT), {"stride": (1, 0)}, ArgumentError, "conv2d: stride 0 in W: needs stride >= 1"),
    ((X, WEIGHT), {"stride": 1.5}, ArgumentError,
     "conv2d: stride 1.5: needs a whole number or a pair (height, width) of them"),
    ((X, WEIGHT), {"padding": -1}, ArgumentError, "conv2d: padding -1 in H: needs padding >= 0"),
    ((X, WEIGHT), {"algorithm": "fft"}, ArgumentError,
     f"conv2d: no algorithm 'fft'; legal: auto, {', '.join(kernels.algorithms('conv2d'))}"),
    ((X, np.ones((6, 4, 5, 5))), {"padding": 1, "dilation": 3}, ShapeError,
     "conv2d: kernel 5 with dilation 3 spans 13 > padded input 9+2·1=11 in H. Needs d·(k-1)+1 <= i+2p; "
     "with this input dilation <= 2."),
])
def test_errors_of_conv2d(arguments, options, error, text):
    with pytest.raises(error) as caught:
        F.conv2d(*arguments, **options)
    assert str(caught.value) == text


Y, BACK = np.ones((1, 6, 4, 4)), np.ones((6, 2, 3, 3))


@pytest.mark.parametrize(("arguments", "options", "error", "text"), [
    ((Y[0], BACK), {}, ShapeError, "conv_transpose2d: input of shape (6, 4, 4); needs (N, C, H, W)"),
    ((Y, BACK.astype("float32")), {}, DTypeError,
     "conv_transpose2d: input is float64, weight float32; needs one type for both"),
    ((Y[:, :5], BACK), {}, ShapeError,
     "conv_transpose2d: input of 5 channels, weight (6, 2, 3, 3); needs C = weight.shape[0] = 6"),
    ((Y, BACK), {"groups": 4}, ArgumentError,
     "conv_transpose2d: groups 4 with 6 channels in; needs a whole number >= 1 that divides them"),
    ((Y, BACK, BIAS), {"groups": 2}, ShapeError, "conv_transpose2d: bias of shape (6,); needs (4,)"),
    ((Y, BACK), {"stride": 2, "output_padding": 2}, ArgumentError,
     "conv_transpose2d: output_padding 2 in H with stride 2, dilation 1: "
     "needs 0 <= output_padding < max(s, d) = 2"),
    ((Y, BACK), {"output_padding": -1}, ArgumentError,
     "conv_transpose2d: output_padding -1 in H with stride 1, dilation 1: "
     "needs 0 <= output_padding < max(s, d) = 1"),
    ((Y, BACK), {"padding": 3}, ShapeError,
     "conv_transpose2d: input 4, kernel 3, stride 1, padding (3, 3) give output size 0 in H. "
     "Needs (i-1)·s - 2p + d·(k-1) + 1 + a >= 1; with this input 2p <= 5."),
    ((Y, BACK), {"algorithm": "fft"}, ArgumentError,
     f"conv_transpose2d: no algorithm 'fft'; legal: auto, {', '.join(kernels.algorithms('conv2d_input_grad'))}"),
])
def test_errors_of_conv_transpose2d(arguments, options, error, text):
    with pytest.raises(error) as caught:
        F.conv_transpose2d(*arguments, **options)
    assert str(caught.value) == text
