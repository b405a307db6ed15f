"""Weights from elsewhere: files of PyTorch, safetensors and NumPy, read without PyTorch and without executing them."""

from tinyseg.interop.weights import Weights, read_weights

__all__ = ["Weights", "read_weights"]
