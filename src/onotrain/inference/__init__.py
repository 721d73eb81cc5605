"""Prediction with trained networks, by one process or by many ranks; evaluation and export of them."""

from onotrain.inference.predictor import Predictor, load

__all__ = ["Predictor", "load"]
