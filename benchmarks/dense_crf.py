"""How long a fully connected CRF takes: dense_crf.py [IMAGE].

500x375 pixels and 21 classes, as in VOC, ten iterations with the default potentials.  The image is a drawn street, or
IMAGE scaled to that size: the more colours it has, the more vertices has its lattice.  Compiling is not counted.
"""

import sys

import numpy as np
from PIL import Image

from tinyseg.bench.statistics import summarize
from tinyseg.bench.timing import Settings, interleave
from tinyseg.crf import Appearance, DenseCRF, Smoothness, mean_field
from tinyseg.crf.dense import pairwise_of
from tinyseg.crf.lattice import Lattice
from tinyseg.data import StreetScenes, read_image
from tinyseg.kernels.cpu.threads import num_threads

SIZE, CLASSES, ITERATIONS = (375, 500), 21, 10

image = read_image(sys.argv[1]) if len(sys.argv) > 1 else StreetScenes(1, SIZE)[0].image
image = np.asarray(Image.fromarray(image).resize(SIZE[::-1]))
scores = np.random.default_rng(0).normal(0, 2, (CLASSES, *SIZE)).astype(np.float32)
p = np.exp(scores)
p /= p.sum(axis=0)
unary = np.ascontiguousarray(-np.log(p).reshape(CLASSES, -1).T)
pairwise = pairwise_of(DenseCRF().potentials, image)


works = {"lattices": lambda: pairwise_of(DenseCRF().potentials, image),
         "appearance filter": lambda: pairwise[0][0](unary), "smoothness filter": lambda: pairwise[1][0](unary),
         "mean field": lambda: mean_field(unary, pairwise, ITERATIONS),
         "all": lambda: DenseCRF(iterations=ITERATIONS)(image, p)}
print(f"{SIZE[1]}x{SIZE[0]}, {CLASSES} classes, {ITERATIONS} iterations, {num_threads()} threads; lattices of "
      f"{' and '.join(f'{Lattice(p.features(image)).vertices:,}' for p in (Appearance(), Smoothness()))} vertices")
for name, timed in interleave(works, Settings(rounds=5, patience=30)).items():
    found = summarize(timed.samples)
    print(f"{name:<18}{1000 * found.median:6.0f} ms ({1000 * found.low:.0f} to {1000 * found.high:.0f})")
