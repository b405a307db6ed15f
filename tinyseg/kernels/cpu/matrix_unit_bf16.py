"""The matrix unit on numbers rounded to bf16, summed in float32."""

from functools import partial

from tinyseg.kernels.cpu import matrix_unit, matrix_unit_weight

__all__ = ["conv2d", "conv2d_input_grad", "conv2d_weight_grad"]

conv2d = partial(matrix_unit.conv2d, split=False)
conv2d_input_grad = partial(matrix_unit.conv2d_input_grad, split=False)
conv2d_weight_grad = partial(matrix_unit_weight.conv2d_weight_grad, split=False)
