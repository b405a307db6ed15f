"""What nobody should pass, and somebody does: for every algorithm a right result or one clear error."""

import itertools

import numpy as np
import pytest

from tinyseg import kernels
from tinyseg.arithmetic import ConvGeometry
from tinyseg.errors import ShapeError

OPERATIONS = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")
ALL = [pytest.param(operation, algorithm, dtype, id=f"{operation}-{algorithm}-{dtype}") for operation in OPERATIONS
       for dtype in ("float32", "float64") for algorithm in kernels.algorithms(operation, dtype=dtype)]
every_kernel = pytest.mark.parametrize(("operation", "algorithm", "dtype"), ALL)
COMMON = [ConvGeometry.convolution((9, 19), 3, padding=1), ConvGeometry.convolution((9, 19), 3, padding=1, groups=4),
          ConvGeometry.convolution((8, 17), (3, 2), (2, 3), 2, (2, 1))]


def operands(operation, geometry, dtype, batch=2, channels=4):
    """Small whole numbers: sums are exact where nothing is transformed."""
    rng = np.random.default_rng(0)
    x, weight, y = (rng.integers(-4, 5, shape).astype(dtype) for shape in (
        (batch, channels, *geometry.input_size), (channels, channels // geometry.groups, *geometry.kernel_size),
        (batch, channels, *geometry.output_size)))
    return {"conv2d": (x, weight), "conv2d_input_grad": (y, weight), "conv2d_weight_grad": (y, x)}[operation]


def run(operation, algorithm, a, b, geometry):
    """A kernel's result, or a skip where it says that it cannot."""
    reason = kernels.find(operation, algorithm).cannot(geometry, str(a.dtype))
    if reason:
        pytest.skip(reason)
    with np.errstate(invalid="ignore", over="ignore"):
        return getattr(kernels, operation)(a, b, geometry, algorithm)


def close(operation, algorithm, found, expected):
    """Equal, or as close as the kernel says that it comes."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    bound = {"highest": 1e-6, "high": 3e-5, "medium": 5e-3}[kernels.find(operation, algorithm).precision]
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound * max(1, abs(expected).max(initial=0)))


def unaligned(array):
    """The same numbers from an odd address on."""
    memory = np.empty(array.nbytes + 1, np.uint8)
    moved = memory[1:].view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def every_second(array):
    wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), 77, array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


LAYOUTS = {"unaligned": unaligned, "read-only": read_only, "every second": every_second,
           "backwards": lambda a: np.ascontiguousarray(a[::-1, :, ::-1, ::-1])[::-1, :, ::-1, ::-1],
           "channels last": lambda a: np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
           "Fortran": np.asfortranarray, "swapped bytes": lambda a: a.astype(a.dtype.newbyteorder())}


@every_kernel
@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_in_another_order(operation, algorithm, dtype, layout):
    for geometry in COMMON[:2]:
        a, b = operands(operation, geometry, dtype)
        expected = run(operation, algorithm, a, b, geometry)
        found = getattr(kernels, operation)(LAYOUTS[layout](a), LAYOUTS[layout](b), geometry, algorithm)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


@every_kernel
def test_an_empty_batch(operation, algorithm, dtype):
    for geometry in COMMON:
        if kernels.find(operation, algorithm).cannot(geometry, dtype) is None:
            a, b = operands(operation, geometry, dtype, batch=0)
            found = run(operation, algorithm, a, b, geometry)
            expected = run(operation, "loops", a, b, geometry)
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_channels(operation):
    a, b = (array[:, :0] for array in operands(operation, COMMON[0], "float32"))
    with pytest.raises(ShapeError, match="needs multiples of groups"):
        getattr(kernels, operation)(a, b, COMMON[0])


def test_a_dilation_beyond_the_input():
    with pytest.raises(ShapeError, match="kernel 3 with dilation 1000000 spans 2000001 > padded input"):
        ConvGeometry.convolution((9, 9), 3, padding=1, dilation=1_000_000)


@every_kernel
@pytest.mark.parametrize("geometry", [
    ConvGeometry.convolution((9, 9), 3, padding=500, dilation=500),            # all taps but one are in the padding
    ConvGeometry.convolution((3, 5), 1, padding=20),                           # most results are
    ConvGeometry.convolution((1, 1), 2, padding=1, dilation=2),                # all of them
    ConvGeometry.convolution((300, 2), 1, stride=299),
    ConvGeometry.convolution((200, 200), 2, stride=150, padding=(0, 100)),
    ConvGeometry.convolution((1, 300), (1, 300)),
], ids=str)
def test_taps_far_from_the_image(operation, algorithm, dtype, geometry):
    a, b = operands(operation, geometry, dtype, 1, 2)
    close(operation, algorithm, run(operation, algorithm, a, b, geometry), run(operation, "loops", a, b, geometry))


@every_kernel
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_never_lost(operation, algorithm, dtype, value):
    """It reaches every number that it takes part in, and no other image of the batch, or channel of the result."""
    for geometry, which in itertools.product(COMMON[:2], (0, 1)):
        if kernels.find(operation, algorithm).cannot(geometry, dtype):
            continue
        arrays = operands(operation, geometry, dtype)
        arrays[which][1, -1, 1, 1] = value
        spoiled = ~np.isfinite(run(operation, "loops", *arrays, geometry))
        found = ~np.isfinite(run(operation, algorithm, *arrays, geometry))
        assert spoiled.any()
        assert found[spoiled].all()
        if operation != "conv2d_weight_grad":
            apart = ~spoiled.any(axis=(1, 2, 3) if which == 0 else (0, 2, 3))
            assert not (found[apart] if which == 0 else found[:, apart]).any()


@pytest.mark.parametrize("algorithm", ["loops", "direct", "im2col"])
def test_more_numbers_than_32_bits_count(algorithm):
    """Pages that nobody writes take no memory, and a stride this large meets four pixels of each image."""
    try:
        x = np.zeros((2, 1, 32768, 49152), np.float32)                   # 3·2^30
    except MemoryError:
        pytest.skip("no address space for 12 GB")
    x[1, 0, 32767, 49151] = 5
    geometry = ConvGeometry((32768, 49152), (1, 1), stride=(32767, 49151))
    weight = np.full((1, 1, 1, 1), 2, np.float32)
    y = kernels.conv2d(x, weight, geometry, algorithm)
    assert y.ravel().tolist() == [0, 0, 0, 0, 0, 0, 0, 10]
    assert kernels.conv2d_weight_grad(y, x, geometry, algorithm).item() == 50
