"""The weight's gradient from numbers rounded to bf16, summed in float32: `matrix_unit_weight` without splitting."""

from functools import partial

from tinyseg.kernels.cpu import matrix_unit_weight

conv2d_weight_grad = partial(matrix_unit_weight.conv2d_weight_grad, split=False)
