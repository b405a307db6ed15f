"""A run from its configuration to its report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import tinyseg
from tinyseg import models, optim
from tinyseg.checkpoint import load_checkpoint
from tinyseg.data import DataLoader, Dataset, Normalize, normalization_of
from tinyseg.errors import ArgumentError, CheckpointError, TrainingError, about
from tinyseg.files import claimed, replacing
from tinyseg.inference import Predictor, Tiling, checkpoint_of, description
from tinyseg.metrics import ConfusionMatrix, majority_baseline
from tinyseg.models.fcn import FCN
from tinyseg.models.heads import ImagePooling
from tinyseg.nn import Module
from tinyseg.precision import float32_matmul_precision
from tinyseg.training.balance import class_weights
from tinyseg.training.config import Config
from tinyseg.training.data import augmentation, open_data
from tinyseg.training.loss import build_loss
from tinyseg.training.plan import plan
from tinyseg.training.report import write_run_report
from tinyseg.training.trainer import BEST, LAST, Listener, Trainer

__all__ = ["Result", "resume", "train"]


@dataclass(frozen=True)
class Result:
    """How a run ended: the best checkpoint's confusion matrix on the validation set, and its trivial rival."""

    folder: Path
    report: Path
    confusion: ConfusionMatrix
    baseline: ConfusionMatrix
    steps: int
    seconds: float


def train(config: Config, folder: str | Path, listener: Listener | None = None, overwrite: bool = False) -> Result:
    """Start a run in `folder`, which must not hold one yet unless `overwrite`.  Raises TinysegError."""
    with _claimed(Path(folder)) as folder:
        return _train(config, folder, listener or Listener(), overwrite)


def resume(folder: str | Path, listener: Listener | None = None) -> Result:
    """Go on with the run in `folder` from its last checkpoint, to the weights it would have had uninterrupted."""
    with _claimed(Path(folder)) as folder:
        config = Config.read(folder / "config.json")
        listener = listener or Listener()
        if not (folder / LAST).exists():             # killed before the first checkpoint
            return _train(config, folder, listener, overwrite=False)
        checkpoint = load_checkpoint(folder / LAST)
        trainer, validation, config = _prepare(config, folder, listener, checkpoint)
        listener.told(f"resuming {folder} after step {trainer.step} of {trainer.total}")
        return _finish(config, trainer, validation, listener)


@contextmanager
def _claimed(folder: Path) -> Iterator[Path]:
    """One run at a time in a folder: two would write the same files."""
    with claimed(folder) as alone:
        if not alone:
            raise TrainingError(f"{folder}: another process is training there; wait for it, stop it, or name another "
                                "folder with --out")
        yield folder


def _train(config: Config, folder: Path, listener: Listener, overwrite: bool) -> Result:
    if not overwrite and (folder / LAST).exists():
        raise TrainingError(f"{folder}: already holds a run; resume it with --resume, replace it with --overwrite, "
                            "or name another folder with --out")
    trainer, validation, config = _prepare(config, folder, listener, None)
    for name in (BEST, LAST, "report.html"):         # of an earlier run; nothing of it may pass for this one's
        (folder / name).unlink(missing_ok=True)
    with replacing(folder / "config.json") as file:
        file.write(config.to_json().encode())
    return _finish(config, trainer, validation, listener)


def _prepare(config: Config, folder: Path, listener: Listener, checkpoint: Any) -> tuple[Trainer, Dataset, Config]:
    """What a run needs, and the configuration with what was found out on the way."""
    recipe = config.optim
    training, validation, data = open_data(config.data, listener.told)
    model = _build(config, training)
    if checkpoint:
        normalize = _normalization(checkpoint[1], folder / LAST)
    elif config.model.init:
        normalize = _start_from(checkpoint_of(config.model.init), model)
    else:
        normalize = normalization_of(training)
    loader = DataLoader(training, config.batch_size, augmentation(config.augment, recipe.border_weights),
                        seed=config.seed, workers=config.workers, normalize=normalize,
                        drop_last=len(training) >= config.batch_size)
    epoch = max(1, len(loader) // config.accumulate)                     # steps
    total = config.steps or config.epochs * epoch
    evaluate_every = config.evaluate_every or epoch
    groups = optim.parameter_groups(model.named_parameters(), recipe.group_rules())
    optimizer = optim.build(recipe.optimizer, [g.options(recipe.learning_rate, recipe.weight_decay) for g in groups],
                            recipe.learning_rate, recipe.momentum)
    schedule = optim.build_schedule(recipe.schedule, total, recipe.warmup, epoch, recipe.milestones, recipe.factor)
    loss = build_loss(recipe.loss, _class_weights(recipe.class_weights, training), recipe.label_smoothing,
                      recipe.reduction, recipe.ohem_threshold, recipe.ohem_min_kept)
    channels, classes, palette = config.data.channels, tuple(training.classes), np.asarray(training.palette)
    predictor = Predictor(model, channels, classes, palette, normalize, config.tile, resize=config.data.resize)

    def validate():
        listener.evaluating(len(validation))
        return predictor.evaluate(validation)

    trainer = Trainer(
        model, loss, optimizer, schedule, loader, validate, folder, total,
        description(config.model.name, channels, config.model.options, classes, palette, normalize, config.data.resize),
        evaluate_every, config.checkpoint_every or evaluate_every, config.accumulate, recipe.clip_norm,
        config.statistics, listener)
    if checkpoint:
        trainer.restore(*checkpoint)
    for line in plan(config, model, groups, total, epoch):
        listener.told(line)
    return trainer, validation, replace(config, data=data)


def _build(config: Config, training: Dataset) -> Module:
    """The net with fresh weights.  What it cannot take should be said before anything is written."""
    if config.model.name in models.names("classification"):
        raise ArgumentError(f"train: {config.model.name} classifies whole images; "
                            f"nets that segment: {', '.join(models.names())}")
    tinyseg.manual_seed(config.seed)
    model = models.build(config.model.name, config.data.channels, len(training.classes), **config.model.options)
    model.output_size(config.augment.crop or training[0].size)
    Tiling.plan(model, training[0].size, config.tile)
    for part in model.modules():
        if isinstance(part, ImagePooling):
            part.check_batch(min(config.batch_size, len(training)))
    return model


def _class_weights(given: Any, training: Dataset) -> Any:
    """The numbers given, or those of the rule given."""
    if isinstance(given, str):
        return class_weights(training, given)
    if given is not None and len(given) != len(training.classes):
        raise ArgumentError(f"class weights: {len(given)} numbers for {len(training.classes)} classes; needs one for "
                            "each")
    return given


def _start_from(path: Path, model: Module) -> Normalize:
    """Give `model` the weights of another run's checkpoint, which were learned under the normalisation returned."""
    other = Predictor.load(path)
    with about(str(path)):
        if isinstance(model, FCN) and isinstance(other.model, FCN) and other.model.stride != model.stride:
            model.load_coarser(other.model)
        else:
            model.load_state_dict(other.model.state_dict())
    return other.normalize


def _normalization(metadata: Any, path: Path) -> Normalize:
    try:
        return Normalize(*(tuple(metadata["normalize"][key]) for key in ("mean", "std")))
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: no checkpoint of a tinyseg run ({error}); start a new run") from error


def _finish(config: Config, trainer: Trainer, validation: Dataset, listener: Listener) -> Result:
    with float32_matmul_precision(config.precision):
        return _run(config, trainer, validation, listener)


def _run(config: Config, trainer: Trainer, validation: Dataset, listener: Listener) -> Result:
    trainer.run()
    listener.told("writing the report")
    best = trainer.folder / BEST
    predictor = Predictor.load(best if best.exists() else trainer.folder / LAST, config.tile)
    began = time.perf_counter()
    evaluation = predictor.evaluate(validation)
    rate = len(validation) / (time.perf_counter() - began)
    baseline = majority_baseline(evaluation.confusion)
    report = write_run_report(config, trainer, predictor, validation, evaluation.confusion, baseline,
                              inference_rate=rate)
    return Result(trainer.folder, report, evaluation.confusion, baseline, trainer.step, trainer.seconds)
