"""What a run is about to do, in a few lines."""

from __future__ import annotations

from collections.abc import Sequence

from tinyseg.nn import Module
from tinyseg.optim import ParameterGroup
from tinyseg.training.config import AugmentConfig, Config, OptimConfig

__all__ = ["plan"]


def plan(config: Config, model: Module, groups: Sequence[ParameterGroup], total: int, epoch: int) -> list[str]:
    """Lines about the net, the length, the loss and how parameters change.

    total, epoch    steps of the run, and of an epoch
    """
    options = "".join(f"{name}={value}, " for name, value in config.model.options.items())
    trained = sum(p.data.size for group in groups for p in group.params)
    return [f"{config.model.name}: {options}{model.num_parameters():,} parameters, {trained:,} trained",
            f"{_count(total, 'step')} of {_batch(config)}, {total / epoch:.3g} epochs: {_changes(config.augment)}",
            f"loss: {_loss(config.optim)}",
            f"{config.optim.optimizer}: {_rate(config.optim)}",
            *(_group(group, config.optim) for group in groups)]


def _batch(config: Config) -> str:
    images = _count(config.batch_size, "image")
    return images if config.accumulate == 1 else f"{config.accumulate} x {images}"


def _changes(augment: AugmentConfig) -> str:
    """The random changes in their order, or that there are none."""
    parts = []
    if augment.scale:
        factors = [f"{factor:g}" for factor in augment.scale]
        parts.append(f"size x {' .. '.join(factors) if len(factors) == 2 else ' or '.join(factors)}")
    parts += [f"{name.replace('_', ' ')} {getattr(augment, name):g}" for name in ("rotate", "elastic")
              if getattr(augment, name)]
    parts.append("crops of {}x{}".format(*augment.crop) if augment.crop else "whole images")
    parts += [f"{name.replace('_', ' ')} {getattr(augment, name):g}"
              for name in ("flip", "vertical_flip", "rotate90", "color", "noise") if getattr(augment, name)]
    return ", ".join(parts)


def _loss(optim: OptimConfig) -> str:
    parts = [optim.loss]
    if optim.loss == "ohem":
        parts.append(f"of pixels below a probability of {optim.ohem_threshold:g} and the hardest "
                     f"{optim.ohem_min_kept:.3g} of all")
    if optim.loss != "dice":
        parts.append("summed over the pixels of an image" if optim.reduction == "sum" else "mean over the pixels")
    if optim.class_weights is not None:
        parts.append(f"class weights {optim.class_weights}")
    parts += [f"{name.replace('_', ' ')} {getattr(optim, name):g}" for name in ("label_smoothing", "border_weights")
              if getattr(optim, name)]
    return ", ".join(parts)


def _rate(optim: OptimConfig) -> str:
    parts = [f"learning rate {optim.learning_rate:g}, {optim.schedule}"]
    if optim.schedule == "step":
        parts[0] += " after " + " and ".join(f"{share:.3g}" for share in optim.milestones) + " of the run"
    if optim.factor is not None and optim.schedule in ("step", "exponential"):
        parts[0] += f", times {optim.factor:g}"
    if optim.warmup:
        parts.append(f"rising for {_count(optim.warmup, 'step')}")
    parts.append(f"momentum {optim.momentum:g}")
    if optim.clip_norm is not None:
        parts.append(f"gradient's norm <= {optim.clip_norm:g}")
    return ", ".join(parts)


def _group(group: ParameterGroup, optim: OptimConfig) -> str:
    numbers = sum(p.data.size for p in group.params)
    others = len(group.names) - 1
    return (f"  rate {optim.learning_rate * group.lr:g}, weight decay {optim.weight_decay * group.decay:g}: "
            f"{numbers:,} in {group.names[0]}" + (f" and {others} more" if others else ""))


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"
