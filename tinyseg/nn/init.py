"""How weights start.  Every function fills a tensor in place, from the generator that `manual_seed` sets.

he      N(0, sqrt(2 / fan)): keeps the variance through layers with ReLU (He et al., arXiv:1502.01852)
xavier  variance 2 / (fan_in + fan_out): for layers without (Glorot & Bengio, 2010)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinyseg.autograd import Tensor, no_grad
from tinyseg.errors import ArgumentError, ShapeError
from tinyseg.functional import random

__all__ = ["bilinear_", "bilinear_kernel", "constant_", "fans", "he_normal_", "he_uniform_", "kaiming_normal_",
           "kaiming_uniform_", "normal_", "skipped", "uniform_", "xavier_normal_", "xavier_uniform_", "zeros_"]

_skips = 0                                           # how many `skipped` blocks are open


@contextmanager
def skipped() -> Iterator[None]:
    """Leave the tensors of this block as they are: for a net whose weights are about to be loaded, or do not matter."""
    global _skips
    _skips += 1
    try:
        yield
    finally:
        _skips -= 1


def fans(weight: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (O, C, ...): C and O times the kernel's cells.

    As in PyTorch the axes are taken as they lie, so for a transposed convolution, whose weight is (C, O, ...), the two
    are exchanged, and its stride is not considered.
    """
    if weight.ndim < 2:
        raise ShapeError(f"init: a weight of shape {weight.shape} has no fan; needs at least two axes (O, C, ...)")
    cells = math.prod(weight.shape[2:])
    return weight.shape[1] * cells, weight.shape[0] * cells


def constant_(tensor: Tensor, value: float) -> Tensor:
    return _fill(tensor, lambda: value)


def zeros_(tensor: Tensor) -> Tensor:
    return _fill(tensor, lambda: 0)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    return _fill(tensor, lambda: random.generator.normal(mean, std, tensor.shape))


def uniform_(tensor: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    return _fill(tensor, lambda: random.generator.uniform(low, high, tensor.shape))


def kaiming_normal_(weight: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "relu") -> Tensor:
    """N(0, gain / sqrt(fan)).

    a               slope of the leaky ReLU that follows; 0 for ReLU
    mode            "fan_in" keeps the variance forward, "fan_out" backward
    nonlinearity    "relu", "leaky_relu" or "linear"
    """
    return normal_(weight, 0.0, _he_deviation(weight, a, mode, nonlinearity))


def kaiming_uniform_(weight: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Uniform with the variance of `kaiming_normal_`, whose arguments it takes."""
    bound = math.sqrt(3) * _he_deviation(weight, a, mode, nonlinearity)
    return uniform_(weight, -bound, bound)


he_normal_, he_uniform_ = kaiming_normal_, kaiming_uniform_


def xavier_normal_(weight: Tensor, gain: float = 1.0) -> Tensor:
    """N(0, gain · sqrt(2 / (fan_in + fan_out)))."""
    return normal_(weight, 0.0, gain * math.sqrt(2 / sum(fans(weight))))


def xavier_uniform_(weight: Tensor, gain: float = 1.0) -> Tensor:
    """Uniform with the variance of `xavier_normal_`."""
    bound = gain * math.sqrt(6 / sum(fans(weight)))
    return uniform_(weight, -bound, bound)


def bilinear_kernel(size: int) -> np.ndarray:
    """Weights of linear interpolation along one axis: 1 - |x - c| / f with f = (k+1) // 2 (FCN's `upsample_filt`)."""
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 else factor - 0.5
    return 1 - np.abs(np.arange(size) - centre) / factor


def bilinear_(weight: Tensor) -> Tensor:
    """Make a transposed convolution interpolate: channel i goes to channel i alone, by a tent.

    weight    (C, C, K_h, K_w), or (C, 1, K_h, K_w) with C groups; for stride s take kernel 2s - s mod 2 and padding
              ceil((s-1) / 2).  The axes may differ.
    The rule is that of FCN (Long et al., arXiv:1411.4038).  Away from the border it equals bilinear resizing by s with
    align_corners=False; at the border it fades to the zeros outside.
    """
    if weight.ndim != 4 or weight.shape[1] not in (1, weight.shape[0]):
        raise ShapeError(f"bilinear_: weight {weight.shape}; needs as many channels out as in: (C, C, K_h, K_w), "
                         "or (C, 1, K_h, K_w) with C groups")
    tent = np.multiply.outer(bilinear_kernel(weight.shape[2]), bilinear_kernel(weight.shape[3]))
    values = np.zeros(weight.shape)
    channels = np.arange(weight.shape[0])
    values[channels, channels % weight.shape[1]] = tent
    return _fill(weight, lambda: values)


def _he_deviation(weight: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(f'init: mode {mode!r}; needs "fan_in" or "fan_out"')
    gains = {"linear": 1.0, "relu": math.sqrt(2), "leaky_relu": math.sqrt(2 / (1 + a * a))}
    if nonlinearity not in gains:
        raise ArgumentError(f"init: nonlinearity {nonlinearity!r}; legal: {', '.join(gains)}")
    return gains[nonlinearity] / math.sqrt(fans(weight)[mode == "fan_out"])


def _fill(tensor: Tensor, values: Callable[[], Any]) -> Tensor:
    if not _skips:
        with no_grad(), tensor.writing() as array:
            array[...] = values()
    return tensor
