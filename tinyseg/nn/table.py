"""The layers of a net in the order they run, and the net as a whole: sizes, receptive fields, parameters, work."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from fractions import Fraction
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from tinyseg.arithmetic import ReceptiveField
from tinyseg.autograd import Function, Tensor, elementwise, no_grad, shaping, watching
from tinyseg.autograd.reductions import MatMul
from tinyseg.errors import ArgumentError
from tinyseg.functional import activation
from tinyseg.functional.conv import Conv2d, ConvTranspose2d
from tinyseg.functional.normalize import Affine, Normalize
from tinyseg.functional.pad import Pad
from tinyseg.functional.pool import MaxPool2d
from tinyseg.functional.resize import Resample2d
from tinyseg.kernels.axis import AxisMap
from tinyseg.nn.module import Module

__all__ = ["NetFacts", "layer_table", "net_facts", "table_text"]

Fields = tuple[ReceptiveField, ReceptiveField] | None            # along H and W; None: the whole image, or unknown

# What leaves every pixel in its place.  The statistics of a normalisation over the image are not counted.
_POINTWISE = (elementwise.Abs, elementwise.Cast, elementwise.Clip, elementwise.Copy, elementwise.Exp, elementwise.Log,
              elementwise.Negative, elementwise.Sqrt, elementwise.Where, elementwise._Broadcasting,
              activation._Pointwise, activation.Dropout, activation.PReLU, activation.Softmax, activation.LogSoftmax,
              Affine, Normalize)


def layer_table(module: Module, input_size: Sequence[int]) -> list[dict[str, Any]]:
    """One row for every call of a module without children, from a run in `eval()` on one image of zeros.

    input_size    (C, H, W)
    Rows have
        name, type         the module's path, and its class
        output             shape of the result without N
        receptive_field    (height, width) in pixels of the input, as if the image had no border.  Exact for
                           convolutions and poolings; after an up-sampling, where some units see more than others, no
                           unit sees more.  None where the whole image may matter, or an operation is not known here.
        parameters         how many numbers the module itself learns
        multiply_adds      of its convolutions and matrix products
    The field is followed through every operation on the way, also those outside of modules, such as a concatenation.
    """
    return _run(module, input_size, 1)[0]


class NetFacts(NamedTuple):
    """A net for one image.

    parameters         how many numbers it learns
    multiply_adds      of convolutions and matrix products
    output_stride      pixels of the image between neighbours of the coarsest map of a convolution or pooling
    receptive_field    of an output, as in `layer_table`
    bound              whether the field is an upper bound: something was up-sampled
    """

    parameters: int
    multiply_adds: int
    output_stride: Fraction
    receptive_field: tuple[int, int] | None
    bound: bool


def net_facts(module: Module, input_size: Sequence[int]) -> NetFacts:
    """What a net costs and sees for an image (C, H, W).  Only shapes matter, so that no number is computed."""
    _, tracker, output = _run(module, input_size, 0)
    return NetFacts(module.num_parameters(trainable_only=True), tracker.multiply_adds, tracker.coarsest,
                    _sizes(tracker.get(output)), tracker.enlarged)


def _run(module: Module, input_size: Sequence[int], images: int) -> tuple[list[dict[str, Any]], _Tracker, Tensor]:
    if len(input_size) != 3 or min(input_size) < 1:
        raise ArgumentError(f"layer_table: input size {tuple(input_size)}; needs (C, H, W), each at least 1")
    parameter = next(module.parameters(), None)
    x = Tensor(np.zeros((images, *input_size), np.float32 if parameter is None else parameter.dtype))
    tracker = _Tracker(input_size[1:])
    tracker.put(x, (ReceptiveField(), ReceptiveField()))
    rows: list[dict[str, Any]] = []
    training = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        with ExitStack() as stack, no_grad(), watching(tracker.follow):
            for name, part in module.named_modules():
                if next(part.children(), None) is None:
                    stack.enter_context(part.register_forward_hook(_recorder(name, tracker, rows)))
            output = module(x)
    finally:
        for part, mode in training:
            part.training = mode
    return rows, tracker, output


def table_text(rows: Sequence[dict[str, Any]], total: int) -> str:
    """The rows of `layer_table` as text in columns, and the sums below, of parameters `total`."""
    def sizes(values: tuple[int, ...] | None) -> str:
        return "image" if values is None else "x".join(map(str, values))

    cells = [("name", "type", "output", "field", "parameters", "multiply-adds")]
    cells += [(r["name"], r["type"], sizes(r["output"]), sizes(r["receptive_field"]), f"{r['parameters']:,}",
               f"{r['multiply_adds']:,}") for r in rows]
    cells.append(("", "", "", "", f"{total:,}", f"{sum(r['multiply_adds'] for r in rows):,}"))
    widths = [max(len(row[c]) for row in cells) for c in range(6)]
    aligned = (str.ljust, str.ljust, str.rjust, str.rjust, str.rjust, str.rjust)
    return "\n".join("  ".join(put(text, width) for put, text, width in zip(aligned, row, widths, strict=True)).rstrip()
                     for row in cells)


def _recorder(name: str, tracker: _Tracker, rows: list[dict[str, Any]]) -> Callable[..., None]:
    def record(module: Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor):
            before = sum(row["multiply_adds"] for row in rows)
            rows.append({"name": name, "type": type(module).__name__, "output": output.shape[1:],
                         "receptive_field": _sizes(tracker.get(output)),
                         "parameters": sum(p.numel() for p in module.parameters()),
                         "multiply_adds": tracker.multiply_adds - before})
    return record


def _sizes(fields: Fields) -> tuple[int, int] | None:
    return fields and (math.floor(fields[0].size), math.floor(fields[1].size))


class _Tracker:
    """The fields of the tensors that are alive and depend on the input, and what happened on the way."""

    def __init__(self, input_size: Sequence[int]):
        self._fields: dict[int, tuple[Any, Fields]] = {}
        self._height = input_size[0]
        self.multiply_adds = 0
        self.coarsest = Fraction(1)
        self.enlarged = False

    def put(self, tensor: Tensor, fields: Fields) -> None:
        key = id(tensor)
        self._fields[key] = weakref.ref(tensor, lambda _: self._fields.pop(key, None)), fields

    def get(self, tensor: Tensor) -> Fields:
        return self._fields.get(id(tensor), (None, None))[1]

    def follow(self, function: Function, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> None:
        """What the outputs of an operation see, from what its inputs see."""
        known = [t for t in inputs if id(t) in self._fields]
        if known:
            fields = [self.get(t) for t in known]
            for output in outputs:
                self.put(output, None if None in fields else _after(function, known, fields, output))
            self._note(function, inputs, outputs[0])

    def _note(self, function: Function, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x, *others = inputs
        if isinstance(function, Conv2d | ConvTranspose2d):
            places = output if isinstance(function, Conv2d) else x
            self.multiply_adds += others[0].numel() * math.prod(places.shape[2:])
        elif isinstance(function, MatMul):
            self.multiply_adds += math.prod(output.shape[1:]) * x.shape[-1]
        if isinstance(function, Conv2d | MaxPool2d) and output.shape[2] > 1:
            field = self.get(output)
            self.coarsest = max(self.coarsest, field[0].stride if field else Fraction(self._height, output.shape[2]))
        if isinstance(function, ConvTranspose2d | Resample2d) and output.shape[2] > max(1, x.shape[2]):
            self.enlarged = True


def _after(function: Function, inputs: list[Tensor], fields: list[tuple[ReceptiveField, ReceptiveField]],
           output: Tensor) -> Fields:
    if any(t.ndim != 4 for t in (*inputs, output)):
        return None
    pair = fields[0]
    if isinstance(function, Conv2d | MaxPool2d | ConvTranspose2d):
        g = function.geometry
        step = ReceptiveField.transposed if isinstance(function, ConvTranspose2d) else ReceptiveField.convolution
        return tuple(step(pair[a], g.kernel_size[a], g.stride[a], g.padding[a][0], g.dilation[a]) for a in (0, 1))
    if isinstance(function, Resample2d):
        if 1 in output.shape[2:] and output.shape[2:] != inputs[0].shape[2:]:
            return None                              # a mean over the image has no place in it
        return tuple(_resampled(pair[a], (function.rows, function.columns)[a]) for a in (0, 1))
    if isinstance(function, Pad):
        return tuple(_moved(pair[a], -function.sides[a][0]) for a in (0, 1))
    if isinstance(function, shaping.Index):
        return _cut(pair, inputs[0], function.index)
    if isinstance(function, shaping.Concatenate) and function.dim % 4 != 1:
        return None
    if isinstance(function, (*_POINTWISE, shaping.Concatenate)) and {t.shape[2:] for t in inputs} == {output.shape[2:]}:
        return tuple(reduce(lambda one, other, n=n: _joined(one, other, n), axis)
                     for axis, n in zip(zip(*fields, strict=True), output.shape[2:], strict=True))
    return None


def _resampled(field: ReceptiveField, table: AxisMap) -> ReceptiveField:
    """Through the rows of a sparse matrix: the narrowest band around a line that holds all of its entries."""
    j = range(table.outputs)
    first = [int(table.source[table.start[o]]) for o in j]
    last = [int(table.source[table.start[o + 1] - 1]) for o in j]
    i, o = table.inputs, table.outputs
    middle = o // 2
    slopes = {Fraction(1), Fraction(i, o), Fraction(max(i - 1, 1), max(o - 1, 1)),
              Fraction(max(first[middle] - first[middle - 1], 1))}           # the stride of a pooling
    bands = [(min(a - r * n for n, a in enumerate(first)), max(b - r * n for n, b in enumerate(last)), r)
             for r in slopes]
    near, far, r = min(bands, key=lambda band: (band[1] - band[0], band[2]))
    return ReceptiveField(field.size + (far - near) * field.stride, field.stride * r,
                          field.start + (near + far) / 2 * field.stride)


def _cut(fields: tuple[ReceptiveField, ReceptiveField], x: Tensor, index: Any) -> Fields:
    """After x[index], where the index is made of slices."""
    parts = index if isinstance(index, tuple) else (index,)
    if not all(isinstance(part, slice) for part in parts):
        return None
    cut = list(fields)
    for a in (0, 1):
        if len(parts) > 2 + a:
            start, _, step = parts[2 + a].indices(x.shape[2 + a])
            if step < 0:
                return None
            moved = _moved(cut[a], start)
            cut[a] = ReceptiveField(moved.size, moved.stride * step, moved.start)
    return cut[0], cut[1]


def _moved(field: ReceptiveField, cells: int) -> ReceptiveField:
    """Of a map without its first cells."""
    return ReceptiveField(field.size, field.stride, field.start + cells * field.stride)


def _joined(one: ReceptiveField, other: ReceptiveField, n: int) -> ReceptiveField:
    """Of a sum or concatenation of n units.

    With aligned corners the strides of two paths may differ a little: then the smaller band that holds both at either
    end, and so between.
    """
    if one.stride == other.stride:
        return one.joined(other)
    bands = []
    for stride in (one.stride, other.stride):
        edges = [(f.start + (f.stride - stride) * unit, (f.size - 1) / 2) for f in (one, other) for unit in (0, n - 1)]
        near, far = min(c - half for c, half in edges), max(c + half for c, half in edges)
        bands.append(ReceptiveField(far - near + 1, stride, (near + far) / 2))
    return min(bands, key=lambda band: band.size)
