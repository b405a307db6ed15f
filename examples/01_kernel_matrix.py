"""A convolution is a sparse matrix C, and a transposed convolution is Cᵀ.

A 3x3 kernel slides over a 4x4 input without padding.  There are 2x2 places for it, so the output has 4 elements and C
has 4 rows; each row is the kernel laid on the 16 elements of the flattened input.
"""

import numpy as np

import tinyseg.functional as F
from tinyseg.arithmetic import ConvGeometry
from tinyseg.kernels.cpu.matrix import kernel_matrix

geometry = ConvGeometry.convolution(input_size=(4, 4), kernel_size=3)
kernel = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
C = kernel_matrix(kernel, geometry)
print(f"C, {C.shape[0]} x {C.shape[1]}, with {len(C.values)} entries:")
print(C.dense().astype(int))

# y = C x is the convolution ...
x = np.arange(16.0).reshape(1, 1, 4, 4)
y = F.conv2d(x, kernel)
assert np.array_equal(C.dense() @ x.ravel(), y.numpy().ravel())
print("\ny = C x:")
print(y.numpy()[0, 0].astype(int))

# ... and Cᵀ y the transposed convolution with the same kernel: 2x2 back to 4x4.  It restores the shape, not the values.
back = F.conv_transpose2d(y, kernel)
assert np.array_equal(C.T.dense() @ y.numpy().ravel(), back.numpy().ravel())
print("\nCᵀ y:")
print(back.numpy()[0, 0].astype(int))

# That is also the gradient of <y, C x> in x: the transpose is what carries gradients back.
z = np.ones((1, 1, 2, 2))
assert np.vdot(F.conv2d(x, kernel).numpy(), z) == np.vdot(x, F.conv_transpose2d(z, kernel).numpy())
print("\n<C x, z> = <x, Cᵀ z>, to the last bit")
