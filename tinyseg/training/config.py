"""What a run is: data, net, loss, optimiser and length, as values that go into `config.json` and come back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from tinyseg.errors import ArgumentError, DataError
from tinyseg.optim import GroupRule
from tinyseg.optim.named import MILESTONES
from tinyseg.precision import LEVELS

__all__ = ["AugmentConfig", "Config", "DataConfig", "ModelConfig", "OptimConfig"]


class _Values:
    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Any:
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ArgumentError(f"{cls.__name__}: unknown {', '.join(unknown)}; legal: {', '.join(sorted(known))}")
        return cls(**values)


@dataclass(frozen=True)
class DataConfig(_Values):
    """Where images come from.

    kind            "folder" (images and masks), "voc" (a VOC tree), "street" (drawn scenes)
    images, masks   folders, for "folder"
    val_images, val_masks    folders of the validation set; else `val_fraction` of the images is held out by `seed`
    root, train_split, val_split    for "voc"
    count, val_count, size          scenes to draw and their (H, W), for "street"
    channels        3 RGB, 1 grey
    classes         class names, in order of label; numbers when not given
    num_classes     found in the masks when not given
    ignore_value    value in the masks that means "not labelled", besides 255
    mask_encoding   "auto", "index", "binary" or "color"
    recognised      which of them the training masks were found to have; a run notes it as it begins
    resize          (H, W), or the shorter side, to bring every image to; None keeps sizes
    seed            of the drawn scenes and of the split
    """

    kind: str = "street"
    images: str | None = None
    masks: str | None = None
    val_images: str | None = None
    val_masks: str | None = None
    val_fraction: float = 0.2
    root: str | None = None
    train_split: str = "train"
    val_split: str = "val"
    count: int = 256
    val_count: int = 48
    size: tuple[int, int] = (96, 128)
    channels: int = 3
    classes: tuple[str, ...] | None = None
    num_classes: int | None = None
    ignore_value: int | None = None
    mask_encoding: str = "auto"
    recognised: str | None = None
    resize: Any = None
    seed: int = 0


@dataclass(frozen=True)
class AugmentConfig(_Values):
    """Random changes of training images and masks together, in this order; 0 or None leaves one out.

    scale     (low, high) factor of the size, or three factors or more of which one is chosen
    rotate    degrees to either side
    elastic   sigma of elastic deformation in pixels  crop      (H, W) of the random crop
    flip      probability of a horizontal flip        vertical_flip    of a vertical one
    rotate90  quarter turns                           color     strength of brightness, contrast, saturation
    noise     largest sigma of Gaussian noise, in grey levels
    """

    scale: tuple[float, ...] | None = None
    rotate: float = 0.0
    elastic: float = 0.0
    crop: tuple[int, int] | None = None
    flip: float = 0.5
    vertical_flip: float = 0.0
    rotate90: bool = False
    color: float = 0.0
    noise: float = 0.0


@dataclass(frozen=True)
class ModelConfig(_Values):
    """A name in `tinyseg.models` and its options.

    init    a run's folder, or a checkpoint, of the same net, or of the FCN of twice the stride: training begins with
            its weights and normalisation
    """

    name: str = "unet"
    options: Mapping[str, Any] = field(default_factory=dict)
    init: str | None = None


# What a loss would not listen to.
NO_PLACE = {"dice": ("class_weights", "border_weights", "label_smoothing"),
            "focal": ("border_weights", "label_smoothing")}


@dataclass(frozen=True)
class OptimConfig(_Values):
    """How parameters change.

    optimizer   "sgd", "adam", "adamw", "rmsprop"
    groups      what parameters of some names multiply the rate and the decay by, "PATTERN:lr=FACTOR,decay=FACTOR" each:
                see `tinyseg.optim.GroupRule`
    schedule    "constant", "step", "poly", "cosine", "exponential": the factor of the learning rate over the run
    milestones, factor    of "step" and "exponential": see `tinyseg.optim.build_schedule`
    warmup      steps over which it rises from 0
    clip_norm   largest norm of the whole gradient, None for no limit
    loss        "ce" cross-entropy, "ohem" of the hard pixels alone, "dice", "ce+dice", "focal"
    reduction   "mean" over the pixels, or "sum" over those of each image (the mean of the images), where the learning
                rate is smaller by the number of pixels
    ohem_threshold, ohem_min_kept    which pixels are hard: see `functional.ohem_cross_entropy`
    class_weights    None, numbers, or a rule of `tinyseg.training.balance`: "balanced", "median-frequency",
                     "inverse-log"
    border_weights   U-Net's weight map, w0 at narrow gaps between objects of class > 0; 0 for none
    """

    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    groups: tuple[str, ...] = ("vectors:decay=0",)
    schedule: str = "poly"
    milestones: tuple[float, ...] = MILESTONES
    factor: float | None = None
    warmup: int = 0
    clip_norm: float | None = None
    loss: str = "ce"
    reduction: str = "mean"
    ohem_threshold: float = 0.7
    ohem_min_kept: float = 1 / 16
    label_smoothing: float = 0.0
    class_weights: Any = None
    border_weights: float = 0.0

    def __post_init__(self):
        for name in NO_PLACE.get(self.loss, ()):
            if getattr(self, name):
                raise ArgumentError(f"{name} {getattr(self, name)} with loss {self.loss!r}, which has no place for it; "
                                    "leave it out, or use ce or ce+dice")
        if self.reduction not in ("mean", "sum"):
            raise ArgumentError(f"reduction {self.reduction!r}; legal: mean, sum")
        if self.reduction == "sum" and "dice" in self.loss:
            raise ArgumentError(f"reduction sum with loss {self.loss!r}: Dice is no sum over pixels; use mean, or ce, "
                                "ohem or focal")
        if not self.milestones or not all(0 < share < 1 for share in self.milestones):
            raise ArgumentError(f"milestones {self.milestones}: needs shares of the run, 0 < share < 1, "
                                "for example 0.33,0.67")
        for name in ("ohem_threshold", "ohem_min_kept"):
            if not 0 <= getattr(self, name) <= 1:
                raise ArgumentError(f"{name} {getattr(self, name)}: needs 0 <= {name} <= 1")
        if self.factor is not None and not 0 <= self.factor <= 1:
            raise ArgumentError(f"factor {self.factor}: needs 0 <= factor <= 1")
        self.group_rules()                           # what cannot be read should be told now

    def group_rules(self) -> list[GroupRule]:
        return [GroupRule.parse(text) for text in self.groups]


@dataclass(frozen=True)
class Config(_Values):
    """A run, from which it can be repeated.

    epochs, steps    length; `steps`, where given, decides
    accumulate       batches whose gradients are averaged for one step
    precision        of float32 products: "highest", "high" or "medium"; see `tinyseg.precision`
    evaluate_every, checkpoint_every    in steps; None: once an epoch
    statistics       training batches from which those of batch norm are taken anew before each evaluation, 0 to leave
                     them: see `nn.retake_statistics`
    tile             side of the tiles for validation images; None: whole images
    """

    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    epochs: int = 20
    steps: int | None = None
    batch_size: int = 8
    accumulate: int = 1
    evaluate_every: int | None = None
    checkpoint_every: int | None = None
    statistics: int = 0
    tile: int | None = None
    workers: int = 2
    seed: int = 0
    precision: str = "high"

    def __post_init__(self):
        if self.precision not in LEVELS:
            raise ArgumentError(f"precision {self.precision!r}; legal: {', '.join(LEVELS)}")
        for name in ("epochs", "steps", "batch_size", "accumulate", "evaluate_every", "checkpoint_every", "tile"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ArgumentError(f"{name} {value}: needs {name} >= 1")
        if self.optim.clip_norm is not None and not self.optim.clip_norm > 0:
            raise ArgumentError(f"clip_norm {self.optim.clip_norm}: needs clip_norm > 0, or None")
        for name, value in (("seed", self.seed), ("workers", self.workers), ("statistics", self.statistics)):
            if value < 0:
                raise ArgumentError(f"{name} {value}: needs {name} >= 0")

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        parts = {"data": DataConfig, "augment": AugmentConfig, "model": ModelConfig, "optim": OptimConfig}
        values = {k: parts[k].of(_tuples(v)) if k in parts else v for k, v in values.items()}
        return cls.of(values)

    @classmethod
    def read(cls, path: str | Path) -> Config:
        """From the `config.json` of a run.  Raises DataError when it is missing or broken."""
        try:
            return cls.from_dict(json.loads(Path(path).read_text()))
        except FileNotFoundError as error:
            raise DataError(f"{path}: missing, so there is no run to resume; start one without --resume") from error
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: not the configuration of a run ({error}); start a new run") from error


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has lists where the configuration has tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
