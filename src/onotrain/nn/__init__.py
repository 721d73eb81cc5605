"""Networks: parameter layout, layers, initialisers, losses and the model."""

from onotrain.nn.layout import ParameterLayout
from onotrain.nn.model import Model

__all__ = ["Model", "ParameterLayout"]
