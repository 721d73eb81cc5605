"""Layers that have to do with the axes of a sample: convolutions, another shape, pooling, augmentation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, Strict

from onotrain.config.base import Count, CountOrZero, NotEmpty, NotNegative, Problem
from onotrain.config.choices import ByType
from onotrain.config.initializers import Initializer
from onotrain.config.layers_activated import Activated
from onotrain.config.options import LayerOptions
from onotrain.known_names import ActivationName, EdgeName

#: Most axes of a sample: channels, height and width.
_MOST_AXES = 3
#: Most pixels of a window of which the place of one is kept in a byte.
_MOST_PLACES = 256


def _both(value: Any) -> Any:
    return (value, value) if isinstance(value, int) else value


_Pair = Annotated[tuple[Count, Count], Strict(False)]
_PairOrZero = Annotated[tuple[CountOrZero, CountOrZero], Strict(False)]
#: Along height and width; one number is for both.
Size = Annotated[Count | _Pair, ByType("a whole number or [height, width]"), AfterValidator(_both)]
Border = Annotated[CountOrZero | _PairOrZero, ByType("a whole number or [height, width]"), AfterValidator(_both)]
Padding = Annotated[
    CountOrZero | Literal["same"] | _PairOrZero,
    ByType("a number of pixels, [height, width] or same"),
    AfterValidator(_both),
]


class Conv2d(Activated):
    """Weighted sums over windows of an image, the same for every position (cross-correlation)."""

    kind: ClassVar[str] = "conv2d"
    short_key: ClassVar[str] = "filters"
    has_parameters: ClassVar[bool] = True

    filters: Count = Field(description="Number of output channels.")
    kernel: Size = Field(3, description="Size of the window: a number or [height, width].")
    stride: Size = Field(1, description="Step from a window to the next: a number or [vertical, horizontal].")
    padding: Padding = Field(
        0,
        description="Zeros around the image: a number of pixels, [above and below, left and right], or `same`: as many "
        "as make the output as large as the image, divided by the stride; an odd one is below or at the right.",
    )
    dilation: Size = Field(1, description="Distance of neighbours in the window: a number or [vertical, horizontal].")
    groups: Count = Field(
        1,
        description="Groups of channels that are convolved by themselves; as many as there are channels: depthwise.",
    )
    activation: ActivationName = Field("identity", description="Function applied to each output.")
    negative_slope: NotNegative = Field(0.01, description="Slope of leaky_relu for negative inputs.")
    bias: bool = Field(True, description="Add a trained constant to each filter.")
    initializer: Initializer | None = Field(None, description="Initial weights; null: `model.initializer`.")

    def problems(self) -> Iterator[Problem]:
        """Yield filters that do not divide into the groups, too."""
        yield from super().problems()
        if self.filters % self.groups:
            text = f"must be a multiple of groups (got {self.filters} filters and {self.groups} groups)"
            yield Problem(("filters",), text)


class Conv1d(Conv2d):
    """The same over windows of a sequence."""

    kind: ClassVar[str] = "conv1d"

    kernel: Count = Field(3, description="Length of the window.")
    stride: Count = Field(1, description="Step from a window to the next.")
    padding: Annotated[CountOrZero | Literal["same"], ByType("a number or same")] = Field(
        0,
        description="Zeros at both ends: a number, or `same`: as many as make the output as long as the sequence, "
        "divided by the stride; an odd one is at the end.",
    )
    dilation: Count = Field(1, description="Distance of neighbours in the window.")


class Flatten(LayerOptions):
    """The values of a sample in one axis: channel by channel, each row by row."""

    kind: ClassVar[str] = "flatten"


class Reshape(LayerOptions):
    """The values of a sample in another shape."""

    kind: ClassVar[str] = "reshape"
    short_key: ClassVar[str] = "shape"

    shape: Annotated[tuple[Count, ...], Strict(False), NotEmpty] = Field(
        description="`[features]`, `[length, channels]` or `[channels, height, width]`; values are taken in the order "
        "in which data has them."
    )

    def problems(self) -> Iterator[Problem]:
        """Yield more axes than samples have."""
        if len(self.shape) > _MOST_AXES:
            yield Problem(("shape",), f"must have 1 to {_MOST_AXES} axes (got {len(self.shape)})")


class _Pool2d(LayerOptions):
    short_key: ClassVar[str] = "size"

    size: Size = Field(description="Pixels of a window: a number, or `[height, width]`.")
    stride: Size | None = Field(None, description="Pixels from a window to the next; null: as many as `size`.")
    padding: Border = Field(0, description="Pixels added on each side, at most half the size.")

    def problems(self) -> Iterator[Problem]:
        """Yield a padding that has windows of its own."""
        yield from _check_padding(self.padding, self.size)


class _Pool1d(LayerOptions):
    short_key: ClassVar[str] = "size"

    size: Count = Field(description="Positions of a window.")
    stride: Count | None = Field(None, description="Positions from a window to the next; null: as many as `size`.")
    padding: CountOrZero = Field(0, description="Positions added at each end, at most half the size.")

    def problems(self) -> Iterator[Problem]:
        """Yield a padding that has windows of its own."""
        yield from _check_padding((self.padding,), (self.size,))


def _check_padding(padding: Any, size: Any) -> Iterator[Problem]:
    if any(2 * border > n for border, n in zip(padding, size, strict=True)):
        text = f"must be at most half the size (got {_by(padding)} for windows of {_by(size)})"
        yield Problem(("padding",), text)


def _check_places(size: Any) -> Iterator[Problem]:
    if math.prod(size) > _MOST_PLACES:
        yield Problem(("size",), f"must be at most {_MOST_PLACES} pixels in all (got {_by(size)})")


def _by(numbers: tuple[int, ...]) -> str:
    return " x ".join(map(str, numbers))


class MaxPool2d(_Pool2d):
    """The largest number of each window of an image, channel by channel."""

    kind: ClassVar[str] = "max_pool2d"

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong with the windows."""
        yield from super().problems()
        yield from _check_places(self.size)


class AvgPool2d(_Pool2d):
    """The mean of each window of an image, channel by channel; the padding counts as zeros."""

    kind: ClassVar[str] = "avg_pool2d"


class MaxPool1d(_Pool1d):
    """The largest number of each window of a sequence, channel by channel."""

    kind: ClassVar[str] = "max_pool1d"

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong with the windows."""
        yield from super().problems()
        yield from _check_places((self.size,))


class AvgPool1d(_Pool1d):
    """The mean of each window of a sequence, channel by channel; the padding counts as zeros."""

    kind: ClassVar[str] = "avg_pool1d"


class GlobalAvgPool(LayerOptions):
    """The mean of each channel over all positions."""

    kind: ClassVar[str] = "global_avg_pool"


Fill = Annotated[float | EdgeName, ByType("a number, edge or reflect")]
_FILL = (
    "What comes in at the border: a number (0 is the mean of data that is normalised), the pixels at the edge, or the "
    "image reflected there."
)


class RandomShift(LayerOptions):
    """Shifts images at random while training."""

    kind: ClassVar[str] = "random_shift"
    short_key: ClassVar[str] = "pixels"

    pixels: Count = Field(description="Most pixels of a shift up, down, left or right, all of them equally likely.")
    fill: Fill = Field(0.0, description=_FILL)


class RandomCrop(LayerOptions):
    """Takes parts as large as the image from padded images at random while training."""

    kind: ClassVar[str] = "random_crop"
    short_key: ClassVar[str] = "padding"

    padding: Count = Field(description="Pixels added on each side.")
    fill: Fill = Field(0.0, description=_FILL)


class RandomFlip(LayerOptions):
    """Flips half of the images at random while training."""

    kind: ClassVar[str] = "random_flip"

    horizontal: bool = Field(True, description="Left to right.")
    vertical: bool = Field(False, description="Upside down.")

    def problems(self) -> Iterator[Problem]:
        """Yield a layer that does nothing."""
        if not self.horizontal and not self.vertical:
            yield Problem((), "flips nothing: horizontal or vertical must be true")
