"""Arrays in, arrays out, no gradients.  Every operation has named algorithms; see `registry`.

The three kernels of a convolution are one bilinear form <y, C(w) x> read in three ways: `conv2d` gives y from x and w,
`conv2d_input_grad` gives x from y and w (and is transposed convolution), `conv2d_weight_grad` gives w from y and x.
"""

from tinyseg.arithmetic import ConvGeometry
from tinyseg.arrays import Array
from tinyseg.kernels import operations  # noqa: F401  registers the kernels of everything but convolution
from tinyseg.kernels.registry import Kernel, algorithms, find, register, run

__all__ = ["Kernel", "algorithms", "conv2d", "conv2d_input_grad", "conv2d_weight_grad", "find", "register", "run"]

for _operation in ("conv2d", "conv2d_input_grad", "conv2d_weight_grad"):
    for _algorithm in ("im2col", "matrix", "loops"):
        register(_operation, _algorithm, f"tinyseg.kernels.cpu.{_algorithm}")


def conv2d(x: Array, weight: Array, geometry: ConvGeometry, algorithm: str = "auto") -> Array:
    """y = C x.  x (N, C, H, W), weight (O, C/G, K_h, K_w) -> (N, O, H', W')."""
    return run("conv2d", x, weight, geometry, algorithm=algorithm)


def conv2d_input_grad(grad: Array, weight: Array, geometry: ConvGeometry, algorithm: str = "auto") -> Array:
    """x = Cᵀ y, transposed convolution.  grad (N, O, H', W'), weight (O, C/G, K_h, K_w) -> (N, C, H, W)."""
    return run("conv2d_input_grad", grad, weight, geometry, algorithm=algorithm)


def conv2d_weight_grad(grad: Array, x: Array, geometry: ConvGeometry, algorithm: str = "auto") -> Array:
    """d<C x, y>/dw.  grad (N, O, H', W'), x (N, C, H, W) -> (O, C/G, K_h, K_w)."""
    return run("conv2d_weight_grad", grad, x, geometry, algorithm=algorithm)
