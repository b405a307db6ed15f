"""Convolutions against PyTorch's on integers in float64: values and every gradient, equal to the last bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg as ts
import tinyseg.functional as F
from tinyseg import kernels
from tinyseg.verify.strategies import convolutions, integers

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.oracle, pytest.mark.parametrize("algorithm", kernels.algorithms("conv2d", dtype="float64"))]


def gradients(operation, framework, arrays, cotangent):
    """The result of operation(*arrays), and the gradients of <result, cotangent>."""
    leaves = [framework.tensor(a, requires_grad=True) for a in arrays]
    result = operation(*leaves)
    result.backward(framework.tensor(cotangent))
    return [np.asarray(t.detach().numpy()) for t in (result, *(leaf.grad for leaf in leaves))]


def assert_equal(ours, theirs):
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.shape == other.shape
        assert np.array_equal(mine, other)


@given(operands=convolutions(output_padding=False), data=st.data())
def test_conv2d(algorithm, operands, data):
    x, weight, y, g = operands
    bias = data.draw(integers(y.shape[1]))
    (top, bottom), (left, right) = g.padding         # PyTorch's own padding is the same on both sides

    def theirs(x, weight, bias):
        padded = torch.nn.functional.pad(x, (left, right, top, bottom))
        return torch.conv2d(padded, weight, bias, g.stride, 0, g.dilation, g.groups)

    def ours(x, weight, bias):
        return F.conv2d(x, weight, bias, g.stride, g.padding, g.dilation, g.groups, algorithm)

    assert_equal(gradients(ours, ts, (x, weight, bias), y), gradients(theirs, torch, (x, weight, bias), y))


@given(operands=convolutions(), data=st.data())
def test_conv_transpose2d(algorithm, operands, data):
    x, weight, y, g = operands
    bias = data.draw(integers(x.shape[1]))
    (top, _), (left, _) = g.padding
    (h, w) = g.input_size

    def theirs(y, weight, bias):
        whole = torch.conv_transpose2d(y, weight, bias, g.stride, 0, g.output_padding, g.groups, g.dilation)
        return whole[..., top:top + h, left:left + w]

    def ours(y, weight, bias):
        return F.conv_transpose2d(y, weight, bias, g.stride, g.padding, g.output_padding, g.groups, g.dilation,
                                  algorithm)

    assert_equal(gradients(ours, ts, (y, weight, bias), x), gradients(theirs, torch, (y, weight, bias), x))


@given(operands=convolutions(padding=[0], output_padding=False), p=st.tuples(st.integers(0, 3), st.integers(0, 3)))
def test_the_same_arguments_mean_the_same(algorithm, operands, p):
    x, weight, _, g = operands
    ours = F.conv2d(x, weight, None, g.stride, p, g.dilation, g.groups, algorithm)
    theirs = torch.conv2d(torch.tensor(x), torch.tensor(weight), None, g.stride, p, g.dilation, g.groups)
    assert_equal([ours.numpy()], [theirs.numpy()])


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel")
@given(operands=convolutions(stride=[1], padding=[0], output_padding=False))
def test_same_and_valid_padding(algorithm, operands):
    x, weight, _, g = operands
    for padding in ("same", "valid"):
        ours = F.conv2d(x, weight, None, 1, padding, g.dilation, g.groups, algorithm)
        theirs = torch.conv2d(torch.tensor(x), torch.tensor(weight), None, 1, padding, g.dilation, g.groups)
        assert_equal([ours.numpy()], [theirs.numpy()])
