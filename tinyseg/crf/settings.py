"""The parameters of a CRF as a small JSON file that can be edited by hand."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tinyseg.crf.dense import DenseCRF
from tinyseg.crf.potentials import Appearance, Smoothness
from tinyseg.errors import ArgumentError, DataError, DTypeError, ShapeError
from tinyseg.files import replacing

__all__ = ["read_settings", "write_settings"]

_KINDS = {"appearance": Appearance, "smoothness": Smoothness}


def write_settings(path: str | Path, crf: DenseCRF) -> None:
    """Write the iterations and the parameters of the potentials, which must be `Appearance` or `Smoothness`."""
    names = {kind: name for name, kind in _KINDS.items()}
    strange = [p for p in crf.potentials if type(p) not in names]
    if strange:
        raise ArgumentError(f"write_settings: a {type(strange[0]).__name__} has no file form; needs "
                            f"{' or '.join(kind.__name__ for kind in names)}")
    potentials = [{"kind": names[type(p)], **asdict(p)} for p in crf.potentials]
    text = json.dumps({"iterations": crf.iterations, "potentials": potentials}, indent=2, default=_plain)
    with replacing(path) as file:
        file.write(text.encode() + b"\n")


def read_settings(path: str | Path) -> DenseCRF:
    """Read what `write_settings` wrote.  Raises DataError for anything else."""
    try:
        settings = json.loads(Path(path).read_text(encoding="utf-8"))
        potentials = []
        for options in settings["potentials"]:
            options = dict(options)
            potentials.append(_KINDS[options.pop("kind")](**options))
        return DenseCRF(tuple(potentials), settings["iterations"])
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (KeyError, TypeError, ValueError, ArgumentError, ShapeError, DTypeError) as error:
        raise DataError(f"{path}: is no settings of a CRF ({error}); `tinyseg crf` writes them") from error


def _plain(value: Any) -> Any:
    return value.tolist()                            # arrays and NumPy's numbers
