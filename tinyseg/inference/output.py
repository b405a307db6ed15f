"""What a prediction leaves on disk."""

from pathlib import Path

import numpy as np

from tinyseg.data import write_image, write_mask
from tinyseg.draw import overlay as draw_overlay
from tinyseg.files import replacing
from tinyseg.inference.predictor import Prediction, Predictor

__all__ = ["write_prediction"]


def write_prediction(folder: Path, name: str, image: np.ndarray, prediction: Prediction, predictor: Predictor, *,
                     overlay: bool = True, mask: bool = True, probabilities: bool = False,
                     alpha: float = 0.5) -> None:
    """Write NAME_overlay.png, NAME_mask.png and NAME_probabilities.npz, as asked; each is whole or absent."""
    labels = prediction.mask
    if overlay:
        write_image(folder / f"{name}_overlay.png", draw_overlay(image, labels, predictor.palette, alpha))
    if mask:
        write_mask(folder / f"{name}_mask.png", labels, predictor.palette)
    if probabilities:
        with replacing(folder / f"{name}_probabilities.npz") as file:
            np.savez_compressed(file, probabilities=prediction.probabilities.astype(np.float16),
                                classes=np.array(predictor.classes))
