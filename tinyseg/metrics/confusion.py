"""The confusion matrix of a segmentation and the figures of merit read off it.

h[t, p] counts the pixels of truth t that were answered p.  With, for each class,

    I = h[c, c]     pixels that are c and were answered c
    T = Σ_p h[c, p] pixels that are c
    P = Σ_t h[t, c] pixels answered c

accuracy (recall) is I/T, precision I/P, IoU I/(T+P-I) and Dice 2I/(T+P) = 2·IoU/(1+IoU).

A ratio of nothing to nothing is nan.  What an average does with it is where published code differs, so the
rule is an argument, `absent`:

    "nan"    a class found in neither truth nor prediction is left out; one only predicted counts as 0
             (FCN, mmsegmentation)
    "truth"  only classes found in the truth are averaged (kazuto1011/deeplab-pytorch)
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinyseg.errors import ArgumentError, DTypeError, ShapeError

__all__ = ["ConfusionMatrix", "majority_baseline"]

Absent = Literal["nan", "truth"]


class ConfusionMatrix:
    """Counts of (truth, prediction) pairs over the pixels of a data set.

    num_classes   n; labels are 0 .. n-1
    ignore_index  truth label of pixels that never count, or None.  May itself be one of 0 .. n-1.
    classes       n names; "0", "1", ... when not given
    absent        which classes the averages leave out: "nan" or "truth", see the top of this file
    """

    __hash__ = None  # counts change

    def __init__(self, num_classes: int, ignore_index: int | None = 255,
                 classes: Sequence[str] | None = None, absent: Absent = "nan"):
        if num_classes < 1:
            raise ArgumentError(f"ConfusionMatrix: num_classes {num_classes} < 1; needs at least one class")
        if classes is not None and len(classes) != num_classes:
            raise ArgumentError(f"ConfusionMatrix: {len(classes)} class names for num_classes {num_classes}; "
                                "needs one name per class")
        if absent not in get_args(Absent):
            raise ArgumentError(f'ConfusionMatrix: absent {absent!r} is no rule; takes "nan" or "truth"')
        self.num_classes = int(num_classes)
        self.ignore_index = ignore_index
        self.classes = tuple(map(str, range(num_classes) if classes is None else classes))
        self.absent: Absent = absent
        self.counts: NDArray[np.int64] = np.zeros((self.num_classes, self.num_classes), np.int64)

    def update(self, truth: ArrayLike, prediction: ArrayLike) -> None:
        """Count the pixels of two integer arrays of one shape, any number of axes.

        Pixels whose truth is ignore_index are dropped before anything else is looked at.  Raises ShapeError,
        DTypeError, and ArgumentError for any other label outside 0 .. n-1; the counts are then as they were.
        """
        truth, prediction = np.asarray(truth), np.asarray(prediction)
        if truth.shape != prediction.shape:
            raise ShapeError(f"ConfusionMatrix.update: truth {truth.shape} and prediction {prediction.shape} "
                             "differ; needs one prediction per pixel of truth")
        for name, labels in (("truth", truth), ("prediction", prediction)):
            if labels.dtype.kind not in "iub":
                raise DTypeError(f"ConfusionMatrix.update: {name} is {labels.dtype}; needs integer class "
                                 "indices, for scores take argmax over the class axis first")
        if self.ignore_index is not None:
            counted = truth != self.ignore_index
            if not counted.all():
                truth, prediction = truth[counted], prediction[counted]
        self._check_labels("truth", truth)
        self._check_labels("prediction", prediction)
        pairs = truth.astype(np.intp) * self.num_classes + prediction.astype(np.intp)
        self.counts += np.bincount(pairs.ravel(), minlength=self.counts.size).reshape(self.counts.shape)

    def _check_labels(self, name: str, labels: NDArray) -> None:
        for label in (labels.min(), labels.max()) if labels.size else ():
            if not 0 <= label < self.num_classes:
                ignore = name == "truth" and self.ignore_index is not None
                raise ArgumentError(f"ConfusionMatrix.update: {name} holds label {label}; "
                                    f"of {self.num_classes} classes labels are 0 .. {self.num_classes - 1}"
                                    + f", or {self.ignore_index} to ignore" * ignore)

    # Counts per class, each (n,)

    @property
    def intersection(self) -> NDArray[np.int64]:
        """I, pixels answered rightly."""
        return np.diagonal(self.counts)

    @property
    def truth_pixels(self) -> NDArray[np.int64]:
        """T, pixels that are of the class."""
        return self.counts.sum(axis=1)

    @property
    def predicted_pixels(self) -> NDArray[np.int64]:
        """P, pixels answered with the class."""
        return self.counts.sum(axis=0)

    @property
    def pixels(self) -> int:
        """How many pixels were counted."""
        return int(self.counts.sum())

    # Ratios per class, each (n,) float64 in 0 .. 1, nan for 0/0

    @property
    def iou(self) -> NDArray[np.float64]:
        """I / (T+P-I), intersection over union (Jaccard); nan for a class in neither truth nor prediction."""
        return _ratio(self.intersection, self.truth_pixels + self.predicted_pixels - self.intersection)

    @property
    def dice(self) -> NDArray[np.float64]:
        """2I / (T+P), over the data set and not image by image; nan where `iou` is."""
        return _ratio(2 * self.intersection, self.truth_pixels + self.predicted_pixels)

    @property
    def recall(self) -> NDArray[np.float64]:
        """I / T, the accuracy of the class; nan for a class not in the truth."""
        return _ratio(self.intersection, self.truth_pixels)

    @property
    def precision(self) -> NDArray[np.float64]:
        """I / P; nan for a class never predicted."""
        return _ratio(self.intersection, self.predicted_pixels)

    # Figures of the whole, floats in 0 .. 1, nan when nothing was counted

    @property
    def pixel_accuracy(self) -> float:
        """Σ I / Σ T."""
        return float(_ratio(self.intersection.sum(), self.counts.sum()))

    @property
    def mean_accuracy(self) -> float:
        """Mean recall over the classes in the truth; both rules of `absent` agree here."""
        return _mean(self.recall)

    @property
    def mean_iou(self) -> float:
        """Mean IoU, mIoU, over the classes that `absent` keeps."""
        return _mean(self.iou[self._averaged])

    @property
    def frequency_weighted_iou(self) -> float:
        """Σ T·IoU / Σ T over the classes in the truth."""
        seen = self.truth_pixels > 0
        return float(_ratio((self.truth_pixels[seen] * self.iou[seen]).sum(), self.counts.sum()))

    @property
    def mean_dice(self) -> float:
        """Mean Dice over the classes that `absent` keeps."""
        return _mean(self.dice[self._averaged])

    @property
    def _averaged(self) -> NDArray[np.bool_]:
        return self.truth_pixels > 0 if self.absent == "truth" else np.ones(self.num_classes, bool)

    def summary(self) -> dict[str, float]:
        """The four figures of FCN, and mean Dice."""
        names = ("pixel_accuracy", "mean_accuracy", "mean_iou", "frequency_weighted_iou", "mean_dice")
        return {name: getattr(self, name) for name in names}

    def with_absent(self, absent: Absent) -> Self:
        """The same counts, averaged by another rule."""
        return self._like(self.counts, absent=absent)

    def __add__(self, other: Self) -> Self:
        """The matrix of both sets of pixels."""
        if not isinstance(other, ConfusionMatrix):
            return NotImplemented
        if self._settings() != other._settings():
            raise ArgumentError(f"ConfusionMatrix +: {self._settings()} and {other._settings()} differ; "
                                "needs the same classes and rules on both sides")
        return self._like(self.counts + other.counts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ConfusionMatrix):
            return NotImplemented
        return self._settings() == other._settings() and np.array_equal(self.counts, other.counts)

    def __repr__(self) -> str:
        return f"ConfusionMatrix({self.num_classes} classes, {self.pixels} pixels, mIoU {self.mean_iou:.4f})"

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, as JSON takes them."""
        return {**self._settings(), "classes": list(self.classes), "counts": self.counts.tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.  Raises ArgumentError when `values` is not such a mapping."""
        try:
            settings = {name: values[name] for name in ("num_classes", "ignore_index", "classes", "absent")}
            matrix = cls(**settings)
            counts = np.array(values["counts"])
        except (KeyError, TypeError, ValueError) as error:
            raise ArgumentError(f"ConfusionMatrix.from_dict: {error!r}; needs what to_dict gave") from error
        if counts.shape != matrix.counts.shape or counts.dtype.kind not in "iu" or counts.min() < 0:
            raise ArgumentError(f"ConfusionMatrix.from_dict: counts are {counts.dtype} {counts.shape}; needs "
                                f"non-negative integers {matrix.counts.shape}")
        matrix.counts += counts
        return matrix

    def _settings(self) -> dict[str, Any]:
        return {"num_classes": self.num_classes, "ignore_index": self.ignore_index, "classes": self.classes,
                "absent": self.absent}

    def _like(self, counts: NDArray[np.int64], **changes: Any) -> Self:
        matrix = type(self)(**(self._settings() | changes))
        matrix.counts += counts
        return matrix


def majority_baseline(confusion: ConfusionMatrix) -> ConfusionMatrix:
    """What always answering the most frequent class of the truth would have scored on the same pixels.

    A net has learnt something only as far as it is above this: where background covers most pixels the
    baseline's pixel accuracy is already high, while its mIoU stays below 1/n.  Ties go to the lowest class.
    """
    counts = np.zeros_like(confusion.counts)
    counts[:, confusion.truth_pixels.argmax()] = confusion.truth_pixels
    return confusion._like(counts)


def _ratio(part: ArrayLike, whole: ArrayLike) -> NDArray[np.float64]:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def _mean(values: NDArray[np.float64]) -> float:
    """nanmean, silent when nothing is left."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")
