"""How cost grows: one layer at several sizes, and the exponent of the power law that fits its times."""

from __future__ import annotations

from typing import Any

from tinyseg.bench.layers import Layer
from tinyseg.bench.record import Bench
from tinyseg.bench.statistics import exponent
from tinyseg.errors import ArgumentError, TinysegError

__all__ = ["PARAMETERS", "fit", "swept"]

PARAMETERS = ("dilation", "size", "channels", "batch")


def swept(layer: Layer, request: str) -> tuple[str, list[int], list[Layer]]:
    """`dilation=1,2,4` -> ("dilation", [1, 2, 4], the layer with each of them).

    A dilated convolution of stride 1 keeps its size: its padding grows along.  `channels` sets both in and out.
    Raises ArgumentError.
    """
    parameter, equals, listed = request.partition("=")
    try:
        values = sorted({int(v) for v in listed.split(",")})
    except ValueError:
        values = []
    if parameter not in PARAMETERS or not equals or len(values) < 2 or values[0] < 1:
        raise ArgumentError(f"--sweep {request}: needs one of {', '.join(PARAMETERS)}, and two or more whole numbers "
                            ">= 1, like dilation=1,2,4")
    layers = []
    for value in values:
        try:
            layers.append(layer.changed(**_change(layer, parameter, value), name=f"{parameter} {value}"))
        except TinysegError as error:
            raise ArgumentError(f"--sweep {request}: {error}") from None
    return parameter, values, layers


def _change(layer: Layer, parameter: str, value: int) -> dict[str, Any]:
    if parameter == "size":
        return {"input_size": value}
    if parameter == "channels":
        depthwise = layer.groups == layer.in_channels > 1
        return {"in_channels": value, "out_channels": value, "groups": value if depthwise else layer.groups}
    if parameter == "batch":
        return {"batch": value}
    same = layer.operation == "conv2d" and layer.stride == (1, 1)
    padding = [value * (k - 1) // 2 for k in layer.kernel_size] if same else list(layer.padding)
    return {"dilation": value, "padding": padding}


def fit(bench: Bench, parameter: str, values: list[int]) -> dict[str, Any]:
    """Exponents of time in the parameter: of the work, and of each candidate in each direction."""
    expected = exponent(values, [layer.flops for layer in bench.layers])
    curves, lines = [], [f"time grows like {parameter}^e; the work has e = {expected:.2f}"]
    for name in bench.candidates:
        for direction in dict.fromkeys(r.direction for r in bench.results):
            points = [(v, r.time.median) for v, layer in zip(values, bench.layers, strict=True)
                      if (r := bench.find(layer.name, direction, name)) is not None and r.time]
            if len(points) > 1:
                e = exponent(*zip(*points, strict=True))
                curves.append({"candidate": name, "direction": direction, "exponent": e})
                lines.append(f"{name}, {direction.replace('_', ' ')}: e = {e:.2f}")
    return {"parameter": parameter, "values": values, "expected": expected, "curves": curves, "lines": lines}
