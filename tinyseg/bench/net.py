"""A whole U-Net beside PyTorch's: the same weights, the same images, inference and training steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tinyseg.autograd import Tensor, no_grad
from tinyseg.bench.candidates import contenders
from tinyseg.bench.harness import Progress, Result, precision_of
from tinyseg.bench.net_memory import net_memory
from tinyseg.bench.operands import error_of
from tinyseg.bench.timing import Settings, interleave
from tinyseg.errors import ArgumentError, DataError
from tinyseg.kernels.foreign import reason

__all__ = ["MODES", "Ours", "Runner", "Size", "Theirs", "calls", "measure_net", "random_batch", "runners",
           "yardsticks"]

MODES = ("inference", "training step")
RATE, MOMENTUM, CLASSES = 0.01, 0.9, 8
TOLERANCE, BFLOAT16 = 1e-3, 1e-1                     # of logits, and of the loss after one step


@dataclass(frozen=True)
class Size:
    """base channels of the top level; images of side x side pixels; images in a batch."""

    base: int = 64
    side: int = 256
    batch: int = 2

    def __post_init__(self) -> None:
        if min(self.base, self.side, self.batch) < 1 or self.side % 16:
            raise ArgumentError(f"net: base {self.base}, size {self.side}, batch {self.batch}; needs numbers >= 1, and "
                                "a size that four poolings halve: a multiple of 16")

    @property
    def name(self) -> str:
        return f"U-Net-{self.base}, {self.side}x{self.side}, batch {self.batch}"


class Runner(Protocol):
    """A net and its optimiser.  infer: images -> logits.  step: one step of SGD with momentum -> the loss before it.

    tolerance    the largest error with which it still agrees with float64
    """

    tolerance: float

    def infer(self, images: np.ndarray) -> np.ndarray: ...
    def step(self, images: np.ndarray, masks: np.ndarray) -> float: ...


class Ours:
    tolerance = TOLERANCE

    def __init__(self, base: int, classes: int = CLASSES, state: Mapping[str, Any] | None = None,
                 dtype: str = "float32"):
        from tinyseg import models, optim
        self.net = models.build("unet", 3, classes, base_channels=base).to(dtype)
        if state is not None:
            self.net.load_state_dict({key: np.array(value, dtype if value.dtype.kind == "f" else value.dtype)
                                      for key, value in state.items()})
        self.optimizer = optim.SGD(list(self.net.parameters()), lr=RATE, momentum=MOMENTUM)
        self.dtype = dtype

    def infer(self, images: np.ndarray) -> np.ndarray:
        self.net.eval()
        with no_grad():
            return self.net(Tensor(images.astype(self.dtype, copy=False))).numpy()

    def step(self, images: np.ndarray, masks: np.ndarray) -> float:
        import tinyseg.functional as F
        self.net.train()
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.net(Tensor(images.astype(self.dtype, copy=False))), Tensor(masks),
                               ignore_index=255)
        loss.backward()
        self.optimizer.step()
        return loss.item()


class Theirs:
    """PyTorch; `kind` is one of `candidates.TORCH`.  In bfloat16 by autocast, the weights stay float32."""

    def __init__(self, base: int, classes: int = CLASSES, state: Mapping[str, Any] | None = None, kind: str = "torch"):
        import torch

        from tinyseg.bench.torch_unet import UNet
        self.torch, self.kind, self.tolerance = torch, kind, BFLOAT16 if kind == "torch-bf16" else TOLERANCE
        layout = torch.contiguous_format if kind == "torch" else torch.channels_last
        self.net = UNet(3, classes, base)
        if state is not None:
            self.net.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in state.items()})
        self.net = self.net.to(memory_format=layout)
        self.images = lambda images: torch.from_numpy(images).contiguous(memory_format=layout)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=RATE, momentum=MOMENTUM)

    def _scores(self, images: np.ndarray) -> Any:
        with self.torch.autocast("cpu", self.torch.bfloat16, enabled=self.kind == "torch-bf16"):
            return self.net(self.images(images)).float()

    def infer(self, images: np.ndarray) -> np.ndarray:
        self.net.eval()
        with self.torch.inference_mode():
            return self._scores(images).numpy()

    def step(self, images: np.ndarray, masks: np.ndarray) -> float:
        self.net.train()
        self.optimizer.zero_grad()
        loss = self.torch.nn.functional.cross_entropy(self._scores(images), self.torch.from_numpy(masks),
                                                      ignore_index=255)
        loss.backward()
        self.optimizer.step()
        return loss.item()


def runners(base: int, classes: int, against: Iterable[str]) -> dict[str, Runner]:
    """tinyseg and those of PyTorch, from the same weights."""
    import tinyseg as ts
    ts.manual_seed(0)
    ours = Ours(base, classes)
    state = {key: np.array(value) for key, value in ours.net.state_dict().items()}
    return {"tinyseg": ours, **{kind: Theirs(base, classes, state, kind) for kind in against}}


def yardsticks(against: Sequence[str] | None) -> list[str]:
    """Those of `candidates.TORCH` to compare with; None means "torch" where it is installed."""
    return [c.name for c in contenders(against, chosen=["im2col"]) if c.name.startswith("torch")]


def calls(net: Runner, images: np.ndarray, masks: np.ndarray) -> dict[str, Callable[[], Any]]:
    """What there is to measure of a net, by mode."""
    return {"inference": lambda: net.infer(images), "training step": lambda: net.step(images, masks)}


def random_batch(size: Size, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 3, H, W) and masks (N, H, W)."""
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((size.batch, 3, size.side, size.side), np.float32)
    return images, rng.integers(0, CLASSES, (size.batch, size.side, size.side))


def measure_net(size: Size, against: Sequence[str], settings: Settings, threads: int,
                progress: Progress = lambda text, done, total: None) -> Iterator[list[Result]]:
    """Every candidate, after each has agreed with the net in float64; yields the results of one mode, then the other.

    error    inference: of the logits, max |y - y64| / max |y64|.  Training: of the loss after one step, relative
    extra    bytes above what was there before the first call, at its highest point: activations, gradients, workspaces
    """
    batch, count = random_batch(size, settings.seed), 1 + len(against)
    for done, mode in enumerate(MODES):
        progress(f"{size.name} · {mode}", done * count, len(MODES) * count)
        yield _measure(size, mode, against, settings, threads, batch)
    progress("", len(MODES) * count, len(MODES) * count)


def _measure(size: Size, mode: str, against: Sequence[str], settings: Settings, threads: int,
             batch: tuple[np.ndarray, np.ndarray]) -> list[Result]:
    nets = runners(size.base, CLASSES, against)

    def outcome(net: Runner) -> np.ndarray:
        call = calls(net, *batch)[mode]
        if mode == "training step":
            call()
        return np.asarray(call())

    truth = outcome(Ours(size.base, CLASSES, nets["tinyseg"].net.state_dict(), "float64"))
    results, willing = {}, {}
    for name, net in nets.items():
        result = results[name] = Result(size.name, mode, name, tolerance=net.tolerance,
                                        precision=precision_of(name))
        try:
            result.error = error_of(outcome(net), truth)
        except Exception as error:
            result.status, result.reason = "failed", reason(error)
            continue
        if result.error > net.tolerance:
            result.status, result.reason = "wrong", f"error {result.error:.1e} > {net.tolerance:.0e}"
            continue
        willing[name] = calls(net, *batch)[mode]
        with suppress(DataError):                    # a process too large for the machine tells nothing of the time
            if found := net_memory(name, mode, size, threads):
                result.extra, result.peak = found.peak - found.before, found.peak
    for name, timed in interleave(willing, settings).items():
        result = results[name]
        result.samples, result.calls_per_sample = timed.samples, timed.calls
        if timed.error is not None:
            result.status, result.reason = "failed", reason(timed.error)
    return list(results.values())
