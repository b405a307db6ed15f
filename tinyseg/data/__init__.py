"""Images and masks: reading, drawing, changing and batching them."""

from tinyseg.data.borders import border_weight_map
from tinyseg.data.export import write_folder, write_voc
from tinyseg.data.folder import FolderDataset, read_classes
from tinyseg.data.images import IMAGE_SUFFIXES, read_image, read_mask, write_image, write_mask
from tinyseg.data.loader import IMAGENET, Batch, DataLoader, Normalize, collate, normalization_of
from tinyseg.data.palette import voc_palette
from tinyseg.data.sample import IGNORE, Dataset, Sample
from tinyseg.data.split import Subset, split, split_indices
from tinyseg.data.synthetic import StreetScenes
from tinyseg.data.transforms import (
    BorderWeights,
    CenterCrop,
    ColorJitter,
    Compose,
    ElasticDeformation,
    GaussianNoise,
    HorizontalFlip,
    Pad,
    RandomCrop,
    RandomScale,
    Resize,
    Rotate,
    Rotate90,
    Shift,
    Transform,
    VerticalFlip,
)
from tinyseg.data.voc import VOC_CLASSES, VOCDataset

__all__ = [
    "IGNORE", "IMAGENET", "IMAGE_SUFFIXES", "VOC_CLASSES", "Batch", "BorderWeights", "CenterCrop", "ColorJitter",
    "Compose", "DataLoader", "Dataset", "ElasticDeformation", "FolderDataset", "GaussianNoise", "HorizontalFlip",
    "Normalize", "Pad", "RandomCrop", "RandomScale", "Resize", "Rotate", "Rotate90", "Sample", "Shift",
    "StreetScenes", "Subset", "Transform", "VOCDataset", "VerticalFlip", "border_weight_map", "collate",
    "normalization_of", "read_classes", "read_image", "read_mask", "split", "split_indices", "voc_palette",
    "write_folder", "write_image", "write_mask", "write_voc",
]
