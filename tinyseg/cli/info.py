"""`tinyseg info`: what this machine gives tinyseg to work with."""

import json
import sys
from typing import Annotated

import typer

__all__ = ["info"]


def info(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Versions, threads, CPU features, CUDA and the cache of compiled kernels."""
    from tinyseg.machine import cache_folder, facts
    found = {**facts(), "executable": sys.executable, "kernel cache": cache_folder()}
    if as_json:
        print(json.dumps(found, indent=2))
        return
    width = max(map(len, found))
    for name, value in found.items():
        print(f"{name:<{width}}  {value}")
