"""The fully connected CRF of Krähenbühl and Koltun: predictions that follow the image's own borders."""

from tinyseg.crf.dense import DenseCRF, unary_from_labels, unary_from_probabilities
from tinyseg.crf.layer import MeanField
from tinyseg.crf.mean_field import compatibility_matrix, free_energy, mean_field
from tinyseg.crf.normalized import METHODS, NORMALIZATIONS, NormalizedFilter
from tinyseg.crf.potentials import Appearance, Gaussian, Potential, Smoothness
from tinyseg.crf.search import Score, grid, search
from tinyseg.crf.settings import read_settings, write_settings

__all__ = ["METHODS", "NORMALIZATIONS", "Appearance", "DenseCRF", "Gaussian", "MeanField", "NormalizedFilter",
           "Potential", "Score", "Smoothness", "compatibility_matrix", "free_energy", "grid", "mean_field",
           "read_settings", "search", "unary_from_labels", "unary_from_probabilities", "write_settings"]
