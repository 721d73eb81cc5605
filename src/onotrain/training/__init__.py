"""The training loop, its state on disk, and the metrics of a model."""

from onotrain.training.fitting import Fitted, fit
from onotrain.training.job import Result, train

__all__ = ["Fitted", "Result", "fit", "train"]
