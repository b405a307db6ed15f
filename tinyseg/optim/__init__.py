"""Optimisers and learning-rate schedules, with PyTorch's formulas and defaults."""

from tinyseg.optim.adaptive import Adam, AdamW, RMSprop
from tinyseg.optim.groups import GroupRule, ParameterGroup, parameter_groups
from tinyseg.optim.named import OPTIMIZERS, SCHEDULES, build, build_schedule
from tinyseg.optim.optimizer import Optimizer, clip_grad_norm_
from tinyseg.optim.schedule import Constant, Cosine, Exponential, Poly, Schedule, Step, WarmUp
from tinyseg.optim.sgd import SGD

__all__ = ["OPTIMIZERS", "SCHEDULES", "SGD", "Adam", "AdamW", "Constant", "Cosine", "Exponential", "GroupRule",
           "Optimizer", "ParameterGroup", "Poly", "RMSprop", "Schedule", "Step", "WarmUp", "build", "build_schedule",
           "clip_grad_norm_", "parameter_groups"]
