"""Differentiable operations: `import tinyseg.functional as F`."""

from tinyseg.autograd import (
    abs,
    clip,
    exp,
    flatten,
    log,
    matmul,
    maximum,
    minimum,
    sqrt,
    stack,
    where,
)
from tinyseg.functional.activation import (
    dropout,
    dropout2d,
    hardsigmoid,
    hardswish,
    leaky_relu,
    log_softmax,
    prelu,
    relu,
    relu6,
    sigmoid,
    softmax,
    tanh,
)
from tinyseg.functional.concatenate import cat, concatenate
from tinyseg.functional.conv import conv2d, conv_transpose2d
from tinyseg.functional.linear import linear
from tinyseg.functional.loss import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    dice_loss,
    focal_loss,
    ohem_cross_entropy,
)
from tinyseg.functional.normalize import batch_norm, group_norm
from tinyseg.functional.pad import pad
from tinyseg.functional.pool import adaptive_avg_pool2d, avg_pool2d, max_pool2d
from tinyseg.functional.random import get_rng_state, manual_seed, set_rng_state
from tinyseg.functional.resize import interpolate

__all__ = ["abs", "adaptive_avg_pool2d", "avg_pool2d", "batch_norm", "binary_cross_entropy_with_logits", "cat", "clip",
           "concatenate", "conv2d", "conv_transpose2d", "cross_entropy", "dice_loss", "dropout", "dropout2d", "exp",
           "flatten", "focal_loss", "get_rng_state", "group_norm", "hardsigmoid", "hardswish", "interpolate",
           "leaky_relu", "linear", "log", "log_softmax", "manual_seed", "matmul", "max_pool2d", "maximum", "minimum",
           "ohem_cross_entropy", "pad", "prelu", "relu", "relu6", "set_rng_state", "sigmoid", "softmax", "sqrt",
           "stack", "tanh", "where"]
