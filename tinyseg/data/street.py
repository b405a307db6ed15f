"""Draws a street as a camera on the road sees it: a scene in metres, a pinhole, and paint from back to front.

X is to the right of the camera, Y up from the ground, Z ahead, all in metres.  Image and mask are painted
with the same polygons at three times the size; the image is then smoothed down and the mask sampled at the
pixels' centres, so that its edges are hard and exact.
"""

from itertools import pairwise
from math import exp, sqrt

import numpy as np
from PIL import Image, ImageDraw

__all__ = ["CLASSES", "COLORS", "draw_street"]

CLASSES = ("sky", "building", "road", "lane marking", "sidewalk", "tree", "car", "pedestrian")
COLORS = ((70, 130, 180), (110, 110, 110), (128, 64, 128), (255, 255, 255), (244, 35, 232), (107, 142, 35),
          (0, 0, 142), (220, 20, 60))
SKY, BUILDING, ROAD, LANE_MARKING, SIDEWALK, TREE, CAR, PEDESTRIAN = range(8)
OVERSAMPLING = 3
HORIZON = 90.0      # metres to where streets end

# grain of each class: standard deviation in grey levels, fine (a pixel) and coarse (several pixels)
GRAIN = np.array([[1, 3], [4, 4], [5, 5], [6, 5], [4, 5], [17, 12], [3, 2], [5, 3]], np.float32)

SKIES = (((70, 125, 200), (180, 205, 228)), ((150, 160, 172), (205, 208, 210)), ((120, 125, 165), (238, 190, 150)),
         ((95, 150, 205), (215, 222, 225)))                     # zenith and horizon
FACADES = ((150, 88, 72), (188, 170, 140), (128, 128, 130), (205, 198, 186), (112, 128, 148), (170, 120, 92),
           (96, 92, 90), (150, 160, 140), (120, 150, 178))      # some as grey as a road, some as blue as a sky
PAINTS = ((28, 28, 32), (200, 200, 204), (235, 235, 235), (120, 124, 130), (130, 24, 26), (28, 52, 118),
          (70, 90, 60), (170, 140, 90), (90, 110, 140))         # of cars
CLOTHES = ((30, 34, 48), (150, 40, 44), (60, 80, 120), (200, 190, 175), (90, 96, 60), (120, 120, 124), (210, 170, 60),
           (20, 20, 22), (70, 120, 90))
GLASS = ((60, 70, 84), (120, 140, 160), (40, 40, 44), (190, 180, 140))
SKINS = ((236, 200, 170), (198, 150, 118), (140, 96, 70), (92, 62, 46))
LEAVES = ((62, 92, 44), (84, 112, 52), (48, 74, 48), (120, 118, 50), (146, 96, 44))


class Street:
    """One scene: the camera, the light, and the canvas that both are painted on."""

    def __init__(self, size: tuple[int, int], rng: np.random.Generator):
        self.rng = rng
        self.height, self.width = (length * OVERSAMPLING for length in size)
        self.focal = 0.95 * sqrt(self.height * self.width)
        self.camera = rng.uniform(1.5, 2.9)                     # metres above the ground
        self.vanishing = (self.width * rng.uniform(0.34, 0.66), self.height * rng.uniform(0.36, 0.52))

        self.road = rng.uniform(3.4, 6.0)                       # half its width
        self.sidewalk = rng.uniform(2.2, 4.2)
        self.middle = rng.uniform(-0.5, 0.5) * self.road        # of the road, seen from the camera

        self.zenith, self.haze = (self.vary(color, 14) for color in SKIES[rng.integers(len(SKIES))])
        self.sun = rng.uniform(0.72, 1.0, 2)                    # light on faces that look right and left
        self.mist = rng.uniform(70, 260)                        # metres after which 1/e of a colour is left

        self.picture = Image.new("RGB", (self.width, self.height))
        self.labels = Image.new("L", (self.width, self.height), SKY)
        self.on_picture, self.on_labels = ImageDraw.Draw(self.picture), ImageDraw.Draw(self.labels)

    # the pinhole and the brush

    def project(self, x: float, y: float, z: float) -> tuple[float, float]:
        scale = self.focal / z
        return self.vanishing[0] + x * scale, self.vanishing[1] + (self.camera - y) * scale

    def paint(self, corners, color, label: int | None = None, light: float = 1.0) -> None:
        """Fill the polygon of points in space; without a label only its colour changes."""
        depth = sum(corner[2] for corner in corners) / len(corners)
        points = [self.project(*corner) for corner in corners]
        self.on_picture.polygon(points, fill=self.seen(color, depth, light))
        if label is not None:
            self.on_labels.polygon(points, fill=label)

    def blob(self, x: float, y: float, z: float, radius: tuple[float, float], color, label: int | None = None) -> None:
        """An ellipse that faces the camera."""
        left, top = self.project(x - radius[0], y + radius[1], z)
        right, bottom = self.project(x + radius[0], y - radius[1], z)
        self.on_picture.ellipse((left, top, right, bottom), fill=self.seen(color, z))
        if label is not None:
            self.on_labels.ellipse((left, top, right, bottom), fill=label)

    def upright(self, left: float, right: float, low: float, high: float, z: float, color,
                label: int | None = None, light: float = 1.0) -> None:
        """A rectangle that faces the camera."""
        self.paint(((left, low, z), (right, low, z), (right, high, z), (left, high, z)), color, label, light)

    def ground(self, left: float, right: float, near: float, far: float, color, label: int | None = None,
               height: float = 0.0) -> None:
        corners = ((left, height, near), (right, height, near), (right, height, far), (left, height, far))
        self.paint(corners, color, label)

    def box(self, x: tuple[float, float], y: tuple[float, float], z: tuple[float, float], color, label: int,
            side=None) -> None:
        """A block's visible faces: the side towards the camera's axis, the top if below the eye, the near end."""
        if x[0] > 0 or x[1] < 0:
            face, light = (x[0], self.sun[1]) if x[0] > 0 else (x[1], self.sun[0])
            self.paint(((face, y[0], z[0]), (face, y[0], z[1]), (face, y[1], z[1]), (face, y[1], z[0])),
                       side or color, label, 0.8 * light)
        if y[1] < self.camera:
            self.ground(*x, *z, tuple(min(255, value * 1.12) for value in color), label, y[1])
        self.upright(*x, *y, z[0], color, label, 0.92)

    def seen(self, color, depth: float, light: float = 1.0) -> tuple[int, int, int]:
        """A colour in this light, paled by the air between."""
        clear = exp(-depth / self.mist)
        return tuple(min(255, max(0, int(value * light * clear + haze * (1 - clear))))
                     for value, haze in zip(color, self.haze, strict=True))

    def vary(self, color, spread: float) -> tuple[float, ...]:
        """A colour near another: brighter or darker, and a little of another hue."""
        change = self.rng.normal(0, spread, 4)
        return tuple(float(value + change[3] + 0.4 * change[channel]) for channel, value in enumerate(color))

    def pick(self, colors, spread: float = 10) -> tuple[float, ...]:
        return self.vary(colors[self.rng.integers(len(colors))], spread)

    # what stands where

    def paint_sky(self) -> None:
        top, bottom = np.array(self.zenith), np.array(self.haze)
        share = np.clip(np.arange(self.height) / self.vanishing[1], 0, 1)[:, None, None] ** 1.3
        gradient = (top * (1 - share) + bottom * share).clip(0, 255).astype(np.uint8)            # (H, 1, 3)
        self.picture.paste(Image.fromarray(gradient).resize((self.width, self.height)))
        clouds = coarse_noise(self.rng, (self.height, self.width), (7, 5))
        veil = Image.fromarray((120 * (clouds - 0.4).clip(0, 1.2)).astype(np.uint8))
        self.picture.paste((240, 240, 242), mask=veil)

    def paint_skyline(self) -> None:
        """What closes the street at its far end: houses, trees, or nothing."""
        kind = self.rng.integers(3)
        edge = -1.2 * HORIZON
        while kind < 2 and edge < 1.2 * HORIZON:
            width, z = self.rng.uniform(6, 22), HORIZON * self.rng.uniform(1.1, 1.4)
            if kind == 0:
                self.upright(edge, edge + width, 0, self.rng.uniform(6, 24), z, self.pick(FACADES), BUILDING)
            else:
                self.blob(edge, 1, z, (width * 0.7, self.rng.uniform(4, 10)), self.pick(LEAVES), TREE)
            edge += width * 0.9

    def paint_ground(self) -> None:
        pavement = self.vary((148, 142, 136), 16)
        asphalt = self.vary((98, 98, 102), 16)
        left, right = self.middle - self.road, self.middle + self.road
        bands = np.geomspace(1.2, 1.5 * HORIZON, 9)             # in pieces, so that distance can pale them
        for near, far in reversed(list(pairwise(bands))):
            self.ground(-400, 400, near, far, pavement, SIDEWALK)
            self.ground(left - 0.25, right + 0.25, near, far, tuple(value * 0.78 for value in pavement), SIDEWALK)
            self.ground(left, right, near, far, asphalt, ROAD)
        for _ in range(self.rng.integers(4)):                   # patches and manholes: road, whatever their colour
            x, z = self.rng.uniform(left, right), self.rng.uniform(4, 25)
            self.ground(x, x + self.rng.uniform(0.5, 2), z, z + self.rng.uniform(0.6, 4), self.vary(asphalt, 12))
        self.paint_markings(left, right)

    def paint_markings(self, left: float, right: float) -> None:
        white = self.vary((222, 220, 208), 12)
        phase, lanes = self.rng.uniform(0, 7), 2 if self.road < 4.6 else 4
        for lane in range(1, lanes):
            x, dashed = left + (right - left) * lane / lanes, lane * 2 != lanes or self.rng.random() < 0.7
            for near in np.arange(2 - phase, 70, 7.0 if dashed else 3.5):
                if near + 3.5 > 1.5:
                    self.ground(x - 0.1, x + 0.1, max(near, 1.5), near + 3.5, white, LANE_MARKING)
        if self.rng.random() < 0.5:
            for x in (left + 0.35, right - 0.35):
                for near, far in ((1.5, 10), (10, 30), (30, 70)):
                    self.ground(x - 0.08, x + 0.08, near, far, white, LANE_MARKING)
        if self.rng.random() < 0.35:                            # a zebra crossing
            near = self.rng.uniform(6, 16)
            for x in np.arange(left + 0.5, right - 0.5, 1.1):
                self.ground(x, x + 0.55, near, near + 3, white, LANE_MARKING)

    def paint_houses(self, side: int) -> None:
        """The buildings along one side, from far to near.  Some are set back, some missing."""
        z, wall = HORIZON, self.middle + side * (self.road + self.sidewalk)
        while z > 3:
            length = self.rng.uniform(6, 16)
            if self.rng.random() > 0.12:
                setback = self.rng.choice([0.0, 0.0, 0.6, 2.5])
                self.paint_house(side, wall + side * setback, max(z - length, 1.5), z)
            z -= length

    def paint_house(self, side: int, wall: float, near: float, far: float) -> None:
        height, floor, bay = self.rng.uniform(5, 19), self.rng.uniform(2.8, 3.5), self.rng.uniform(1.8, 3.2)
        color, glass = self.pick(FACADES, 14), self.pick(GLASS)
        shop = self.pick(FACADES + CLOTHES) if self.rng.random() < 0.4 else None
        light, end_light = self.sun[0 if side < 0 else 1], 0.86
        self.upright(*sorted((wall, wall + side * 14)), 0, height, near, color, BUILDING, end_light)
        self.wall(wall, 0, height, near, far, color, BUILDING, light)
        self.wall(wall, height - 0.4, height, near, far, color, None, light * 0.7)
        if shop:
            self.wall(wall, 0, 0.85 * floor, near, far, shop, None, light)
        if near > 45:                                           # its windows would be smaller than a pixel
            return
        for sill in np.arange(floor + 0.3 if shop else 1.2, height - 1.7, floor):
            lintel = sill + 0.55 * floor - 0.3
            for start in np.arange(near + 0.6, far - 1.2, bay):
                if start > 2.5:
                    self.wall(wall, sill, lintel, start, start + 0.5 * bay, glass, None, light)
            if near > 4:
                for start in wall + side * np.arange(0.8, 9, bay):
                    self.upright(*sorted((start, start + side * 0.5 * bay)), sill, lintel, near, glass, None, end_light)

    def wall(self, x: float, low: float, high: float, near: float, far: float, color, label, light: float) -> None:
        self.paint(((x, low, near), (x, low, far), (x, high, far), (x, high, near)), color, label, light)

    def tree(self, x: float, z: float):
        rng = self.rng
        height, spread = rng.uniform(4.5, 8.5), rng.uniform(1.0, 2.0)
        leaf, bark = self.pick(LEAVES, 12), self.vary((82, 68, 54), 10)
        tufts = rng.normal(0, 1, (rng.integers(7, 12), 3))

        def paint():
            self.upright(x - 0.14, x + 0.14, 0, height * 0.6, z, bark, TREE)
            for across, up, shade in tufts[np.argsort(-tufts[:, 1])]:       # the lower ones hang before the upper
                size = spread * (0.55 + 0.12 * abs(shade))
                self.blob(x + 0.5 * spread * across, height * 0.72 + 0.42 * spread * up, z, (size, size * 0.85),
                          tuple(value * (1 + 0.1 * shade + 0.07 * up) for value in leaf), TREE)
        return paint

    def car(self, x: float, z: float, facing: bool):
        color = self.pick(PAINTS, 10)
        large = self.rng.choice([1.0, 1.0, 1.12, 1.3])
        wide, length, tall = 0.9 * large, 4.2 * large, self.rng.uniform(1.4, 1.6) * large
        glass = self.vary((52, 60, 70), 8)
        plate = (225, 222, 200)

        def paint():
            self.ground(x - wide - 0.1, x + wide + 0.1, z - 0.15, z + length, (34, 34, 37))      # shadow, still road
            waist, low = 0.56 * tall, 0.28
            rubber = (24, 24, 26)
            for start in (0.5, length - 1.1):
                inner = x - wide if x > 0 else x + wide
                self.wall(inner, 0, 0.6, z + start, z + start + 0.65, rubber, CAR, 1.0)
            cabin = (z + 0.16 * length, z + 0.78 * length)
            self.box((x - wide * 0.86, x + wide * 0.86), (waist, tall), cabin, glass, CAR)
            self.ground(x - wide * 0.8, x + wide * 0.8, z + 0.2 * length, z + 0.72 * length, color, CAR, tall)
            self.box((x - wide, x + wide), (low, waist), (z, z + length), color, CAR)
            self.upright(x - wide * 0.78, x + wide * 0.78, waist + 0.04, tall - 0.1, z + 0.14 * length, glass, CAR)
            self.upright(x - wide * 0.8, x + wide * 0.8, tall - 0.12, tall, z + 0.15 * length, color, CAR)
            for side in (-1, 1):
                inner, outer = sorted((x + side * wide * 0.62, x + side * wide))
                self.upright(x + side * wide * 0.8 - 0.14, x + side * wide * 0.8 + 0.14, 0, low + 0.1, z, rubber, CAR)
                self.upright(inner, outer, waist - 0.28, waist - 0.08, z, (245, 240, 205) if facing else (170, 20, 18))
            self.upright(x - 0.26, x + 0.26, low + 0.1, low + 0.24, z, plate)
        return paint

    def pedestrian(self, x: float, z: float):
        rng = self.rng
        coat, trousers, skin = self.pick(CLOTHES), self.pick(CLOTHES), self.pick(SKINS, 6)
        tall, stride, lean = rng.uniform(1.5, 1.9), rng.uniform(0.03, 0.26), rng.uniform(-0.04, 0.04)
        hair = self.pick(((30, 24, 20), (90, 60, 36), (170, 150, 110), (120, 120, 122)), 6)
        thick = rng.uniform(0.17, 0.25)

        def paint():
            hip, neck = 0.5 * tall, 0.83 * tall
            for step in (-stride, stride):
                self.paint(((x + step - 0.07, 0, z), (x + step + 0.07, 0, z), (x + 0.11, hip, z), (x - 0.11, hip, z)),
                           trousers, PEDESTRIAN)
            waist, shoulders, collar = thick * 0.85, x + lean, thick * 0.5
            self.paint(((x - waist, hip * 0.94, z), (x + waist, hip * 0.94, z),
                        (shoulders + thick, neck * 0.96, z), (shoulders + collar, neck, z),
                        (shoulders - collar, neck, z), (shoulders - thick, neck * 0.96, z)), coat, PEDESTRIAN)
            for side in (-1, 1):
                shoulder, hand = x + side * thick, x + side * (thick + 0.6 * stride)
                self.paint(((shoulder - 0.05, neck * 0.95, z), (shoulder + 0.05, neck * 0.95, z),
                            (hand + 0.05, hip * 0.95, z), (hand - 0.05, hip * 0.95, z)), coat, PEDESTRIAN, 0.85)
            self.blob(x + lean, tall - 0.11, z, (0.1, 0.13), hair, PEDESTRIAN)
            self.blob(x + lean, tall - 0.15, z, (0.085, 0.1), skin, PEDESTRIAN)
        return paint

    def furnish(self) -> None:
        """Everything that stands on the street, the farthest first, so that the nearer covers it."""
        rng, things = self.rng, []
        for side in (-1, 1):
            kerb = self.middle + side * self.road
            if rng.random() < 0.7:
                spacing = rng.uniform(6, 14)
                for z in np.arange(rng.uniform(5, 14), 70, spacing) + rng.uniform(-1, 1):
                    if rng.random() < 0.85:
                        things.append((z, self.tree(kerb + side * rng.uniform(0.5, 1.1), z)))
            if rng.random() < 0.6:                              # parked
                for z in np.arange(rng.uniform(5, 12), 55, 5.8):
                    if rng.random() < 0.5:
                        things.append((z, self.car(kerb - side * 1.05, z, side < 0)))
            for _ in range(rng.integers(0, 5)):
                z = float(rng.uniform(2.2, 5.2) ** 2)           # more of them near than evenly
                x = kerb + side * rng.uniform(0.2, self.sidewalk - 0.3)
                things.append((z, self.pedestrian(x, z)))
        for side in (-1, 1):                                    # driving
            z = rng.uniform(7, 30)
            while z < 70:
                if rng.random() < 0.6:
                    x = self.middle + side * 0.45 * self.road * rng.uniform(0.8, 1.1)
                    things.append((z, self.car(x, z, side < 0)))
                z += rng.uniform(8, 30)
        if rng.random() < 0.35:                                 # crossing
            for _ in range(rng.integers(1, 4)):
                z = rng.uniform(6, 18)
                things.append((z, self.pedestrian(self.middle + rng.uniform(-1, 1) * self.road, z)))
        for _, paint in sorted(things, key=lambda thing: -thing[0]):
            paint()

    def shade(self) -> Image.Image:
        """Sunlight on the ground as a mask: 255 in light, darker in the shadow of the houses."""
        light = Image.new("L", (self.width, self.height), 255)
        if self.rng.random() < 0.6:
            side = self.rng.choice([-1, 1])
            edge = self.middle + side * self.rng.uniform(-0.6, 1.0) * self.road
            corners = ((edge, 0, 1.2), (edge, 0, HORIZON), (side * 300, 0, HORIZON), (side * 300, 0, 1.2))
            ImageDraw.Draw(light).polygon([self.project(*corner) for corner in corners],
                                          fill=int(self.rng.uniform(140, 200)))
        return light


def coarse_noise(rng: np.random.Generator, size: tuple[int, int], cells: tuple[int, int]) -> np.ndarray:
    """Smooth noise of unit variance at the grid points: float32 (H, W)."""
    grid = rng.standard_normal(cells, np.float32)
    return np.asarray(Image.fromarray(grid).resize(size[::-1], Image.Resampling.BICUBIC))


def draw_street(size: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image uint8 (H, W, 3) and its mask uint8 (H, W), with a thin line of 255 around things."""
    street = Street(size, rng)
    street.paint_sky()
    street.paint_skyline()
    street.paint_ground()
    light = street.shade()
    street.picture = Image.composite(street.picture, Image.new("RGB", street.picture.size), light)
    street.on_picture = ImageDraw.Draw(street.picture)
    for side in (-1, 1):            # houses first: seen from the road, whatever is on the street is before them
        street.paint_houses(side)
    street.furnish()

    half = OVERSAMPLING // 2
    mask = np.asarray(street.labels)[half::OVERSAMPLING, half::OVERSAMPLING]
    image = np.asarray(street.picture.reduce(OVERSAMPLING), np.float32)
    return photograph(image, mask, rng), outline(mask, max(1, round(min(size) / 150)))


def photograph(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a camera makes of it: the grain of surfaces, exposure, white balance, a darker rim, sensor noise."""
    height, width = mask.shape
    grain = GRAIN[mask]                                                                         # (H, W, 2)
    texture = grain[..., 0] * rng.standard_normal(mask.shape, np.float32)
    texture += grain[..., 1] * coarse_noise(rng, mask.shape, (height // 4 + 1, width // 4 + 1))
    image = image + texture[..., None]

    rows, columns = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
    rim = 1 - rng.uniform(0, 0.12) * (rows[:, None] ** 2 + columns**2)
    gain = rng.uniform(0.72, 1.2) * rng.uniform(0.93, 1.07, 3)
    image = image * (rim[..., None] * gain).astype(np.float32)
    image += rng.uniform(1, 6) * rng.standard_normal(image.shape, np.float32)
    return np.rint(image).clip(0, 255).astype(np.uint8)


def outline(mask: np.ndarray, thickness: int) -> np.ndarray:
    """The mask with 255 where a class meets another, as in VOC, on the side of the one that is farther back.

    So even things a pixel wide keep their pixels.  Paint on the road has no outline.
    """
    depth = np.where(mask == LANE_MARKING, ROAD, mask)          # classes are numbered roughly from back to front
    front = np.pad(depth, thickness, mode="edge")
    for _ in range(thickness):
        middle = front[1:-1, 1:-1]
        front = np.max([middle, front[:-2, 1:-1], front[2:, 1:-1], front[1:-1, :-2], front[1:-1, 2:]], axis=0)
    return np.where(front > depth, np.uint8(255), mask)
