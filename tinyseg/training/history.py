"""`metrics.csv`: a row for each step, and on evaluated steps what the validation set says."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from tinyseg.errors import DataError
from tinyseg.files import replacing

__all__ = ["COLUMNS", "History"]

COLUMNS = ("step", "epoch", "learning_rate", "train_loss", "images_per_second", "val_loss", "mean_iou",
           "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou", "mean_dice")
_WHOLE = ("step", "epoch")


class History:
    """The rows so far, on disk as soon as they are known.

    A run that resumes at a step drops the rows after it, since it will make them again.
    """

    def __init__(self, path: Path, upto: int = 0):
        self.path = path
        self.rows = [row for row in _read(path) if row["step"] <= upto] if upto else []
        with replacing(path) as file:
            file.write(_text([COLUMNS, *([row.get(c) for c in COLUMNS] for row in self.rows)]).encode())

    def append(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        try:
            with self.path.open("a", newline="") as file:
                file.write(_text([[row.get(c) for c in COLUMNS]]))
        except OSError as error:
            raise DataError(f"{self.path}: cannot be written ({error.strerror}); make room, then resume") from error


def _text(rows: Any) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open(newline="") as file:
            lines = list(csv.DictReader(file))
    except FileNotFoundError:
        return []
    rows = []
    for line in lines:
        try:
            rows.append({c: int(line[c]) if c in _WHOLE else float(line[c]) for c in COLUMNS if line[c]})
        except (TypeError, ValueError):              # the last line of a run that was killed while writing it
            break
    return rows
