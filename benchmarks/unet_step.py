"""One training step of U-Net beside PyTorch's, in one process, taking turns.

    python benchmarks/unet_step.py --base 64 --size 256 --batch 2 --steps 5
    python benchmarks/unet_step.py --base 16 --size 64 --steps 50 --curves curves.png      # do they learn alike?
    python benchmarks/unet_step.py --memory tinyseg                                        # peak memory, one of them

Both start from the same weights and see the same batches; SGD with momentum.  Prints medians, the ratio of PyTorch's
time to tinyseg's (above 1: tinyseg is faster), and the largest difference between the two loss curves.
"""

import argparse
import resource
import statistics
import time

import numpy as np

import tinyseg as ts
import tinyseg.functional as F
from tinyseg import models, optim
from tinyseg.data import DataLoader, StreetScenes

CLASSES = len(StreetScenes.classes)
RATE, MOMENTUM = 0.01, 0.9


class Tinyseg:
    def __init__(self, base):
        ts.manual_seed(0)
        self.net = models.build("unet", 3, CLASSES, base_channels=base)
        self.optimizer = optim.SGD(list(self.net.parameters()), lr=RATE, momentum=MOMENTUM)

    def step(self, batch):
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.net(ts.Tensor(batch.images)), ts.Tensor(batch.masks), ignore_index=255)
        loss.backward()
        self.optimizer.step()
        return loss.item()


class Torch:
    def __init__(self, base, state=None):
        import torch
        from torch_unet import UNet
        self.torch = torch
        self.net = UNet(3, CLASSES, base)
        if state is not None:
            self.net.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in state.items()})
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=RATE, momentum=MOMENTUM)

    def step(self, batch):
        self.optimizer.zero_grad()
        scores = self.net(self.torch.from_numpy(batch.images))
        loss = self.torch.nn.functional.cross_entropy(scores, self.torch.from_numpy(batch.masks), ignore_index=255)
        loss.backward()
        self.optimizer.step()
        return loss.item()


def batches(size, batch, count):
    loader = DataLoader(StreetScenes(batch * count, (size, size)), batch, workers=0)
    return list(loader.epoch(0))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=int, default=64)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6, help="the first is not counted")
    parser.add_argument("--curves", help="write the two loss curves to this PNG")
    parser.add_argument("--memory", choices=("tinyseg", "torch"), help="two steps of one of them, and its peak memory")
    options = parser.parse_args()

    if options.memory:
        data = batches(options.size, options.batch, 2)
        runner = Tinyseg(options.base) if options.memory == "tinyseg" else Torch(options.base)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for b in data:
            runner.step(b)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"{options.memory}: peak {peak / 1024:.0f} MiB, {before / 1024:.0f} MiB before the first step")
        return

    data = batches(options.size, options.batch, options.steps)
    ours = Tinyseg(options.base)
    theirs = Torch(options.base, ours.net.state_dict())
    seconds, losses = {ours: [], theirs: []}, {ours: [], theirs: []}
    for i, b in enumerate(data):
        for runner in (ours, theirs) if i % 2 else (theirs, ours):
            began = time.perf_counter()
            losses[runner].append(runner.step(b))
            seconds[runner].append(time.perf_counter() - began)
    mine, other = (statistics.median(seconds[r][1:]) for r in (ours, theirs))
    ratios = [t / o for o, t in zip(seconds[ours][1:], seconds[theirs][1:], strict=True)]
    print(f"step: tinyseg {mine:.3f} s, torch {other:.3f} s, ratio {statistics.median(ratios):.2f} "
          f"(from {min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} steps)")
    a, b = np.array(losses[ours]), np.array(losses[theirs])
    print(f"loss: first {a[0]:.6f} and {b[0]:.6f}, last {a[-1]:.6f} and {b[-1]:.6f}; "
          f"largest relative difference {np.max(np.abs(a - b) / b):.2e} over {len(a)} steps, "
          f"{np.max((np.abs(a - b) / b)[:10]):.2e} over the first 10")
    if options.curves:
        from matplotlib.figure import Figure
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot(b, color="0.6", linewidth=4, label="torch")
        axes.plot(a, color="tab:red", linewidth=1.2, label="tinyseg")
        axes.set(xlabel="step", ylabel="cross-entropy", title="The same weights, the same batches")
        axes.legend(frameon=False)
        figure.savefig(options.curves, dpi=120)


if __name__ == "__main__":
    main()
