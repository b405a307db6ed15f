"""Where the time of a call goes: every kernel by algorithm and layer, and everything else by kind.

All work of a net passes a few doors: `registry.run`, which asks `find` for a kernel, `Function.forward` and `backward`,
`Tensor.backward` and `Optimizer.step`.  Inside `recording` they have a clock; outside of it they are as they were.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache, wraps
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest import mock

from tinyseg.arithmetic import ConvGeometry
from tinyseg.autograd import Function, Tensor
from tinyseg.bench.candidates import Torch
from tinyseg.bench.harness import Progress
from tinyseg.bench.layers import Layer
from tinyseg.bench.net import CLASSES, Size, calls, random_batch, runners
from tinyseg.bench.operands import Operands
from tinyseg.bench.timing import Settings, interleave
from tinyseg.errors import TinysegError
from tinyseg.files import replacing
from tinyseg.kernels import registry
from tinyseg.optim import Optimizer

__all__ = ["Entry", "Profile", "Work", "compare_with_torch", "profile", "profile_net", "recording", "write"]

_KINDS = {"conv": "convolution", "normalize": "normalisation", "pool": "pooling", "activation": "elementwise",
          "resize": "resampling", "reductions": "reduction", "pad": "shaping",
          "concatenate": "shaping"}                  # by the module of a Function; any other by its own name
_BRIEF = Settings(rounds=5, seconds=0.03, patience=1.0, warm_up=0.2)


@dataclass(frozen=True)
class Work:
    """What takes time.

    kind         "convolution", "normalisation", "optimizer", ...: what it is for
    name         the kernel's operation, or who does it without one
    direction    "forward", "input_grad" and "weight_grad" of a layer; "backward" where it is not told apart
    algorithm    of a kernel
    what         the layer in words, else the shape of the first array
    """

    kind: str
    name: str
    direction: str = ""
    algorithm: str = ""
    what: str = ""
    layer: Layer | None = None


@dataclass(frozen=True)
class Entry:
    """Seconds in all calls, without what they called in turn; PyTorch's for as many calls of the same layer."""

    work: Work
    seconds: float
    calls: int
    torch: float | None = None

    @property
    def lost(self) -> float:
        """Seconds more than PyTorch."""
        return 0.0 if self.torch is None else self.seconds - self.torch


@dataclass
class Profile:
    """Of one call, the one in the middle of several: its entries add up to its `seconds`, the longest first."""

    title: str
    seconds: float
    entries: list[Entry]
    busy: str | None = None                          # a warning when other programs ran meanwhile

    @property
    def worst(self) -> Entry | None:
        """Where most is lost against PyTorch, or None where nothing is known to be."""
        return max((entry for entry in self.entries if entry.lost > 0), key=lambda entry: entry.lost, default=None)

    def by_kind(self) -> dict[tuple[str, str], float]:
        """Seconds by (kind, direction), the longest first."""
        sums: dict[tuple[str, str], float] = {}
        for entry in self.entries:
            key = entry.work.kind, entry.work.direction
            sums[key] = sums.get(key, 0.0) + entry.seconds
        return dict(sorted(sums.items(), key=lambda item: -item[1]))


def write(profiles: Sequence[Profile], path: str | Path) -> None:
    """As JSON."""
    with replacing(path) as file:
        file.write(json.dumps([asdict(profile) for profile in profiles], indent=1).encode())


def profile_net(size: Size, yardstick: str | None = None, seed: int = 0,
                progress: Progress = lambda text, done, total: None) -> list[Profile]:
    """Of a U-Net's inference and of its training step.

    yardstick    one of `candidates.TORCH`, whose times of the same layers are given too
    """
    net, found = runners(size.base, CLASSES, [])["tinyseg"], []
    for mode, call in calls(net, *random_batch(size, seed)).items():
        progress(f"{size.name} · {mode}", 0, 1)
        found.append(profile(call, f"{size.name} · {mode}"))
        if yardstick:
            compare_with_torch(found[-1], yardstick, progress)
    return found


def profile(call: Callable[[], Any], title: str = "", rounds: int = 5) -> Profile:
    """Call it once, for what happens only the first time, and then `rounds` times under the clock."""
    call()
    found = []
    for _ in range(rounds):
        with recording() as clock:
            clock.timed(lambda *_: Work("the rest", "outside of operations"), call)()
        entries = [Entry(work, seconds, calls) for work, (seconds, calls) in clock.totals.items()]
        found.append(Profile(title, sum(entry.seconds for entry in entries),
                             sorted(entries, key=lambda entry: -entry.seconds)))
    return sorted(found, key=lambda one: one.seconds)[rounds // 2]


def compare_with_torch(found: Profile, kind: str = "torch",
                       progress: Progress = lambda text, done, total: None) -> None:
    """Give each entry with a layer PyTorch's time for it: the best of a few calls, so that `lost` is the most it is."""
    for k, entry in enumerate(found.entries):
        progress(f"PyTorch · {entry.work.what}", k, len(found.entries))
        if entry.work.layer is not None:
            run, _ = Torch(kind).prepare(Operands(entry.work.layer), entry.work.direction)
            run()
            timed = interleave({"torch": run}, _BRIEF)["torch"]
            if timed.error is None:
                found.entries[k] = replace(entry, torch=min(timed.samples) * entry.calls)


class Clock:
    """Sums up the time of calls, of each without the calls inside it.  Other threads are left alone."""

    def __init__(self) -> None:
        self.totals: dict[Work, tuple[float, int]] = {}
        self.open: list[Work] = []
        self._inside: list[float] = []               # seconds in calls from each that is open
        self._thread = threading.get_ident()

    def timed(self, describe: Callable[..., Work], function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, counted as `describe` of its arguments."""
        @wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            if threading.get_ident() != self._thread:
                return function(*arguments, **options)
            self.open.append(describe(*arguments))
            self._inside.append(0.0)
            start = perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                spent, work = perf_counter() - start, self.open.pop()
                seconds, calls = self.totals.get(work, (0.0, 0))
                self.totals[work] = seconds + spent - self._inside.pop(), calls + 1
                if self._inside:
                    self._inside[-1] += spent
        return call


@contextmanager
def recording() -> Iterator[Clock]:
    """Put a clock on the doors of this thread's work."""
    clock = Clock()
    find, apply = registry.find, Function.__call__

    def found(*arguments: Any, **options: Any) -> registry.Kernel:
        kernel = find(*arguments, **options)
        within = clock.open[-1] if clock.open else Work(kernel.operation, kernel.operation)

        def describe(*operands: Any) -> Work:
            geometry = next((a for a in operands if isinstance(a, ConvGeometry)), None)
            shapes = tuple(a.shape for a in operands if hasattr(a, "__array_namespace__"))
            return _kernel_work(kernel.operation, kernel.algorithm, geometry, shapes, within)
        return replace(kernel, source=clock.timed(describe, kernel.function))

    def applied(function: Function, *inputs: Any) -> Any:
        for direction in ("forward", "backward"):
            describe = _describer(function, direction)
            setattr(function, direction, clock.timed(describe, getattr(function, direction)))
        try:
            return apply(function, *inputs)
        finally:
            del function.forward

    def stepped(optimizer: Optimizer) -> Work:
        return Work("optimizer", str(optimizer))

    def pulled(*_: Any) -> Work:
        return Work("autograd", "sums of gradients", "backward")

    with mock.patch.object(registry, "find", found), mock.patch.object(Function, "__call__", applied), \
         mock.patch.object(Tensor, "backward", clock.timed(pulled, Tensor.backward)), \
         mock.patch.object(Optimizer, "step", clock.timed(stepped, Optimizer.step)):
        yield clock


def _describer(function: Function, direction: str) -> Callable[..., Work]:
    module = type(function).__module__.rpartition(".")[2]
    kind, name = _KINDS.get(module, module), type(function).__name__

    def describe(*arrays: Any) -> Work:
        return Work(kind, name, direction, what="x".join(map(str, arrays[0].shape)) if arrays else "")
    return describe


@cache
def _kernel_work(operation: str, algorithm: str, geometry: ConvGeometry | None, shapes: tuple[tuple[int, ...], ...],
                 within: Work) -> Work:
    """The kernel's work as a part of `within`, the operation that called it."""
    layer, direction = None, within.direction
    if geometry is not None:
        layer, direction = _layer(operation, geometry, shapes, within.name == "ConvTranspose2d")
    what = layer.text if layer else str(geometry) if geometry else "x".join(map(str, shapes[0]))
    return Work(within.kind, operation, direction, algorithm, what, layer)


def _layer(operation: str, g: ConvGeometry, shapes: tuple[tuple[int, ...], ...],
           transposed: bool) -> tuple[Layer | None, str]:
    """The layer whose direction this kernel computes, or None if `Layer` has no words for it."""
    (batch, first, *_), second = shapes[0], shapes[1] if len(shapes) > 1 else ()
    if operation.startswith("max_pool2d"):
        direction = "input_grad" if operation.endswith("grad") else "forward"
        values = {"operation": "max_pool2d", "in_channels": first, "input_size": g.input_size}
    else:
        # (C, O) of the convolution, whichever two of x, weight and grad the kernel reads
        channels, outputs = {"conv2d": (first, second[0]), "conv2d_input_grad": (second[1] * g.groups, first),
                             "conv2d_weight_grad": (second[1], first)}[operation]
        direction = "forward" if operation == "conv2d" else operation.removeprefix("conv2d_")
        values = {"in_channels": channels, "out_channels": outputs, "input_size": g.input_size, "groups": g.groups}
        if transposed:
            direction = {"forward": "input_grad", "input_grad": "forward"}.get(direction, direction)
            values |= {"operation": "conv_transpose2d", "in_channels": outputs, "out_channels": channels,
                       "input_size": g.output_size, "output_padding": g.output_padding}
    try:
        layer = Layer.of(name=operation, batch=batch, kernel_size=g.kernel_size, stride=g.stride,
                         dilation=g.dilation, padding=g.near_padding, **values)
    except TinysegError:
        return None, direction
    return (layer if layer.geometry == g else None), direction
