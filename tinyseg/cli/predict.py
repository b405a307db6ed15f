"""`tinyseg predict`."""

from glob import glob
from pathlib import Path
from typing import Annotated

import typer

from tinyseg.cli.crf_settings import crf_of
from tinyseg.cli.options import Flip, Overlap, Precision, Run, Scales, Tile, Views, looks
from tinyseg.errors import DataError, about
from tinyseg.precision import set_float32_matmul_precision

__all__ = ["predict"]


def predict(
    run: Run,
    inputs: Annotated[list[str], typer.Argument(help="Images, folders of images, or globs like 'photos/*.jpg'.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("predictions"),
    overlay: Annotated[bool, typer.Option(help="Write NAME_overlay.png: the classes over the image.")] = True,
    mask: Annotated[bool, typer.Option(help="Write NAME_mask.png: a palette PNG of class indices.")] = True,
    probabilities: Annotated[bool, typer.Option(
        help="Write NAME_probabilities.npz: float16 (classes, H, W) and the class names.")] = False,
    alpha: Annotated[float, typer.Option(min=0, max=1, help="Strength of the overlay's colours.")] = 0.5,
    tile: Tile = None,
    overlap: Overlap = 32,
    views: Views = "one",
    flip: Flip = False,
    scales: Scales = "1",
    crf: Annotated[bool, typer.Option("--crf", help="Refine with a CRF: see tinyseg crf.")] = False,
    precision: Precision = "high",
) -> None:
    """Segment images with a trained net."""
    from rich.console import Console
    from rich.progress import track

    from tinyseg.data import read_image
    from tinyseg.inference import Predictor
    from tinyseg.inference.output import write_prediction
    set_float32_matmul_precision(precision)
    predictor = Predictor.load(run, tile, overlap, **looks(views, flip, scales))
    predictor.crf = crf_of(run) if crf else None
    paths = _images(inputs)
    names = _names(paths)
    console = Console(stderr=True)
    for path in track(paths, description="segmenting", console=console, disable=not console.is_terminal):
        image = read_image(path, predictor.channels)
        with about(str(path)):
            prediction = predictor(image)
        write_prediction(out, names[path], image, prediction, predictor, overlay=overlay, mask=mask,
                         probabilities=probabilities, alpha=alpha)
    print(f"{len(paths)} image{'s' * (len(paths) != 1)} segmented: {out}")


def _images(inputs: list[str]) -> list[Path]:
    """The files that the arguments name, each once, in their order."""
    from tinyseg.data.folder import list_images
    found: list[Path] = []
    for name in inputs:
        path = Path(name)
        if path.is_dir():
            found += list_images(path)
        elif path.exists():
            found.append(path)
        else:
            matches = sorted(Path(match) for match in glob(name, recursive=True) if Path(match).is_file())
            if not matches:
                raise DataError(f"{name}: no such file, folder, or match; name images, or a folder of them")
            found += matches
    return list(dict.fromkeys(found))


def _names(paths: list[Path]) -> dict[Path, str]:
    """The stem of each file, or its whole name where two stems are alike."""
    stems = [path.stem for path in paths]
    names = {path: path.stem if stems.count(path.stem) == 1 else path.name for path in paths}
    repeated = [path for path, name in names.items() if list(names.values()).count(name) > 1]
    if repeated:
        raise DataError(f"{repeated[0]} and {repeated[1]} would write the same results; segment them in two calls")
    return names
