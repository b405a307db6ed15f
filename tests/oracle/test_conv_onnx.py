"""Convolutions against the node tests of the ONNX standard."""

import numpy as np
import pytest

import tinyseg.functional as F
from tinyseg import kernels

onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.oracle

CASES = ["basic_conv_with_padding", "basic_conv_without_padding", "conv_with_autopad_same",
         "conv_with_strides_and_asymmetric_padding", "conv_with_strides_no_padding", "conv_with_strides_padding",
         "convtranspose", "convtranspose_autopad_same", "convtranspose_dilations", "convtranspose_group_2",
         "convtranspose_group_2_image_3", "convtranspose_kernel_shape", "convtranspose_output_shape",
         "convtranspose_pad", "convtranspose_pads"]


def load(folder):
    """The node's operation and attributes, its input arrays, and the output that the standard expects."""
    node, = onnx.load(folder / "model.onnx").graph.node
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}

    def arrays(kind):
        return [onnx.numpy_helper.to_array(onnx.load_tensor(path))
                for path in sorted(folder.glob(f"test_data_set_0/{kind}_*.pb"))]

    return node.op_type, attributes, arrays("input"), arrays("output")[0]


def halves(total, auto_pad):
    """`total` padding on two sides; the odd cell far for SAME_UPPER, near for SAME_LOWER."""
    less, more = total // 2, total - total // 2
    return (more, less) if auto_pad == b"SAME_LOWER" else (less, more)


def convolve(x, weight, algorithm, strides=(1, 1), pads=(0, 0, 0, 0), auto_pad=b"NOTSET", kernel_shape=None):
    if auto_pad == b"NOTSET":
        padding = (pads[0], pads[2]), (pads[1], pads[3])
    else:                                            # ceil(i / s) outputs
        totals = (max(0, (-(-i // s) - 1) * s + k - i)
                  for i, s, k in zip(x.shape[2:], strides, weight.shape[2:], strict=True))
        padding = tuple(halves(total, auto_pad) for total in totals)
    return F.conv2d(x, weight, None, strides, padding, algorithm=algorithm)


def transpose(x, weight, algorithm, strides=(1, 1), pads=(0, 0, 0, 0), auto_pad=b"NOTSET", dilations=(1, 1), group=1,
              output_padding=(0, 0), output_shape=None, kernel_shape=None):
    padding = (pads[0], pads[2]), (pads[1], pads[3])
    if auto_pad != b"NOTSET":
        output_shape = [i * s for i, s in zip(x.shape[2:], strides, strict=True)]
    if output_shape is not None:
        totals = [s * (i - 1) + a + d * (k - 1) + 1 - o for i, o, k, s, d, a in zip(
            x.shape[2:], output_shape, weight.shape[2:], strides, dilations, output_padding, strict=True)]
        padding = tuple(halves(max(0, total), auto_pad) for total in totals)
        output_padding = [a + max(0, -total) for a, total in zip(output_padding, totals, strict=True)]
    return F.conv_transpose2d(x, weight, None, strides, padding, output_padding, group, dilations, algorithm)


@pytest.mark.parametrize("algorithm", kernels.algorithms("conv2d", dtype="float64"))
@pytest.mark.parametrize("case", CASES)
def test_node(test_data, case, algorithm):
    operation, attributes, (x, weight), expected = load(test_data / "onnx_node" / f"test_{case}")
    result = {"Conv": convolve, "ConvTranspose": transpose}[operation](x, weight, algorithm, **attributes)
    np.testing.assert_allclose(result.data, expected, rtol=1e-6, atol=1e-6)
