"""A kernel's first calls are made in a process of their own: a crash or an endless loop takes nothing else with it.

Run as a program it is that process: it reads a job as JSON, and answers with one JSON line for each step.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

from tinyseg.bench.layers import Layer
from tinyseg.bench.user import load
from tinyseg.errors import KernelError, TinysegError
from tinyseg.kernels.foreign import ended, reason

__all__ = ["trial"]


def trial(target: str, signature: str | None, layers: Sequence[Layer], limit: float,
          progress: Callable[[str], None] = lambda name: None) -> dict[tuple[str, str], str]:
    """What is wrong with the kernel, by (layer, direction): it raises, kills its process, or takes longer than `limit`.

    Raises what `load` raises, and KernelError when the import itself crashes or does not end.
    """
    verdicts: dict[tuple[str, str], str] = {}
    left = list(layers)
    while True:
        child = _Child(target, signature, left)
        try:
            loaded = child.answer(limit)
            if isinstance(loaded, str):
                raise KernelError(f"{target}: importing it {loaded}")
            if "error" in loaded:
                load(target, signature)              # says the same here, as an exception of the right class
                raise KernelError(loaded["error"])
            direction = loaded["direction"]
            while left:
                layer = left.pop(0)
                progress(layer.name)
                found = child.answer(limit)
                if isinstance(found, str):
                    verdicts[layer.name, direction] = f"it {found}"
                    break                            # the child is gone: a new one for the rest
                if "error" in found:
                    verdicts[layer.name, direction] = found["error"]
            else:
                return verdicts
        finally:
            child.end()


class _Child:
    def __init__(self, target: str, signature: str | None, layers: Sequence[Layer]):
        self.process = subprocess.Popen([sys.executable, "-m", "tinyseg.bench.trial"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.process.stdin.write(json.dumps({"path": sys.path, "target": target, "signature": signature,
                                             "layers": [layer.to_dict() for layer in layers]}))
        self.process.stdin.close()
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    def answer(self, limit: float) -> dict | str:
        """The next answer, or in words how the process ended instead."""
        try:
            line = self.lines.get(timeout=limit)
        except queue.Empty:
            return f"{ended(None, limit)}; give it smaller layers with --layers, or more time with --limit"
        if line:
            return json.loads(line)
        return ended(self.process.wait(), limit)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def _main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)                                    # what the kernel prints is no answer
    job = json.load(sys.stdin)
    sys.path[:] = job["path"]
    try:
        kernel = load(job["target"], job["signature"])
    except TinysegError as error:
        answers.write(json.dumps({"error": str(error)}) + "\n")
        return
    from tinyseg.bench.candidates import Mine
    from tinyseg.bench.operands import Operands
    answers.write(json.dumps({"direction": kernel.direction}) + "\n")
    for item in job["layers"]:
        layer = Layer.of(**item)
        found = {}
        if kernel.refuses(layer, kernel.direction) is None:
            try:
                Mine(kernel).prepare(Operands(layer), kernel.direction)[0]()
            except (Exception, SystemExit) as error:
                found = {"error": reason(error)}
        answers.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    _main()
