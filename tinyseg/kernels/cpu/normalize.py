"""Normalisation of float32 images in one visit to memory: the fast form of `normalize_definition`.

Planes of common statistics are summed and scaled one group after the other, so that of all but the largest groups the
second pass finds in the cache what the first one read.  Each thread has groups of its own.

Statistics are float64.  An element enters the last step as its distance from a float32 number near the mean, which is
exact where it matters, so a large mean does not drown a small deviation.
"""

import math

import numpy as np

from tinyseg.jit import jit
from tinyseg.kernels.cpu.team import share_range
from tinyseg.kernels.cpu.threads import team
from tinyseg.kernels.cpu.vector import LANES, fma, load, load_part, maximum, splat, store_part
from tinyseg.kernels.cpu.vector_math import put, where_positive, wide, wide_total, widen
from tinyseg.kernels.cpu.workspace import empty_like, past_cache

Sizes = tuple[int, int, int]


def normalize(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, sizes: Sizes, eps: float,
              relu: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `normalize_definition.normalize`."""
    planes, y = _planes(x), empty_like(x)
    mean, variance = np.empty(sizes[1]), np.empty(sizes[1])
    _normalize(team(), planes, sizes[0], sizes[2], weight.astype(np.float64), bias.astype(np.float64), eps, relu,
               _planes(y), past_cache(y), mean, variance)
    return y, mean, variance


def normalize_grad(grad: np.ndarray, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, mean: np.ndarray,
                   variance: np.ndarray, sizes: Sizes, eps: float,
                   relu: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `normalize_definition.normalize_grad`."""
    dx = empty_like(x)
    products, totals = np.empty((2, sizes[1], sizes[2]))
    _normalize_grad(team(), _planes(grad), _planes(x), sizes[0], sizes[2], weight.astype(np.float64),
                    bias.astype(np.float64), mean, variance, eps, relu, _planes(dx), past_cache(dx), products, totals)
    return dx, products.reshape(-1, len(weight)).sum(0), totals.reshape(-1, len(weight)).sum(0)


def affine(x: np.ndarray, centre: np.ndarray, scale: np.ndarray, shift: np.ndarray, relu: bool) -> np.ndarray:
    """As `normalize_definition.affine`."""
    y = empty_like(x)
    _affine(team(), _planes(x), centre.astype(np.float64), scale.astype(np.float64), shift.astype(np.float64), relu,
            _planes(y), past_cache(y))
    return y


def _planes(x: np.ndarray) -> np.ndarray:
    """(N·C, S)"""
    return x.reshape(x.shape[0] * x.shape[1], math.prod(x.shape[2:]))


@jit
def _normalize(team, x, images, channels, weight, bias, eps, relu, y, past, mean, variance):
    share_range(team, len(mean), x.size, _normalize_groups,
                (x, images, channels, weight, bias, eps, relu, y, past, mean, variance))


@jit
def _normalize_groups(first, last, x, images, channels, weight, bias, eps, relu, y, past, mean, variance):
    groups = len(mean)
    for g in range(first, last):
        near = x[g * channels, 0]
        offset, mean_square = _moments(x, g, groups, images, channels, near)
        mean[g], variance[g] = near + offset, max(mean_square - offset * offset, 0.0)
        if offset != offset:
            variance[g] = offset                     # max may lose a NaN
        inverse = 1 / math.sqrt(variance[g] + eps)
        centre = np.float32(mean[g])
        for a in range(images):
            for b in range(channels):
                c = (g * channels + b) % len(weight)
                scale = inverse * weight[c]
                _scale(x, (a * groups + g) * channels + b, centre, scale, bias[c] + (centre - mean[g]) * scale, relu,
                       y, past)


@jit
def _moments(x, g, groups, images, channels, near):
    """The means of x - near and of its square, over the planes of group g."""
    size = x.shape[1]
    sums, squares, more_sums, more_squares = wide(0.0), wide(0.0), wide(0.0), wide(0.0)
    centre = widen(splat(near))
    whole = size - size % (2 * LANES)
    total, total_square = 0.0, 0.0
    for a in range(images):
        for b in range(channels):
            p = (a * groups + g) * channels + b
            for j in range(0, whole, 2 * LANES):
                d, e = widen(load(x, (p, j))) - centre, widen(load(x, (p, j + LANES))) - centre
                sums, squares = sums + d, squares + d * d
                more_sums, more_squares = more_sums + e, more_squares + e * e
            for j in range(whole, size):
                deviation = np.float64(x[p, j]) - near
                total += deviation
                total_square += deviation * deviation
    count = images * channels * size
    return ((wide_total(sums + more_sums) + total) / count,
            (wide_total(squares + more_squares) + total_square) / count)


@jit
def _scale(x, p, centre, scale, shift, relu, y, past):
    """y = (x - centre)·scale + shift on plane p."""
    size = x.shape[1]
    floor = splat(0.0 if relu else -math.inf)
    centres, scales, shifts = splat(centre), splat(scale), splat(shift)
    whole = size - size % LANES
    for j in range(0, whole, LANES):
        put(y, (p, j), maximum(floor, fma(load(x, (p, j)) - centres, scales, shifts)), past)
    rest = size - whole
    if rest:
        part = maximum(floor, fma(load_part(x, (p, whole), rest) - centres, scales, shifts))
        store_part(y, (p, whole), part, rest)


@jit
def _normalize_grad(team, grad, x, images, channels, weight, bias, mean, variance, eps, relu, dx, past, products,
                    totals):
    share_range(team, len(mean), x.size, _normalize_grad_groups,
                (grad, x, images, channels, weight, bias, mean, variance, eps, relu, dx, past, products, totals))


@jit
def _normalize_grad_groups(first, last, grad, x, images, channels, weight, bias, mean, variance, eps, relu, dx, past,
                           products, totals):
    groups = len(mean)
    count = images * channels * x.shape[1]
    for g in range(first, last):
        inverse = 1 / math.sqrt(variance[g] + eps)
        centre = np.float32(mean[g])
        apart = centre - mean[g]
        drift, stretch = 0.0, 0.0                    # E[γ dy] and E[γ dy x̂]
        for b in range(channels):
            c = (g * channels + b) % len(weight)
            scale = inverse * weight[c]
            total, product = 0.0, 0.0
            for a in range(images):
                sum_, with_deviation = _products(grad, x, (a * groups + g) * channels + b, centre, scale,
                                                 bias[c] + apart * scale, relu)
                total += sum_
                product += (with_deviation + apart * sum_) * inverse
            products[g, b], totals[g, b] = product, total
            drift += weight[c] * total / count
            stretch += weight[c] * product / count
        slope = -stretch * inverse * inverse
        for a in range(images):
            for b in range(channels):
                c = (g * channels + b) % len(weight)
                scale = inverse * weight[c]
                _combine(grad, x, (a * groups + g) * channels + b, centre, scale, bias[c] + apart * scale, relu,
                         slope, apart * slope - drift * inverse, dx, past)


@jit
def _products(grad, x, p, centre, scale, shift, relu):
    """Σ g and Σ g·(x - centre) on plane p, where g is the gradient, 0 where ReLU stopped it."""
    size = x.shape[1]
    centres, scales, shifts = splat(centre), splat(scale), splat(shift)
    sums, products = wide(0.0), wide(0.0)
    whole = size - size % LANES
    for j in range(0, size, LANES):
        if j < whole:
            d, g = load(x, (p, j)) - centres, load(grad, (p, j))
        else:                                        # g is 0 in the lanes beyond the end
            d, g = load_part(x, (p, j), size - j) - centres, load_part(grad, (p, j), size - j)
        if relu:
            g = where_positive(fma(d, scales, shifts), g)
        wide_g = widen(g)
        sums, products = sums + wide_g, products + wide_g * widen(d)
    return wide_total(sums), wide_total(products)


@jit
def _combine(grad, x, p, centre, scale, shift, relu, slope, constant, dx, past):
    """scale·g + slope·(x - centre) + constant on plane p, with the g of `_products`."""
    size = x.shape[1]
    centres, scales, shifts = splat(centre), splat(scale), splat(shift)
    slopes, constants = splat(slope), splat(constant)
    whole = size - size % LANES
    for j in range(0, size, LANES):
        if j < whole:
            d, g = load(x, (p, j)) - centres, load(grad, (p, j))
        else:
            d, g = load_part(x, (p, j), size - j) - centres, load_part(grad, (p, j), size - j)
        if relu:
            g = where_positive(fma(d, scales, shifts), g)
        value = fma(scales, g, fma(slopes, d, constants))
        if j < whole:
            put(dx, (p, j), value, past)
        else:
            store_part(dx, (p, j), value, size - j)


@jit
def _affine(team, x, centre, scale, shift, relu, y, past):
    share_range(team, len(x), x.size, _affine_planes, (x, centre, scale, shift, relu, y, past))


@jit
def _affine_planes(first, last, x, centre, scale, shift, relu, y, past):
    for p in range(first, last):
        c = p % len(scale)
        near = np.float32(centre[c])
        _scale(x, p, near, scale[c], shift[c] + (near - centre[c]) * scale[c], relu, y, past)
