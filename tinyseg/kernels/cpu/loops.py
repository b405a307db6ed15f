"""The definition.  y[n, o, p, q] = sum over c, u, v of x[n, c, p·s - top + u·d, q·s - left + v·d] · w[o, c, u, v].

Each function visits every (output, tap) pair of it and shares no code with the algorithms it judges.
N batch, C/O channels in/out, H W, K_h K_w, G groups.  Sums are kept in float64.
"""

import numpy as np

from tinyseg.arithmetic import ConvGeometry
from tinyseg.jit import jit


def conv2d(x: np.ndarray, weight: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """x (N, C, H, W), weight (O, C/G, K_h, K_w) -> (N, O, H', W')."""
    y = np.empty((len(x), len(weight), *geometry.output_size), x.dtype)
    _forward(x, weight, y, geometry.stride, geometry.near_padding, geometry.dilation, geometry.groups)
    return y


def conv2d_input_grad(grad: np.ndarray, weight: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """grad (N, O, H', W'), weight (O, C/G, K_h, K_w) -> (N, C, H, W): the transpose of `conv2d` in x."""
    x = np.zeros((len(grad), weight.shape[1] * geometry.groups, *geometry.input_size))
    _input_grad(grad, weight, x, geometry.stride, geometry.near_padding, geometry.dilation, geometry.groups)
    return x.astype(grad.dtype, copy=False)


def conv2d_weight_grad(grad: np.ndarray, x: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """grad (N, O, H', W'), x (N, C, H, W) -> (O, C/G, K_h, K_w): the transpose of `conv2d` in the weight."""
    w = np.empty((grad.shape[1], x.shape[1] // geometry.groups, *geometry.kernel_size), x.dtype)
    _weight_grad(grad, x, w, geometry.stride, geometry.near_padding, geometry.dilation, geometry.groups)
    return w


@jit
def _forward(x, weight, y, stride, near, dilation, groups):
    (N, O, P, Q), (_, C, K_h, K_w), (_, _, H, W) = y.shape, weight.shape, x.shape
    for o in range(O):
        first = o // (O // groups) * C               # the first input channel of o's group
        for n in range(N):
            for p in range(P):
                for q in range(Q):
                    total = 0.0
                    for c in range(C):
                        for u in range(K_h):
                            for v in range(K_w):
                                h = p * stride[0] - near[0] + u * dilation[0]
                                w = q * stride[1] - near[1] + v * dilation[1]
                                if 0 <= h < H and 0 <= w < W:
                                    total += np.float64(x[n, first + c, h, w]) * weight[o, c, u, v]
                    y[n, o, p, q] = total


@jit
def _input_grad(grad, weight, x, stride, near, dilation, groups):
    (N, O, P, Q), (_, C, K_h, K_w), (_, _, H, W) = grad.shape, weight.shape, x.shape
    for n in range(N):
        for o in range(O):
            first = o // (O // groups) * C
            for p in range(P):
                for q in range(Q):
                    for c in range(C):
                        for u in range(K_h):
                            for v in range(K_w):
                                h = p * stride[0] - near[0] + u * dilation[0]
                                w = q * stride[1] - near[1] + v * dilation[1]
                                if 0 <= h < H and 0 <= w < W:
                                    x[n, first + c, h, w] += np.float64(grad[n, o, p, q]) * weight[o, c, u, v]


@jit
def _weight_grad(grad, x, weight, stride, near, dilation, groups):
    (N, O, P, Q), (_, C, K_h, K_w), (_, _, H, W) = grad.shape, weight.shape, x.shape
    for o in range(O):
        first = o // (O // groups) * C
        for c in range(C):
            for u in range(K_h):
                for v in range(K_w):
                    total = 0.0
                    for n in range(N):
                        for p in range(P):
                            for q in range(Q):
                                h = p * stride[0] - near[0] + u * dilation[0]
                                w = q * stride[1] - near[1] + v * dilation[1]
                                if 0 <= h < H and 0 <= w < W:
                                    total += np.float64(grad[n, o, p, q]) * x[n, first + c, h, w]
                    weight[o, c, u, v] = total
