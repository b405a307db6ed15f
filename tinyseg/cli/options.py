"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["IgnoreValue", "Images", "MaskEncoding", "Masks", "Precision", "Run", "Tile", "Views"]

Run = Annotated[Path, typer.Argument(help="Folder of a run (its best checkpoint), or a checkpoint.")]
Images = Annotated[Path | None, typer.Option(help="Folder of images; default: the run's validation set.")]
Masks = Annotated[Path | None, typer.Option(help="Folder of their masks.")]
IgnoreValue = Annotated[int | None, typer.Option(
    min=0, max=255, help="A value in the masks that means 'not labelled', besides 255.")]
MaskEncoding = Annotated[str, typer.Option(help="auto, index, binary or color.")]
Tile = Annotated[int | None, typer.Option(min=16, help="Segment in overlapping tiles of this side.")]
Views = Annotated[str, typer.Option(
    help="Average over one view, flip (and its mirror), or dihedral (all turns and mirrors).")]
Precision = Annotated[str, typer.Option(help="Of float32 products: highest, high, or medium (bf16), the fastest.")]
