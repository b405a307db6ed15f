"""Winograd's F(2x2, 3x3): 16 multiplications for 4 outputs in place of 36, from the points 0, 1, -1, ∞.

The matrices are those of Lavin & Gray, arXiv:1509.09308, section 4; `winograd` tells how they are used.
"""

from tinyseg.jit import jit
from tinyseg.kernels.cpu import winograd, winograd_ways

__all__ = ["conv2d", "conv2d_input_grad", "conv2d_weight_grad"]


@jit
def input_transform(d):
    """Bᵀ d."""
    d0, d1, d2, d3 = d
    return d0 - d2, d1 + d2, d2 - d1, d1 - d3


@jit
def filter_transform(g):
    """G g."""
    g0, g1, g2 = g
    even, odd = 1 / 2 * (g0 + g2), 1 / 2 * g1
    return g0, even + odd, even - odd, g2


@jit
def output_transform(m):
    """Aᵀ m."""
    m0, m1, m2, m3 = m
    return m0 + m1 + m2, m1 - m2 - m3


@jit
def output_transform_transposed(y):
    """A y."""
    y0, y1 = y
    return y0, y0 + y1, y0 - y1, -y1


@jit
def filter_transform_transposed(u):
    """Gᵀ u."""
    u0, u1, u2, u3 = u
    sum_, difference = 1 / 2 * (u1 + u2), 1 / 2 * (u1 - u2)
    return u0 + sum_, difference, sum_ + u3


# The kernels for tiles of 2x2 outputs and 4x4 inputs: the compiler unrolls sizes that it knows.

@jit
def convolve_by_tiles(team, task, size, memory):
    winograd_ways.convolve_by_tiles(_transform_filters, _convolve_tiles, team, task, size, memory)


@jit
def _transform_filters(number, member, filters, scratch, U):
    winograd_ways.transform_filters_turn(4, filter_transform, number, member, filters, scratch, U)


@jit
def _convolve_tiles(number, member, task, size, memory):
    winograd_ways.convolve_tiles_turn(2, 4, input_transform, output_transform, number, member, task, size, memory)


@jit
def convolve_by_filters(team, task, size, run, memory):
    winograd_ways.convolve_by_filters(_transform_tiles, _convolve_filters, team, task, size, run, memory)


@jit
def _transform_tiles(number, member, task, tiles, depth, memory):
    winograd_ways.transform_tiles_turn(2, 4, input_transform, number, member, task, tiles, depth, memory)


@jit
def _convolve_filters(number, member, task, tiles, run, memory):
    winograd_ways.convolve_filters_turn(2, 4, filter_transform, output_transform, number, member, task, tiles, run,
                                        memory)


@jit
def sum_by_tiles(team, task, size, chain, memory):
    winograd_ways.sum_by_tiles(_sum_tiles, _collect, team, task, size, chain, memory)


@jit
def _sum_tiles(number, member, task, size, chain, memory):
    winograd_ways.sum_tiles_turn(2, 4, input_transform, output_transform_transposed, number, member, task, size, chain,
                                 memory)


@jit
def sum_by_points(team, task, rows, size, chain, memory):
    winograd_ways.sum_by_points(_transform_channels, _collect, team, task, rows, size, chain, memory)


@jit
def _transform_channels(number, member, task, outputs, tiles, memory):
    winograd_ways.transform_channels_turn(2, 4, input_transform, output_transform_transposed, number, member, task,
                                          outputs, tiles, memory)


@jit
def _collect(number, member, outputs, dU, scratch, weight, largest):
    winograd_ways.collect_turn(4, filter_transform_transposed, number, member, outputs, dU, scratch, weight, largest)


_kernels = winograd.Kernels(2, convolve_by_tiles, convolve_by_filters, sum_by_tiles, sum_by_points)


def conv2d(x, weight, geometry, bias=None, relu=False):
    """x (N, C, H, W), weight (O, C, 3, 3) -> (N, O, H', W')."""
    return winograd.conv2d(_kernels, x, weight, geometry, bias, relu)


def conv2d_input_grad(grad, weight, geometry, bias=None, relu=False):
    """grad (N, O, H', W'), weight (O, C, 3, 3) -> (N, C, H, W)."""
    return winograd.conv2d_input_grad(_kernels, grad, weight, geometry, bias, relu)


def conv2d_weight_grad(grad, x, geometry):
    """grad (N, O, H', W'), x (N, C, H, W) -> (O, C, 3, 3)."""
    return winograd.conv2d_weight_grad(_kernels, grad, x, geometry)
