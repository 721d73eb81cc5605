"""The training loop, its state on disk, and the metrics of a model."""

from onotrain.training.session import Result, train

__all__ = ["Result", "train"]
