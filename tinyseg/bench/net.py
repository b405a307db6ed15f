"""A whole U-Net beside PyTorch's: the same weights, the same images, inference and training steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tinyseg.autograd import Tensor, no_grad
from tinyseg.bench import memory
from tinyseg.bench.candidates import contenders
from tinyseg.bench.harness import Result
from tinyseg.bench.operands import error_of
from tinyseg.bench.timing import Settings, interleave
from tinyseg.errors import ArgumentError
from tinyseg.kernels.foreign import reason

__all__ = ["MODES", "Ours", "Runner", "Size", "Theirs", "measure_net", "runners", "yardsticks"]

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
    """A net and its optimiser.  infer: images -> logits.  step: one step of SGD with momentum -> the loss before it."""

    def infer(self, images: np.ndarray) -> np.ndarray: ...
    def step(self, images: np.ndarray, masks: np.ndarray) -> float: ...


class Ours:
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
        self.torch, self.kind = torch, kind
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


def measure_net(size: Size, against: Sequence[str] | None, settings: Settings, modes: Sequence[str] = MODES,
                progress: Callable[[str, int, int], None] = lambda text, done, total: None) -> list[Result]:
    """Both modes of every candidate, after each has agreed with the net in float64.

    error    inference: of the logits, max |y - y64| / max |y64|.  Training: of the loss after one step, relative
    extra    bytes above what was there before the call, at its highest point: activations, gradients, workspaces
    """
    names = yardsticks(against)
    rng = np.random.default_rng(settings.seed)
    images = rng.standard_normal((size.batch, 3, size.side, size.side), np.float32)
    masks = rng.integers(0, CLASSES, (size.batch, size.side, size.side))
    results = []
    for done, mode in enumerate(modes):
        progress(f"{size.name} · {mode}", done, len(modes))
        results += _measure(size, mode, names, settings, images, masks)
    progress("", len(modes), len(modes))
    return results


def _measure(size: Size, mode: str, names: Sequence[str], settings: Settings, images: np.ndarray,
             masks: np.ndarray) -> list[Result]:
    nets = runners(size.base, CLASSES, names)
    first = nets["tinyseg"]
    exact = Ours(size.base, CLASSES, first.net.state_dict(), "float64")

    def outcome(net: Runner) -> np.ndarray:
        if mode == "inference":
            return net.infer(images)
        net.step(images, masks)
        return np.array([net.step(images, masks)])

    truth = outcome(exact)
    del exact
    results, calls = [], {}
    for name, net in nets.items():
        result = Result(size.name, mode, name)
        results.append(result)
        call = (lambda net=net: net.infer(images)) if mode == "inference" else (lambda net=net: net.step(images, masks))
        try:
            result.error = error_of(outcome(net), truth)
            result.extra = memory.extra_bytes(call, 0)
        except Exception as error:
            result.status, result.reason = "failed", reason(error)
            continue
        limit = BFLOAT16 if name == "torch-bf16" else TOLERANCE
        if result.error > limit:
            result.status, result.reason = "wrong", f"error {result.error:.1e} > {limit:.0e}"
        else:
            calls[name] = call
    for name, timed in interleave(calls, settings).items():
        result = next(r for r in results if r.candidate == name)
        result.samples, result.calls_per_sample = timed.samples, timed.calls
        if timed.error is not None:
            result.status, result.reason = "failed", reason(timed.error)
    return results
