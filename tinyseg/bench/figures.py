"""The roofline of a machine with every layer under it, and how time grows, as matplotlib figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tinyseg.bench.candidates import TORCH
from tinyseg.bench.record import Bench
from tinyseg.bench.rows import rows
from tinyseg.draw.style import COLORS, axes, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["inks", "roofline_figure", "sweep_figure"]

_MARKERS = {"forward": "o", "input_grad": "^", "weight_grad": "s"}
_HUES = (COLORS["train"], "#2a9d8f", "#8e6bbf", "#b8902a", "#c0567f", "#6f8f2a", "#5fb3d4", "#8a5a3c", "#b23a48",
         "#3d4f7c", "#d9a5c0", "#7fcfa8")            # tinyseg's algorithms
_GREYS = dict(zip(TORCH, (COLORS["muted"], "#a8b0ba", COLORS["ink"]), strict=True))


def inks(bench: Bench) -> dict[str, str]:
    """A colour for each candidate: PyTorch's are grey, somebody's own kernel stands out."""
    seen = {result.candidate for result in bench.results if result.time}
    hues = iter(_HUES * len(bench.candidates))
    return {name: _GREYS[name] if name in _GREYS else COLORS["val"] if ":" in name
            else next(hues) if name in seen else COLORS["rule"] for name in bench.candidates}


def roofline_figure(bench: Bench) -> Figure:
    """Operations per second against operations per byte; only who saves products, like Winograd, can lie above it.

    Pooling has no place in it, as it hardly computes, unless there is nothing else.
    """
    fig = figure(9.6, 5.4)
    ax = axes(fig, "", "operations for each byte that must move", "GFLOP/s")
    points = [(bench.layer(layer), direction, row) for (layer, direction), group in rows(bench).items()
              for row in group if row.rate is not None]
    computing = [p for p in points if not p[0].pools]
    points = computing or points
    x = [layer.flops / layer.bytes(direction) for layer, direction, _ in points]
    y = [row.rate / 1e9 for _, _, row in points]
    peaks, colors = bench.peaks, inks(bench)
    ridge = peaks.flops / peaks.bandwidth
    left, right = min([*x, ridge]) / 2.2, max([*x, ridge]) * 2.2
    ax.set(xscale="log", yscale="log", xlim=(left, right))
    _roof(ax, left, right, peaks.bandwidth, peaks.flops, COLORS["ink"], f"float32 {peaks.flops / 1e9:,.0f} GFLOP/s")
    if peaks.bf16 and any(row.roof == "bfloat16" for _, _, row in points):
        _roof(ax, left, right, peaks.bandwidth, peaks.bf16, COLORS["muted"],
              f"bfloat16 {peaks.bf16 / 1e9:,.0f} GFLOP/s", dashed=True)
    named = set()
    for (_, direction, row), a, b in zip(points, x, y, strict=True):
        name = row.result.candidate
        ax.plot(a, b, marker=_MARKERS[direction], color=colors[name], markersize=6.5, alpha=0.85, markeredgewidth=0,
                linestyle="none", label=None if name in named else name, zorder=3)
        named.add(name)
    low = min([*y, peaks.flops / 1e9]) / 5
    places = {layer.name: layer.flops / layer.bytes("forward") for layer, _, _ in points}
    _names_below(ax, places, low, right / left)
    ax.set_ylim(low, ax.get_ylim()[1] * 1.15)
    ax.grid(axis="x", visible=False)
    ax.set_xticks([m * 10.0**e for e in range(-2, 4) for m in (1, 2, 5) if left < m * 10.0**e < right])
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.minorticks_off()
    used = list(dict.fromkeys(direction for _, direction, _ in points))
    if len(used) > 1:
        for direction in used:
            ax.plot([], [], marker=_MARKERS[direction], color=COLORS["ink"], linestyle="none", markersize=5.5,
                    markerfacecolor="none", label=direction.replace("_", " "))
    ax.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=7, frameon=False, fontsize=9,
              labelcolor=COLORS["ink"], handletextpad=0.2, columnspacing=1.2)
    return fig


def _roof(ax: Axes, left: float, right: float, bandwidth: float, peak: float, color: str, label: str,
          dashed: bool = False) -> None:
    x = np.array([left, peak / bandwidth, right])
    style = {"dashes": (4, 3)} if dashed else {}
    ax.plot(x, np.minimum(x * bandwidth, peak) / 1e9, color=color, linewidth=1.6, zorder=2, **style)
    ax.annotate(label, (right, peak / 1e9), (0, 4), textcoords="offset points", ha="right", fontsize=9, color=color)
    if not dashed:
        ax.annotate(f"memory {bandwidth / 1e9:.3g} GB/s", (left, left * bandwidth / 1e9), (8, -7),
                    textcoords="offset points", fontsize=9, color=color, va="top")


def _names_below(ax: Axes, places: dict[str, float], low: float, width: float) -> None:
    """The layers' names upright at the bottom, those too near to each other side by side."""
    last = 0.0
    for name, x in sorted(places.items(), key=lambda item: item[1]):
        ax.axvline(x, color=COLORS["rule"], linewidth=0.8, zorder=0)
        at = max(x, last * width ** 0.022)
        ax.text(at, low * 1.12, name, rotation=90, ha="center", va="bottom", fontsize=8, color=COLORS["muted"],
                parse_math=False)
        last = at


def sweep_figure(bench: Bench) -> Figure:
    """Time against the parameter, with the medians' intervals, and a dashed line of the expected exponent."""
    parameter, values = bench.sweep["parameter"], bench.sweep["values"]
    directions = list(dict.fromkeys(r.direction for r in bench.results))
    fig = figure(9.6, 4.6)
    ax = axes(fig, "", parameter, "ms")
    colors, dashes = inks(bench), {"forward": (), "input_grad": (5, 2), "weight_grad": (1.5, 1.5)}
    for curve in bench.sweep["curves"]:
        times = [(v, t) for v, layer in zip(values, bench.layers, strict=True)
                 if (r := bench.find(layer.name, curve["direction"], curve["candidate"])) and (t := r.time)]
        if times:
            x, y = [v for v, _ in times], np.array([[t.median, t.low, t.high] for _, t in times]).T * 1e3
            name = curve["candidate"]
            if len(directions) > 1:
                name += f" {curve['direction'].replace('_', ' ')}"
            ax.errorbar(x, y[0], (y[0] - y[1], y[2] - y[0]), color=colors[curve["candidate"]], linewidth=1.6,
                        marker="o", markersize=4, capsize=2, dashes=dashes[curve["direction"]] or (None, None),
                        label=f"{name}, {curve['exponent']:.2f}")
    work = np.array([layer.flops for layer in bench.layers], np.float64)
    bottom = min(t.low for r in bench.results if (t := r.time)) * 1e3
    ax.plot(values, work / work[0] * bottom / 1.5, color=COLORS["muted"], linewidth=1.2, dashes=(3, 3),
            label=f"exponent of the work, {bench.sweep['expected']:.2f}")
    ax.set(xscale="log", yscale="log", xticks=values, xticklabels=[str(v) for v in values])
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.minorticks_off()
    ax.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=4, frameon=False, fontsize=9,
              labelcolor=COLORS["ink"])
    return fig
