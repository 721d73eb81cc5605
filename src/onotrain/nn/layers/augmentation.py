"""Augmentation: images shifted and flipped at random while training; after it they stay as they are."""

from __future__ import annotations

from typing import Any

from onotrain._kernels.recording import Live
from onotrain.config import layers_images as config
from onotrain.known_names import ACTIVATIONS, BORDERS, EdgeName
from onotrain.nn.layers.activation import flat
from onotrain.nn.layers.base import Description, Layer, OperatorGraph, ShapeError
from onotrain.nn.layers.images import image
from onotrain.nn.layers.recorder import Recorder
from onotrain.nn.shapes import Shape


class Augmentation(Layer):
    """Base: ``y`` is ``x``, flipped and shifted as a sample's random numbers say.

    These are drawn again in the backward pass, so that nothing is saved.
    """

    reads_again = frozenset()

    #: Most pixels of a shift.
    pixels = 0
    #: What comes in at the border: a number, or what `BORDERS` has a code for.
    fill: float | EdgeName = 0.0
    #: Whether images are flipped left to right, and upside down.
    flips = (False, False)

    def __init__(self, options: Any, shape: Shape, defaults: Any) -> None:
        super().__init__(options, shape, defaults)
        self.out = image(shape)

    def _check(self, key: str) -> None:
        """Refuse shifts across the whole image, given by the option `key`."""
        height, width, _ = self.out
        if self.pixels >= min(height, width):
            raise ShapeError(key, f"must be less than height and width of the image (got {height} x {width} pixels)")

    @property
    def border(self) -> int:
        """The kernels' number for what comes in at the border."""
        return BORDERS[self.fill if isinstance(self.fill, str) else "constant"]

    def forward(self, r: Recorder) -> None:
        """``y`` is ``x``, moved."""
        fill = 0.0 if isinstance(self.fill, str) else self.fill
        r.call(
            "shift_and_flip", r.x.reshape(r.y.shape), self.pixels, self.border, fill, *self.flips, r.seed, Live.STEP,
            r.index, r.first_row, r.y,
        )  # fmt: skip

    def backward(self, r: Recorder) -> None:
        """``dx`` is ``dy``, moved back."""
        if r.dx is not None and r.dy is not None:
            r.call(
                "shift_and_flip_backward", r.dy, self.pixels, self.border, *self.flips, r.seed, Live.STEP, r.index,
                r.first_row, r.dx.reshape(r.dy.shape),
            )  # fmt: skip

    def predict(self, r: Recorder) -> None:
        """``y = x``."""
        r.call("elementwise_predict", flat(r.x), ACTIVATIONS["identity"], 0.0, flat(r.y))

    def describe(self) -> Description:
        """Return the name alone: nothing is left after training."""
        return Description(self.kind, ())

    def export(self, graph: OperatorGraph, *inputs: str) -> str:
        """Add nothing but the axis of the channels, if there is none."""
        return graph.reshape(inputs[0], self.out) if self.out != self.shape else inputs[0]


class RandomShift(Augmentation):
    """Shifted by up to ``pixels`` pixels up or down, and left or right."""

    Options = config.RandomShift

    def __init__(self, options: Any, shape: Shape, defaults: Any) -> None:
        super().__init__(options, shape, defaults)
        self.pixels, self.fill = options.pixels, options.fill
        self._check("pixels")


class RandomCrop(Augmentation):
    """A part as large as the image, of the image with ``padding`` pixels more on all sides: a shift, too."""

    Options = config.RandomCrop

    def __init__(self, options: Any, shape: Shape, defaults: Any) -> None:
        super().__init__(options, shape, defaults)
        self.pixels, self.fill = options.padding, options.fill
        self._check("padding")


class RandomFlip(Augmentation):
    """Flipped, half of the images."""

    Options = config.RandomFlip

    def __init__(self, options: Any, shape: Shape, defaults: Any) -> None:
        super().__init__(options, shape, defaults)
        self.flips = options.horizontal, options.vertical
