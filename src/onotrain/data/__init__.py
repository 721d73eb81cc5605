"""Data: files to `Dataset`, targets to numbers, normalisation, splits, order of samples.

One file per format; `readers` picks one, `sources` several files.  Nothing here knows of MPI.
"""

from __future__ import annotations

from onotrain.data.dataset import Dataset, DataSpec, check_finite
from onotrain.data.normalization import Normalization
from onotrain.data.readers import FORMATS, detect_format
from onotrain.data.sources import load_dataset
from onotrain.data.split import stratified_split
from onotrain.data.targets import TargetCodec

__all__ = [
    "FORMATS",
    "DataSpec",
    "Dataset",
    "Normalization",
    "TargetCodec",
    "check_finite",
    "detect_format",
    "load_dataset",
    "stratified_split",
]
