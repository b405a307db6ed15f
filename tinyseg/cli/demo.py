"""`tinyseg demo`: the whole story in two minutes."""

from pathlib import Path
from typing import Annotated

import typer

from tinyseg.cli.outcome import print_outcome, running

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the run; replaces an earlier demo.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(min=0, help="Of the scenes, the net and the order of the images.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Length of the training.")] = 260,
) -> None:
    """Train a small U-Net on street scenes that are drawn on the spot, and report how well it sees.

    Takes about a minute on two cores.  The folder then holds report.html, metrics.csv, config.json,
    best.safetensors and last.safetensors.
    """
    from tinyseg.cli.progress import ProgressBar
    from tinyseg.training import AugmentConfig, Config, DataConfig, ModelConfig, OptimConfig, train
    config = Config(
        data=DataConfig(kind="street", count=256, val_count=40, size=(96, 128), seed=seed),
        augment=AugmentConfig(flip=0.5, color=0.2),
        model=ModelConfig("unet", {"base_channels": 12, "depth": 4, "norm": "batch", "up": "transposed"}),
        optim=OptimConfig(optimizer="adamw", learning_rate=4e-3, schedule="poly", warmup=10, class_weights="balanced"),
        steps=steps, batch_size=4, evaluate_every=max(30, steps // 8), seed=seed)
    with running(out):
        print_outcome(train(config, out, ProgressBar(), overwrite=True))
