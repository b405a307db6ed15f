"""The progress of a run on a terminal: step, loss, mIoU, images/s and the time left; plain lines in a log."""

import math
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tinyseg.training import Listener

__all__ = ["ProgressBar"]

_SMOOTHING = 0.9                                     # of the shown loss and rate; metrics.csv has the raw values


class ProgressBar(Listener):
    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bar: Progress | None = None

    def told(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def started(self, step: int, total: int) -> None:
        self.loss = self.rate = math.nan
        self.note = ""
        self.bar = Progress(
            TextColumn("step"), MofNCompleteColumn(), BarColumn(bar_width=None),
            TextColumn("loss {task.fields[loss]}  mIoU {task.fields[miou]}  {task.fields[rate]} images/s"
                       "{task.fields[note]}"),
            TimeRemainingColumn(), console=self.console, expand=True)
        self.task = self.bar.add_task("", total=total, completed=step, loss="-", miou="-", rate="-", note="")
        self.bar.start()

    def evaluating(self, images: int) -> None:
        self.bar.update(self.task, note=f"  evaluating {images} image{'s' * (images != 1)}")

    def stepped(self, row: dict[str, Any], best: float) -> None:
        self.loss = _smooth(self.loss, row["train_loss"])
        self.rate = _smooth(self.rate, row["images_per_second"])
        self.bar.update(self.task, completed=row["step"], loss=f"{self.loss:.3f}", rate=f"{self.rate:.1f}", note="",
                        miou="-" if math.isnan(best) else f"{best:.3f}")
        if "mean_iou" in row and not self.console.is_terminal:
            self.told(f"step {row['step']}  loss {self.loss:.3f}  mIoU {row['mean_iou']:.3f}  "
                      f"{self.rate:.1f} images/s")

    def stopped(self) -> None:
        self.bar.stop()


def _smooth(before: float, value: float) -> float:
    return value if math.isnan(before) else _SMOOTHING * before + (1 - _SMOOTHING) * value
