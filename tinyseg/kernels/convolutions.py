"""The kernels of convolution, in the order in which "auto" considers them.

The rule: one channel at a time where groups or a diagonal weight allow it; else the matrix unit, as exact as the chosen
precision wants, where there is one and enough to fill its tiles; else Winograd's 3x3 where tiles are many;
else the implicit matrix product.  Winograd comes first where it was measured to be ahead.  Whatever is not float32 is
computed by im2col.
"""

from functools import partial
from math import prod

from tinyseg.arithmetic import ConvGeometry
from tinyseg.arrays import Array, device_of
from tinyseg.kernels import registry
from tinyseg.kernels.blocked import BLOCK, Blocked
from tinyseg.kernels.registry import register
from tinyseg.precision import permits

__all__: list[str] = []

Shape = tuple[int, ...]
OPERATIONS = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")


def _channels(operation: str, geometry: ConvGeometry, first: Shape, second: Shape) -> tuple[int, int]:
    """Of one group: in and out."""
    channels = second[1] if operation == "conv2d_input_grad" else (
        (first if operation == "conv2d" else second)[1] // geometry.groups)
    return channels, (second[0] if operation == "conv2d" else first[1]) // geometry.groups


def _depthwise(operation: str, geometry: ConvGeometry, first: Shape, second: Shape) -> bool:
    """One channel in each group, and few results of it."""
    channels, outputs = _channels(operation, geometry, first, second)
    return channels == 1 and outputs <= 4


def _perhaps_diagonal(operation: str, geometry: ConvGeometry, first: Shape, weight: Shape) -> bool:
    """As many channels out as in, few, and a kernel as large as bilinear up-sampling by the stride needs."""
    return weight[0] == weight[1] <= 64 and all(1 < 2 * s - s % 2 <= k for s, k in zip(
        geometry.stride, geometry.kernel_size, strict=True))


def _fills_tiles(operation: str, geometry: ConvGeometry, first: Shape, second: Shape) -> bool:
    """Work enough for the matrix unit, most of it not on what pads its tiles of 16 or 32 channels.

    Few channels fill those of a convolution with a patch of them, of an input gradient with the phases of a stride, of
    a weight gradient with tap columns.
    """
    channels, outputs = _channels(operation, geometry, first, second)
    filled = {"conv2d": channels >= 16 or channels * prod(geometry.kernel_size) >= 96,
              "conv2d_input_grad": channels * prod(geometry.stride) >= 12,
              "conv2d_weight_grad": channels * geometry.kernel_size[1] >= 12}
    products = first[0] * geometry.groups * channels * outputs * prod(geometry.kernel_size) * prod(geometry.output_size)
    return outputs >= 16 and filled[operation] and products >= 1 << 24


def _many_tiles(m: int, operation: str, geometry: ConvGeometry, first: Shape, second: Shape) -> bool:
    """Enough to fill vectors with tiles of m x m outputs, and products enough to pay for their transforms."""
    channels, outputs = _channels(operation, geometry, first, second)
    if operation == "conv2d_weight_grad" and channels < 8:               # its vectors are channels
        return False
    height, width = geometry.output_size
    return first[0] * -(-height // m) * -(-width // m) >= 16 and channels * outputs >= (64 if m == 4 else 256)


def _three_products_pay(operation: str, geometry: ConvGeometry, first: Shape, second: Shape) -> bool:
    """Where Winograd's fewer products, in float32, are not ahead: it is on large images with few channels."""
    channels, outputs = _channels(operation, geometry, first, second)
    few = operation != "conv2d_weight_grad" and channels * outputs <= 64 * 64 and _no_winograd(geometry) is None
    return _fills_tiles(operation, geometry, first, second) and not (
        few and _many_tiles(4, operation, geometry, first, second))


def suits_lines(operation: str, geometry: ConvGeometry, x: Array, weight: Array) -> bool:
    """Whether the result may be lines: the matrix unit may compute it, and fills them, or already has lines."""
    if (device_of(x) != "cpu" or x.dtype != "float32" or geometry.groups != 1 or 0 in x.shape or registry.tuned
            or not permits("high") or _no_matrix_unit(geometry)):
        return False
    if isinstance(x, Blocked):
        return x.split == (not permits("medium"))
    outputs = weight.shape[0 if operation == "conv2d" else 1]
    return outputs % BLOCK == 0 and not (geometry.stride != (1, 1) and _perhaps_diagonal(
        operation, geometry, x.shape, weight.shape))


def _no_matrix_unit(geometry: ConvGeometry) -> str | None:
    from tinyseg.kernels.cpu import amx

    return None if amx.available() else "this machine has no matrix unit for bf16 (Intel AMX), or keeps it from us"


def _no_winograd(geometry: ConvGeometry) -> str | None:
    if geometry.kernel_size == (3, 3) and geometry.stride == geometry.dilation == (1, 1) and geometry.groups == 1:
        return None
    return "Winograd's F(m x m, 3x3) needs kernel 3x3, stride 1, dilation 1 and one group"


def _add(name: str, module: str, operations: tuple[str, ...] = OPERATIONS, **properties) -> None:
    """Float32 kernels, which apply bias and ReLU themselves where there is something to apply them to."""
    suits = properties.pop("suits", None)
    for operation in operations:
        chosen = {} if suits is None else {"suits": partial(suits, operation)}
        register(operation, name, f"tinyseg.kernels.cpu.{module}", dtypes=("float32",),
                 epilogue=operation != "conv2d_weight_grad", **chosen, **properties)


_add("depthwise", "depthwise", suits=_depthwise)
_add("diagonal", "diagonal", OPERATIONS[:2], suits=_perhaps_diagonal)
_add("amx_bf16", "matrix_unit_bf16", precision="medium", refuses=_no_matrix_unit, suits=_fills_tiles)
_add("amx_bf16x3", "matrix_unit_bf16x3", precision="high", refuses=_no_matrix_unit, suits=_three_products_pay)
_add("winograd4", "winograd4", precision="high", refuses=_no_winograd, suits=partial(_many_tiles, 4), transforms=True)
_add("winograd2", "winograd2", refuses=_no_winograd, suits=partial(_many_tiles, 2), transforms=True)
_add("implicit_gemm", "implicit_gemm")

for _operation in OPERATIONS:
    register(_operation, "im2col", "tinyseg.kernels.cpu.im2col")
    for _algorithm in ("direct", "matrix", "loops"):
        register(_operation, _algorithm, f"tinyseg.kernels.cpu.{_algorithm}", definition=True)
    register(_operation, "direct", "tinyseg.kernels.cuda.direct", device="cuda", dtypes=("float32", "float64"))

register("conv2d_weight_grad", "lines", "tinyseg.kernels.cpu.matrix_unit_blocked", device="lines")
