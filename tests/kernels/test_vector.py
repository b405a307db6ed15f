"""Each word of `vector`, compiled, does what its Python body says: for every width that this processor can run.

The body is the meaning.  Results are compared bit by bit, except that a NaN may be any NaN and a zero either zero, and
that a compiled a·b + c is rounded once where the body rounds twice.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import config

from tinyseg.jit import jit
from tinyseg.kernels.cpu import vector
from tinyseg.kernels.cpu.vector import (
    COLUMNS,
    LANES,
    ROWS,
    add_tile,
    bf16,
    deinterleave,
    evens,
    fma,
    fma_rows,
    gather,
    interleave,
    load,
    load_part,
    load_rows,
    load_rows_part,
    magnitude,
    maximum,
    minimum,
    odds,
    outer_add,
    outer_add_down,
    pair,
    peak,
    prefetch,
    scatter,
    splat,
    store,
    store_part,
    store_rows,
    store_tile,
    straddle,
    total,
    transpose,
    transpose_square,
    words,
    zero_tile,
    zip_first,
    zip_last,
)

WIDTHS = {"own": {}, "8 lanes": {"NUMBA_CPU_FEATURES": "+avx2,+fma,+avx,+sse4.2,+popcnt"},
          "4 lanes": {"NUMBA_CPU_FEATURES": ""}, "no compiler": {"NUMBA_DISABLE_JIT": "1"}}
SPECIAL = [0.0, -0.0, 1.0, -1.5, 3e38, -3e38, 1e-40, np.inf, -np.inf, np.nan, 1 + 2**-8, 1 + 3 * 2**-9, 2**-126]
number = st.one_of(st.sampled_from(SPECIAL), st.floats(width=32, allow_nan=False))
count = st.integers(-1, LANES + 1)


def vectors(n, numbers=number):
    return st.lists(numbers, min_size=n * LANES, max_size=n * LANES).map(lambda v: np.array(v, np.float32))


def exact(n):
    """Numbers whose products and sums need no rounding."""
    return vectors(n, st.integers(-8, 8).map(float))


def both(kernel, *arrays):
    """What the kernel leaves in its last array, compiled and as Python; the others are left alone."""
    compiled, plain = arrays[-1].copy(), arrays[-1].copy()
    kept = [array.copy() if isinstance(array, np.ndarray) else array for array in arrays[:-1]]
    with np.errstate(all="ignore"):
        kernel(*arrays[:-1], compiled)
        getattr(kernel, "py_func", kernel)(*arrays[:-1], plain)
    for array, before in zip(arrays[:-1], kept, strict=True):
        np.testing.assert_array_equal(array, before)
    return compiled, plain


def agree(kernel, *arrays):
    compiled, plain = both(kernel, *arrays)
    np.testing.assert_array_equal(compiled, plain)
    return compiled


def blank(*shape):
    return np.full(shape, 7, np.float32)


# ---- arithmetic ----------------------------------------------------------------------------------------------------

@jit
def _arithmetic(x, out):
    a, b = load(x, 0), load(x, LANES)
    for k, v in enumerate((a + b, a - b, a * b, -a, 4 * a, b - 5, 0.5 + b, maximum(a, b), minimum(a, b))):
        store(out, k * LANES, v)


@given(vectors(2))
def test_arithmetic(x):
    agree(_arithmetic, x, blank(9 * LANES))


@jit
def _fused(x, out):
    a, b, c = load_rows(x, 0, LANES, 3)
    store(out, 0, fma(a, b, c))
    store_rows(out, LANES, LANES, fma_rows(a, (b, c), (c, a)))
    out[3 * LANES] = total(a)
    out[3 * LANES + 1] = peak(magnitude(splat(0), a))


@given(exact(3))
def test_a_product_and_a_sum(x):
    out = agree(_fused, x, blank(4 * LANES))
    assert out[3 * LANES] == x[:LANES].sum()
    assert out[3 * LANES + 1] == np.abs(x[:LANES]).max()


@given(vectors(3, st.floats(-1, 1, width=32)))
def test_a_product_and_a_sum_are_rounded_at_most_twice(x):
    np.testing.assert_allclose(*both(_fused, x, blank(4 * LANES)), rtol=0, atol=LANES * 2e-7)


@jit
def _bits(x, out):
    a, b = load(x, 0), load(x, LANES)
    for k, v in enumerate((bf16(a), pair(a, b), words(a, b), straddle(a, b), magnitude(splat(0), a),
                           magnitude(magnitude(splat(0), a), b), evens(a), odds(a), zip_first(a, b), zip_last(a, b))):
        store(out, k * LANES, v)


@given(vectors(2))
def test_bits(x):
    out = blank(10 * LANES)
    x[np.abs(x) < 2**-126] = 0                       # `words` may lose denormals
    out = both(_bits, x, out)
    for compiled, plain in zip(*(o.reshape(10, LANES) for o in out), strict=True):
        np.testing.assert_array_equal(compiled.view(np.uint32), plain.view(np.uint32))


@given(vectors(2))
def test_magnitude_loses_nothing(x):
    with np.errstate(all="ignore"):
        largest = both(_bits, x, blank(10 * LANES))[0][5 * LANES:6 * LANES]
    np.testing.assert_array_equal(largest, np.maximum(abs(x[:LANES]), abs(x[LANES:])))


# ---- memory --------------------------------------------------------------------------------------------------------

@jit
def _moves(x, n, step, out):
    store(out, (0, 1), load(x, (1, 3)))
    store(out, (1, 0), load_part(x, (0, 2), n))
    store_part(out, (2, 2), load(x, (2, 0)), n)
    store(out, (3, 0), gather(x, (0, 1), step))
    store(out, (4, 0), gather(x, (0, 1), step, n))
    scatter(out, (5, 1), step, load(x, (0, 0)), n)
    prefetch(x, (1000, 0))


@given(x=vectors(12), n=count, step=st.integers(1, 4))
def test_loads_and_stores(x, n, step):
    out = agree(_moves, x.reshape(3, -1), n, step, blank(12, 2 * LANES))
    kept = out[5:].reshape(-1)
    assert (np.delete(kept, 1 + step * np.arange(LANES)) == 7).all()     # a scatter touches its elements only


@jit
def _rows(x, y, height, n, out):
    store_rows(out, (0, 0), out.shape[1], load_rows(x, (1, 1), x.shape[1], 3))
    store_rows(out, (3, 2), out.shape[1], load_rows_part(x, (y, 0), x.shape[1], 4, -y, height - y, n))


@given(x=vectors(12), y=st.integers(-6, 6), n=count)
def test_rows_that_lie_partly_outside(x, y, n):
    out = agree(_rows, x.reshape(6, -1), y, 6, n, blank(7, 2 * LANES))
    inside = [0 <= y + k < 6 for k in range(4)]
    assert not out[3:, 2:2 + LANES][np.logical_not(inside)].any()


@jit
def _orders(x, out):
    store_rows(out, 0, LANES, deinterleave(load_rows(x, 0, LANES, 2)))
    store_rows(out, 2 * LANES, LANES, deinterleave(load_rows(x, 0, LANES, 3)))
    store_rows(out, 5 * LANES, LANES, deinterleave(load_rows(x, 0, LANES, 4)))
    store_rows(out, 9 * LANES, LANES, interleave(load_rows(x, 0, LANES, 2)))
    store_rows(out, 11 * LANES, LANES, interleave(load_rows(x, 0, LANES, 3)))
    store_rows(out, 14 * LANES, LANES, interleave(load_rows(x, 0, LANES, 4)))
    store_rows(out, 18 * LANES, LANES, interleave(deinterleave(load_rows(x, 0, LANES, 3))))


@given(vectors(4))
def test_interleaving(x):
    out = agree(_orders, x, blank(21 * LANES))
    np.testing.assert_array_equal(out[18 * LANES:], x[:3 * LANES])       # there and back


@jit
def _squares(x, out):
    store_rows(out, (0, 0), out.shape[1], transpose(load_rows(x, (0, 0), x.shape[1], LANES)))
    transpose_square(x, (0, 1), x.shape[1], out, (LANES, 2), out.shape[1])


def test_transposes():
    x = np.arange(LANES * 2 * LANES, dtype=np.float32).reshape(LANES, -1)
    out = agree(_squares, x, blank(2 * LANES, 2 * LANES))
    np.testing.assert_array_equal(out[:LANES, :LANES], x[:, :LANES].T)
    np.testing.assert_array_equal(out[LANES:, 2:2 + LANES], x[:, 1:1 + LANES].T)


# ---- tiles ---------------------------------------------------------------------------------------------------------

def tile_kernel(rows, columns):
    @jit
    def kernel(a, b, depth, out):
        tile = zero_tile(rows, columns)
        for k in range(depth):
            tile = outer_add(tile, a, (k, 1), b, (k, 2))
        for k in range(depth):
            tile = outer_add_down(tile, a, (0, k), b, (k, 0))
        store_tile(tile, out, (0, 1))
        store_tile(add_tile(tile, out, (rows, 0)), out, (rows, 0))
    return kernel


SHAPES = sorted({(ROWS, COLUMNS), (ROWS, 2), (ROWS, 1), (1, 1), (1, 4), (4, 3), (12, 2), (14, 2)})
TILES = {shape: tile_kernel(*shape) for shape in SHAPES}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
@given(depth=st.integers(0, 5), seed=st.integers(0, 99))
def test_tiles(shape, depth, seed):
    (rows, columns), rng = shape, np.random.default_rng(seed)
    a = rng.integers(-8, 9, (max(rows, 5), rows + 5)).astype(np.float32)
    b = rng.integers(-8, 9, (5, columns * LANES + 2)).astype(np.float32)
    out = agree(TILES[shape], a, b, depth, blank(2 * rows, columns * LANES + 3))
    expected = a[:depth, 1:1 + rows].T @ b[:depth, 2:] + a[:rows, :depth] @ b[:depth, :-2]
    np.testing.assert_array_equal(out[:rows, 1:-2], expected)
    np.testing.assert_array_equal(out[rows:, :-3], expected + 7)


# ---- the body holds every access to its array ----------------------------------------------------------------------

@pytest.mark.parametrize("access", [
    lambda x: load(x, (1, 1)), lambda x: load(x, -1), lambda x: load_part(x, (1, LANES - 1), 2),
    lambda x: store(x, (1, 1), splat(0)), lambda x: gather(x, 0, 3), lambda x: scatter(x, 1, 2, splat(0), LANES),
    lambda x: load_rows(x, (0, 0), LANES, 3), lambda x: store_rows(x, (1, 0), LANES, (splat(0), splat(0))),
    lambda x: load_rows_part(x, (-1, 0), LANES, 3, 0, 3, LANES),
    lambda x: outer_add(zero_tile(2, 2), x, (1, LANES - 1), x, 0), lambda x: store_tile(zero_tile(3, 1), x, 0),
    lambda x: load(x[:, ::2], 0)])
def test_an_access_outside_the_array_is_refused(access):
    with pytest.raises(AssertionError):
        access(np.zeros((2, LANES), np.float32))


def test_nothing_is_read_outside_for_lanes_that_are_none():
    x = np.zeros((2, LANES), np.float32)
    assert not load_part(x, (9, 9), 0).any()
    assert len(load_rows_part(x, (-1, 0), LANES, 3, 1, 3, LANES)) == 3


def test_every_word_has_a_test():
    source = Path(__file__).read_text(encoding="utf-8")
    names = [name for name in vector.__all__ if name.islower() and name != "compiled"]
    assert [name for name in names if source.count(f"{name}(") == 0] == []


# ---- widths --------------------------------------------------------------------------------------------------------

CONVOLVE = """
import numpy as np
from tinyseg.arithmetic import ConvGeometry
from tinyseg.kernels.cpu import loops, vector, winograd2, winograd4
rng = np.random.default_rng(0)
g = ConvGeometry((7, 9), (3, 3), padding=((1, 0), (2, 1)))
x, w, y = (rng.standard_normal(s).astype(np.float32) for s in ((2, 3, 7, 9), (5, 3, 3, 3), (2, 5, *g.output_size)))
for winograd in (winograd2, winograd4):
    for operation, a, b in (("conv2d", x, w), ("conv2d_input_grad", y, w), ("conv2d_weight_grad", y, x)):
        got, expected = (getattr(module, operation)(a, b, g) for module in (winograd, loops))
        assert abs(got - expected).max() <= 1e-5 * abs(expected).max(), (winograd.__name__, operation)
print(vector.LANES)
"""


def runs(environment):
    """Can this processor run code for these features?"""
    asked = environment.get("NUMBA_CPU_FEATURES", "").replace("+", "").split(",")
    return vector.FEATURES.issuperset(feature for feature in asked if feature)


@pytest.mark.skipif(bool(config.DISABLE_JIT or config.CPU_FEATURES is not None), reason="already in such a process")
@pytest.mark.parametrize("width", WIDTHS)
def test_every_width(width):
    environment = WIDTHS[width]
    if not runs(environment):
        pytest.skip("this processor cannot")
    environment = os.environ | environment           # Numba keeps what it compiles for each set of features apart
    finished = subprocess.run([sys.executable, "-c", CONVOLVE], text=True, env=environment, capture_output=True,
                              timeout=400)
    assert finished.returncode == 0, finished.stderr
    if "NUMBA_CPU_FEATURES" in WIDTHS[width]:
        assert finished.stdout.strip() == width.split()[0]
    if width != "own":                               # this process tests those
        finished = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__], text=True,
                                  env=environment, capture_output=True, timeout=400)
        assert finished.returncode == 0, finished.stdout
