"""Options that several commands share."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tinyseg.errors import ArgumentError

__all__ = ["Classes", "Flip", "IgnoreValue", "Images", "MaskEncoding", "Masks", "NumClasses", "Options", "Overlap",
           "Precision", "Run", "Scales", "Tile", "Views", "class_names", "looks", "net_options", "numbers"]

Run = Annotated[Path, typer.Argument(help="Folder of a run (its best checkpoint), or a checkpoint.")]
Images = Annotated[Path | None, typer.Option(help="Folder of images; default: the run's validation set.")]
Masks = Annotated[Path | None, typer.Option(help="Folder of their masks.")]
IgnoreValue = Annotated[int | None, typer.Option(
    min=0, max=255, help="A value in the masks that means 'not labelled', besides 255.")]
MaskEncoding = Annotated[str, typer.Option(help="auto, index, binary or color.")]
Tile = Annotated[int | None, typer.Option(min=16, help="Segment in overlapping tiles of this side.")]
Overlap = Annotated[int, typer.Option(min=0, help="Pixels that tiles share with their surroundings on each side.")]
Views = Annotated[str, typer.Option(
    help="Average over one view, flip (and its mirror), or dihedral (all turns and mirrors).")]
Flip = Annotated[bool, typer.Option("--flip", help="Average over the image and its mirror: --views flip.")]
Scales = Annotated[str, typer.Option(help="Average over these factors of the size: 0.5,0.75,1,1.25.")]
Precision = Annotated[str, typer.Option(help="Of float32 products: highest, high, or medium (bf16), the fastest.")]
Options = Annotated[list[str] | None, typer.Option(
    "--option", "-o", metavar="NAME=VALUE", rich_help_panel="Net",
    help="An option of the net, for example output_stride=8 or backbone=resnet101; may be repeated. "
         "[bold]tinyseg models NET[/bold] lists them.")]
Classes = Annotated[str | None, typer.Option(
    help="Names of the classes in order of label: a,b,c, or a text file with a name a line.", rich_help_panel="Net")]
NumClasses = Annotated[int | None, typer.Option(min=1, help="Number of classes; else found.", rich_help_panel="Net")]


def net_options(given: list[str] | None) -> dict[str, Any]:
    """'name=value', each value a number, true, false, null, a list, or else text."""
    options = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ArgumentError(f"--option {text}: needs NAME=VALUE, for example output_stride=8")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options


def class_names(value: str | None) -> tuple[str, ...] | None:
    """Names with commas between, or those of a file."""
    if value is None:
        return None
    if Path(value).is_file():
        from tinyseg.data import read_classes
        return read_classes(value)
    return tuple(name.strip() for name in value.split(","))


def looks(views: str, flip: bool, scales: str) -> dict[str, Any]:
    """How often an image is looked at, as a Predictor takes it."""
    return {"views": "flip" if flip and views == "one" else views, "scales": numbers(scales, "scales")}


def numbers(value: str, name: str, least: int = 1) -> tuple[float, ...]:
    """Numbers with commas between, `least` of them or more."""
    try:
        found = tuple(float(n) for n in value.split(","))
    except ValueError:
        found = ()
    if len(found) < least:
        raise ArgumentError(f"--{name} {value}: needs numbers with commas between, {least} or more, for example "
                            "0.5,0.75")
    return found
