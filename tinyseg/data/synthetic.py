"""Street scenes that are drawn, not photographed: data to train on at once, without a download."""

from pathlib import Path

import numpy as np

from tinyseg.data.export import write_folder, write_voc
from tinyseg.data.palette import voc_palette
from tinyseg.data.sample import IGNORE, Sample
from tinyseg.data.street import CLASSES, COLORS, draw_street
from tinyseg.errors import ArgumentError

__all__ = ["StreetScenes"]


class StreetScenes:
    """`count` street scenes with eight classes, in perspective, with occlusion, texture, shadows and noise.

    Colour alone does not tell the classes apart: there are road-grey houses, sky-blue cars, green coats.
    The border between classes is 255, as in VOC, on the side of what is farther back.

    count   how many scenes
    size    (H, W) in pixels, at least 16 a side
    seed    another seed, other scenes; scene i is drawn from (seed, first + i), so it does not depend on count
    first   the number of the first scene: StreetScenes(500) and StreetScenes(100, first=500) share none
    """

    classes = CLASSES
    ignore_index = IGNORE
    notices = ()

    def __init__(self, count: int, size: tuple[int, int] = (96, 128), seed: int = 0, first: int = 0):
        if count < 1 or seed < 0 or first < 0:
            raise ArgumentError(f"StreetScenes: count={count}, seed={seed}, first={first}; "
                                "needs count >= 1, seed >= 0, first >= 0")
        if min(size) < 16:
            raise ArgumentError(f"StreetScenes: size {size[0]}x{size[1]} (HxW); needs at least 16x16")
        self.count, self.size, self.seed, self.first = count, tuple(size), seed, first
        self.palette = voc_palette()
        self.palette[:len(COLORS)] = COLORS

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if not -self.count <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        number = self.first + index % self.count
        image, mask = draw_street(self.size, np.random.default_rng([self.seed, number]))
        return Sample(image, mask, f"street_{number:05d}")

    def __repr__(self) -> str:
        return f"StreetScenes({self.count}, size={self.size}, seed={self.seed}, first={self.first})"

    def write(self, folder: str | Path, layout: str = "folder", split: str = "train") -> None:
        """Write the scenes as files: layout "folder" (images/, masks/, classes.txt) or "voc"."""
        if layout not in ("folder", "voc"):
            raise ArgumentError(f'StreetScenes.write: layout={layout!r}; needs "folder" or "voc"')
        write_folder(self, folder) if layout == "folder" else write_voc(self, folder, split)
