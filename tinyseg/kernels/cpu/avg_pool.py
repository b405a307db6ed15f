"""Average pooling and its gradient, as what they are: a linear map along H and another along W."""

import numpy as np

from tinyseg.arithmetic import PoolGeometry
from tinyseg.kernels.axis import means
from tinyseg.kernels.cpu.resample import resample2d


def avg_pool2d(x: np.ndarray, geometry: PoolGeometry) -> np.ndarray:
    """The mean under each window.  x (N, C, H, W) -> (N, C, H', W')."""
    return resample2d(x, *means(geometry))


def avg_pool2d_grad(grad: np.ndarray, geometry: PoolGeometry) -> np.ndarray:
    """Each cotangent is shared among the inputs under its window.  grad (N, C, H', W') -> (N, C, H, W)."""
    return resample2d(grad, *(axis.T for axis in means(geometry)))
