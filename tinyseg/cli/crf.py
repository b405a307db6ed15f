"""`tinyseg crf`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinyseg.cli.crf_settings import settings_path
from tinyseg.cli.evaluate import labelled_data
from tinyseg.cli.options import IgnoreValue, Images, MaskEncoding, Masks, Run, Tile, Views, numbers
from tinyseg.errors import DataError

if TYPE_CHECKING:
    from tinyseg.crf import Score

__all__ = ["crf"]

_SHOWN = 10                                          # rows of the table
_PICTURES = 4


def crf(
    run: Run,
    weight: Annotated[str, typer.Option(help="Weights of the appearance kernel to try.")] = "3,6,10",
    sigma_xy: Annotated[str, typer.Option(help="Its reach in pixels.")] = "10,30,80",
    sigma_color: Annotated[str, typer.Option(help="Its reach in grey levels.")] = "3,6,13",
    smooth_weight: Annotated[str, typer.Option(help="Weights of the smoothness kernel to try.")] = "3",
    smooth_sigma: Annotated[str, typer.Option(help="Its reach in pixels.")] = "1,3",
    iterations: Annotated[int, typer.Option(min=1, help="Turns of mean field.")] = 10,
    limit: Annotated[int, typer.Option(min=1, help="Search on so many images at most.")] = 20,
    images: Images = None,
    masks: Masks = None,
    ignore_value: IgnoreValue = None,
    mask_encoding: MaskEncoding = "auto",
    tile: Tile = None,
    views: Views = "one",
) -> None:
    """Find the parameters of a fully connected CRF that suit a trained net.

    Tries every combination on validation images and writes the one of the best mean IoU to RUN/crf.json, which
    predict --crf and evaluate --crf read, and pictures before and after to RUN/crf.png. Whatever is best among many is
    a little flattered: judge it on images that took no part.
    """
    from rich.console import Console
    from rich.progress import Progress

    from tinyseg.crf import grid, search, write_settings
    from tinyseg.data import Subset
    from tinyseg.inference import Predictor, ahead
    crfs = grid(*(numbers(text, name) for name, text in (
        ("weight", weight), ("sigma-xy", sigma_xy), ("sigma-color", sigma_color), ("smooth-weight", smooth_weight),
        ("smooth-sigma", smooth_sigma))), iterations=iterations)
    predictor = Predictor.load(run, tile, views=views)
    data = labelled_data(run, predictor, images, masks, ignore_value, mask_encoding)
    data = Subset(data, range(min(limit, len(data))))
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"{len(crfs)} CRFs on {len(data)} images", total=len(crfs) * len(data))

        def samples():
            for sample in ahead(data):
                if sample.mask is None:
                    raise DataError(f"{sample.name}: has no mask; the search needs one for every image")
                yield sample.image, predictor(sample.image).probabilities, sample.mask

        before, *scores = search(samples(), crfs, predictor.classes, tried=lambda: progress.advance(task))
    scores.sort(key=lambda score: -score.confusion.mean_iou)
    best = scores[0]
    _print_table(before, scores)
    folder = settings_path(run).parent
    _draw(folder / "crf.png", predictor, best.crf, data)
    if best.confusion.mean_iou > before.confusion.mean_iou:
        write_settings(settings_path(run), best.crf)
        print(f"best: {settings_path(run)}, pictures: {folder / 'crf.png'}")
    else:
        print(f"none is better than no CRF, so no crf.json is written; pictures of the best: {folder / 'crf.png'}")


def _print_table(before: "Score", scores: "list[Score]") -> None:
    from rich.console import Console
    from rich.table import Table
    table = Table("weight", "xy", "color", "smooth", "xy", "mean IoU", "at borders", "accuracy")
    for score in (before, *scores[:_SHOWN]):
        parameters = ["no CRF", *"----"]
        if score.crf is not None:
            appearance, smoothness = score.crf.potentials
            parameters = [f"{value:g}" for value in (
                appearance.compatibility, appearance.sigma_xy, appearance.sigma_color, smoothness.compatibility,
                smoothness.sigma_xy)]
        table.add_row(*parameters, *(f"{value:.4f}" for value in (
            score.confusion.mean_iou, score.borders.mean_iou, score.confusion.pixel_accuracy)))
    Console().print(table)
    if len(scores) > _SHOWN:
        print(f"and {len(scores) - _SHOWN} more, down to mean IoU {scores[-1].confusion.mean_iou:.4f}")


def _draw(path: Path, predictor, crf, data) -> None:
    """A row for each of some images: the image, the net's answer, the CRF's, and the truth."""
    from tinyseg.draw import colorize, image_grid, save_png
    rows = []
    for index in range(min(_PICTURES, len(data))):
        sample = data[index]
        probabilities = predictor(sample.image).probabilities
        masks = [p.argmax(axis=0) for p in (probabilities, crf(sample.image, probabilities))]
        rows.append([sample.image, *(colorize(mask, predictor.palette) for mask in (*masks, sample.mask))])
    save_png(path, image_grid(rows, ["image", "net", "net and CRF", "truth"]))
