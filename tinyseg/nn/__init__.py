"""Modules: pieces of a net that own their parameters.  Names, options and state keys follow PyTorch."""

from tinyseg.nn import init
from tinyseg.nn.activations import Hardsigmoid, Hardswish, LeakyReLU, PReLU, ReLU, ReLU6, Sigmoid, Softmax, Tanh
from tinyseg.nn.containers import Identity, ModuleList, Sequential
from tinyseg.nn.convolution import Conv2d, ConvTranspose2d, Linear
from tinyseg.nn.losses import BCEWithLogitsLoss, CrossEntropyLoss, DiceLoss, FocalLoss, OHEMCrossEntropyLoss
from tinyseg.nn.module import LoadResult, Module, Parameter
from tinyseg.nn.normalization import BatchNorm2d, GroupNorm, freeze_norm, retake_statistics
from tinyseg.nn.spatial import AdaptiveAvgPool2d, AvgPool2d, Dropout, Dropout2d, MaxPool2d, Upsample
from tinyseg.nn.table import layer_table, net_facts

__all__ = ["AdaptiveAvgPool2d", "AvgPool2d", "BCEWithLogitsLoss", "BatchNorm2d", "Conv2d", "ConvTranspose2d",
           "CrossEntropyLoss", "DiceLoss", "Dropout", "Dropout2d", "FocalLoss", "GroupNorm", "Hardsigmoid", "Hardswish",
           "Identity", "LeakyReLU", "Linear", "LoadResult", "MaxPool2d", "Module", "ModuleList", "OHEMCrossEntropyLoss",
           "PReLU", "Parameter", "ReLU", "ReLU6", "Sequential", "Sigmoid", "Softmax", "Tanh", "Upsample", "freeze_norm",
           "init", "layer_table", "net_facts", "retake_statistics"]
