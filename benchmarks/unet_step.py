"""One training step of U-Net beside PyTorch's, in one process, taking turns.

    python benchmarks/unet_step.py --base 64 --size 256 --batch 2
    python benchmarks/unet_step.py --base 16 --size 64 --steps 50 --curves curves.png      # do they learn alike?
    python benchmarks/unet_step.py --memory tinyseg                                        # peak memory, one of them

Both start from the same weights and see the same street scenes; SGD with momentum.  The clock is `tinyseg.bench`'s;
`tinyseg bench net` measures the same on random images, and inference too.
"""

import argparse
import itertools

import numba
import numpy as np

from tinyseg.bench.net import Size, runners
from tinyseg.bench.net_memory import net_memory
from tinyseg.bench.record import Ratio, others
from tinyseg.bench.statistics import summarize
from tinyseg.bench.timing import Settings, interleave
from tinyseg.data import DataLoader, StreetScenes

CLASSES = len(StreetScenes.classes)


def batches(size, batch, count):
    loader = DataLoader(StreetScenes(batch * count, (size, size)), batch, workers=0)
    return list(loader.epoch(0))


def clock(nets, data, settings):
    """Seconds for a step of each net, round and round through the batches."""
    def stepper(net):
        feed = itertools.cycle(data)

        def step():
            batch = next(feed)
            net.step(batch.images, batch.masks)
        return step

    cores = others()
    timed = interleave({name: stepper(net) for name, net in nets.items()}, settings)
    busy = cores()
    ours, theirs = (summarize(timed[name].samples) for name in nets)
    ratio = Ratio.of(theirs, ours)
    print(f"step: tinyseg {ours.median:.3f} s, torch {theirs.median:.3f} s, ratio {ratio.value:.2f} "
          f"(between {ratio.low:.2f} and {ratio.high:.2f}; {ours.n} and {theirs.n} steps)"
          + ("" if ratio.clear else ", not different"))
    if busy is not None:
        print(f"other programs used {busy:.2f} cores meanwhile")


def compare_losses(nets, data, curves):
    """The same steps with both: how far their losses part."""
    ours, theirs = (np.array([net.step(b.images, b.masks) for b in data]) for net in nets.values())
    apart = np.abs(ours - theirs) / theirs
    print(f"loss: first {ours[0]:.6f} and {theirs[0]:.6f}, last {ours[-1]:.6f} and {theirs[-1]:.6f}; "
          f"largest relative difference {apart.max():.2e} over {len(ours)} steps, "
          f"{apart[:10].max():.2e} over the first 10")
    if curves:
        from matplotlib.figure import Figure
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot(theirs, color="0.6", linewidth=4, label="torch")
        axes.plot(ours, color="tab:red", linewidth=1.2, label="tinyseg")
        axes.set(xlabel="step", ylabel="cross-entropy", title="The same weights, the same batches")
        axes.legend(frameon=False)
        figure.savefig(curves, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=int, default=64)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6, help="of the comparison of losses")
    parser.add_argument("--rounds", type=int, default=7, help="of the clock")
    parser.add_argument("--curves", help="write the two loss curves to this PNG")
    parser.add_argument("--memory", choices=("tinyseg", "torch"), help="peak memory of two steps of one of them")
    options = parser.parse_args()
    if options.memory:
        size = Size(options.base, options.size, options.batch)
        found = net_memory(options.memory, "training step", size, numba.get_num_threads())
        print(f"{options.memory}: peak {found.peak >> 20} MiB, {found.before >> 20} MiB before the first step")
        return
    data = batches(options.size, options.batch, options.steps)
    compare_losses(runners(options.base, CLASSES, ["torch"]), data, options.curves)
    clock(runners(options.base, CLASSES, ["torch"]), data, Settings(rounds=options.rounds, patience=60))


if __name__ == "__main__":
    main()
