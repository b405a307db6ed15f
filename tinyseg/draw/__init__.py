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
from tinyseg.draw.report import Example, Report, write_report

__all__ = ["ERROR_LEGEND", "Example", "Report", "colorize", "error_map", "image_grid", "overlay",
           "probability_map", "save_png", "write_report"]
