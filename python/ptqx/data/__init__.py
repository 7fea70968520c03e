"""Image data sets as tensors in memory, and batches of them."""

from .catalog import load, names
from .dataset import Augmentation, ImageDataset, calibration_split, split
from .loader import Loader

__all__ = ["Augmentation", "ImageDataset", "Loader", "calibration_split", "load", "names", "split"]
