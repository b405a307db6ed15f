"""Convolution told directly, on a GPU: the loops of `cpu.direct`, a thread for each number of the result.

    y[n, o, p, q]  =  Σ  x[n, c, p·s - top + u·d, q·s - left + v·d] · w[o, c, u, v]     over c, u, v

A CPU has few threads: each gets a plane, and the compiler makes vectors of its rows.  A GPU has thousands: each gets a
pixel, neighbours read neighbours at the same time, and whether a tap meets the image is asked for each.  There are
`THREADS` in a block; where there are more numbers than threads, each takes one in so many.  A sum begins with `zero`,
which says in what type it is kept.
N batch, C/O channels in/out, H W height and width of x, P Q of y, K_h K_w of the kernel, G groups.
"""

from typing import Any

from numba import cuda, float64

from tinyseg.arithmetic import ConvGeometry

__all__ = ["conv2d", "conv2d_input_grad", "conv2d_weight_grad"]

SHORT = 16                                           # channels: float32 sums are kept short, and added up in their turn
THREADS = 256                                        # in a block; a power of two
BLOCKS = 1 << 14                                     # at most: more than any GPU runs at a time


def conv2d(x: Any, weight: Any, geometry: ConvGeometry) -> Any:
    """x (N, C, H, W), weight (O, C/G, K_h, K_w) -> (N, O, P, Q).  Threads share the pixels of y."""
    y = cuda.device_array((x.shape[0], weight.shape[0], *geometry.output_size), x.dtype)
    _launch(_forward, -(-y.size // THREADS), x, weight, y, geometry)
    return y


def conv2d_input_grad(grad: Any, weight: Any, geometry: ConvGeometry) -> Any:
    """The transpose of `conv2d` in x, which is transposed convolution.  grad (N, O, P, Q), weight (O, C/G, K_h, K_w)
    -> (N, C, H, W).  Threads share the pixels of x."""
    x = cuda.device_array((grad.shape[0], weight.shape[1] * geometry.groups, *geometry.input_size), grad.dtype)
    _launch(_input_grad, -(-x.size // THREADS), grad, weight, x, geometry)
    return x


def conv2d_weight_grad(grad: Any, x: Any, geometry: ConvGeometry) -> Any:
    """The transpose of `conv2d` in the weight.  grad (N, O, P, Q), x (N, C, H, W) -> (O, C/G, K_h, K_w).  Blocks share
    the numbers of the weight, and the threads of a block its sum over all pixels."""
    weight = cuda.device_array((grad.shape[1], x.shape[1] // geometry.groups, *geometry.kernel_size), x.dtype)
    _launch(_weight_grad, weight.size, grad, x, weight, geometry)
    return weight


def _launch(kernel: Any, blocks: int, a: Any, b: Any, result: Any, geometry: ConvGeometry) -> None:
    if blocks:
        kernel[min(blocks, BLOCKS), THREADS](a, b, result, geometry.stride, geometry.near_padding, geometry.dilation,
                                             geometry.groups, result.dtype.type(0))


@cuda.jit
def _forward(x, weight, y, stride, near, dilation, groups, zero):
    """Fill y."""
    (_, O, P, Q), (_, C, K_h, K_w), (_, _, H, W) = y.shape, weight.shape, x.shape
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        n, o, p, q = i // (O * P * Q), i // (P * Q) % O, i // Q % P, i % Q
        start = o // (O // groups) * C                                   # the first input channel of o's group
        total = part = zero
        for c in range(C):
            if c % SHORT == 0:
                total, part = total + part, zero
            for u in range(K_h):
                h = p * stride[0] - near[0] + u * dilation[0]
                if 0 <= h < H:
                    for v in range(K_w):
                        w = q * stride[1] - near[1] + v * dilation[1]
                        if 0 <= w < W:
                            part += x[n, start + c, h, w] * weight[o, c, u, v]
        y[n, o, p, q] = total + part


@cuda.jit
def _input_grad(grad, weight, x, stride, near, dilation, groups, zero):
    """Fill x."""
    (_, _, P, Q), (O, C, K_h, K_w), (_, channels, H, W) = grad.shape, weight.shape, x.shape
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        n, c, h, w = i // (channels * H * W), i // (H * W) % channels, i // W % H, i % W
        start, stop = c // C * (O // groups), (c // C + 1) * (O // groups)     # the output channels of c's group
        total = part = zero
        for o in range(start, stop):
            if (o - start) % SHORT == 0:
                total, part = total + part, zero
            for u in range(K_h):
                p = (h + near[0] - u * dilation[0]) // stride[0]
                if 0 <= p < P and p * stride[0] == h + near[0] - u * dilation[0]:
                    for v in range(K_w):
                        q = (w + near[1] - v * dilation[1]) // stride[1]
                        if 0 <= q < Q and q * stride[1] == w + near[1] - v * dilation[1]:
                            part += grad[n, o, p, q] * weight[o, c % C, u, v]
        x[n, c, h, w] = total + part


@cuda.jit
def _weight_grad(grad, x, weight, stride, near, dilation, groups, zero):
    """Fill weight."""
    (N, _, P, Q), (O, C, K_h, K_w), (_, _, H, W) = grad.shape, weight.shape, x.shape
    sums = cuda.shared.array(THREADS, float64)                           # one a thread
    thread = cuda.threadIdx.x
    for i in range(cuda.blockIdx.x, weight.size, cuda.gridDim.x):
        o, c, u, v = i // (C * K_h * K_w), i // (K_h * K_w) % C, i // K_w % K_h, i % K_w
        start = o // (O // groups) * C
        total = zero
        for pixel in range(thread, N * P * Q, THREADS):
            n, p, q = pixel // (P * Q), pixel // Q % P, pixel % Q
            h = p * stride[0] - near[0] + u * dilation[0]
            w = q * stride[1] - near[1] + v * dilation[1]
            if 0 <= h < H and 0 <= w < W:
                total += grad[n, o, p, q] * x[n, start + c, h, w]
        sums[thread] = total
        cuda.syncthreads()
        half = THREADS // 2                          # a tree: pairs of threads add up, then pairs of pairs, ...
        while half:
            if thread < half:
                sums[thread] += sums[thread + half]
            cuda.syncthreads()
            half //= 2
        if thread == 0:
            weight[o, c, u, v] = sums[0]
        cuda.syncthreads()                           # before the next number overwrites sums
