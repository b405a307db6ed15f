"""Batches, made by threads in the background, the same ones however many threads there are."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from tinyseg.data.sample import IGNORE, Dataset, Sample
from tinyseg.data.transforms import Transform
from tinyseg.errors import ArgumentError, DataError

__all__ = ["IMAGENET", "Batch", "DataLoader", "Normalize", "collate", "normalization_of"]


@dataclass(frozen=True)
class Normalize:
    """(x / 255 - mean) / std for each channel: what a net sees instead of grey levels, and the way back.

    mean, std   one number for each channel, or one for all, in units of the full range: 0.5 is middle grey
    """

    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)

    def __post_init__(self):
        if len(self.mean) not in (1, 3) or len(self.std) != len(self.mean) or min(self.std) <= 0:
            raise ArgumentError(f"{self}: needs one or three means, as many deviations, and deviations above 0")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """uint8 (H, W, C) -> float32 (C, H, W)."""
        channels = image.shape[2]
        if len(self.mean) not in (1, channels):
            raise ArgumentError(f"Normalize: an image of {channels} channel for {len(self.mean)} means; needs as many: "
                                f"read images with channels={len(self.mean)}, or give one mean and deviation")
        levels = np.arange(256) / 255
        out = np.empty((channels, *image.shape[:2]), np.float32)
        for channel in range(channels):
            mean, std = self.mean[channel % len(self.mean)], self.std[channel % len(self.std)]
            out[channel] = ((levels - mean) / std).astype(np.float32)[image[..., channel]]
        return out

    def inverse(self, array: np.ndarray) -> np.ndarray:
        """float (C, H, W) -> uint8 (H, W, C), for showing; exact on what `__call__` gave."""
        mean, std = (np.reshape(np.asarray(values), (-1, 1, 1)) for values in (self.mean, self.std))
        return np.rint((array * std + mean) * 255).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)


IMAGENET = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def normalization_of(dataset: Dataset, limit: int = 200) -> Normalize:
    """The mean and standard deviation of each channel, over at most `limit` images spread evenly."""
    count = len(dataset)
    histogram = 0
    for index in np.unique(np.linspace(0, count - 1, min(count, limit)).astype(int)):
        image = dataset[int(index)].image
        histogram = histogram + np.stack([np.bincount(image[..., channel].ravel(), minlength=256)
                                          for channel in range(image.shape[2])])     # (C, 256), exact
    levels = np.arange(256) / 255
    share = histogram / histogram.sum(axis=1, keepdims=True)
    mean = share @ levels
    deviation = np.sqrt((share * (levels - mean[:, None]) ** 2).sum(axis=1))
    return Normalize(tuple(mean.tolist()), tuple(np.maximum(deviation, 1 / 255).tolist()))


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples of one step.

    images   float32 (N, C, H, W), normalised
    masks    int64 (N, H, W), 255 where not known; None when the data set has no masks
    weights  float32 (N, H, W), or None when no sample has a weight
    names    of the samples
    sizes    (H, W) of each sample before it was padded to the largest
    """

    images: np.ndarray
    masks: np.ndarray | None
    weights: np.ndarray | None
    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.images)


def collate(samples: Sequence[Sample], normalize: Normalize) -> Batch:
    """Samples as one batch.

    Samples smaller than the largest get pixels at their bottom and right, as torchvision's training
    reference does: images 0 after normalisation (the mean), masks 255, weights 0.
    """
    channels = {sample.image.shape[2] for sample in samples}
    if len(channels) > 1:
        raise DataError(f"{samples[0].name}: RGB and grey images in one batch; read all with the same channels")
    masked = {sample.mask is None for sample in samples}
    if len(masked) > 1:
        without = next(sample.name for sample in samples if sample.mask is None)
        raise DataError(f"{without}: has no mask, but others in its batch have one; all or none need masks")

    sizes = tuple(sample.size for sample in samples)
    height, width = np.max(sizes, axis=0)
    weighted = any(sample.weight is not None for sample in samples)
    images = np.zeros((len(samples), *channels, height, width), np.float32)
    masks = None if True in masked else np.full((len(samples), height, width), IGNORE, np.int64)
    weights = np.zeros((len(samples), height, width), np.float32) if weighted else None
    for place, sample in enumerate(samples):
        h, w = sample.size
        images[place, :, :h, :w] = normalize(sample.image)
        if masks is not None:
            masks[place, :h, :w] = sample.mask
        if weights is not None:
            weights[place, :h, :w] = 1 if sample.weight is None else sample.weight
    return Batch(images, masks, weights, tuple(sample.name for sample in samples), sizes)


class DataLoader:
    """Batches of a data set, epoch by epoch.

    Order, random transforms and so every bit of a batch follow from (seed, epoch, position) alone: not from the
    number of workers, nor from where an epoch is entered.  That is what makes an exact resume possible.

    dataset     a Dataset
    batch_size  samples a batch; the last one of an epoch holds what is left, unless `drop_last`
    transform   called as transform(sample, rng), or None
    shuffle     another order each epoch
    workers     threads that load, transform and collate; 0 does it all in the caller's own
    normalize   from grey levels to what the net sees
    """

    def __init__(self, dataset: Dataset, batch_size: int, transform: Transform | None = None, shuffle: bool = True,
                 seed: int = 0, workers: int = 2, drop_last: bool = False, normalize: Normalize | None = None):
        if batch_size < 1 or workers < 0 or seed < 0:
            raise ArgumentError(f"DataLoader: batch_size={batch_size}, workers={workers}, seed={seed}; "
                                "needs batch_size >= 1, workers >= 0, seed >= 0")
        if len(dataset) == 0 or (drop_last and len(dataset) < batch_size):
            raise ArgumentError(f"DataLoader: {len(dataset)} samples make no batch of {batch_size}"
                                f"{' with drop_last' * drop_last}; needs a smaller batch or more images")
        self.dataset, self.transform, self.normalize = dataset, transform, normalize or Normalize()
        self.batch_size, self.shuffle, self.drop_last = batch_size, shuffle, drop_last
        self.seed, self.workers = seed, workers

    def __len__(self) -> int:
        """Batches in an epoch."""
        whole, left = divmod(len(self.dataset), self.batch_size)
        return whole + (left > 0 and not self.drop_last)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch `number` from batch `start` on; those before are not loaded.

        An error while a sample is loaded is raised here, as it was.  The threads end with the iterator, also
        when it is left half-way.
        """
        if number < 0 or not 0 <= start <= len(self):
            raise ArgumentError(f"DataLoader: epoch {number} from batch {start}; needs an epoch >= 0 and "
                                f"0 <= start <= {len(self)}, the batches of an epoch")
        return self._batches(number, start)

    def order(self, number: int) -> np.ndarray:
        """Which sample of the data set stands at each position of an epoch."""
        count = len(self.dataset)
        return np.random.default_rng([self.seed, number]).permutation(count) if self.shuffle else np.arange(count)

    def _batches(self, number: int, start: int) -> Iterator[Batch]:
        order = self.order(number)
        if self.workers == 0:
            for batch in range(start, len(self)):
                yield self._load(order, number, batch)
            return
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="tinyseg-data")
        try:
            ahead = deque()                         # at most one batch waits for each worker's next
            for batch in range(start, len(self)):
                ahead.append(pool.submit(self._load, order, number, batch))
                if len(ahead) > self.workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _load(self, order: np.ndarray, number: int, batch: int) -> Batch:
        first = batch * self.batch_size
        samples = []
        for position, index in enumerate(order[first:first + self.batch_size], first):
            sample = self.dataset[int(index)]
            if self.transform is not None:
                # the 1 keeps this stream apart from the order's: trailing zeros do not change a seed
                sample = self.transform(sample, np.random.default_rng([self.seed, number, 1, position]))
            samples.append(sample)
        return collate(samples, self.normalize)
