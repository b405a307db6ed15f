"""What a net takes of memory, in a process that does nothing else.

Run as a program it is that process: it reads a job as JSON, and answers with a line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from tinyseg.bench import memory
from tinyseg.errors import DataError

if TYPE_CHECKING:
    from tinyseg.bench.net import Size

__all__ = ["METHOD", "NetMemory", "net_memory"]

METHOD = "resident memory of a process of its own in two calls: at its highest, less what it held before the first"
CALLS = 2                                            # the second finds what the first has kept


@dataclass(frozen=True)
class NetMemory:
    """Bytes that the process holds: before the first call, when net and images are there; and at most."""

    before: int
    peak: int


def net_memory(name: str, mode: str, size: Size, threads: int) -> NetMemory | None:
    """Of "tinyseg" or one of `candidates.TORCH`; None where the system does not say.  Raises DataError if it dies."""
    job = {"path": sys.path, "name": name, "mode": mode, "size": asdict(size), "threads": threads}
    done = subprocess.run([sys.executable, "-m", "tinyseg.bench.net_memory"], input=json.dumps(job), text=True,
                          capture_output=True, check=False)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise DataError(f"{name}: the process that measures its memory ended: {why}")
    found = json.loads(done.stdout)
    return NetMemory(**found) if found else None


def _main() -> None:
    job = json.load(sys.stdin)
    sys.path[:] = job["path"]
    from tinyseg.bench.harness import threads
    from tinyseg.bench.net import CLASSES, Ours, Size, Theirs, calls, random_batch
    name, size = job["name"], Size(**job["size"])
    with threads(job["threads"], name != "tinyseg"):
        net = Ours(size.base, CLASSES) if name == "tinyseg" else Theirs(size.base, CLASSES, kind=name)
        call = calls(net, *random_batch(size))[job["mode"]]
        before = memory.resident()
        for _ in range(CALLS):
            call()
        after = memory.resident()
    sys.stdout.write(json.dumps(before and after and {"before": before[0], "peak": after[1]}))


if __name__ == "__main__":
    _main()
