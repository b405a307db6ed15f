import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tinyseg.errors import ArgumentError, DTypeError, ShapeError
from tinyseg.metrics import ConfusionMatrix, majority_baseline

IGNORE = 255


@st.composite
def segmentations(draw, ignore=True):
    """(n, truth, prediction): label maps of one shape, some pixels of the truth ignored."""
    n = draw(st.integers(1, 5))
    shape = draw(array_shapes(min_dims=1, max_dims=3, max_side=5))
    label = st.integers(0, n - 1)
    truth = draw(arrays(np.uint8, shape, elements=label | st.just(IGNORE) if ignore else label))
    return n, truth, draw(arrays(np.int64, shape, elements=label))


def matrix(n, truth, prediction, **options):
    confusion = ConfusionMatrix(n, **options)
    confusion.update(truth, prediction)
    return confusion


def pixel_sets(n, truth, prediction):
    """For each class the set of counted pixels that are it, and the set answered with it."""
    counted = [at for at in np.ndindex(truth.shape) if truth[at] != IGNORE]
    return [({at for at in counted if truth[at] == c}, {at for at in counted if prediction[at] == c})
            for c in range(n)]


def over(part, whole):
    return part / whole if whole else math.nan


@given(segmentations())
def test_ratios_are_those_of_the_sets(case):
    confusion, sets = matrix(*case), pixel_sets(*case)
    np.testing.assert_array_equal(confusion.iou, [over(len(t & p), len(t | p)) for t, p in sets])
    np.testing.assert_array_equal(confusion.dice, [over(2 * len(t & p), len(t) + len(p)) for t, p in sets])
    np.testing.assert_array_equal(confusion.recall, [over(len(t & p), len(t)) for t, p in sets])
    np.testing.assert_array_equal(confusion.precision, [over(len(t & p), len(p)) for t, p in sets])


@given(segmentations())
def test_averages_by_either_rule(case):
    sets = pixel_sets(*case)
    iou = [over(len(t & p), len(t | p)) for t, p in sets]
    kept = {"nan": [i for i, (t, p) in zip(iou, sets, strict=True) if t | p],
            "truth": [i for i, (t, _) in zip(iou, sets, strict=True) if t]}
    for rule, values in kept.items():
        mean = over(sum(values), len(values))
        assert matrix(*case, absent=rule).mean_iou == pytest.approx(mean, nan_ok=True)


@given(segmentations())
def test_dice_is_a_function_of_iou(case):
    confusion = matrix(*case)
    np.testing.assert_allclose(confusion.dice, 2 * confusion.iou / (1 + confusion.iou))


@given(segmentations(), st.integers(0, 2**32 - 1))
def test_ignored_pixels_never_count(case, seed):
    n, truth, prediction = case
    other = prediction.copy()
    other[truth == IGNORE] = np.random.default_rng(seed).integers(-9, 999, (truth == IGNORE).sum())
    assert matrix(n, truth, other) == matrix(n, truth, prediction)
    assert matrix(n, truth, prediction).pixels == (truth != IGNORE).sum()


@given(segmentations(), st.data())
def test_counting_in_parts_is_counting_at_once(case, data):
    n, truth, prediction = case
    cut = data.draw(st.integers(0, len(truth)))
    parts = matrix(n, truth[:cut], prediction[:cut]), matrix(n, truth[cut:], prediction[cut:])
    assert parts[0] + parts[1] == matrix(n, truth, prediction)
    parts[0].update(truth[cut:], prediction[cut:])
    assert parts[0] == matrix(n, truth, prediction)


@given(segmentations(ignore=False), st.data())
def test_renaming_the_classes_permutes_the_figures(case, data):
    n, truth, prediction = case
    new = np.array(data.draw(st.permutations(range(n))))
    before, after = matrix(*case), matrix(n, new[truth], new[prediction])
    np.testing.assert_array_equal(after.counts[np.ix_(new, new)], before.counts)
    np.testing.assert_array_equal(after.iou[new], before.iou)
    for name, value in before.summary().items():
        assert after.summary()[name] == pytest.approx(value)


@given(segmentations(ignore=False))
def test_exchanging_truth_and_prediction_transposes(case):
    n, truth, prediction = case
    there, back = matrix(n, truth, prediction), matrix(n, prediction, truth)
    np.testing.assert_array_equal(there.counts.T, back.counts)
    np.testing.assert_array_equal(there.recall, back.precision)


@given(segmentations())
def test_majority_baseline_is_always_the_most_frequent_class(case):
    n, truth, prediction = case
    answer = np.bincount(truth[truth != IGNORE].astype(int), minlength=n).argmax()
    confusion = matrix(n, truth, prediction, absent="truth")
    assert majority_baseline(confusion) == matrix(n, truth, np.full_like(prediction, answer), absent="truth")


@given(segmentations())
def test_survives_json(case):
    n, truth, prediction = case
    confusion = matrix(n, truth, prediction, classes=[f"class {c}" for c in range(n)], absent="truth")
    assert ConfusionMatrix.from_dict(json.loads(json.dumps(confusion.to_dict()))) == confusion


def test_by_hand():
    confusion = matrix(4, [[0, 0, 0, 1], [1, 1, 255, 0]], [[0, 0, 1, 1], [1, 2, 3, 0]])
    np.testing.assert_array_equal(confusion.counts, [[3, 1, 0, 0], [0, 2, 1, 0], [0] * 4, [0] * 4])
    np.testing.assert_array_equal(confusion.iou, [3 / 4, 2 / 4, 0, np.nan])
    assert confusion.pixel_accuracy == 5 / 7
    assert confusion.mean_accuracy == pytest.approx((3 / 4 + 2 / 3) / 2)
    assert confusion.mean_iou == pytest.approx((3 / 4 + 2 / 4 + 0) / 3)     # class 2 was predicted: 0 counts
    assert confusion.with_absent("truth").mean_iou == pytest.approx((3 / 4 + 2 / 4) / 2)
    assert confusion.frequency_weighted_iou == pytest.approx((4 * 3 / 4 + 3 * 2 / 4) / 7)
    assert confusion.mean_dice == pytest.approx((6 / 7 + 4 / 6 + 0) / 3)
    assert majority_baseline(confusion).pixel_accuracy == 4 / 7


def test_nothing_counted_is_nan_without_a_warning():
    for rule in ("nan", "truth"):
        empty = ConfusionMatrix(3, absent=rule)
        empty.update(np.full((2, 2), IGNORE), np.zeros((2, 2), int))
        assert all(math.isnan(value) for value in empty.summary().values())
        assert np.isnan([empty.iou, empty.dice, empty.recall, empty.precision]).all()
        assert majority_baseline(empty) == empty


def test_an_ignored_class_and_no_ignored_label():
    assert matrix(2, [0, 1, 1], [1, 1, 0], ignore_index=0).counts.tolist() == [[0, 0], [1, 1]]
    assert matrix(2, [True, False], [True, True], ignore_index=None).counts.tolist() == [[0, 1], [0, 1]]
    with pytest.raises(ArgumentError, match="truth holds label 255"):
        matrix(2, [0, 255], [0, 0], ignore_index=None)


@pytest.mark.parametrize(("truth", "prediction", "error", "text"), [
    ([0, 1], [0], ShapeError, r"truth \(2,\) and prediction \(1,\)"),
    ([0.0, 1.0], [0, 1], DTypeError, "truth is float64"),
    ([0, 1], [0.2, 0.8], DTypeError, "prediction is float64.*argmax"),
    ([0, 3], [0, 1], ArgumentError, r"truth holds label 3; of 3 classes labels are 0 .. 2, or 255 to ignore"),
    ([0, -1], [0, 1], ArgumentError, "truth holds label -1"),
    ([0, 1], [0, 255], ArgumentError, r"prediction holds label 255; of 3 classes labels are 0 .. 2$"),
])
def test_bad_pixels_are_refused_and_leave_the_counts(truth, prediction, error, text):
    confusion = ConfusionMatrix(3)
    with pytest.raises(error, match=text):
        confusion.update(truth, prediction)
    assert confusion == ConfusionMatrix(3)


def test_bad_settings_are_refused():
    with pytest.raises(ArgumentError, match="num_classes 0"):
        ConfusionMatrix(0)
    with pytest.raises(ArgumentError, match="2 class names for num_classes 3"):
        ConfusionMatrix(3, classes=["cat", "dog"])
    with pytest.raises(ArgumentError, match="zero"):
        ConfusionMatrix(3, absent="zero")
    with pytest.raises(ArgumentError, match="differ"):
        ConfusionMatrix(3) + ConfusionMatrix(3, absent="truth")
    assert ConfusionMatrix(2) != ConfusionMatrix(2, ignore_index=None)


@pytest.mark.parametrize("change", [
    {"counts": [[1, 2]]}, {"counts": [[1, -2], [0, 0]]}, {"counts": [[1], [2, 3]]},
    {"counts": [[0.5, 1], [1, 1]]}, {"num_classes": "two"}, {"classes": ["cat"]},
])
def test_a_broken_record_is_refused(change):
    good = ConfusionMatrix(2).to_dict()
    with pytest.raises(ArgumentError, match="from_dict"):
        ConfusionMatrix.from_dict(good | change)
    with pytest.raises(ArgumentError, match="from_dict"):
        ConfusionMatrix.from_dict({name: good[name] for name in good if name not in change})
