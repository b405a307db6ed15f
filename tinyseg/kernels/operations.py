"""The kernels of everything but convolution: pooling, resampling, softmax, normalisation."""

from tinyseg.kernels.registry import register

for operation in ("max_pool2d", "max_pool2d_grad"):
    register(operation, "direct", "tinyseg.kernels.cpu.pool")
    register(operation, "loops", "tinyseg.kernels.cpu.pool_loops", definition=True)

for operation in ("avg_pool2d", "avg_pool2d_grad"):
    register(operation, "taps", "tinyseg.kernels.cpu.avg_pool")
    register(operation, "loops", "tinyseg.kernels.cpu.pool_loops", definition=True)

register("resample2d", "taps", "tinyseg.kernels.cpu.resample")
register("resample2d", "matrix", "tinyseg.kernels.cpu.resample_matrix", definition=True)

for operation in ("softmax", "cross_entropy", "cross_entropy_grad"):
    register(operation, "blocks", "tinyseg.kernels.cpu.softmax")

for operation in ("plane_moments", "plane_products", "plane_affine", "plane_combination"):
    register(operation, "planes", "tinyseg.kernels.cpu.normalize")
