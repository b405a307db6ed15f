"""A trained net with all it needs to be used: normalisation, class names, colours."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tinyseg
from tinyseg import models
from tinyseg.checkpoint import load_checkpoint, split_prefix
from tinyseg.crf import DenseCRF
from tinyseg.data import IGNORE, Dataset, Normalize, Resize, Sample
from tinyseg.errors import CheckpointError, DataError, TinysegError, about
from tinyseg.inference.tiles import probabilities
from tinyseg.inference.views import averaged, averaged_scales, check_scales
from tinyseg.metrics import ConfusionMatrix, near_borders
from tinyseg.nn import Module, init

__all__ = ["Evaluation", "Prediction", "Predictor", "ahead", "checkpoint_of", "description"]


@dataclass(frozen=True, eq=False)
class Prediction:
    """probabilities float32 (classes, H, W), and the most probable class of each pixel, uint8 (H, W)."""

    probabilities: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        return self.probabilities.argmax(axis=0).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The confusion matrix over a data set, the mean cross-entropy of its labelled pixels, and the confusion matrix of
    those within 4 pixels of a border.
    """

    confusion: ConfusionMatrix
    cross_entropy: float
    borders: ConfusionMatrix


@dataclass(eq=False)
class Predictor:
    """Segments images.

    model       a net in the registry of `tinyseg.models`
    channels    3 for RGB, 1 for grey: what the net takes
    classes     names in order of label
    palette     uint8 (256, 3), the colour of each label
    normalize   from grey levels to what the net was trained on
    tile, overlap    see `tinyseg.inference.Tiling.plan`
    views, scales    see `tinyseg.inference.averaged` and `averaged_scales`
    crf              refines what the net says, or None
    resize           the size at which the net was trained, (H, W) or of the shorter side: images are brought to it, and
                     the answers back to the image's own; None takes images as they are
    """

    model: Module
    channels: int
    classes: tuple[str, ...]
    palette: np.ndarray
    normalize: Normalize
    tile: int | None = None
    overlap: int = 32
    views: str = "one"
    scales: tuple[float, ...] = (1.0,)
    crf: DenseCRF | None = None
    resize: int | tuple[int, int] | None = None

    def __post_init__(self):
        check_scales(self.scales)

    @classmethod
    def load(cls, path: str | Path, tile: int | None = None, overlap: int = 32, views: str = "one",
             scales: Sequence[float] = (1.0,)) -> Predictor:
        """From a checkpoint, or from a run's folder (its best checkpoint, or the last while there is no best).

        Raises CheckpointError for a file that is not a whole checkpoint of tinyseg.
        """
        path = checkpoint_of(path)
        state, metadata = load_checkpoint(path)
        _, weights = split_prefix(state, "optimizer")
        try:
            spec = metadata["model"]
            with init.skipped():
                model = models.build(spec["name"], spec["in_channels"], spec["num_classes"], **spec["options"])
            classes = tuple(metadata["classes"])
            palette = np.array(metadata["palette"], np.uint8).reshape(256, 3)
            normalize = Normalize(*(tuple(metadata["normalize"][key]) for key in ("mean", "std")))
            resize = metadata.get("resize")
            resize = tuple(resize) if isinstance(resize, list) else resize
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, TinysegError):
                raise CheckpointError(f"{path}: {error}") from error
            raise CheckpointError(f"{path}: is a safetensors file, but no checkpoint of a tinyseg run ({error!r} is "
                                  "missing or wrong); give a best.safetensors or last.safetensors") from error
        try:
            model.load_state_dict(weights)
        except TinysegError as error:
            raise CheckpointError(f"{path}: {error}") from error
        return cls(model.eval(), spec["in_channels"], classes, palette, normalize, tile, overlap, views, tuple(scales),
                   resize=resize)

    def __call__(self, image: np.ndarray) -> Prediction:
        """Segment one image, uint8 (H, W, C)."""
        def segment(view: np.ndarray) -> np.ndarray:
            return probabilities(self.model, view, self.tile, self.overlap)

        size = None if self.resize is None else Resize(self.resize).output_size(image.shape[:2])
        answer = averaged_scales(lambda scaled: averaged(segment, self.normalize(scaled), self.views), image,
                                 self.scales, size)
        return Prediction(answer if self.crf is None else self.crf(image, answer))

    def evaluate(self, dataset: Dataset) -> Evaluation:
        """Compare with the masks of a data set, image by image at its own size."""
        confusion, borders = (ConfusionMatrix(len(self.classes), classes=self.classes) for _ in range(2))
        surprise, pixels = 0.0, 0
        for sample in ahead(dataset):
            if sample.mask is None:
                raise DataError(f"{sample.name}: has no mask; evaluation needs one for every image")
            with about(sample.name):
                prediction = self(sample.image)
            confusion.update(sample.mask, prediction.mask)
            borders.update(near_borders(sample.mask), prediction.mask)
            rows, columns = np.nonzero(sample.mask != IGNORE)
            of_truth = prediction.probabilities[sample.mask[rows, columns], rows, columns]
            surprise -= float(np.log(np.maximum(of_truth, 1e-12), dtype=np.float64).sum())
            pixels += len(rows)
        return Evaluation(confusion, surprise / pixels if pixels else math.nan, borders)


def description(model: str, channels: int, options: Mapping[str, Any], classes: Sequence[str], palette: np.ndarray,
                normalize: Normalize, resize: int | tuple[int, int] | None = None) -> dict[str, Any]:
    """What a checkpoint has to say beside its weights, for `Predictor.load` to use them."""
    return {"model": {"name": model, "in_channels": channels, "num_classes": len(classes), "options": dict(options)},
            "classes": list(classes), "palette": np.asarray(palette).ravel().tolist(), "normalize": asdict(normalize),
            "resize": resize, "tinyseg": tinyseg.__version__}


def checkpoint_of(path: str | Path) -> Path:
    """`path` itself, or the best (else the last) checkpoint of the run folder that it is."""
    path = Path(path)
    if not path.is_dir():
        return path
    for name in ("best.safetensors", "last.safetensors"):
        if (path / name).exists():
            return path / name
    raise CheckpointError(f"{path}: holds no best.safetensors or last.safetensors; "
                          "name the folder of a run, or a checkpoint")


def ahead(dataset: Dataset) -> Iterator[Sample]:
    """The samples in order, the next one read while the last one is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="tinyseg-data") as pool:
        coming: Any = pool.submit(dataset.__getitem__, 0) if len(dataset) else None
        for index in range(len(dataset)):
            sample = coming.result()
            if index + 1 < len(dataset):
                coming = pool.submit(dataset.__getitem__, index + 1)
            yield sample
