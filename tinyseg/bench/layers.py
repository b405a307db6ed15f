"""What is measured: one layer of a net, its work and its traffic, and the layers worth measuring."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from tinyseg.arithmetic import ConvGeometry, pair
from tinyseg.errors import ArgumentError, DataError, about

__all__ = ["DIRECTIONS", "OPERATIONS", "SETS", "SUITES", "Layer", "read_layers", "select"]

OPERATIONS = ("conv2d", "conv_transpose2d", "max_pool2d", "avg_pool2d")
DIRECTIONS = ("forward", "input_grad", "weight_grad")
FLOAT = 4                                            # bytes: everything is measured in float32
_PAIRS = {"input_size": None, "kernel_size": None, "stride": 1, "padding": 0, "dilation": 1, "output_padding": 0}


@dataclass(frozen=True)
class Layer:
    """One operation at one size, in the words of PyTorch's functions; pairs are (height, width).

    out_channels                    for pooling the same as in_channels
    ceil_mode, count_include_pad    of pooling; the second of means
    """

    name: str
    operation: str
    in_channels: int
    out_channels: int
    input_size: tuple[int, int]
    kernel_size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    output_padding: tuple[int, int] = (0, 0)
    ceil_mode: bool = False
    count_include_pad: bool = True
    batch: int = 1

    @classmethod
    def of(cls, **values: Any) -> Layer:
        """From numbers or pairs, with PyTorch's defaults.  Raises ArgumentError or ShapeError naming the layer."""
        name = str(values.get("name", "layer"))
        with about(f"layer {name!r}"):
            operation = values.get("operation", "conv2d")
            if operation not in OPERATIONS:
                raise ArgumentError(f"operation {operation!r}; legal: {', '.join(OPERATIONS)}")
            unknown = sorted(set(values) - set(cls.__dataclass_fields__))
            if unknown:
                raise ArgumentError(f"no field {unknown[0]!r}; legal: {', '.join(cls.__dataclass_fields__)}")
            pool = "pool" in operation
            needed = ("in_channels", "input_size", "kernel_size", *(() if pool else ("out_channels",)))
            missing = [field for field in needed if field not in values]
            if missing:
                raise ArgumentError(f"needs {missing[0]!r}")
            defaults = {**_PAIRS, "stride": values["kernel_size"]} if pool else _PAIRS
            pairs = {field: pair(values.get(field, default), field) for field, default in defaults.items()}
            counts = {field: _count(values.get(field, 1), field) for field in ("batch", "groups", "in_channels")}
            outputs = _count(values.get("out_channels", values["in_channels"] if pool else None), "out_channels")
            if pool and outputs != counts["in_channels"]:
                raise ArgumentError(f"out_channels {outputs}; pooling keeps its {counts['in_channels']} channels")
            if counts["in_channels"] % counts["groups"] or outputs % counts["groups"]:
                raise ArgumentError(f"groups {counts['groups']} with {counts['in_channels']} channels in and {outputs} "
                                    "out; needs a whole number that divides both")
            layer = cls(name=name, operation=operation, out_channels=outputs, **pairs, **counts,
                        **{field: bool(values.get(field, cls.__dataclass_fields__[field].default))
                           for field in ("ceil_mode", "count_include_pad")})
            if operation == "avg_pool2d" and layer.dilation != (1, 1):
                raise ArgumentError(f"dilation {layer.dilation}; a mean has none")
            _ = layer.geometry                       # checks the sizes
        return layer

    def changed(self, **values: Any) -> Layer:
        """The same layer with other values."""
        return Layer.of(**{**self.to_dict(), **values})

    def to_dict(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @cached_property
    def geometry(self) -> ConvGeometry:
        """The convolution C; a transposed layer multiplies by its transpose, so its input is C's output."""
        if self.operation == "conv_transpose2d":
            return ConvGeometry.transposed(self.input_size, self.kernel_size, self.stride, self.padding,
                                           self.output_padding, self.dilation, self.groups)
        if self.pools:
            return ConvGeometry.pooling(self.input_size, self.kernel_size, self.stride, self.padding, self.dilation,
                                        self.ceil_mode, self.count_include_pad)
        return ConvGeometry.convolution(self.input_size, self.kernel_size, self.stride, self.padding, self.dilation,
                                        self.groups)

    @property
    def pools(self) -> bool:
        return "pool" in self.operation

    @property
    def directions(self) -> tuple[str, ...]:
        return DIRECTIONS[:2] if self.pools else DIRECTIONS

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.batch, self.in_channels, *self.input_size

    @property
    def output_shape(self) -> tuple[int, ...]:
        g = self.geometry
        size = g.input_size if self.operation == "conv_transpose2d" else g.output_size
        return self.batch, self.out_channels, *size

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """(O, C/G, K_h, K_w), transposed (C, O/G, K_h, K_w), and none for pooling."""
        if self.pools:
            return ()
        first, second = self.in_channels, self.out_channels
        if self.operation == "conv2d":
            first, second = second, first
        return first, second // self.groups, *self.kernel_size

    @cached_property
    def flops(self) -> int:
        """2 x the multiplications of one direction, the same in all three; for pooling, its comparisons or sums.

        A tap that falls into padding is no work: who skips it is not faster than the machine, who multiplies by its
        zero gains nothing.
        """
        taps = prod(_meetings(self.geometry, axis) for axis in (0, 1))
        if self.pools:
            return self.batch * self.in_channels * taps
        return 2 * self.batch * self.in_channels * self.out_channels // self.groups * taps

    def bytes(self, direction: str) -> int:
        """Moved at least: every operand read once, the result written once.  A maximum's gradient reads its indices."""
        elements = prod(self.input_shape) + prod(self.output_shape)
        if self.pools:
            indices = self.operation == "max_pool2d" and direction == "input_grad"
            return FLOAT * (elements + indices * prod(self.output_shape))
        return FLOAT * (elements + prod(self.weight_shape))

    @property
    def text(self) -> str:
        """`3x3 s2 d12, 64->128, 128x128` and what else is not the default."""
        kernel, size = (f"{a}x{b}" for a, b in (self.kernel_size, self.input_size))
        parts = [kernel]
        for letter, value, default in (("s", self.stride, 1), ("d", self.dilation, 1)):
            if value != (default, default):
                parts.append(letter + (str(value[0]) if value[0] == value[1] else f"{value[0]}x{value[1]}"))
        if self.groups > 1:
            parts.append(f"g{self.groups}")
        batch = f", batch {self.batch}" if self.batch > 1 else ""
        channels = str(self.in_channels) + f"->{self.out_channels}" * (not self.pools)
        return f"{' '.join(parts)}, {channels}, {size}{batch}"


def _count(value: Any, name: str) -> int:
    if not hasattr(value, "__index__") or isinstance(value, bool) or value < 1:
        raise ArgumentError(f"{name} {value!r}: needs a whole number >= 1")
    return int(value)


def _meetings(geometry: ConvGeometry, axis: int) -> int:
    """(output, tap) pairs on one axis whose tap falls inside the input."""
    outputs = np.arange(geometry.output_size[axis])[:, None] * geometry.stride[axis] - geometry.padding[axis][0]
    at = outputs + np.arange(geometry.kernel_size[axis]) * geometry.dilation[axis]
    return int(((at >= 0) & (at < geometry.input_size[axis])).sum())


def _conv(name: str, channels: int, outputs: int, size: int, kernel: int = 3, **more: Any) -> Layer:
    padding = more.get("dilation", 1) * (kernel - 1) // 2
    return Layer.of(name=name, in_channels=channels, out_channels=outputs, input_size=size, kernel_size=kernel,
                    padding=padding, **more)


def _up(name: str, channels: int, outputs: int, size: int, kernel: int, stride: int, padding: int = 0) -> Layer:
    return Layer.of(name=name, operation="conv_transpose2d", in_channels=channels, out_channels=outputs,
                    input_size=size, kernel_size=kernel, stride=stride, padding=padding)


def _pool(name: str, channels: int, size: int, kernel: int, stride: int, padding: int = 0, mean: bool = False) -> Layer:
    return Layer.of(name=name, operation="avg_pool2d" if mean else "max_pool2d", in_channels=channels,
                    input_size=size, kernel_size=kernel, stride=stride, padding=padding)


SETS: dict[str, tuple[Layer, ...]] = {
    "unet": (_conv("level 1", 64, 64, 256), _conv("level 2", 128, 128, 128), _conv("level 3", 256, 256, 64),
             _conv("level 4", 512, 512, 32), _up("up 2x", 512, 256, 32, 2, 2), _pool("pool", 64, 256, 2, 2)),
    "fcn": (_up("score 2x", 21, 21, 34, 4, 2), _up("score 32x", 21, 21, 32, 64, 32),
            _up("up 2x k4", 64, 64, 64, 4, 2, 1), _pool("pool 4", 512, 64, 2, 2)),
    "deeplab": (_conv("stem", 3, 64, 512, 7, stride=2), _conv("halving", 64, 128, 128, stride=2),
                _conv("fc6", 512, 1024, 41, dilation=12), _conv("aspp 12", 2048, 256, 33, dilation=12),
                _conv("aspp 1x1", 2048, 256, 33, 1), _pool("stem pool", 64, 256, 3, 2, 1),
                _pool("image pool", 2048, 33, 33, 1, mean=True)),
}
SETS["all"] = tuple(layer for name in ("unet", "fcn", "deeplab") for layer in SETS[name])
SETS["lab"] = tuple(layer for layer in SETS["all"] if not layer.pools)

SUITES = {
    "conv": lambda layer: layer.operation == "conv2d" and layer.dilation == (1, 1),
    "transposed": lambda layer: layer.operation == "conv_transpose2d",
    "dilated": lambda layer: layer.operation == "conv2d" and layer.dilation != (1, 1),
    "pool": lambda layer: layer.pools,
}


def select(layers: Iterable[Layer], suite: str | None = None, names: Iterable[str] = ()) -> list[Layer]:
    """Those of a suite, or those of these names.  Raises ArgumentError when there are none."""
    layers, names = list(layers), list(names)
    known = [layer.name for layer in layers]
    for name in names:
        if name not in known:
            raise ArgumentError(f"no layer {name!r}; legal: {', '.join(known)}")
    chosen = [layer for layer in layers if (not names or layer.name in names)
              and (suite is None or SUITES[suite](layer))]
    if not chosen:
        raise ArgumentError(f"none of the layers {', '.join(known)} belongs to the suite {suite!r}; "
                            f"choose other layers, or one of {', '.join(SUITES)}")
    return chosen


def read_layers(source: str) -> list[Layer]:
    """A built-in set by its name, or layers from a JSON file.

    The file holds a list of objects with the fields of `Layer`: in_channels, out_channels (not for pooling), input_size
    and kernel_size are needed; name, operation ("conv2d"), batch, stride, padding, dilation, groups, output_padding,
    ceil_mode and count_include_pad have PyTorch's defaults.  Sizes are numbers or pairs [height, width].
    Raises ArgumentError, DataError.
    """
    if source in SETS:
        return list(SETS[source])
    path = Path(source)
    if path.suffix != ".json":
        raise ArgumentError(f"layers {source!r}; legal: {', '.join(SETS)}, or a file NAME.json")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror or error}); name a JSON file of layers") from None
    except ValueError as error:
        raise DataError(f"{source}: is not JSON ({error}); needs a list of layers like {_EXAMPLE}") from None
    if not isinstance(found, list) or not found or not all(isinstance(item, Mapping) for item in found):
        raise DataError(f"{source}: needs a list of layers like {_EXAMPLE}")
    layers = []
    for number, item in enumerate(found, 1):
        with about(source):
            layers.append(Layer.of(**{"name": f"layer {number}", **item}))
    repeated = next((layer.name for k, layer in enumerate(layers) if layer.name in [a.name for a in layers[:k]]), None)
    if repeated:
        raise DataError(f"{source}: two layers are called {repeated!r}; give each a name of its own")
    return layers


_EXAMPLE = ('[{"name": "level 1", "in_channels": 64, "out_channels": 64, "input_size": 256, "kernel_size": 3, '
            '"padding": 1}]')
