"""Kernels for NumPy arrays: plain Python functions, compiled by Numba."""
