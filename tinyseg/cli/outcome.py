"""What the terminal says at the end of a run, and how to go on with one that was interrupted."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tinyseg.errors import Interrupted

if TYPE_CHECKING:
    from tinyseg.training import Result

__all__ = ["print_outcome", "running"]


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """Tell who interrupts a run how to resume it."""
    try:
        yield
    except Interrupted as error:
        raise Interrupted(f"{error}. Go on with: tinyseg train --resume --out {folder}") from None


def print_outcome(result: "Result") -> None:
    c, b = result.confusion, result.baseline
    print(f"mIoU {c.mean_iou:.3f}, and {b.mean_iou:.3f} for always answering the most frequent class "
          f"(pixel accuracy {c.pixel_accuracy:.3f} and {b.pixel_accuracy:.3f}); "
          f"{result.steps} steps in {result.seconds:.0f} s")
    print(f"report: {result.report}")
