"""Where the parameters of a run's CRF are kept."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from tinyseg.crf import DenseCRF

__all__ = ["crf_of", "settings_path"]


def settings_path(run: Path) -> Path:
    """crf.json in the folder of the run."""
    return (run if run.is_dir() else run.parent) / "crf.json"


def crf_of(run: Path) -> "DenseCRF":
    """The CRF that was found for a run, or the default one, which is said."""
    from tinyseg.crf import DenseCRF, read_settings
    path = settings_path(run)
    if path.exists():
        return read_settings(path)
    typer.echo(f"{path} does not exist: the CRF's default parameters may do harm; `tinyseg crf {run}` finds good ones",
               err=True)
    return DenseCRF()
