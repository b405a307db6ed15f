"""Runs: configuration, the loop that survives being killed, the report."""

from tinyseg.training.config import AugmentConfig, Config, DataConfig, ModelConfig, OptimConfig
from tinyseg.training.presets import preset, with_preset
from tinyseg.training.run import Result, resume, train
from tinyseg.training.trainer import Listener, Trainer

__all__ = ["AugmentConfig", "Config", "DataConfig", "Listener", "ModelConfig", "OptimConfig", "Result", "Trainer",
           "preset", "resume", "train", "with_preset"]
