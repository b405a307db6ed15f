"""`tinyseg evaluate`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinyseg.cli.crf_settings import crf_of
from tinyseg.cli.options import (
    Flip,
    IgnoreValue,
    Images,
    MaskEncoding,
    Masks,
    Overlap,
    Precision,
    Run,
    Scales,
    Tile,
    Views,
    looks,
)
from tinyseg.errors import ArgumentError
from tinyseg.precision import set_float32_matmul_precision

if TYPE_CHECKING:
    from tinyseg.data import Dataset
    from tinyseg.inference import Predictor

__all__ = ["evaluate", "labelled_data"]


def evaluate(
    run: Run,
    images: Images = None,
    masks: Masks = None,
    ignore_value: IgnoreValue = None,
    mask_encoding: MaskEncoding = "auto",
    tile: Tile = None,
    overlap: Overlap = 32,
    views: Views = "one",
    flip: Flip = False,
    scales: Scales = "1",
    crf: Annotated[bool, typer.Option("--crf", help="Refine with a CRF: see tinyseg crf.")] = False,
    precision: Precision = "high",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a trained net: pixel accuracy, mean accuracy, mean IoU, frequency-weighted IoU, Dice, and each class."""
    from tinyseg.inference import Predictor
    set_float32_matmul_precision(precision)
    predictor = Predictor.load(run, tile, overlap, **looks(views, flip, scales))
    predictor.crf = crf_of(run) if crf else None
    evaluation = predictor.evaluate(labelled_data(run, predictor, images, masks, ignore_value, mask_encoding))
    c = evaluation.confusion
    if as_json:
        print(json.dumps({**c.summary(), "border_mean_iou": evaluation.borders.mean_iou,
                          "cross_entropy": evaluation.cross_entropy}, indent=2, allow_nan=True))
        return
    from rich.console import Console
    from rich.table import Table
    table = Table("class", "IoU", "accuracy", "Dice", "share of pixels")
    share = c.truth_pixels / max(c.pixels, 1)
    for row in zip(c.classes, c.iou, c.recall, c.dice, share, strict=True):
        table.add_row(row[0], *(f"{v:.3f}" if v == v else "-" for v in row[1:]))
    Console().print(table)
    for name, value in (("mean IoU", c.mean_iou), ("pixel accuracy", c.pixel_accuracy),
                        ("mean accuracy", c.mean_accuracy), ("frequency-weighted IoU", c.frequency_weighted_iou),
                        ("mean Dice", c.mean_dice), ("mean IoU near borders", evaluation.borders.mean_iou),
                        ("cross-entropy", evaluation.cross_entropy)):
        print(f"{name:<24}{value:.4f}")


def labelled_data(run: Path, predictor: "Predictor", images: Path | None, masks: Path | None, ignore_value: int | None,
                  mask_encoding: str) -> "Dataset":
    """The images and masks that the options name, or the run's own validation set."""
    from tinyseg.data import FolderDataset
    if (images is None) != (masks is None):
        raise ArgumentError("--images and --masks go together; give both, or neither for the run's own")
    if images is not None:
        data = FolderDataset(images, masks, predictor.classes, channels=predictor.channels, ignore_value=ignore_value,
                             mask_encoding=mask_encoding, palette=predictor.palette)
        for line in data.notices:
            typer.echo(line, err=True)
        return data
    from tinyseg.training import Config
    from tinyseg.training.data import open_validation
    config = (run if run.is_dir() else run.parent) / "config.json"
    if not config.exists():
        raise ArgumentError(f"{run}: not of a run whose data are known; say what to compare with: --images and --masks")
    return open_validation(Config.read(config).data, predictor.classes, predictor.palette,
                           lambda line: typer.echo(line, err=True))
