"""A dense weight that is zero between different channels, as FCN's bilinear up-sampling has it, done as depthwise.

What a channel then gets from the others is a sum of zeros, unless one of them holds inf or nan: these times zero are
nan.  So this looks at the weight and at the numbers that it meets, and leaves what is not diagonal, or not finite, to
other kernels.  The gradient in such a weight is dense: it has no kernel here.
"""

import numpy as np

from tinyseg.arithmetic import ConvGeometry
from tinyseg.jit import jit
from tinyseg.kernels.cpu import depthwise
from tinyseg.kernels.cpu.team import share_range
from tinyseg.kernels.cpu.threads import team
from tinyseg.kernels.cpu.vector import LANES, load_part, magnitude, splat, store

__all__ = ["conv2d", "conv2d_input_grad"]

_PIECE = 1 << 14                                     # numbers looked at in one turn


def conv2d(x: np.ndarray, weight: np.ndarray, geometry: ConvGeometry, bias: np.ndarray | None = None,
           relu: bool = False) -> np.ndarray:
    """x (N, C, H, W), weight (C, C, K_h, K_w) -> (N, C, H', W')."""
    return _apart("conv2d", x, weight, geometry, bias, relu)


def conv2d_input_grad(grad: np.ndarray, weight: np.ndarray, geometry: ConvGeometry, bias: np.ndarray | None = None,
                      relu: bool = False) -> np.ndarray:
    """Transposed convolution.  grad (N, C, H', W'), weight (C, C, K_h, K_w) -> (N, C, H, W)."""
    return _apart("conv2d_input_grad", grad, weight, geometry, bias, relu)


def _apart(operation, source, weight, geometry, bias, relu):
    kernels = _diagonal(weight, geometry)
    if kernels is None or not _finite(source):
        from tinyseg.kernels import registry

        return registry.run(operation, source, weight, geometry, bias=bias, relu=relu, without="diagonal")
    return getattr(depthwise, operation)(source, kernels, _depthwise(geometry, len(weight)), bias, relu)


def _depthwise(geometry: ConvGeometry, groups: int) -> ConvGeometry:
    return ConvGeometry(geometry.input_size, geometry.kernel_size, geometry.stride, geometry.padding,
                        geometry.dilation, groups, geometry.output_padding)


def _diagonal(weight: np.ndarray, geometry: ConvGeometry) -> np.ndarray | None:
    """The kernels of each channel with itself (C, 1, K_h, K_w) where all others are zero, else None."""
    channels = np.arange(len(weight))
    if geometry.groups > 1 or weight.shape[1] != len(weight) or np.count_nonzero(weight[0, 1:]):
        return None
    kernels = weight[channels, channels]
    return kernels[:, None] if np.count_nonzero(weight) == np.count_nonzero(kernels) else None


def _finite(array: np.ndarray) -> bool:
    """Is there no inf or nan?"""
    pieces = -(-array.size // _PIECE)
    largest = np.zeros((pieces, LANES), np.float32)
    _largest(team(), array.reshape(-1), largest)
    return bool(np.isfinite(largest).all())


@jit
def _largest(team, numbers, largest):
    share_range(team, len(largest), len(numbers), _largest_of_pieces, (numbers, largest))


@jit
def _largest_of_pieces(first, last, numbers, largest):
    """largest[k] becomes the magnitudes that no number of piece k exceeds; nan counts as more than inf."""
    for k in range(first, last):
        top = splat(0)
        end = min((k + 1) * _PIECE, len(numbers))
        for i in range(k * _PIECE, end, LANES):
            top = magnitude(top, load_part(numbers, i, end - i))
        store(largest, (k, 0), top)
