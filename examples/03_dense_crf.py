"""A coarse prediction made fine by the image: 03_dense_crf.py [scenes].  Writes dense_crf.png.

A net that down-samples by 8 knows what is where, but not to the pixel.  Here such answers are made from the truth:
class by class, the mean over squares of 8x8, and back to full size.  A fully connected CRF then lets every pixel hear
from all others, the more the nearer and the more alike in colour they are.
"""

import sys

import numpy as np

import tinyseg as ts
import tinyseg.functional as F
from tinyseg.crf import Appearance, NormalizedFilter, Smoothness, mean_field, unary_from_probabilities
from tinyseg.data import StreetScenes
from tinyseg.draw import colorize, image_grid, save_png
from tinyseg.metrics import ConfusionMatrix, near_borders

SIZE, CLASSES, TURNS = (192, 256), len(StreetScenes.classes), (0, 1, 3, 10)
scenes = StreetScenes(int(sys.argv[1]) if len(sys.argv) > 1 else 10, SIZE)


def coarse(mask):
    """What a net of output stride 8 can know of a mask: probabilities (C, H, W)."""
    known = np.where(mask == 255, 0, mask)
    one_hot = np.eye(CLASSES, dtype=np.float32)[known].transpose(2, 0, 1)
    small = F.avg_pool2d(ts.tensor(one_hot[None]), 8)
    return 0.9 * F.interpolate(small, SIZE, mode="bilinear").numpy()[0] + 0.1 / CLASSES


appearance = Appearance(compatibility=6, sigma_xy=5, sigma_color=5)
smoothness = Smoothness(compatibility=1, sigma_xy=1)
inside, borders = ([ConfusionMatrix(CLASSES) for _ in TURNS] for _ in range(2))
rows = []
for scene in scenes:
    probabilities = coarse(scene.mask)
    unary = unary_from_probabilities(probabilities).reshape(CLASSES, -1).T.copy()            # (H·W, C)
    # each kernel is a Gaussian between the features of two pixels, and what it is worth if they agree
    pairwise = [(NormalizedFilter(kernel.features(scene.image)), kernel.compatibility)
                for kernel in (appearance, smoothness)]
    answers = []
    for k, turns in enumerate(TURNS):
        q = mean_field(unary, pairwise, turns)
        labels = q.argmax(axis=1).reshape(SIZE)
        inside[k].update(scene.mask, labels)
        borders[k].update(near_borders(scene.mask, 3), labels)
        answers.append(colorize(labels, scenes.palette))
    if len(rows) < 3:
        rows.append([scene.image, *answers, colorize(scene.mask, scenes.palette)])

print("turns   mean IoU   within 3 pixels of a border")
for turns, whole, near in zip(TURNS, inside, borders, strict=True):
    print(f"{turns:5}   {whole.mean_iou:8.3f}   {near.mean_iou:8.3f}")
save_png("dense_crf.png", image_grid(rows, ["image", "coarse", *(f"after {n}" for n in TURNS[1:]), "truth"]))
print("picture: dense_crf.png")
assert inside[-1].mean_iou > inside[0].mean_iou
