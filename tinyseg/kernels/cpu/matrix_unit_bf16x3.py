"""The matrix unit on numbers split in two bf16 words: three products for each."""

from tinyseg.kernels.cpu.matrix_unit import conv2d, conv2d_input_grad
from tinyseg.kernels.cpu.matrix_unit_weight import conv2d_weight_grad

__all__ = ["conv2d", "conv2d_input_grad", "conv2d_weight_grad"]
