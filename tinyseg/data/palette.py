"""The colours of labels."""

import numpy as np

__all__ = ["voc_palette"]


def voc_palette() -> np.ndarray:
    """The colours of PASCAL VOC, uint8 (256, 3): neighbouring labels look different, 0 is black.

    Bits 0, 1, 2 of a label are the top bits of red, green, blue; bits 3, 4, 5 the next ones, and so on
    (the VOC development kit's `VOClabelcolormap`).
    """
    label = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for group in range(3):                      # three bits at a time; the last group has but two
        for channel in range(3):
            bit = (label >> (3 * group + channel)) & 1
            palette[:, channel] |= (bit << (7 - group)).astype(np.uint8)
    return palette
