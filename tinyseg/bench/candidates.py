"""Who competes: tinyseg's algorithms, PyTorch in its several dresses, and somebody's own kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np

from tinyseg import precision
from tinyseg.arithmetic import ConvGeometry
from tinyseg.bench.layers import Layer
from tinyseg.bench.operands import Operands, kernel_call
from tinyseg.bench.user import UserKernel
from tinyseg.errors import ArgumentError
from tinyseg.kernels import algorithms, find, registry
from tinyseg.kernels.blocked import BLOCK

__all__ = ["TORCH", "Algorithm", "Candidate", "Mine", "Torch", "contenders"]

FLOP_LIMITS = {"loops": 2e7, "matrix": 2e7}          # the definition and C itself are for reading, not for speed
# They hand on, or crawl, where the weights are not what they are for; a layer's weights here are dense.
NARROW = {"depthwise": lambda layer: layer.groups == layer.in_channels, "diagonal": lambda layer: False}
FLOAT32, BFLOAT16 = 1e-4, 2e-2                       # largest error that still counts as the same result
AUTO = tuple(f"auto@{level}" for level in precision.LEVELS)
LINES = ("lines@high", "lines@medium")               # what a net computes between its layers
_OPERATIONS = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad", "max_pool2d", "max_pool2d_grad",
               "avg_pool2d", "avg_pool2d_grad")
TORCH = {"torch": "PyTorch, float32", "torch-channels-last": "PyTorch, float32, channels last",
         "torch-bf16": "PyTorch, bfloat16, channels last"}


class Candidate(Protocol):
    """What the harness needs to know of a competitor.

    refuses    why it is not measured on a layer and direction, or None
    prepare    the call to measure and a way to see its result as an array; what happens here is not timed
    """

    name: str
    tolerance: float

    def refuses(self, layer: Layer, direction: str) -> str | None: ...
    def prepare(self, operands: Operands, direction: str) -> tuple[Callable[[], Any], Callable[[Any], np.ndarray]]: ...


@dataclass(frozen=True)
class Algorithm:
    """A registered kernel, called as a network calls it; "auto@medium" is the choice at that precision."""

    name: str

    @property
    def algorithm(self) -> str:
        return self.name.partition("@")[0]

    @property
    def level(self) -> str:
        return self.name.partition("@")[2] or precision.get_float32_matmul_precision()

    @property
    def tolerance(self) -> float:
        return max(FLOAT32, precision.ERRORS[registry.stated_precision(self.algorithm) or self.level])

    def refuses(self, layer: Layer, direction: str) -> str | None:
        operation = _operation(layer, direction)
        if self.algorithm == "auto":
            return None
        if self.algorithm not in algorithms(operation):
            return f"there is none for {operation}"
        if not NARROW.get(self.algorithm, lambda layer: True)(layer):
            return f"it is for {self.algorithm} weights"
        if layer.flops > FLOP_LIMITS.get(self.name, np.inf):
            return f"only up to {FLOP_LIMITS[self.name]:.0e} flops"
        return find(operation, self.algorithm).cannot(layer.geometry, "float32")

    def prepare(self, operands, direction):
        layer, geometry = operands.layer, operands.layer.geometry
        operation = _operation(layer, direction)

        def call(*arrays):
            def run():
                with precision.float32_matmul_precision(self.level):
                    return registry.run(operation, *arrays, geometry, algorithm=self.algorithm)
            return run
        if layer.pools:
            return call(*operands.of(direction)), (lambda y: y[0]) if operation == "max_pool2d" else np.asarray
        _, first, second = kernel_call(layer, direction, *operands.of(direction))
        return call(first, second), np.asarray


@dataclass(frozen=True)
class Lines(Algorithm):
    """The matrix unit on `Blocked` activations and gradients: they lie ready, the weight is packed every time."""

    @property
    def tolerance(self) -> float:
        return max(FLOAT32, 2 * precision.ERRORS[self.level])            # the operand and the result are rounded too

    def refuses(self, layer: Layer, direction: str) -> str | None:
        from tinyseg.kernels.cpu import amx
        if layer.pools:
            return "it is for convolutions"
        if not amx.available():
            return "this machine has no matrix unit"
        channels = (layer.in_channels, layer.out_channels) if layer.groups == 1 else (1,)
        return f"needs multiples of {BLOCK} channels, in one group" if any(c % BLOCK for c in channels) else None

    def prepare(self, operands, direction):
        from tinyseg.kernels.cpu.matrix_unit_blocked import convolve
        from tinyseg.kernels.cpu.matrix_unit_weight import conv2d_weight_grad
        operation, first, second = kernel_call(operands.layer, direction, *operands.of(direction))
        geometry, split = operands.layer.geometry, self.level == "high"

        def lines(array):
            identity = np.eye(array.shape[1], dtype=np.float32)[:, :, None, None]
            return convolve("conv2d", array, identity, ConvGeometry(array.shape[2:], (1, 1)), split=split)
        first = lines(first)
        if operation == "conv2d_weight_grad":
            second = lines(second)
            return lambda: conv2d_weight_grad(first, second, geometry, split), np.asarray
        return lambda: convolve(operation, first, second, geometry, split=split), np.asarray


@dataclass(frozen=True)
class Mine:
    """Somebody's function."""

    kernel: UserKernel
    tolerance: float = FLOAT32

    @property
    def name(self) -> str:
        return self.kernel.name

    def refuses(self, layer: Layer, direction: str) -> str | None:
        return self.kernel.refuses(layer, direction)

    def prepare(self, operands, direction):
        call = self.kernel.bound(operands.layer, operands.of(direction))
        return call, (lambda y: y[0] if isinstance(y, tuple) else y)


@dataclass(frozen=True)
class Torch:
    """PyTorch's kernels without its autograd; operands are in its type and layout before the clock starts.

    But for the weight, which changes in every step: as under `torch.autocast` the forward pass rounds it to bfloat16,
    and its gradient becomes float32 again.
    """

    name: str = "torch"

    @property
    def tolerance(self) -> float:
        return BFLOAT16 if self.name == "torch-bf16" else FLOAT32

    def refuses(self, layer: Layer, direction: str) -> str | None:
        if layer.pools and self.name == "torch-bf16":
            return "pooling computes nothing in bfloat16"
        return None

    def prepare(self, operands, direction):
        import torch
        layer = operands.layer

        dtype = torch.bfloat16 if self.name == "torch-bf16" else torch.float32

        def laid(array):
            array = torch.from_numpy(array)
            return array if self.name == "torch" else array.contiguous(memory_format=torch.channels_last)

        def tensor(array):
            return laid(array).to(dtype)

        def quietly(call):
            def run():
                with torch.inference_mode():
                    return call()
            return run
        sizes = layer.stride, layer.padding, layer.dilation
        if layer.operation == "avg_pool2d":
            x, options = tensor(operands.x), (layer.kernel_size, *sizes[:2], layer.ceil_mode, layer.count_include_pad)
            if direction == "forward":
                return quietly(lambda: torch.nn.functional.avg_pool2d(x, *options)), _array
            grad = tensor(operands.grad)
            return quietly(lambda: torch.ops.aten.avg_pool2d_backward(grad, x, *options, None)), _array
        if layer.operation == "max_pool2d":
            x, options = tensor(operands.x), (layer.kernel_size, *sizes, layer.ceil_mode)
            if direction == "forward":
                return quietly(lambda: torch.max_pool2d(x, *options)), _array
            grad, indices = tensor(operands.grad), torch.from_numpy(operands.indices.astype(np.int64))
            if self.name != "torch":
                indices = indices.contiguous(memory_format=torch.channels_last)
            backward = torch.ops.aten.max_pool2d_with_indices_backward
            return quietly(lambda: backward(grad, x, *options, indices)), _array
        transposed = layer.operation == "conv_transpose2d"
        x, kept, extra = tensor(operands.x), laid(operands.weight), layer.output_padding
        if direction == "forward":
            if transposed:
                call = torch.nn.functional.conv_transpose2d
                return quietly(lambda: call(x, kept.to(dtype), None, *sizes[:2], extra, layer.groups,
                                            sizes[2])), _array
            return quietly(lambda: torch.conv2d(x, kept.to(dtype), None, *sizes, layer.groups)), _array
        grad, weight = tensor(operands.grad), kept.to(dtype)
        wanted = [direction == "input_grad", direction == "weight_grad", False]
        backward = torch.ops.aten.convolution_backward

        def gradient():
            y = backward(grad, x, weight, None, *sizes, transposed, extra, layer.groups, wanted)[wanted.index(True)]
            return y.to(kept.dtype) if direction == "weight_grad" else y
        return quietly(gradient), _array


def contenders(against: Sequence[str] | None, kernel: UserKernel | None = None,
               chosen: Sequence[str] = ()) -> list[Candidate]:
    """The competitors: the user's kernel first, then the algorithms (all, or the `chosen`), then PyTorch.

    chosen     names of algorithms, or of AUTO or LINES
    against    names of TORCH, [] for none, None for "torch" if it is installed
    """
    known = list(dict.fromkeys(name for operation in _OPERATIONS for name in algorithms(operation)))
    for name in chosen:
        if name not in (*known, "auto", *AUTO, *LINES):
            raise ArgumentError(f"no algorithm {name!r}; legal: {', '.join((*known, 'auto', *AUTO, *LINES))}")
    if against is None:
        against = ["torch"] if has_torch() else []
    for name in against:
        if name not in TORCH:
            raise ArgumentError(f"--against {name!r}; legal: none, {', '.join(TORCH)}")
        if not has_torch():
            raise ArgumentError(f"--against {name}: PyTorch is not installed; install tinyseg[bench], "
                                "or measure with --against none")
    mine: list[Candidate] = [Mine(kernel)] if kernel is not None else []
    ours = [Lines(name) if name in LINES else Algorithm(name) for name in chosen or known]
    return mine + ours + [Torch(name) for name in against]


def has_torch() -> bool:
    """Whether PyTorch is installed; it is not imported for that."""
    try:
        return find_spec("torch") is not None
    except ValueError:                               # somebody has barred it
        return False


def _operation(layer: Layer, direction: str) -> str:
    if layer.pools:
        return layer.operation if direction == "forward" else f"{layer.operation}_grad"
    return kernel_call(layer, direction, None, None)[0]


def _array(y: Any) -> np.ndarray:
    return y.float().numpy()
