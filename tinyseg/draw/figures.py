"""The curves of a training run and the heat map of a confusion matrix, as matplotlib figures.

`style.to_png` and `style.to_svg` turn them into files.  A history is a list of rows, dicts with a "step" and
any of the quantities; a missing key, None and nan all mean "not measured at this step".
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tinyseg.draw.style import COLORS, axes, figure
from tinyseg.metrics import ConfusionMatrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["confusion_figure", "loss_figure", "score_figure", "series", "smooth"]

History = Sequence[Mapping[str, Any]]


def series(history: History, key: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The steps at which `key` was measured and what it was, two arrays (M,).

    The step of a row without one is its place in the history.
    """
    rows = [(row.get("step", i), row.get(key)) for i, row in enumerate(history)]
    points = np.array([(step, value) for step, value in rows if value is not None], np.float64).reshape(-1, 2)
    return tuple(points[np.isfinite(points[:, 1])].T)


def smooth(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """The mean over `window` neighbours around each value, fewer at the two ends; same shape (M,)."""
    kernel = np.ones(min(window, len(values)))
    return np.convolve(values, kernel, "same") / np.convolve(np.ones_like(values), kernel, "same")


def loss_figure(history: History) -> "Figure":
    """Training loss, each step and smoothed over a twentieth of the run, and validation loss."""
    fig = figure(5.6, 3.4)
    ax = axes(fig, "Loss", "step")
    step, loss = series(history, "train_loss")
    if window := len(loss) // 40:
        ax.plot(step, loss, color=COLORS["train"], alpha=0.25, linewidth=0.8)
        loss = smooth(loss, 2 * window + 1)
    _curve(ax, step, loss, "train", "training")
    _curve(ax, *series(history, "val_loss"), "val", "validation")
    _limit_above(ax, history)
    _finish(ax)
    return fig


def score_figure(history: History, baseline: ConfusionMatrix | None = None) -> "Figure":
    """Validation mIoU against the step, over a dashed line at the mIoU of always answering one class."""
    fig = figure(5.6, 3.4)
    ax = axes(fig, "Mean IoU on validation", "step")
    _curve(ax, *series(history, "mean_iou"), "val", "mIoU")
    if baseline is not None and np.isfinite(baseline.mean_iou):
        ax.axhline(baseline.mean_iou, color=COLORS["muted"], linewidth=1.4, dashes=(4, 3),
                   label="majority baseline")
    top = max(ax.dataLim.ymax, 0) if np.isfinite(ax.dataLim.ymax) else 0
    ax.set_ylim(0, min(1.0, top * 1.1) or 1.0)
    ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g} %")
    _finish(ax)
    return fig


def confusion_figure(confusion: ConfusionMatrix, classes: Sequence[str] | None = None) -> "Figure":
    """Each row: of the pixels of this class, how many percent were answered with each class.

    Up to 30 classes the cells hold numbers; below half a percent only the tint, without pixels nothing.  The row
    of a class that is not in the truth is empty.  `classes` names the rows when not as the matrix does.
    """
    from matplotlib.collections import PolyCollection
    names = confusion.classes if classes is None else classes
    n, total = confusion.num_classes, confusion.truth_pixels[:, None]
    share = np.divide(confusion.counts, total, out=np.zeros((n, n)), where=total > 0)
    cell = 0.6 if n <= 6 else 0.36 if n <= 30 else 0.2      # inches
    fig = figure(n * cell + 1.9, n * cell + 1.7)
    ax = axes(fig, "")
    corner = np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) - 0.5
    row, column = np.nonzero(share)
    cells = corner * 0.94 + np.stack([column, row], axis=-1)[:, None]       # (M, 4, 2), a hair apart
    ax.add_collection(PolyCollection(cells, linewidth=0, facecolor=[
        (*_rgb(COLORS["cell"]), 0.06 + 0.94 * share[at]) for at in zip(row, column, strict=True)]))
    if n <= 30:
        for at in zip(row, column, strict=True):
            if share[at] >= 0.005:
                ax.text(at[1], at[0], f"{100 * share[at]:.0f}", ha="center", va="center_baseline",
                        fontsize=8 if n > 6 else 10, color=COLORS["on-accent" if share[at] > 0.55 else "ink"])
    size = 9 if n <= 30 else 8
    upright = n > 6 or max(map(len, names)) > 7
    ax.set_xticks(range(n), names, rotation=90 * upright, fontsize=size, parse_math=False)
    ax.set_yticks(range(n), names, fontsize=size, parse_math=False)
    ax.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5), aspect="equal", axisbelow=True)
    ax.set_xlabel("answered", color=COLORS["muted"])
    ax.set_ylabel("truth", color=COLORS["muted"])
    ax.grid(False)
    ax.spines["bottom"].set_visible(False)
    return fig


def _curve(ax: "Axes", x: NDArray, y: NDArray, color: str, label: str) -> None:
    """A line; its few points are marked, so that one alone can be seen."""
    if len(x):
        ax.plot(x, y, color=COLORS[color], linewidth=1.8, label=label, marker="o" if len(x) <= 30 else None,
                markersize=4 if len(x) > 1 else 7)


def _limit_above(ax: "Axes", history: History) -> None:
    """Keep a few spikes of the first steps from pressing the rest of a curve flat."""
    values = np.concatenate([series(history, key)[1] for key in ("train_loss", "val_loss")])
    if len(values) > 30:
        low, high, top = *np.quantile(values, (0, 0.98)), values.max()
        if top > low + 1.6 * (high - low) > low:
            ax.set_ylim(low - 0.05 * (high - low), low + 1.3 * (high - low))


def _finish(ax: "Axes") -> None:
    """Names of the curves above them at the right, or a word in the middle when there are none."""
    ax.xaxis.set_major_locator(_whole_steps())
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        ax.legend(handles, labels, loc="lower right", bbox_to_anchor=(1.01, 1.0), ncols=len(labels),
                  frameon=False, fontsize=9, labelcolor=COLORS["ink"], handlelength=1.4, columnspacing=1.2,
                  borderaxespad=0.2)
        ax.set_xlim(left=0)
    else:
        ax.text(0.5, 0.5, "nothing measured", transform=ax.transAxes, ha="center", color=COLORS["muted"])
        ax.set(xticks=[], yticks=[])


def _whole_steps():
    from matplotlib.ticker import MaxNLocator
    return MaxNLocator(nbins=6, integer=True)


def _rgb(color: str) -> tuple[float, ...]:
    return tuple(int(color[i:i + 2], 16) / 255 for i in (1, 3, 5))
