"""The training loop: steps, evaluations, checkpoints; exact to the bit across interruptions.

Everything a step depends on is in the last checkpoint or follows from its number: parameters, buffers and the
optimiser's state, the generator of dropout, and the position in the data, whose order and random transforms follow
from (seed, epoch, position).  So a run that is killed goes on from its last checkpoint to the weights it would have
had.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tinyseg.autograd import Tensor
from tinyseg.checkpoint import save_checkpoint, split_prefix
from tinyseg.data import Batch, DataLoader
from tinyseg.errors import CheckpointError, Interrupted, TrainingError, about
from tinyseg.files import sweep
from tinyseg.functional.random import get_rng_state, set_rng_state
from tinyseg.inference import Evaluation
from tinyseg.nn import Module, retake_statistics
from tinyseg.optim import Optimizer, Schedule, clip_grad_norm_
from tinyseg.training.history import History

__all__ = ["Listener", "Trainer"]

BEST, LAST = "best.safetensors", "last.safetensors"


class Listener:
    """Who wants to know how a run goes; the base class does not."""

    def told(self, line: str) -> None:
        """Something worth a line."""

    def started(self, step: int, total: int) -> None:
        """The loop begins after `step` of `total` steps."""

    def stepped(self, row: dict[str, Any], best: float) -> None:
        """A step is done; `row` as in metrics.csv, `best` the best mean IoU so far (nan before the first)."""

    def evaluating(self, images: int) -> None:
        """The validation set is about to be segmented."""

    def stopped(self) -> None:
        """The loop has ended, for whatever reason."""


@dataclass
class Trainer:
    """Trains `model` in `folder` for `total` steps.

    loss             maps scores and a Batch to a scalar tensor
    schedule         maps a step to the factor of the learning rate
    validate         evaluates the model; called every `evaluate_every` steps and at the end
    accumulate       batches averaged for one step
    statistics       batches from which those of batch norm are taken anew before an evaluation; 0: they stay
    description      what a checkpoint says of the net, so that it can be rebuilt (JSON-able)
    """

    model: Module
    loss: Callable[[Tensor, Batch], Tensor]
    optimizer: Optimizer
    schedule: Schedule
    loader: DataLoader
    validate: Callable[[], Evaluation]
    folder: Path
    total: int
    description: dict[str, Any]
    evaluate_every: int
    checkpoint_every: int
    accumulate: int = 1
    clip_norm: float | None = None
    statistics: int = 0
    listener: Listener = field(default_factory=Listener)
    step: int = 0
    best: dict[str, Any] = field(default_factory=lambda: {"mean_iou": math.nan, "step": 0})
    seconds: float = 0.0

    def run(self) -> None:
        """Train to the end.  Raises Interrupted after saving on Ctrl-C, TrainingError on a loss that is not finite."""
        sweep(self.folder)
        self.history = History(self.folder / "metrics.csv", self.step)
        if self.step == 0:
            self.save(LAST)                          # from here on there is always something to resume from
        self.listener.started(self.step, self.total)
        try:
            # An overflow is found out, and told with more, by the check of the loss.
            with _stop_requests() as stop, np.errstate(over="ignore", invalid="ignore"):
                batches = self._batches(self.step * self.accumulate)
                while self.step < self.total:
                    self._advance(batches)
                    if stop.is_set() and self.step < self.total:
                        self.save(LAST)
                        raise Interrupted(f"stopped after step {self.step} of {self.total}, which is saved")
        finally:
            self.listener.stopped()

    def _advance(self, batches: Iterator[Batch]) -> None:
        """One step and what is due after it."""
        began = time.perf_counter()
        self.schedule.set(self.optimizer, self.step)
        rate = self.optimizer.param_groups[0]["lr"]
        images, loss = self._learn(batches, rate)
        self.step += 1
        elapsed = time.perf_counter() - began
        row: dict[str, Any] = {
            "step": self.step, "epoch": (self.step * self.accumulate - 1) // len(self.loader),
            "learning_rate": rate, "train_loss": loss, "images_per_second": images / elapsed}
        last = self.step == self.total
        if last or self.step % self.evaluate_every == 0:
            row |= self._evaluate()
        self.seconds += time.perf_counter() - began
        self.history.append(row)
        self.listener.stepped(row, self.best["mean_iou"])
        if last or self.step % self.checkpoint_every == 0:
            self.save(LAST)

    def _learn(self, batches: Iterator[Batch], rate: float) -> tuple[int, float]:
        """Change the parameters once.  Returns the images seen and their mean loss."""
        self.model.train()
        self.optimizer.zero_grad()
        images, total = 0, 0.0
        for _ in range(self.accumulate):
            batch = next(batches)
            with about(", ".join(batch.names)):      # whose size the net may refuse
                loss = self.loss(self.model(Tensor(batch.images)), batch) / self.accumulate
            value = loss.item()
            if not math.isfinite(value):
                raise TrainingError(f"the loss is {value} at step {self.step + 1}, learning rate {rate:.3g}; "
                                    + self._good())
            loss.backward()
            images, total = images + len(batch), total + value
        if self.clip_norm is not None:
            clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.optimizer.step()
        return images, total

    def _batches(self, position: int) -> Iterator[Batch]:
        """Without the first so many, epoch after epoch."""
        epoch, start = divmod(position, len(self.loader))
        while True:
            yield from self.loader.epoch(epoch, start)
            epoch, start = epoch + 1, 0

    def _evaluate(self) -> dict[str, float]:
        if self.statistics:
            batches = islice(self._batches(0), self.statistics)
            retake_statistics(self.model, (Tensor(batch.images) for batch in batches))
        evaluation = self.validate()
        c = evaluation.confusion
        # Written before the last checkpoint: killed between the two, the run comes here again with the same weights.
        if not c.mean_iou <= self.best["mean_iou"] and not math.isnan(c.mean_iou):
            self.best = {"mean_iou": c.mean_iou, "step": self.step}
            self.save(BEST)
        return {"val_loss": evaluation.cross_entropy, "mean_iou": c.mean_iou, "pixel_accuracy": c.pixel_accuracy,
                "mean_accuracy": c.mean_accuracy, "frequency_weighted_iou": c.frequency_weighted_iou,
                "mean_dice": c.mean_dice}

    def save(self, name: str) -> None:
        """Write a checkpoint: BEST the net, LAST also what resuming needs.  Refuses weights that are not finite."""
        state = self.model.state_dict()
        broken = next((k for k, v in state.items() if v.dtype.kind == "f" and not np.isfinite(v).all()), None)
        if broken is not None:
            raise TrainingError(f"{broken} is not finite after step {self.step}; {self._good()}")
        metadata = {**self.description, "step": self.step, "mean_iou": self.best["mean_iou"] if name == BEST else None}
        if name == LAST:
            arrays, settings = self.optimizer.state_dict()
            state |= {f"optimizer/{k}": v for k, v in arrays.items()}
            metadata["training"] = {"best": self.best, "optimizer": settings, "random": get_rng_state(),
                                    "images": len(self.loader.dataset), "seconds": self.seconds}
        save_checkpoint(self.folder / name, state, metadata)

    def restore(self, state: dict[str, np.ndarray], metadata: dict[str, Any]) -> None:
        """Go back to where a LAST checkpoint was written.  Raises CheckpointError when it does not fit."""
        path = self.folder / LAST
        try:
            training = metadata["training"]
            if training["images"] != len(self.loader.dataset):
                raise CheckpointError(f"{path}: the run began with {training['images']} training images, now there are "
                                      f"{len(self.loader.dataset)}; bring the data back, or start a new run")
            arrays, weights = split_prefix(state, "optimizer")
            self.model.load_state_dict(weights)
            self.optimizer.load_state_dict(arrays, training["optimizer"])
            set_rng_state(training["random"])
            self.best, self.step, self.seconds = training["best"], metadata["step"], training["seconds"]
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{path}: cannot be resumed from, {error} is missing or wrong; "
                                  "start a new run") from error

    def _good(self) -> str:
        """Where to go on after a step that went wrong."""
        return (f"the last good checkpoint is {self.folder / LAST}. Start again with a smaller --lr, "
                "or limit the gradient with --clip-norm 1")


@contextmanager
def _stop_requests() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop after the step; the second Ctrl-C stops at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number: int, frame: Any) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
