"""Networks: parameter layout, layers, initialisers, losses and the model."""

from onotrain.nn.layers import Draw
from onotrain.nn.layout import ParameterLayout
from onotrain.nn.model import Model

__all__ = ["Draw", "Model", "ParameterLayout"]
