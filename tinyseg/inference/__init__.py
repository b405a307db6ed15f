"""Using a trained net: whole images, tiles, evaluation."""

from tinyseg.inference.predictor import Evaluation, Prediction, Predictor, ahead, checkpoint_of, description
from tinyseg.inference.tiles import Tiling, centre, probabilities
from tinyseg.inference.views import VIEWS, averaged

__all__ = ["VIEWS", "Evaluation", "Prediction", "Predictor", "Tiling", "ahead", "averaged", "centre", "checkpoint_of",
           "description", "probabilities"]
