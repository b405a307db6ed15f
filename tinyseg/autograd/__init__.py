"""Reverse-mode differentiation: `Tensor`, `Function`, the backward pass, and the check that it is right."""

from tinyseg.autograd import operators  # noqa: F401  gives Tensor its operators
from tinyseg.autograd.elementwise import abs, clip, exp, log, maximum, minimum, sqrt, where
from tinyseg.autograd.function import Function, enable_grad, is_grad_enabled, no_grad, unbroadcast, watching
from tinyseg.autograd.gradcheck import GradientError, gradcheck, gradcheck_directional
from tinyseg.autograd.reductions import matmul, max, mean, min, sum
from tinyseg.autograd.shaping import cat, concatenate, flatten, permute, reshape, squeeze, stack, transpose, unsqueeze
from tinyseg.autograd.tensor import Tensor, as_tensor, tensor

__all__ = ["Function", "GradientError", "Tensor", "abs", "as_tensor", "cat", "clip", "concatenate", "enable_grad",
           "exp", "flatten", "gradcheck", "gradcheck_directional", "is_grad_enabled", "log", "matmul", "max",
           "maximum", "mean", "min", "minimum", "no_grad", "permute", "reshape", "sqrt", "squeeze", "stack", "sum",
           "tensor", "transpose", "unbroadcast", "unsqueeze", "watching", "where"]
