"""How long a fully connected CRF takes: dense_crf.py [IMAGE].

500x375 pixels and 21 classes, as in VOC, ten iterations with the default potentials.  The image is a drawn street, or
IMAGE scaled to that size: the more colours it has, the more vertices has its lattice.  Compiling is not counted.
"""

import sys
from statistics import median
from time import perf_counter

import numpy as np
from PIL import Image

from tinyseg.crf import Appearance, DenseCRF, Smoothness, mean_field
from tinyseg.crf.dense import pairwise_of
from tinyseg.crf.lattice import Lattice
from tinyseg.data import StreetScenes, read_image
from tinyseg.kernels.cpu.threads import num_threads

SIZE, CLASSES, ITERATIONS, TIMES = (375, 500), 21, 10, 5

image = read_image(sys.argv[1]) if len(sys.argv) > 1 else StreetScenes(1, SIZE)[0].image
image = np.asarray(Image.fromarray(image).resize(SIZE[::-1]))
scores = np.random.default_rng(0).normal(0, 2, (CLASSES, *SIZE)).astype(np.float32)
p = np.exp(scores)
p /= p.sum(axis=0)
unary = np.ascontiguousarray(-np.log(p).reshape(CLASSES, -1).T)
pairwise = pairwise_of(DenseCRF().potentials, image)


def milliseconds(work):
    work()                                           # compiles
    times = []
    for _ in range(TIMES):
        start = perf_counter()
        work()
        times.append(1000 * (perf_counter() - start))
    return f"{median(times):6.0f} ms (fastest {min(times):.0f})"


print(f"{SIZE[1]}x{SIZE[0]}, {CLASSES} classes, {ITERATIONS} iterations, {num_threads()} threads; lattices of "
      f"{' and '.join(f'{Lattice(p.features(image)).vertices:,}' for p in (Appearance(), Smoothness()))} vertices")
print("lattices         ", milliseconds(lambda: pairwise_of(DenseCRF().potentials, image)))
for name, (filter_, _) in zip(("appearance filter", "smoothness filter"), pairwise, strict=True):
    print(f"{name}", milliseconds(lambda filter_=filter_: filter_(unary)))
print("mean field       ", milliseconds(lambda: mean_field(unary, pairwise, ITERATIONS)))
print("all              ", milliseconds(lambda: DenseCRF(iterations=ITERATIONS)(image, p)))
