"""Winograd's F(4x4, 3x3): 36 multiplications for 16 outputs in place of 144, from the points 0, 1, -1, 2, -2, ∞.

The matrices are those of Lavin & Gray, arXiv:1509.09308, section 4; `winograd` tells how they are used.
"""

from tinyseg.jit import jit
from tinyseg.kernels.cpu import winograd, winograd_kernels

__all__ = ["conv2d", "conv2d_input_grad", "conv2d_weight_grad"]


@jit
def input_transform(d):
    """Bᵀ d."""
    d0, d1, d2, d3, d4, d5 = d
    return (4 * d0 - 5 * d2 + d4,
            d4 + d3 - 4 * (d2 + d1),
            d4 - d3 - 4 * (d2 - d1),
            d4 - d2 + 2 * (d3 - d1),
            d4 - d2 - 2 * (d3 - d1),
            4 * d1 - 5 * d3 + d5)


@jit
def filter_transform(g):
    """G g."""
    g0, g1, g2 = g
    return (1 / 4 * g0,
            -1 / 6 * (g0 + g1 + g2),
            -1 / 6 * (g0 - g1 + g2),
            1 / 24 * g0 + 1 / 12 * g1 + 1 / 6 * g2,
            1 / 24 * g0 - 1 / 12 * g1 + 1 / 6 * g2,
            g2)


@jit
def output_transform(m):
    """Aᵀ m."""
    m0, m1, m2, m3, m4, m5 = m
    return (m0 + (m1 + m2) + (m3 + m4),
            (m1 - m2) + 2 * (m3 - m4),
            (m1 + m2) + 4 * (m3 + m4),
            (m1 - m2) + 8 * (m3 - m4) + m5)


@jit
def output_transform_transposed(y):
    """A y."""
    y0, y1, y2, y3 = y
    return (y0,
            (y0 + y2) + (y1 + y3),
            (y0 + y2) - (y1 + y3),
            (y0 + 4 * y2) + (2 * y1 + 8 * y3),
            (y0 + 4 * y2) - (2 * y1 + 8 * y3),
            y3)


@jit
def filter_transform_transposed(u):
    """Gᵀ u."""
    u0, u1, u2, u3, u4, u5 = u
    return (1 / 4 * u0 - 1 / 6 * (u1 + u2) + 1 / 24 * (u3 + u4),
            1 / 6 * (u2 - u1) + 1 / 12 * (u3 - u4),
            1 / 6 * (u3 + u4 - u1 - u2) + u5)


# The kernels for tiles of 4x4 outputs and 6x6 inputs: the compiler unrolls sizes that it knows.

@jit
def transform_tiles(channels, tiles, x, near, grid, scratch, V):
    winograd_kernels.transform_tiles(4, 6, input_transform, channels, tiles, x, near, grid, scratch, V)


@jit
def transform_filters(rows, depth, filters, taps, scratch, U):
    winograd_kernels.transform_filters(6, filter_transform, rows, depth, filters, taps, scratch, U)


@jit
def convolve_tiles(tiles, x, near, grid, U, y, bias, relu, scratch, V, M, largest):
    winograd_kernels.convolve_tiles(4, 6, input_transform, output_transform, tiles, x, near, grid, U, y, bias, relu,
                                    scratch, V, M, largest)


@jit
def convolve_filters(rows, tiles, run, grid, filters, taps, depth, V, y, bias, relu, scratch, U, M, largest):
    winograd_kernels.convolve_filters(4, 6, filter_transform, output_transform, rows, tiles, run, grid, filters, taps,
                                      depth, V, y, bias, relu, scratch, U, M, largest)


@jit
def transform_inputs_by_channels(channels, tiles, x, near, grid, scratch, pixels, V):
    winograd_kernels.transform_by_channels(4, 6, 6, input_transform, channels, tiles, x, near, grid, scratch, pixels, V)


@jit
def transform_grads_by_channels(channels, tiles, grad, grid, scratch, pixels, D):
    winograd_kernels.transform_by_channels(4, 6, 4, output_transform_transposed, channels, tiles, grad, (0, 0), grid,
                                           scratch, pixels, D)


@jit
def sum_tiles(chain, tiles, x, near, grad, grid, scratch, pixels, V, D, dU):
    winograd_kernels.sum_tiles(4, 6, input_transform, output_transform_transposed, chain, tiles, x, near, grad, grid,
                               scratch, pixels, V, D, dU)


@jit
def collect_filters(rows, first, dU, scratch, weight, largest):
    winograd_kernels.collect_filters(6, filter_transform_transposed, rows, first, dU, scratch, weight, largest)


_kernels = winograd.Kernels(4, transform_tiles, transform_filters, convolve_tiles, convolve_filters,
                            transform_inputs_by_channels, transform_grads_by_channels, sum_tiles, collect_filters)


def conv2d(x, weight, geometry, bias=None, relu=False):
    """x (N, C, H, W), weight (O, C, 3, 3) -> (N, O, H', W')."""
    return winograd.conv2d(_kernels, x, weight, geometry, bias, relu)


def conv2d_input_grad(grad, weight, geometry, bias=None, relu=False):
    """grad (N, O, H', W'), weight (O, C, 3, 3) -> (N, C, H, W)."""
    return winograd.conv2d_input_grad(_kernels, grad, weight, geometry, bias, relu)


def conv2d_weight_grad(grad, x, geometry):
    """grad (N, O, H', W'), x (N, C, H, W) -> (O, C, 3, 3)."""
    return winograd.conv2d_weight_grad(_kernels, grad, x, geometry)
