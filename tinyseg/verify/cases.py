"""`Case`: one geometry and the arrays on it, in a line that can be pasted."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from functools import cached_property
from zlib import crc32

import numpy as np

from tinyseg.arithmetic import ConvGeometry, PoolGeometry
from tinyseg.errors import ArgumentError
from tinyseg.kernels.cpu import pool_loops

__all__ = ["LAYOUTS", "VALUES", "Case", "filled", "laid_out"]

VALUES = ("ones", "ramp", "integers", "floats", "special", "denormal")
LAYOUTS = ("contiguous", "read-only", "channels last", "every second", "backwards")


@dataclass(frozen=True)
class Case:
    """One convolution or pooling and its arrays, which follow from the numbers here.

    batch, channels, outputs    images; channels in and out of each group
    values    ones; ramp, 1 2 3 ...; integers, small, so that sums are exact; floats; special, integers among which are
              inf and nan (in one operand); denormal, integers · 2^16 of the smallest (in one operand)
    layout    how the operands lie in memory
    """

    geometry: ConvGeometry
    batch: int = 1
    channels: int = 1
    outputs: int = 1
    values: str = "ones"
    seed: int = 0
    dtype: str = "float64"
    layout: str = "contiguous"

    def __getstate__(self) -> dict[str, object]:
        return {field.name: self.__dict__[field.name] for field in fields(self)}     # arrays are made again

    def __getitem__(self, name: str) -> np.ndarray:
        """x (N, C, H, W), weight (O, C/G, K_h, K_w), y (N, O, H', W') or the indices of a pooling's maxima."""
        return getattr(self, name)

    @cached_property
    def x(self) -> np.ndarray:
        return self._array("x", (self.batch, self.geometry.groups * self.channels, *self.geometry.input_size), True)

    @cached_property
    def weight(self) -> np.ndarray:
        return self._array("weight", (self.geometry.groups * self.outputs, self.channels, *self.geometry.kernel_size))

    @cached_property
    def y(self) -> np.ndarray:
        outputs = self.channels if isinstance(self.geometry, PoolGeometry) else self.outputs
        return self._array("y", (self.batch, self.geometry.groups * outputs, *self.geometry.output_size), True)

    @cached_property
    def indices(self) -> np.ndarray:
        return pool_loops.max_pool2d(self.x, self.geometry)[1]

    def again(self, name: str) -> np.ndarray:
        """Another array in the place of `name`: random, where the first may be all ones."""
        values = "integers" if self.values in ("ones", "ramp") else self.values
        return filled(self[name].shape, values, self._seed(name + "'"), self.dtype)

    @property
    def work(self) -> int:
        """Products in its definition, and as much again as 20 of them for each output."""
        g = self.geometry
        return self.batch * self.outputs * g.groups * math.prod(g.output_size) * (self.channels * g.taps + 20)

    @property
    def size(self) -> tuple[int, ...]:
        """What makes a case small, the most important first."""
        g = self.geometry
        around = sum(map(sum, g.padding)) + sum(g.stride) + sum(g.dilation) + g.groups
        return self.x.size + self.weight.size + self.y.size, around, VALUES.index(self.values), self.seed

    def __str__(self) -> str:
        """The geometry in words; what is 1, or 0, or as usual, is left out."""
        g, pool = self.geometry, isinstance(self.geometry, PoolGeometry)
        words = [f"{self.batch} images of {g.groups * self.channels} channels" if self.batch > 1 else
                 f"{g.groups * self.channels} channels" if g.groups * self.channels > 1 else "",
                 f"input {_by(g.input_size)}", f"kernel {_by(g.kernel_size)}",
                 f"{g.groups * self.outputs} outputs" if g.groups * self.outputs > 1 and not pool else ""]
        if g.stride != (1, 1):
            words.append(f"stride {_by(g.stride)}")
        if any(map(any, g.asked_padding if pool else g.padding)):
            padding = g.asked_padding if pool else g.padding
            even = all(near == far for near, far in padding)
            words.append(f"padding {_by(g.near_padding) if even else padding}")
        if g.dilation != (1, 1):
            words.append(f"dilation {_by(g.dilation)}")
        if g.groups > 1:
            words.append(f"groups {g.groups}")
        if any(g.output_padding) and not pool:
            words.append(f"remainder {_by(g.output_padding)}")
        if pool and g.ceil_mode:
            words.append("ceil_mode")
        if pool and not g.count_include_pad:
            words.append("padding not counted")
        words += [word for word, usual in ((self.dtype, "float64"), (self.layout, "contiguous")) if word != usual]
        return ", ".join(word for word in words if word)

    def __repr__(self) -> str:
        """Python that makes it again."""
        def shown(thing: object) -> str:
            parts = []
            for field in fields(thing):
                value = getattr(thing, field.name)
                usual = field.name == "output_padding" and value == replace(thing, output_padding=None).output_padding
                if value != field.default and not usual:
                    parts.append(f"{field.name}={shown(value) if isinstance(value, ConvGeometry) else repr(value)}")
            return f"{type(thing).__name__}({', '.join(parts)})"
        return shown(self)

    def _seed(self, name: str) -> int:
        return crc32(f"{name} {self.seed}".encode())

    def _array(self, name: str, shape: tuple[int, ...], special: bool = False) -> np.ndarray:
        values = self.values if special or self.values not in ("special", "denormal") else "integers"
        return laid_out(filled(shape, values, self._seed(name), self.dtype), self.layout)


def filled(shape: tuple[int, ...], values: str, seed: int, dtype: str = "float64") -> np.ndarray:
    """An array of one kind of VALUES."""
    rng = np.random.default_rng(seed)
    count = int(np.prod(shape))
    if values == "ones":
        array = np.ones(count)
    elif values == "ramp":
        array = np.arange(count) % 9 + 1.0
    elif values == "floats":
        array = rng.standard_normal(count)
    elif values in VALUES:
        array = rng.integers(-4, 5, count).astype(np.float64)
    else:
        raise ArgumentError(f"values {values!r}; legal: {', '.join(VALUES)}")
    if values == "special":
        some = rng.choice(count, rng.integers(1, 2 + count // 8), replace=False)
        array[some] = rng.choice([np.inf, -np.inf, np.nan], len(some))
    if values == "denormal":
        array *= np.finfo(dtype).smallest_subnormal * 2**16
    return array.reshape(shape).astype(dtype)


def laid_out(array: np.ndarray, layout: str) -> np.ndarray:
    """Equal values, in another order or spacing in memory, or not to be written."""
    if layout == "read-only":
        array = array.copy()
        array.flags.writeable = False
    elif layout == "channels last" and array.ndim == 4:
        array = np.moveaxis(np.moveaxis(array, 1, 3).copy(), 3, 1)
    elif layout == "every second":
        array = np.repeat(array, 2, axis=-1)[..., ::2]
    elif layout == "backwards":
        array = array[..., ::-1].copy()[..., ::-1]
    return array


def _by(pair: tuple[int, int]) -> str:
    return f"{pair[0]}x{pair[1]}"
