"""Using a trained net: whole images, tiles, evaluation."""

from tinyseg.inference.predictor import Evaluation, Prediction, Predictor, ahead, checkpoint_of
from tinyseg.inference.tiles import Tiling, probabilities

__all__ = ["Evaluation", "Prediction", "Predictor", "Tiling", "ahead", "checkpoint_of", "probabilities"]
