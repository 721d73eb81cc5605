"""The training loop, its state on disk, and the metrics of a model."""

from onotrain.training.job import Result, train

__all__ = ["Result", "train"]
