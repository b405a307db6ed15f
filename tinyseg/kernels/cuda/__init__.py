"""Kernels for GPUs, compiled by numba.cuda."""
