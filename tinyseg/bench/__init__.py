"""Timing for anybody's kernels: layers, candidates that take turns, the machine's roof, tables and reports.

`tinyseg bench` is its door; `measure` and `interleave` are for programs.
"""
