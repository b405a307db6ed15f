"""Optimisers and schedules by the names that a run's configuration uses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tinyseg.errors import ArgumentError
from tinyseg.optim.adaptive import Adam, AdamW, RMSprop
from tinyseg.optim.optimizer import Optimizer
from tinyseg.optim.schedule import Constant, Cosine, Exponential, Poly, Schedule, Step, WarmUp
from tinyseg.optim.sgd import SGD

__all__ = ["OPTIMIZERS", "SCHEDULES", "build", "build_schedule"]

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop")
SCHEDULES = ("constant", "step", "poly", "cosine", "exponential")
MILESTONES = (2 / 3, 8 / 9)                          # of "step", as shares of the run


def build(name: str, params: Iterable[Any], lr: float, momentum: float = 0.9) -> Optimizer:
    """An optimiser from one of OPTIMIZERS.

    params      tensors, or groups with options of their own
    momentum    weight of the past gradients; for Adam it is beta1
    """
    if name == "sgd":
        return SGD(params, lr, momentum)
    if name == "rmsprop":
        return RMSprop(params, lr, momentum=momentum)
    if name in ("adam", "adamw"):
        return (Adam if name == "adam" else AdamW)(params, lr, (momentum, 0.999))
    raise ArgumentError(f"optimizer {name!r}; legal: {', '.join(OPTIMIZERS)}")


def build_schedule(name: str, total: int, warmup: int = 0, epoch: int = 1, milestones: Sequence[float] = MILESTONES,
                   factor: float | None = None) -> Schedule:
    """A schedule from one of SCHEDULES over `total` steps, the first `warmup` of them rising.

    epoch         steps after which "exponential" multiplies by `factor`
    milestones    shares of the run after which "step" multiplies by `factor`
    factor        by default 0.1 for "step", 0.995 for "exponential"
    """
    if name not in SCHEDULES:
        raise ArgumentError(f"schedule {name!r}; legal: {', '.join(SCHEDULES)}")
    schedule = {"constant": Constant, "poly": lambda: Poly(total), "cosine": lambda: Cosine(total),
                "step": lambda: Step(sorted({round(share * total) for share in milestones}),
                                     0.1 if factor is None else factor),
                "exponential": lambda: Exponential(epoch, 0.995 if factor is None else factor)}[name]()
    return WarmUp(schedule, warmup) if warmup else schedule
