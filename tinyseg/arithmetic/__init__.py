"""Convolution arithmetic in whole numbers: sizes, their inverses, receptive fields, and `ConvGeometry`."""

from tinyseg.arithmetic.geometry import ConvGeometry, PoolGeometry, pair, sides
from tinyseg.arithmetic.receptive import ReceptiveField, receptive_field
from tinyseg.arithmetic.sizes import (
    conv_input_sizes,
    conv_output_size,
    conv_transpose_output_size,
    dropped_remainder,
    same_padding,
    span,
)

__all__ = ["ConvGeometry", "PoolGeometry", "ReceptiveField", "conv_input_sizes", "conv_output_size",
           "conv_transpose_output_size", "dropped_remainder", "pair", "receptive_field", "same_padding", "sides",
           "span"]
