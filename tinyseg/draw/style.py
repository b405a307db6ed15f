"""One look for every figure: few inks, light lines, no frames.

A figure is drawn in the colours of a light page.  As SVG each of them becomes a CSS variable with that colour
as its fallback, `var(--ink, #1c2330)`, so that a page can give the same figure a dark dress.
"""

import re
from html import escape
from io import BytesIO, StringIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLORS", "axes", "figure", "to_png", "to_svg"]

COLORS = {
    "ink": "#1c2330",
    "muted": "#6b7482",
    "rule": "#e3e6ea",
    "train": "#2c6fbb",        # blue and orange: the pair that all common kinds of colour vision tell apart
    "val": "#d9660a",
    "cell": "#2c6fbc",         # one off "train": white must stay legible on it, also on a dark page
    "on-accent": "#fffffe",    # one off white, to be told from a page's own
}

_RC = {
    "svg.fonttype": "none",    # text stays text: selectable, and set in the page's own face
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "path.simplify_threshold": 0.5,
}


def figure(width: float, height: float) -> "Figure":
    """An empty figure of that size in inches, laid out so that nothing is cut off."""
    from matplotlib.figure import Figure
    return Figure((width, height), layout="constrained", facecolor="none")


def axes(figure: "Figure", title: str, xlabel: str = "", ylabel: str = "") -> "Axes":
    """The one pair of axes of a figure: title at the left, horizontal rules, no box."""
    ax = figure.add_subplot()
    ax.set_facecolor("none")
    ax.set_title(title, loc="left", color=COLORS["ink"], fontsize=11, fontweight="bold", pad=10)
    ax.set_xlabel(xlabel, color=COLORS["muted"], fontsize=9)
    ax.set_ylabel(ylabel, color=COLORS["muted"], fontsize=9)
    ax.tick_params(length=0, pad=6, labelsize=9, labelcolor=COLORS["muted"])
    for side, spine in ax.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(COLORS["muted"])
        spine.set_linewidth(0.8)
    ax.grid(axis="y", color=COLORS["rule"], linewidth=0.8)
    ax.set_axisbelow(True)
    return ax


def to_png(figure: "Figure", dpi: int = 150) -> bytes:
    """A figure as the bytes of a PNG on white."""
    import matplotlib
    buffer = BytesIO()
    with matplotlib.rc_context(_RC):
        figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return buffer.getvalue()


def to_svg(figure: "Figure", label: str) -> str:
    """A figure as one `<svg>` element that scales to its place; `label` is what a screen reader says.

    The same figure gives the same text, on any day.
    """
    import matplotlib
    buffer = StringIO()
    with matplotlib.rc_context(_RC | {"svg.hashsalt": label}):      # ids differ between figures of a page
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.S)
    svg = re.sub(r'<g id="[^"]*"(/?)>', r"<g\1>", svg)               # nothing refers to these
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" stroke-linejoin="round" ', 1)
    for name, color in COLORS.items():
        svg = svg.replace(color, f"var(--{name}, {color})")
    return svg
