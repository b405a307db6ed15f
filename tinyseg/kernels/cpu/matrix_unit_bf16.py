"""The matrix unit on numbers rounded to bf16, summed in float32: `matrix_unit` without splitting."""

from functools import partial

from tinyseg.kernels.cpu import matrix_unit

conv2d = partial(matrix_unit.conv2d, split=False)
conv2d_input_grad = partial(matrix_unit.conv2d_input_grad, split=False)
