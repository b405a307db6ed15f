"""`tinyseg evaluate`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from tinyseg.errors import ArgumentError

__all__ = ["evaluate"]


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a run (its best checkpoint), or a checkpoint.")],
    images: Annotated[Path | None, typer.Option(help="Folder of images; default: the run's validation set.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Folder of their masks.")] = None,
    ignore_value: Annotated[int | None, typer.Option(
        min=0, max=255, help="A value in the masks that means 'not labelled', besides 255.")] = None,
    mask_encoding: Annotated[str, typer.Option(help="auto, index, binary or color.")] = "auto",
    tile: Annotated[int | None, typer.Option(min=16, help="Segment in overlapping tiles of this side.")] = None,
    views: Annotated[str, typer.Option(
        help="Average over one view, flip (and its mirror), or dihedral (all turns and mirrors).")] = "one",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a trained net: pixel accuracy, mean accuracy, mean IoU, frequency-weighted IoU, Dice, and each class."""
    from tinyseg.inference import Predictor
    predictor = Predictor.load(run, tile, views=views)
    evaluation = predictor.evaluate(_data(run, predictor, images, masks, ignore_value, mask_encoding))
    c = evaluation.confusion
    if as_json:
        print(json.dumps({**c.summary(), "cross_entropy": evaluation.cross_entropy}, indent=2, allow_nan=True))
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
                        ("mean Dice", c.mean_dice), ("cross-entropy", evaluation.cross_entropy)):
        print(f"{name:<24}{value:.4f}")


def _data(run, predictor, images, masks, ignore_value, mask_encoding):
    from tinyseg.data import FolderDataset
    if (images is None) != (masks is None):
        raise ArgumentError("evaluate: --images and --masks go together; give both, or neither for the run's own")
    if images is not None:
        data = FolderDataset(images, masks, predictor.classes, channels=predictor.channels, ignore_value=ignore_value,
                             mask_encoding=mask_encoding)
        for line in data.notices:
            typer.echo(line, err=True)
        return data
    from tinyseg.training import Config
    from tinyseg.training.data import open_data
    folder = run if run.is_dir() else run.parent
    return open_data(Config.read(folder / "config.json").data, lambda line: typer.echo(line, err=True))[1]
