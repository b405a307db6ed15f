"""Convolution and transposed convolution: a pair, told in the same three kernels."""

from collections.abc import Sequence
from typing import Any

from tinyseg import kernels
from tinyseg.arithmetic import ConvGeometry
from tinyseg.arrays import Array, Layout, device_of
from tinyseg.autograd import Function, Tensor, as_tensor
from tinyseg.errors import ArgumentError, DTypeError, ShapeError, about
from tinyseg.functional.checks import floating, images
from tinyseg.kernels.registry import as_it_lies, run

__all__ = ["conv2d", "conv_transpose2d"]

Size = int | Sequence[int]


class _Convolution(Function):
    takes_layouts = True

    def __init__(self, geometry: ConvGeometry, algorithm: str = "auto", relu: bool = False):
        self.geometry, self.algorithm, self.relu = geometry, algorithm, relu

    def same(self, operation: str, array: Array) -> str:
        """The forward pass's algorithm for a gradient too, or "auto" where the gradient has none of that name."""
        return self.algorithm if self.algorithm in kernels.algorithms(operation, device_of(array)) else "auto"

    def keep(self, x: Array, weight: Array, y: Array) -> Array:
        """What backward needs: the result too where it was cut off, since its zeros pass no gradient."""
        self.save(x, weight, *((y,) if self.relu else ()))
        return y

    def before_relu(self, grad: Array) -> tuple[Array, ...]:
        """x, weight, and the gradient of the result before it was cut off, in one piece for all who need it."""
        x, weight, *y = self.saved
        if self.relu:
            grad = run("relu_grad", grad, y[0])
        return x, weight, as_it_lies(grad)

    def bias_grad(self, grad: Array) -> tuple[Array | None, ...]:
        """Of a bias, if there was one."""
        return tuple(run("channel_sums", grad) if needed else None for needed in self.needs_grad[2:])


class Conv2d(_Convolution):
    """y = C x + b.    dx = Cᵀ dy,    dw = dy · im2col(x)ᵀ,    db = Σ dy."""

    def forward(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        y = kernels.conv2d(x, weight, self.geometry, self.algorithm, bias, self.relu, blocked=True)
        return self.keep(x, weight, y)

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        x, weight, grad = self.before_relu(grad)
        return (kernels.conv2d_input_grad(grad, weight, self.geometry, self.same("conv2d_input_grad", x),
                                          blocked=_lies(x, grad)) if self.needs_grad[0] else None,
                kernels.conv2d_weight_grad(grad, x, self.geometry, self.same("conv2d_weight_grad", x))
                if self.needs_grad[1] else None, *self.bias_grad(grad))


class ConvTranspose2d(_Convolution):
    """y = Cᵀ x + b: convolution with forward and backward exchanged.    dx = C dy,    dw = x · im2col(dy)ᵀ."""

    def forward(self, x: Array, weight: Array, bias: Array | None = None) -> Array:
        y = kernels.conv2d_input_grad(x, weight, self.geometry, self.algorithm, bias, self.relu, blocked=True)
        return self.keep(x, weight, y)

    def backward(self, grad: Array) -> tuple[Array | None, ...]:
        x, weight, grad = self.before_relu(grad)
        return (kernels.conv2d(grad, weight, self.geometry, self.same("conv2d", x), blocked=_lies(x, grad))
                if self.needs_grad[0] else None,
                kernels.conv2d_weight_grad(x, grad, self.geometry, self.same("conv2d_weight_grad", x))
                if self.needs_grad[1] else None, *self.bias_grad(grad))


def _lies(*arrays: Array) -> bool:
    """Is one of another layout?  Then a gradient may be too."""
    return any(isinstance(array, Layout) for array in arrays)


def conv2d(x: Any, weight: Any, bias: Any = None, stride: Size = 1, padding: str | Size = 0, dilation: Size = 1,
           groups: int = 1, algorithm: str = "auto", relu: bool = False) -> Tensor:
    """Slide `weight` over `x`: cross-correlation, as deep learning calls convolution.

    x           (N, C, H, W), float32 or float64
    weight      (O, C/G, K_h, K_w), of the same type
    bias        (O,) or None
    stride      step between windows, a number or (height, width)
    padding     zeros on every side; a number, (height, width), ((top, bottom), (left, right)), "valid" (none) or
                "same" (stride 1; an even span pads one more at the far end)
    dilation    step between the taps of a window
    groups      split the channels into G independent convolutions; C groups make it depthwise
    algorithm   "auto" or one of `tinyseg.kernels.algorithms("conv2d")`: "loops" is the definition, "matrix" the sparse
                kernel matrix, "im2col" a matrix product over unfolded windows
    relu        cut the result off below 0, as `relu` would, but while it is being written
    Returns (N, O, H', W') with H' = floor((H + 2p - d(K_h-1) - 1) / s) + 1.  Raises ShapeError, ArgumentError,
    DTypeError.
    """
    x, weight, bias = _operands("conv2d", x, weight, bias)
    channels, outputs = x.shape[1], weight.shape[0]
    if not hasattr(groups, "__index__") or groups < 1 or channels % groups or outputs % groups:
        raise ArgumentError(f"conv2d: groups {groups!r} with {channels} channels in and {outputs} out; "
                            "needs a whole number >= 1 that divides both")
    if weight.shape[1] * groups != channels:
        raise ShapeError(f"conv2d: input of {channels} channels, weight {weight.shape} with groups {groups}; needs "
                         f"C = weight.shape[1]·groups = {weight.shape[1] * groups}")
    with about("conv2d"):
        geometry = ConvGeometry.convolution(x.shape[2:], weight.shape[2:], stride, padding, dilation, groups)
        _check_bias(bias, outputs, x)
        return Conv2d(geometry, algorithm, relu)(x, weight, *(() if bias is None else (bias,)))


def conv_transpose2d(x: Any, weight: Any, bias: Any = None, stride: Size = 1, padding: Size = 0,
                     output_padding: Size = 0, groups: int = 1, dilation: Size = 1,
                     algorithm: str = "auto", relu: bool = False) -> Tensor:
    """The transpose of `conv2d` with the same arguments: it restores the shape, not the values.

    x               (N, C, H, W), float32 or float64
    weight          (C, O/G, K_h, K_w), of the same type: the weight of the convolution that it transposes
    bias            (O,) or None
    stride          step between the windows it writes: the factor of up-sampling
    padding         cells taken away on every side (the convolution's padding)
    output_padding  *chooses among the input sizes that give the same output* of the convolution, 0 .. max(s, d) - 1;
                    it adds rows and columns at the far end, and not zeros around the input
    groups, dilation, algorithm, relu    as for `conv2d`; "matrix" multiplies by the kernel matrix transposed
    Returns (N, O, H', W') with H' = (H-1)s - 2p + d(K_h-1) + 1 + output_padding.  Raises as `conv2d`.
    """
    x, weight, bias = _operands("conv_transpose2d", x, weight, bias)
    channels = x.shape[1]
    if weight.shape[0] != channels:
        raise ShapeError(f"conv_transpose2d: input of {channels} channels, weight {weight.shape}; "
                         f"needs C = weight.shape[0] = {weight.shape[0]}")
    if not hasattr(groups, "__index__") or groups < 1 or channels % groups:
        raise ArgumentError(f"conv_transpose2d: groups {groups!r} with {channels} channels in; "
                            "needs a whole number >= 1 that divides them")
    with about("conv_transpose2d", inside="conv2d_input_grad"):
        geometry = ConvGeometry.transposed(x.shape[2:], weight.shape[2:], stride, padding, output_padding, dilation,
                                           groups)
        _check_bias(bias, weight.shape[1] * groups, x)
        return ConvTranspose2d(geometry, algorithm, relu)(x, weight, *(() if bias is None else (bias,)))


def _operands(operation: str, x: Any, weight: Any, bias: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    x, weight = images(operation, x), floating(operation, weight, "weight")
    if weight.ndim != 4:
        raise ShapeError(f"{operation}: weight of shape {weight.shape}; needs four axes")
    if x.dtype != weight.dtype:
        raise DTypeError(f"{operation}: input is {x.dtype}, weight {weight.dtype}; needs one type for both")
    return x, weight, None if bias is None else as_tensor(bias)


def _check_bias(bias: Tensor | None, outputs: int, x: Tensor) -> None:
    if bias is None:
        return
    if bias.shape != (outputs,):
        raise ShapeError(f"bias of shape {bias.shape}; needs ({outputs},)")
    if bias.dtype != x.dtype:
        raise DTypeError(f"input is {x.dtype}, bias {bias.dtype}; needs one type for all")
