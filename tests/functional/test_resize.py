import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from poolings import SIZES, batches

import tinyseg.functional as F
from tinyseg.autograd import gradcheck, gradcheck_directional, tensor
from tinyseg.errors import ArgumentError, DTypeError, ShapeError
from tinyseg.kernels import axis
from tinyseg.kernels.registry import run

MODES = st.sampled_from([("nearest", False), ("nearest-exact", False), ("bilinear", False), ("bilinear", True)])
SQUARE = np.array([[[[1.0, 2], [3, 4]]]])


@pytest.mark.parametrize(("align_corners", "row"), [(False, [1, 1.25, 1.75, 2]), (True, [1, 4 / 3, 5 / 3, 2])])
def test_bilinear_by_hand(align_corners, row):
    y = F.interpolate(SQUARE, 4, mode="bilinear", align_corners=align_corners).numpy()[0, 0]
    np.testing.assert_allclose(y[0], row, rtol=1e-15)
    np.testing.assert_allclose(y[:, 0], 1 + 2 * (np.array(row) - 1), rtol=1e-15)


def test_nearest_takes_the_near_corner_or_the_centre():
    x = np.arange(5.0).reshape(1, 1, 1, 5)
    assert F.interpolate(x, (1, 3)).tolist() == [[[[0, 1, 3]]]]                          # floor(x' · 5/3)
    assert F.interpolate(x, (1, 3), mode="nearest-exact").tolist() == [[[[0, 2, 4]]]]    # floor((x' + 1/2) · 5/3)
    assert F.interpolate(SQUARE, scale_factor=2).tolist() == [[[[1, 1, 2, 2]] * 2 + [[3, 3, 4, 4]] * 2]]


def test_nearest_is_exact_where_the_quotient_is_whole():
    for o in range(1, 60):
        for factor in (1, 2, 3, 5, 7):
            assert axis.nearest(o * factor, o).source.tolist() == [factor * x for x in range(o)]


def test_an_output_of_one():
    x = np.arange(5.0).reshape(1, 1, 1, 5)
    assert F.interpolate(x, (1, 1), mode="bilinear", align_corners=True).tolist() == [[[[0]]]]   # the first corner
    assert F.interpolate(x, (1, 1), mode="bilinear").tolist() == [[[[2]]]]                       # the centre
    assert F.interpolate(x[..., :1], (3, 2), mode="bilinear", align_corners=True).tolist() == [[[[0, 0]] * 3]]


def test_a_scale_factor_takes_the_place_of_the_quotient():
    x = np.random.default_rng(0).standard_normal((1, 1, 5, 5))
    y = F.interpolate(x, scale_factor=1.5, mode="bilinear")
    assert y.shape == (1, 1, 7, 7)                   # floor(7.5)
    np.testing.assert_allclose(y.numpy()[0, 0, 1, 1], np.mean(x[0, 0, :2, :2]))  # at (1 + 1/2) / 1.5 - 1/2 = 1/2
    assert F.interpolate(x, scale_factor=(2, 0.5)).shape == (1, 1, 10, 2)
    assert F.interpolate(x, scale_factor=1.1, mode="bilinear").tolist() == x.tolist()    # 5 pixels stay 5


@given(size=SIZES, new=SIZES, mode=MODES, data=st.data())
def test_the_gradient_is_the_transpose(size, new, mode, data):
    x = tensor(data.draw(batches(size)), requires_grad=True)
    y = F.interpolate(x, new, mode=mode[0], align_corners=mode[1])
    assert y.shape == (*x.shape[:2], *new)
    cotangent = np.random.default_rng(1).standard_normal(y.shape)
    y.backward(cotangent)
    np.testing.assert_allclose(np.vdot(y.data, cotangent), np.vdot(x.data, x.grad.data), rtol=1e-11, atol=1e-12)


@given(size=SIZES, new=SIZES, mode=MODES)
def test_every_output_is_a_mean(size, new, mode):
    y = F.interpolate(np.full((1, 1, *size), 7.0), new, mode=mode[0], align_corners=mode[1]).numpy()
    np.testing.assert_allclose(y, 7, rtol=1e-15)


@given(size=SIZES, mode=MODES, data=st.data())
def test_the_same_size_is_the_same_image(size, mode, data):
    x = data.draw(batches(size))
    x[..., 0, 0] = np.inf                            # and no neighbour is multiplied by 0
    np.testing.assert_array_equal(F.interpolate(x, size, mode=mode[0], align_corners=mode[1]).numpy(), x)


@given(size=st.tuples(st.integers(2, 9), st.integers(2, 9)), new=SIZES)
def test_aligned_corners_keep_straight_lines_straight(size, new):
    rows, columns = (np.linspace(-1, 1, n) for n in size)
    y = F.interpolate((rows[:, None] + 3 * columns)[None, None], new, mode="bilinear", align_corners=True).numpy()[0, 0]
    rows, columns = (np.linspace(-1, 1, n) for n in new)
    np.testing.assert_allclose(y, rows[:, None] + 3 * columns, atol=1e-13)


@given(size=SIZES, new=SIZES, data=st.data())
def test_taps_do_what_the_matrices_do(size, new, data):
    x = data.draw(batches(size))
    maps = data.draw(st.sampled_from([
        [axis.bilinear(i, o) for i, o in zip(size, new, strict=True)],
        [axis.bins(i, o) for i, o in zip(size, new, strict=True)],
        [axis.nearest(i, o).T for i, o in zip(new, size, strict=True)],
        [axis.reflected(i, i - 1, i // 2) for i in size],
    ]))
    np.testing.assert_allclose(run("resample2d", x, *maps), run("resample2d", x, *maps, algorithm="matrix"),
                               rtol=1e-12, atol=1e-13)
    for m in maps:
        np.testing.assert_array_equal(m.T.matrix, m.matrix.T)
        assert (m.weight != 0).all()


@pytest.mark.parametrize("arguments", [{"size": (7, 3)}, {"size": (7, 3), "mode": "bilinear"},
                                       {"scale_factor": 1.7, "mode": "bilinear"},
                                       {"size": 9, "mode": "bilinear", "align_corners": True}])
def test_gradients(arguments):
    x = np.random.default_rng(0).standard_normal((2, 2, 4, 5))
    gradcheck(lambda x: F.interpolate(x, **arguments), [x])
    gradcheck_directional(lambda x: F.interpolate(x, **arguments), [np.random.default_rng(0).random((2, 3, 33, 20))])


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
def test_label_maps_keep_their_labels(dtype):
    x = np.random.default_rng(0).choice([0, 7, 255], (1, 1, 6, 5)).astype(dtype)
    y = F.interpolate(x, (13, 3))
    assert y.dtype == dtype
    assert set(np.unique(y.numpy())) <= set(np.unique(x))


@pytest.mark.parametrize(("arguments", "error", "text"), [
    ({}, ArgumentError, "interpolate: size None, scale_factor None; needs one of the two"),
    ({"size": 4, "scale_factor": 2}, ArgumentError, "needs one of the two"),
    ({"size": 4, "mode": "bicubic"}, ArgumentError, "mode 'bicubic'; legal: nearest, nearest-exact, bilinear"),
    ({"size": 4, "align_corners": True}, ArgumentError, "align_corners with mode 'nearest'"),
    ({"size": 0}, ShapeError, "output size 0x0"),
    ({"size": (2, 2.5)}, ArgumentError, r"size \(2, 2.5\)"),
    ({"scale_factor": 0.1}, ShapeError, r"output size 0x0 \(HxW\) from 2x2"),
    ({"scale_factor": -1}, ArgumentError, "scale_factor -1; needs a number > 0"),
    ({"scale_factor": (1, 2, 3)}, ArgumentError, "scale_factor"),
])
def test_what_does_not_fit_is_refused(arguments, error, text):
    with pytest.raises(error, match=text):
        F.interpolate(SQUARE, **arguments)


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(DTypeError, match="interpolate: input is uint8; needs float32 or float64"):
        F.interpolate(np.zeros((1, 1, 2, 2), np.uint8), 4, mode="bilinear")
    with pytest.raises(DTypeError, match="interpolate: input is bool"):
        F.interpolate(np.zeros((1, 1, 2, 2), bool), 4)
    with pytest.raises(ShapeError, match=r"interpolate: input of shape \(2, 2\); needs \(N, C, H, W\)"):
        F.interpolate(np.zeros((2, 2), np.uint8), 4)
    with pytest.raises(ShapeError, match="needs H >= 1"):
        F.interpolate(np.zeros((1, 1, 0, 2)), 4)
