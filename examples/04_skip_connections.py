"""Why deep nets skip: the gradient that reaches each layer, with and without a way around it.

    04_skip_connections.py [batches]

Without connections the gradient of the first layers is a product of all the layers behind them, and if each makes it a
little smaller, nothing is left.  Added to its input (ResNet) or concatenated with it (DenseNet, U-Net), a layer can be
passed by, and the product gains a term without it: d(x + f(x))/dx = 1 + f'.  A start that keeps the variance (He et
al.) mends a plain net too, but only at the start and for one scale of weights; connections do not depend on it.  Sums
grow with each layer, and the gradient with them: that is one reason why ResNets normalise.
The picture is runs/skip_connections.png.
"""

import sys
from pathlib import Path

import numpy as np

import tinyseg as ts
import tinyseg.functional as F
from tinyseg import nn
from tinyseg.data import DataLoader, StreetScenes
from tinyseg.draw.style import COLORS, axes, figure, to_png
from tinyseg.files import replacing
from tinyseg.nn import init

DEPTH, WIDTH, GROWTH = 32, 16, 4


class Deep(nn.Module):
    """DEPTH layers of 3x3 convolution and ReLU; how a layer's result meets its input is `join`."""

    def __init__(self, num_classes, join, growth=0):
        self.join = join
        self.first = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.layers = nn.ModuleList([nn.Conv2d(WIDTH + k * growth, growth or WIDTH, 3, padding=1)
                                     for k in range(DEPTH)])
        self.last = nn.Conv2d(WIDTH + DEPTH * growth, num_classes, 1)

    def forward(self, x):
        x = self.first(x)
        for layer in self.layers:
            x = self.join(x, F.relu(layer(x)))
        return self.last(x)


def gradients(net, batches):
    """The root mean square of the gradient of each layer's weights."""
    for batch in batches:                            # gradients add up
        F.cross_entropy(net(ts.Tensor(batch.images)), ts.Tensor(batch.masks), ignore_index=255).backward()
    return np.array([np.sqrt(np.mean(layer.weight.grad.data ** 2)) for layer in net.layers]) / len(batches)


ts.manual_seed(0)
count = int(sys.argv[1]) if len(sys.argv) > 1 else 8
scenes = StreetScenes(2 * count, size=(32, 48))
batches = list(DataLoader(scenes, batch_size=2, shuffle=False).epoch(0))
classes = len(scenes.classes)

nets = {"without": Deep(classes, lambda x, y: y), "without, He's start": Deep(classes, lambda x, y: y),
        "addition": Deep(classes, lambda x, y: x + y),
        "concatenation": Deep(classes, lambda x, y: F.concatenate([x, y], dim=1), GROWTH)}
for layer in nets["without, He's start"].layers:
    init.he_normal_(layer.weight)
    init.zeros_(layer.bias)

found = {name: gradients(net, batches) for name, net in nets.items()}
print(f"gradient of the first of {DEPTH} layers, as a share of the last one's:")
for name, values in found.items():
    print(f"  {name:<20} {values[0] / values[-1]:.1e}")
assert found["without"][0] < 1e-6 * found["without"][-1]                 # vanished
assert all(found[name][0] > 0.1 * found[name][-1] for name in ("addition", "concatenation"))

fig = figure(6.4, 3.8)
ax = axes(fig, "Gradient of each layer's weights, root mean square", "layer")
styles = {"without": ("val", "-"), "without, He's start": ("muted", "--"), "addition": ("train", "-"),
          "concatenation": ("ink", "-")}
for name, values in found.items():
    color, line = styles[name]
    ax.plot(np.arange(1, DEPTH + 1), values, line, color=COLORS[color], linewidth=1.8, label=name)
ax.set_yscale("log")
ax.legend(frameon=False, fontsize=9, labelcolor=COLORS["ink"])
path = Path("runs/skip_connections.png")
path.parent.mkdir(exist_ok=True)
with replacing(path) as file:
    file.write(to_png(fig))
print(f"picture: {path}")
