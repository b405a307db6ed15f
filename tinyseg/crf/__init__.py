"""The fully connected CRF of Krähenbühl and Koltun: predictions that follow the image's own borders."""

from tinyseg.crf.dense import DenseCRF, unary_from_labels, unary_from_probabilities
from tinyseg.crf.mean_field import compatibility_matrix, free_energy, mean_field
from tinyseg.crf.normalized import METHODS, NORMALIZATIONS, NormalizedFilter
from tinyseg.crf.potentials import Appearance, Gaussian, Potential, Smoothness

__all__ = ["METHODS", "NORMALIZATIONS", "Appearance", "DenseCRF", "Gaussian", "NormalizedFilter", "Potential",
           "Smoothness", "compatibility_matrix", "free_energy", "mean_field", "unary_from_labels",
           "unary_from_probabilities"]
