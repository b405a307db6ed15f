"""Weights from elsewhere: files of PyTorch, safetensors and NumPy, read without PyTorch and without executing them."""

from tinyseg.interop.adopt import INPUTS, Adopted, adopt_weights
from tinyseg.interop.guess import guess_architecture
from tinyseg.interop.load import LoadReport, load_weights
from tinyseg.interop.weights import Weights, read_weights, rename_weights
from tinyseg.interop.write import write_weights

__all__ = ["INPUTS", "Adopted", "LoadReport", "Weights", "adopt_weights", "guess_architecture", "load_weights",
           "read_weights", "rename_weights", "write_weights"]
