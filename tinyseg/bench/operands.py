"""The arrays of a layer, and the answer that every candidate is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tinyseg.bench.layers import Layer
from tinyseg.kernels.registry import run

__all__ = ["Operands", "error_of", "reference"]

LOOPS = 2e7              # flops up to which the definition itself is the reference; about 20 ms
PROBES = 64              # elements of a larger reference that are recomputed one by one
AGREES = 1e-10           # between two ways to compute in float64
_BLOCK = 1 << 15         # elements compared at a time: in float64 they stay in a second-level cache


@dataclass(frozen=True, eq=False)
class Operands:
    """Normal random float32 numbers: input x, weight, and the cotangent `grad` of the output."""

    layer: Layer
    seed: int = 0

    @cached_property
    def x(self) -> np.ndarray:
        return self._draw(0, self.layer.input_shape)

    @cached_property
    def weight(self) -> np.ndarray:
        return self._draw(1, self.layer.weight_shape)

    @cached_property
    def grad(self) -> np.ndarray:
        return self._draw(2, self.layer.output_shape)

    @cached_property
    def indices(self) -> np.ndarray:
        """Where pooling found its maxima, int32 (N, C, H', W')."""
        return run("max_pool2d", self.x, self.layer.geometry)[1]

    def of(self, direction: str) -> tuple[np.ndarray, ...]:
        """Those that a direction reads, in the order of its signature."""
        if self.layer.pools:
            if direction == "forward":
                return (self.x,)
            return (self.grad, self.indices) if self.layer.operation == "max_pool2d" else (self.grad,)
        return {"forward": (self.x, self.weight), "input_grad": (self.grad, self.weight),
                "weight_grad": (self.grad, self.x)}[direction]

    def _draw(self, which: int, shape: tuple[int, ...]) -> np.ndarray:
        return np.random.default_rng([self.seed, which]).standard_normal(shape, np.float32)


def reference(operands: Operands, direction: str) -> np.ndarray:
    """The result in float64: by the definition for a small layer, else by a matrix product, spot-checked.

    Raises AssertionError if the two ways disagree: nothing could be judged then.
    """
    layer, geometry = operands.layer, operands.layer.geometry
    if layer.operation == "max_pool2d":
        return _pooled(operands, direction)
    if layer.operation == "avg_pool2d":
        name = "avg_pool2d" if direction == "forward" else "avg_pool2d_grad"
        return run(name, operands.of(direction)[0].astype(np.float64), geometry, algorithm="loops")
    operation, first, second = kernel_call(layer, direction, *operands.of(direction))
    first, second = first.astype(np.float64), second.astype(np.float64)
    small = layer.flops <= LOOPS
    y = run(operation, first, second, geometry, algorithm="loops" if small else "im2col")
    if not small:
        _probe(y, operation, first, second, geometry)
    return y


def kernel_call(layer: Layer, direction: str, first: np.ndarray, second: np.ndarray) -> tuple:
    """(operation, two arrays) of the kernel that computes a direction: transposed convolution exchanges two of them."""
    if layer.operation == "conv2d":
        return {"forward": "conv2d", "input_grad": "conv2d_input_grad",
                "weight_grad": "conv2d_weight_grad"}[direction], first, second
    if direction == "weight_grad":
        return "conv2d_weight_grad", second, first
    return {"forward": "conv2d_input_grad", "input_grad": "conv2d"}[direction], first, second


def error_of(y: np.ndarray, y64: np.ndarray) -> float:
    """max |y - y64| / max |y64|; infinite where y is not finite."""
    flat, flat64 = y.reshape(-1), y64.reshape(-1)
    largest = error = 0.0
    for start in range(0, len(flat), _BLOCK):
        part = flat64[start:start + _BLOCK]
        largest = max(largest, np.abs(part).max())
        error = np.maximum(error, np.abs(flat[start:start + _BLOCK] - part).max())       # nan stays nan
    return float(error / (largest or 1.0)) if np.isfinite(error) else float("inf")


def _pooled(operands: Operands, direction: str) -> np.ndarray:
    """Window by window over the taps, in NumPy."""
    x, g = operands.x.astype(np.float64), operands.layer.geometry
    if direction == "input_grad":
        dx = np.zeros(x.shape)
        n, c = np.ogrid[:x.shape[0], :x.shape[1]]
        at = operands.indices.reshape(*x.shape[:2], -1)
        np.add.at(dx.reshape(*x.shape[:2], -1), (n[..., None], c[..., None], at),
                  operands.grad.reshape(at.shape).astype(np.float64))
        return dx
    padded = np.pad(x, ((0, 0), (0, 0), *g.padding), constant_values=-np.inf)
    (P, Q), (s, t) = g.output_size, g.stride
    taps = (padded[:, :, u * g.dilation[0]:, v * g.dilation[1]:][:, :, :(P - 1) * s + 1:s, :(Q - 1) * t + 1:t]
            for u in range(g.kernel_size[0]) for v in range(g.kernel_size[1]))
    y = next(taps).copy()
    for tap in taps:
        np.maximum(y, tap, out=y)
    return y


def _probe(y: np.ndarray, operation: str, first: np.ndarray, second: np.ndarray, geometry) -> None:
    """Recompute some elements by the definition, with code that shares nothing with any kernel."""
    rng = np.random.default_rng(0)
    scale = np.abs(y).max()
    for _ in range(PROBES):
        at = tuple(int(rng.integers(n)) for n in y.shape)
        expected = _ELEMENT[operation](at, first, second, geometry)
        if abs(expected - y[at]) > AGREES * scale:
            raise AssertionError(f"reference of {operation} at {at}: {y[at]!r}, by the definition {expected!r}")


def _forward(at, x, weight, g):
    n, o, p, q = at
    C = weight.shape[1]
    first = o // (len(weight) // g.groups) * C
    total = 0.0
    for u, h in enumerate(p * g.stride[0] - g.padding[0][0] + np.arange(g.kernel_size[0]) * g.dilation[0]):
        for v, w in enumerate(q * g.stride[1] - g.padding[1][0] + np.arange(g.kernel_size[1]) * g.dilation[1]):
            if 0 <= h < x.shape[2] and 0 <= w < x.shape[3]:
                total += x[n, first:first + C, h, w] @ weight[o, :, u, v]
    return total


def _input_grad(at, grad, weight, g):
    n, channel, h, w = at
    C, O = weight.shape[1], len(weight) // g.groups
    group, c = divmod(channel, C)
    outputs = slice(group * O, (group + 1) * O)
    total = 0.0
    for u in range(g.kernel_size[0]):
        for v in range(g.kernel_size[1]):
            p, p_rest = divmod(h + g.padding[0][0] - u * g.dilation[0], g.stride[0])
            q, q_rest = divmod(w + g.padding[1][0] - v * g.dilation[1], g.stride[1])
            if not p_rest and not q_rest and 0 <= p < grad.shape[2] and 0 <= q < grad.shape[3]:
                total += grad[n, outputs, p, q] @ weight[outputs, c, u, v]
    return total


def _weight_grad(at, grad, x, g):
    o, c, u, v = at
    groups = g.groups
    channel = o // (grad.shape[1] // groups) * (x.shape[1] // groups) + c
    h = np.arange(grad.shape[2]) * g.stride[0] - g.padding[0][0] + u * g.dilation[0]
    w = np.arange(grad.shape[3]) * g.stride[1] - g.padding[1][0] + v * g.dilation[1]
    p, q = np.flatnonzero((h >= 0) & (h < x.shape[2])), np.flatnonzero((w >= 0) & (w < x.shape[3]))
    return float((grad[:, o][:, p][:, :, q] * x[:, channel][:, h[p]][:, :, w[q]]).sum())


_ELEMENT = {"conv2d": _forward, "conv2d_input_grad": _input_grad, "conv2d_weight_grad": _weight_grad}
