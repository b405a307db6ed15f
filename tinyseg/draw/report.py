"""A training run on one page: an HTML file that needs nothing else, no network, no script."""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tinyseg.draw.figures import confusion_figure, loss_figure, score_figure, series
from tinyseg.draw.masks import ERROR_LEGEND, as_picture, colorize, error_map
from tinyseg.draw.style import to_svg
from tinyseg.errors import ArgumentError, ShapeError
from tinyseg.files import replacing
from tinyseg.metrics import ConfusionMatrix

__all__ = ["Example", "Report", "write_report"]

EXAMPLE_SIDE = 400      # pixels: what a reader sees of an example; larger ones are shrunk to it
LONG_TABLE = 30         # layers: a longer table starts folded
NOTHING = "–"


@dataclass
class Example:
    """One image, uint8 (H, W, 3) or (H, W, 1), with its true and predicted labels (H, W)."""

    image: NDArray[np.uint8]
    truth: NDArray
    prediction: NDArray
    name: str


@dataclass
class Report:
    """What a report tells.  Any of the lists and dicts may be empty; None and nan are shown as a dash.

    classes     n names
    palette     uint8 (256, 3), the colour of each label and of the ignored one
    history     rows of the run: dicts with "step" and any of train_loss, val_loss, mean_iou, images_per_second
    confusion   of the validation set
    baseline    of always answering its most frequent class (`tinyseg.metrics.majority_baseline`)
    examples    pictures to show
    layers      rows of the net: name, type, output (C, H, W), receptive_field (height, width) in pixels or None
                for the whole image, parameters.  A name that occurs twice is one layer called twice.
    config      what the run was asked to do; nested dicts are joined by dots
    facts       what it ran on.  A "duration", seconds or words, joins the headline.
    """

    title: str
    classes: Sequence[str]
    palette: NDArray[np.uint8]
    history: Sequence[Mapping[str, Any]]
    confusion: ConfusionMatrix
    baseline: ConfusionMatrix
    examples: Sequence[Example] = ()
    layers: Sequence[Mapping[str, Any]] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def write_report(path: str | Path, report: Report) -> None:
    """Write `report` as one HTML file.

    Raises ArgumentError when names or baseline do not belong to the confusion matrix, ShapeError when an example's
    image and masks differ in size, DataError when the file cannot be written; then nothing is left behind.
    """
    n = report.confusion.num_classes
    if len(report.classes) != n or report.baseline.num_classes != n:
        raise ArgumentError(f"write_report: {len(report.classes)} class names and a baseline of "
                            f"{report.baseline.num_classes} for a confusion matrix of {n} classes; needs {n} of each")
    page = _page(report).encode()
    with replacing(path) as file:
        file.write(page)


def _page(report: Report) -> str:
    sections = [_head(report)]
    if report.examples:
        sections.append(_section("What it sees", _examples(report)))
    sections.append(_section("How it learnt", _curves(report)))
    sections.append(_section("Class by class", _classes(report)))
    sections.append(_section("What it confuses", _confusion(report)))
    if report.layers:
        sections.append(_section("The net", _layers(report.layers)))
    surroundings = {name: fact for name, fact in report.facts.items() if name != "duration"}
    sections.append('<div class="two">'
                    + _section("Configuration", _pairs(report.config))
                    + _section("Environment", _pairs(surroundings)) + "</div>")
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    return ('<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<link rel="icon" href="data:,">\n'
            f"<title>{escape(report.title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
            + "\n".join(sections) + "\n</body>\n</html>\n")


def _section(title: str, body: str) -> str:
    return f"<section>\n<h2>{title}</h2>\n{body}\n</section>"


def _head(report: Report) -> str:
    confusion, baseline = report.confusion, report.baseline
    _, rates = series(report.history, "images_per_second")
    parameters = _parameters(report.layers)
    tiles = [
        ("Pixel accuracy", _percent(confusion.pixel_accuracy), f"baseline {_percent(baseline.pixel_accuracy)} %"),
        ("Mean accuracy", _percent(confusion.mean_accuracy), f"baseline {_percent(baseline.mean_accuracy)} %"),
        ("Mean Dice", _percent(confusion.mean_dice), f"baseline {_percent(baseline.mean_dice)} %"),
        ("Parameters", _short(parameters), f"{parameters:,}" if report.layers else "not given"),
        ("Duration", *_duration(report.facts.get("duration"))),
        ("Images per second", _number(np.median(rates) if len(rates) else None), "in training, median"),
    ]
    units = [" %"] * 3 + [""] * 3
    cards = "\n".join(
        f'<div class="card"><div class="label">{name}</div><div class="value">{_with_unit(value, unit)}</div>'
        f'<div class="label">{escape(note)}</div></div>'
        for (name, value, note), unit in zip(tiles, units, strict=True))
    return f"""<header>
<div class="eyebrow">tinyseg · segmentation report</div>
<h1>{escape(report.title)}</h1>
<p class="muted">{len(report.classes)} classes, judged on {confusion.pixels:,} pixels of the validation set.</p>
</header>
<div class="headline">
<div class="card hero">
<div class="label">Mean intersection over union</div>
<div class="value">{_with_unit(_percent(confusion.mean_iou), " %")}</div>
<div class="scale"><i style="width:{_width(confusion.mean_iou)}"></i>\
<b style="left:{_width(baseline.mean_iou)}"></b></div>
<div class="label"><span class="key"></span>{_percent(baseline.mean_iou)} % by always answering \
{_majority(report)}</div>
</div>
<div class="tiles">
{cards}
</div>
</div>"""


def _majority(report: Report) -> str:
    if not report.baseline.pixels:
        return "one class"
    return f"“{escape(report.classes[int(report.baseline.predicted_pixels.argmax())])}”"


def _examples(report: Report) -> str:
    labels = {label for example in report.examples for mask in (example.truth, example.prediction)
              for label in np.unique(mask).tolist() if label < len(report.classes)}
    labels.discard(report.confusion.ignore_index)
    colors = [(report.classes[label], report.palette[label]) for label in sorted(labels)]
    return ('<div class="card">\n' + _legend(colors)
            + "\n".join(_example(example, report) for example in report.examples)
            + "\n</div>\n" + '<div class="note">' + _legend(ERROR_LEGEND.items()) + "</div>")


def _example(example: Example, report: Report) -> str:
    if not as_picture("write_report", example.image).shape[:2] == example.truth.shape == example.prediction.shape:
        raise ShapeError(f"write_report: example {example.name!r} has image {example.image.shape}, truth "
                         f"{example.truth.shape}, prediction {example.prediction.shape}; needs one size (H, W)")
    judged = ConfusionMatrix(len(report.classes), report.confusion.ignore_index)
    judged.update(example.truth, example.prediction)
    truth, prediction = _shrink(example.truth), _shrink(example.prediction)
    pictures = {
        "image": _data_uri(_shrink(as_picture("write_report", example.image)), photograph=True),
        "truth": _data_uri(colorize(truth, report.palette)),
        "prediction": _data_uri(colorize(prediction, report.palette)),
        "error": _data_uri(error_map(truth, prediction, report.confusion.ignore_index)),
    }
    small = ' class="small"' if max(example.truth.shape) < 160 else ""
    return ('<figure class="example">'
            f"<figcaption><span>{escape(example.name)}</span><b>mIoU {_percent(judged.mean_iou)} %</b></figcaption>"
            + "".join(f'<div><img{small} src="{uri}" alt="{name} of {escape(example.name)}">{name}</div>'
                      for name, uri in pictures.items()) + "</figure>")


def _curves(report: Report) -> str:
    loss = to_svg(loss_figure(report.history), "Loss against the step")
    score = to_svg(score_figure(report.history, report.baseline), "Mean IoU on validation against the step")
    return f'<div class="two"><div class="card">{loss}</div><div class="card">{score}</div></div>'


def _classes(report: Report) -> str:
    confusion = report.confusion
    share = confusion.truth_pixels / max(confusion.pixels, 1)
    columns = zip(report.classes, report.palette, confusion.iou, confusion.recall, confusion.precision,
                  confusion.dice, share, strict=False)
    rows = [f"<tr><td>{_swatch(color)}{escape(name)}</td>{_bar(iou)}"
            + _cells(map(_percent, (accuracy, precision, dice, part))) + "</tr>"
            for name, color, iou, accuracy, precision, dice, part in columns]
    mean_precision = confusion.precision[~np.isnan(confusion.precision)]
    rows.append(f'<tr class="total"><td>Mean</td>{_bar(confusion.mean_iou)}'
                + _cells(map(_percent, (confusion.mean_accuracy, mean_precision.mean() if len(mean_precision) else None,
                                        confusion.mean_dice))) + "<td></td></tr>")
    kept = "in the truth" if confusion.absent == "truth" else "in the truth or in the prediction"
    return ('<div class="card wide"><table>\n<thead><tr><th>Class</th><th class="left">IoU %</th><th>Accuracy %</th>'
            "<th>Precision %</th><th>Dice %</th><th>Share of pixels %</th></tr></thead>\n<tbody>\n" + "\n".join(rows)
            + f'\n</tbody></table></div>\n<p class="note">Mean IoU and Dice are over the classes {kept}; '
            f"{NOTHING} marks what has no pixels to judge.</p>")


def _confusion(report: Report) -> str:
    svg = to_svg(confusion_figure(report.confusion, report.classes), "Confusion matrix")
    n = len(report.classes)
    # Small matrices keep their size; large ones scroll rather than shrink out of sight.
    least = max(min(760, 160 + 26 * n), 15 * n)
    widths = f"max-width:{max(min(1080, 260 + 50 * n), least)}px;min-width:{least}px"
    return (f'<div class="card wide"><div style="{widths};margin:auto">{svg}</div></div>\n'
            '<p class="note">Each row: of the pixels of this class, the percentage answered with each class.</p>')


def _layers(layers: Sequence[Mapping[str, Any]]) -> str:
    rows = [f'<tr><td class="mono">{escape(str(layer.get("name", "")))}</td>'
            f'<td class="left">{escape(str(layer.get("type", "")))}</td>'
            + _cells((_size(layer.get("output")), _size(layer.get("receptive_field"), "whole image"),
                      f"{layer.get('parameters') or 0:,}")) + "</tr>" for layer in layers]
    rows.append(f'<tr class="total"><td>Total</td><td></td><td></td><td></td><td>{_parameters(layers):,}</td></tr>')
    opened = " open" if len(layers) <= LONG_TABLE else ""
    return (f'<div class="card"><details{opened}><summary>{len(layers)} layers, in the order they are called</summary>'
            '<div class="wide"><table>\n<thead><tr><th>Layer</th><th class="left">Type</th><th>Output C × H × W</th>'
            "<th>Receptive field</th><th>Parameters</th></tr></thead>\n<tbody>\n" + "\n".join(rows)
            + "\n</tbody></table></div></details></div>")


def _pairs(values: Mapping[str, Any]) -> str:
    items = "\n".join(f"<dt>{escape(key)}</dt><dd>{escape(_value(value))}</dd>" for key, value in _flat(values))
    return f'<div class="card"><dl>{items or f"<dt>{NOTHING}</dt>"}</dl></div>'


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _parameters(layers: Sequence[Mapping[str, Any]]) -> int:
    return sum({layer.get("name"): int(layer.get("parameters") or 0) for layer in layers}.values())


# Small pieces of markup.

def _cells(texts: Iterable[str]) -> str:
    return "".join(f"<td>{escape(text)}</td>" for text in texts)


def _bar(value: float) -> str:
    return (f'<td class="bar"><div><span><i style="width:{_width(value)}"></i></span><b>{_percent(value)}</b>'
            "</div></td>")


def _swatch(color: Iterable[int]) -> str:
    return f'<span class="swatch" style="background:#{bytes(map(int, color)).hex()}"></span>'


def _legend(colors: Iterable[tuple[str, Iterable[int]]]) -> str:
    return ('<div class="legend">'
            + "".join(f"<span>{_swatch(color)}{escape(name)}</span>" for name, color in colors) + "</div>\n")


def _with_unit(value: str, unit: str) -> str:
    return escape(value) + (f"<small>{unit.strip()}</small>" if unit and value != NOTHING else "")


# Numbers as words; None and nan as a dash.

def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _percent(value: float | None) -> str:
    return NOTHING if _missing(value) else f"{100 * value:.1f}"


def _width(value: float) -> str:
    return "0" if _missing(value) else f"{100 * min(max(value, 0), 1):.2f}%"


def _number(value: float | None) -> str:
    return NOTHING if _missing(value) else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _short(count: int) -> str:
    """35322218 -> 35.3 M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count) if count else NOTHING


def _duration(value: Any) -> tuple[str, str]:
    """A value for the headline and a note below it."""
    if _missing(value):
        return NOTHING, "not given"
    if isinstance(value, str):
        return value, "of training"
    hours, minutes, seconds = int(value // 3600), int(value // 60 % 60), value % 60
    if hours:
        return f"{hours} h {minutes:02} min", "of training"
    return f"{minutes} min {seconds:02.0f} s" if minutes else f"{seconds:.3g} s", "of training"


def _size(value: Any, missing: str = NOTHING) -> str:
    """(64, 56, 56) -> 64 × 56 × 56."""
    if value is None:
        return missing
    return " × ".join(f"{v}" for v in value) if isinstance(value, (tuple, list)) else str(value)


def _value(value: Any) -> str:
    if _missing(value):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_value, value)) or NOTHING
    return str(value)


# Pictures inside the page.

def _shrink(array: NDArray) -> NDArray:
    """An image or a mask of at most EXAMPLE_SIDE pixels a side; masks keep their labels, so take the nearest."""
    height, width = array.shape[:2]
    scale = EXAMPLE_SIDE / max(height, width)
    if scale >= 1:
        return array
    size = max(1, round(width * scale)), max(1, round(height * scale))
    how = Image.Resampling.LANCZOS if array.ndim == 3 else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(array.astype(np.uint8)).resize(size, how))


def _data_uri(picture: NDArray[np.uint8], photograph: bool = False) -> str:
    buffer = BytesIO()
    kind = "jpeg" if photograph and max(picture.shape) > 160 else "png"
    Image.fromarray(picture).save(buffer, kind, **({"quality": 90} if kind == "jpeg" else {"optimize": True}))
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
