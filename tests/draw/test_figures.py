import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyseg.draw import style
from tinyseg.draw.figures import confusion_figure, loss_figure, score_figure, series, smooth
from tinyseg.metrics import ConfusionMatrix, majority_baseline

ROWS = [{"step": s, "train_loss": 3 / (1 + s)} | ({"val_loss": 1.0, "mean_iou": s / 99} if s % 10 == 9 else {})
        for s in range(100)]


def confusion(n=3, seed=0):
    matrix = ConfusionMatrix(n)
    matrix.update(*np.random.default_rng(seed).integers(0, n, (2, 500)))
    return matrix


def words(figure):
    """The texts of a figure, read from its SVG."""
    root = ET.fromstring(style.to_svg(figure, "a & b"))
    assert root.attrib["aria-label"] == "a & b"
    return [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]


def test_series_keeps_what_was_measured():
    rows = [{"step": 5, "x": 1.0}, {"step": 6}, {"step": 7, "x": None}, {"step": 8, "x": math.nan}, {"x": 2}]
    steps, values = series(rows, "x")
    assert (steps.tolist(), values.tolist()) == ([5, 4], [1, 2])
    assert [len(a) for a in series([], "x")] == [0, 0]


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=20), st.integers(0, 12))
def test_smoothing_is_the_mean_of_the_neighbours(values, reach):
    values = np.array(values, float)
    window = 2 * reach + 1
    if window <= len(values):
        expected = [values[max(i - reach, 0):i + reach + 1].mean() for i in range(len(values))]
        np.testing.assert_allclose(smooth(values, window), expected, atol=1e-12)
    assert smooth(values, window).shape == values.shape


def test_curves_carry_their_data_and_names():
    loss, score = loss_figure(ROWS), score_figure(ROWS, majority_baseline(confusion()))
    assert [line.get_label() for line in loss.axes[0].lines][1:] == ["training", "validation"]
    raw, curve = loss.axes[0].lines[0].get_xydata(), score.axes[0].lines[0].get_xydata()
    np.testing.assert_array_equal(raw, np.stack(series(ROWS, "train_loss"), axis=-1))
    np.testing.assert_array_equal(curve, np.stack(series(ROWS, "mean_iou"), axis=-1))
    assert set(score.axes[0].lines[1].get_ydata()) == {majority_baseline(confusion()).mean_iou}
    assert {"training", "validation", "Loss"} <= set(words(loss))
    assert {"mIoU", "majority baseline"} <= set(words(score))


@pytest.mark.parametrize("rows", [[], [{"step": 3}], [{"train_loss": math.nan, "mean_iou": None}]])
def test_nothing_measured_is_said(rows):
    assert "nothing measured" in words(loss_figure(rows))
    assert "nothing measured" in words(score_figure(rows, majority_baseline(ConfusionMatrix(2))))


def test_one_point_can_be_seen():
    axes = loss_figure(ROWS[:1]).axes[0]
    assert axes.lines[0].get_marker() == "o"
    assert axes.get_xlim()[0] == 0


def test_a_spike_does_not_flatten_the_curve():
    rows = [{"step": 0, "train_loss": 1e6}, *({"step": s, "train_loss": 1 + 1 / s} for s in range(1, 200))]
    assert loss_figure(rows).axes[0].get_ylim()[1] < 5


def test_cells_hold_the_share_of_their_row_in_percent():
    matrix = ConfusionMatrix(3, classes=["$a$", "b_{", "<c>"])
    matrix.counts[:2] = [[3, 1, 0], [0, 1, 999]]
    texts = words(confusion_figure(matrix))
    assert sorted(text for text in texts if text.isdigit()) == ["100", "25", "75"]      # 0.1 % is only tinted
    for name in matrix.classes:                                                         # no mathematics in names
        assert texts.count(name) == 2
    assert words(confusion_figure(matrix, ["x", "y", "z"])).count("y") == 2


@pytest.mark.parametrize("n", [1, 30, 31])
def test_numbers_stand_in_up_to_thirty_classes(n):
    texts = words(confusion_figure(confusion(n), [f"class {c}" for c in range(n)]))
    assert any(text.isdigit() for text in texts) == (n <= 30)
    assert sum(text.startswith("class") for text in texts) == 2 * n


def test_svg_is_the_same_every_time_and_brings_nothing_along():
    one, two = (style.to_svg(loss_figure(ROWS), "loss") for _ in range(2))
    assert one == two
    assert "<metadata" not in one
    assert "<style" not in one
    assert "var(--train, #2c6fbb)" in one


def test_png_is_a_png():
    assert style.to_png(score_figure(ROWS)).startswith(b"\x89PNG")
