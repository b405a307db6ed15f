"""Pictures: label maps, curves, and the report of a run."""

from tinyseg.draw.masks import (
    ERROR_LEGEND,
    colorize,
    error_map,
    image_grid,
    overlay,
    probability_map,
    save_png,
)

__all__ = ["ERROR_LEGEND", "colorize", "error_map", "image_grid", "overlay", "probability_map", "save_png"]
