"""Using a trained net: whole images, tiles, evaluation."""

from tinyseg.inference.predictor import Evaluation, Prediction, Predictor, ahead, checkpoint_of, description
from tinyseg.inference.tiles import Tiling, centre, probabilities
from tinyseg.inference.views import VIEWS, averaged, averaged_scales

__all__ = ["VIEWS", "Evaluation", "Prediction", "Predictor", "Tiling", "ahead", "averaged", "averaged_scales",
           "centre", "checkpoint_of", "description", "probabilities"]
