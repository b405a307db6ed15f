"""The report of a run: its curves, its errors, its net."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyseg.data import Dataset
from tinyseg.draw import Example, Report, write_report
from tinyseg.inference import Predictor
from tinyseg.machine import facts
from tinyseg.metrics import ConfusionMatrix
from tinyseg.nn import layer_table
from tinyseg.training.config import Config

if TYPE_CHECKING:
    from tinyseg.training.trainer import Trainer

__all__ = ["write_run_report"]

EXAMPLES = 6


def write_run_report(config: Config, trainer: Trainer, predictor: Predictor, validation: Dataset,
                     confusion: ConfusionMatrix, baseline: ConfusionMatrix, inference_rate: float) -> Path:
    """Write report.html into the run's folder.  Returns its path."""
    chosen = np.unique(np.linspace(0, len(validation) - 1, EXAMPLES).astype(int))    # spread over the set, not picked
    samples = [validation[int(i)] for i in chosen]
    size = config.augment.crop or samples[0].size
    path = trainer.folder / "report.html"
    write_report(path, Report(
        title=f"{config.model.name} on {_source(config)}", classes=predictor.classes, palette=predictor.palette,
        history=trainer.history.rows, confusion=confusion, baseline=baseline,
        examples=[Example(s.image, s.mask, predictor(s.image).mask, s.name) for s in samples],
        layers=layer_table(predictor.model, (predictor.channels, *size)),
        config=_flat(asdict(config)), facts=_facts(config, trainer, inference_rate)))
    return path


def _source(config: Config) -> str:
    data = config.data
    return {"street": "drawn street scenes", "voc": str(data.root), "folder": Path(data.images or "").name}[data.kind]


def _facts(config: Config, trainer: Trainer, inference_rate: float) -> dict[str, Any]:
    rates = [row["images_per_second"] for row in trainer.history.rows]
    return {"steps": trainer.step, "best step": trainer.best["step"], "duration": trainer.seconds,
            "training images": len(trainer.loader.dataset),
            "images/s in training": f"{np.median(rates):.1f}" if rates else "-",
            "images/s in evaluation": f"{inference_rate:.1f}", **facts()}


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
