"""Receptive fields: which inputs a unit sees, along one axis."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from tinyseg.arithmetic.sizes import span

__all__ = ["ReceptiveField", "receptive_field"]


@dataclass(frozen=True)
class ReceptiveField:
    """What one unit of a layer sees of the net's input, along one axis.

    size     input cells from the first to the last that can matter, holes of a dilated kernel included: those within
             (size - 1) / 2 of the centre.  A fraction after an up-sampling; then no unit sees more than its floor
    stride   input cells between neighbouring units; a fraction after an up-sampling
    start    centre of the first unit's field, in input cells counted from 0
    """

    size: Fraction = Fraction(1)
    stride: Fraction = Fraction(1)
    start: Fraction = Fraction(0)

    def convolution(self, k: int, s: int = 1, p: int = 0, d: int = 1) -> ReceptiveField:
        """Through a convolution or pooling: the field grows by d(k-1) strides."""
        reach = span(k, d) - 1
        return ReceptiveField(self.size + reach * self.stride, self.stride * s,
                              self.start + (Fraction(reach, 2) - p) * self.stride)

    def transposed(self, k: int, s: int = 1, p: int = 0, d: int = 1) -> ReceptiveField:
        """Through a transposed convolution: unit j reads the inputs from (j + p - d(k-1)) / s to (j + p) / s."""
        reach = span(k, d) - 1
        stride = self.stride / s
        return ReceptiveField(self.size + reach * stride, stride, self.start + (p - Fraction(reach, 2)) * stride)

    def resized(self, factor: Fraction | int, taps: int = 2) -> ReceptiveField:
        """Through an interpolation by `factor` that reads the `taps` nearest neighbours (2 bilinear, 1 nearest)."""
        factor = Fraction(factor)
        tie = taps % 2 and factor.denominator % 2 == 0                   # a neighbour may be taps / 2 away; else nearer
        reach = taps - (0 if tie else Fraction(1, factor.numerator))
        return ReceptiveField(self.size + reach * self.stride, self.stride / factor,
                              self.start + (1 / factor - 1) / 2 * self.stride)

    def joined(self, other: ReceptiveField) -> ReceptiveField:
        """Of a sum or concatenation: the field that holds both."""
        near = min(self.start - (self.size - 1) / 2, other.start - (other.size - 1) / 2)
        far = max(self.start + (self.size - 1) / 2, other.start + (other.size - 1) / 2)
        return ReceptiveField(far - near + 1, min(self.stride, other.stride), (near + far) / 2)


def receptive_field(layers: Iterable[tuple[int, int, int, int]]) -> ReceptiveField:
    """Of a chain of convolutions and poolings, each given as (k, s, p, d)."""
    field = ReceptiveField()
    for layer in layers:
        field = field.convolution(*layer)
    return field
