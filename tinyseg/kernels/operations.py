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

register("softmax", "blocks", "tinyseg.kernels.cpu.softmax")

for operation in ("cross_entropy", "cross_entropy_grad"):
    register(operation, "vectors", "tinyseg.kernels.cpu.cross_entropy", dtypes=("float32",))
    register(operation, "numpy", "tinyseg.kernels.cpu.cross_entropy_definition", definition=True)

for operation in ("normalize", "normalize_grad", "affine"):
    register(operation, "vectors", "tinyseg.kernels.cpu.normalize", dtypes=("float32",))
    register(operation, "numpy", "tinyseg.kernels.cpu.normalize_definition", definition=True)

for operation in ("relu", "relu_grad", "channel_sums", "channel_products"):
    register(operation, "vectors", "tinyseg.kernels.cpu.elementwise", dtypes=("float32",))
    register(operation, "numpy", "tinyseg.kernels.cpu.elementwise_definition", definition=True)

for operation in ("concatenate", "copy"):
    register(operation, "pieces", "tinyseg.kernels.cpu.elementwise")

for operation in ("relu", "relu_grad", "concatenate"):
    register(operation, "lines", "tinyseg.kernels.cpu.blocked", device="lines")
for operation in ("max_pool2d", "max_pool2d_grad"):
    register(operation, "lines", "tinyseg.kernels.cpu.blocked_pool", device="lines")
for operation in ("normalize", "normalize_grad", "affine", "channel_sums", "channel_products"):
    register(operation, "lines", "tinyseg.kernels.cpu.blocked_normalize", device="lines")
