"""tinyseg: semantic segmentation from the convolution's kernel matrix to a trained net, in NumPy and Numba.

    import tinyseg as ts
    import tinyseg.functional as F

    x = ts.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    (x * x).sum().backward()
    x.grad                                           # 2x
"""

from importlib import import_module as _import_module
from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version

from tinyseg.autograd import (
    Function,
    Tensor,
    as_tensor,
    cat,
    clip,
    concatenate,
    enable_grad,
    exp,
    gradcheck,
    gradcheck_directional,
    is_grad_enabled,
    log,
    matmul,
    no_grad,
    sqrt,
    stack,
    tensor,
    where,
)
from tinyseg.precision import get_float32_matmul_precision, set_float32_matmul_precision

try:
    __version__ = _version("tinyseg")
except _PackageNotFoundError:                        # a checkout that was never installed
    __version__ = "0+unknown"

_ROOMS = ("arithmetic", "autograd", "checkpoint", "crf", "data", "draw", "functional", "inference", "interop",
          "kernels", "metrics", "models", "nn", "optim", "training")

__all__ = ["Function", "Tensor", "as_tensor", "cat", "clip", "concatenate", "enable_grad", "exp", "gradcheck",
           "gradcheck_directional", "get_float32_matmul_precision", "is_grad_enabled", "log", "manual_seed", "matmul",
           "no_grad", "set_float32_matmul_precision", "sqrt", "stack", "tensor", "where", *_ROOMS]


def manual_seed(seed: int) -> None:
    """Start the generator of initialisers and dropout anew."""
    _import_module("tinyseg.functional.random").manual_seed(seed)


def __getattr__(name: str):
    # Rooms open when they are entered: importing all of them would take longer than most commands.
    if name in _ROOMS:
        return _import_module(f"tinyseg.{name}")
    raise AttributeError(f"module 'tinyseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
