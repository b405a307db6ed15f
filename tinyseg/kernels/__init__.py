"""Arrays in, arrays out, no gradients.  Every operation has named algorithms; see `registry`.

The three kernels of a convolution are one bilinear form <y, C(w) x> read in three ways: `conv2d` gives y from x and w,
`conv2d_input_grad` gives x from y and w (and is transposed convolution), `conv2d_weight_grad` gives w from y and x.
"""

from tinyseg.arithmetic import ConvGeometry
from tinyseg.arrays import Array
from tinyseg.errors import ShapeError
from tinyseg.kernels import convolutions, operations  # noqa: F401  they register all kernels
from tinyseg.kernels.registry import Kernel, algorithms, as_it_lies, find, plain, register, run
from tinyseg.precision import get_float32_matmul_precision

__all__ = ["Kernel", "algorithms", "autotune", "conv2d", "conv2d_input_grad", "conv2d_weight_grad", "find", "register",
           "run"]


def autotune(enabled: bool = True) -> None:
    """From now on let "auto" mean the algorithm measured to be the fastest; see `tune`."""
    from tinyseg.kernels import tune

    tune.autotune(enabled)


def conv2d(x: Array, weight: Array, geometry: ConvGeometry, algorithm: str = "auto", bias: Array | None = None,
           relu: bool = False, blocked: bool = False) -> Array:
    """y = C x.  x (N, C, H, W), weight (O, C/G, K_h, K_w) -> (N, O, H', W').

    bias       (O,), added to the result
    relu       cut it off below 0: both while it is at hand, where a kernel can
    blocked    the result may be a `Blocked`, as x may in any case
    """
    _check("conv2d", geometry, x=x, weight=weight)
    return _convolve("conv2d", x, weight, geometry, algorithm, bias, relu, blocked)


def conv2d_input_grad(grad: Array, weight: Array, geometry: ConvGeometry, algorithm: str = "auto",
                      bias: Array | None = None, relu: bool = False, blocked: bool = False) -> Array:
    """x = Cᵀ y, transposed convolution.  grad (N, O, H', W'), weight (O, C/G, K_h, K_w) -> (N, C, H, W).

    bias, relu, blocked    as for `conv2d`, of C channels
    """
    _check("conv2d_input_grad", geometry, grad=grad, weight=weight)
    return _convolve("conv2d_input_grad", grad, weight, geometry, algorithm, bias, relu, blocked)


def conv2d_weight_grad(grad: Array, x: Array, geometry: ConvGeometry, algorithm: str = "auto") -> Array:
    """d<C x, y>/dw.  grad (N, O, H', W'), x (N, C, H, W) -> (O, C/G, K_h, K_w)."""
    _check("conv2d_weight_grad", geometry, grad=grad, x=x)
    return run("conv2d_weight_grad", grad, x, geometry, algorithm=algorithm)


def _convolve(operation: str, x: Array, weight: Array, geometry: ConvGeometry, algorithm: str, bias: Array | None,
              relu: bool, blocked: bool) -> Array:
    y = None
    if blocked and algorithm == "auto" and convolutions.suits_lines(operation, geometry, x, weight):
        from tinyseg.kernels.cpu.matrix_unit_blocked import convolve

        y = convolve(operation, as_it_lies(x), plain(weight), geometry, bias, relu,
                     split=get_float32_matmul_precision() == "high")
    return run(operation, x, weight, geometry, algorithm=algorithm, bias=bias, relu=relu) if y is None else y


def _check(operation: str, geometry: ConvGeometry, **arrays: Array) -> None:
    """Raise ShapeError unless two of x, weight, grad belong to one convolution: kernels would read past their ends."""
    groups = geometry.groups
    sizes = {"x": geometry.input_size, "weight": geometry.kernel_size, "grad": geometry.output_size}
    for name, array in arrays.items():
        if array.ndim != 4 or array.shape[2:] != sizes[name]:
            raise ShapeError(f"{operation}: {name} of shape {array.shape}; this geometry needs four axes that end in "
                             f"{sizes[name]}")
    x, weight, grad = (arrays[name].shape if name in arrays else None for name in sizes)
    outputs = weight[0] if weight else grad[1]
    channels = x[1] if x else weight[1] * groups
    if min(channels, outputs) < 1 or channels % groups or outputs % groups:
        raise ShapeError(f"{operation}: {channels} channels in, {outputs} out; needs multiples of groups = {groups}")
    if x and weight and x[1] != weight[1] * groups:
        raise ShapeError(f"{operation}: x of {x[1]} channels; needs weight.shape[1]·groups = {weight[1] * groups}")
    if grad and weight and grad[1] != weight[0]:
        raise ShapeError(f"{operation}: grad of {grad[1]} channels; needs weight.shape[0] = {weight[0]}")
    if grad and x and grad[0] != x[0]:
        raise ShapeError(f"{operation}: grad of {grad[0]} images; needs as many as x, {x[0]}")
