"""Layers that have to do with the axes of a sample: another shape, pooling, augmentation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, Strict, WithJsonSchema

from onotrain.config.base import Count, CountOrZero, NotEmpty, Problem, problem_error
from onotrain.config.choices import ByType
from onotrain.config.options import LayerOptions
from onotrain.config.wording import got
from onotrain.known_names import EdgeName

#: Most axes of a sample: channels, height and width.
_MOST_AXES = 3
#: Most pixels of a window of which the place of one is kept in a byte.
_MOST_PLACES = 256


def _to_pair(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return value, value
    if not isinstance(value, (list, tuple)) or len(value) != 2:  # noqa: PLR2004 - height and width
        raise problem_error(Problem((), f"expected a whole number or [height, width] {got(value)}"))
    return value


def _pair_schema(least: int) -> dict[str, Any]:
    number = {"type": "integer", "minimum": least}
    return {"anyOf": [number, {"type": "array", "items": number, "minItems": 2, "maxItems": 2}]}


#: Along height and width; one number is for both.
Pair = Annotated[tuple[Count, Count], Strict(False), BeforeValidator(_to_pair), WithJsonSchema(_pair_schema(1))]
PairOrZero = Annotated[
    tuple[CountOrZero, CountOrZero], Strict(False), BeforeValidator(_to_pair), WithJsonSchema(_pair_schema(0))
]


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

    size: Pair = Field(description="Pixels of a window: a number, or `[height, width]`.")
    stride: Pair | None = Field(None, description="Pixels from a window to the next; null: as many as `size`.")
    padding: PairOrZero = Field(0, description="Pixels added on each side, at most half the size.")  # type: ignore[assignment]

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


def _check_padding(padding: tuple[int, ...], size: tuple[int, ...]) -> Iterator[Problem]:
    if any(2 * border > n for border, n in zip(padding, size, strict=True)):
        text = f"must be at most half the size (got {_by(padding)} for windows of {_by(size)})"
        yield Problem(("padding",), text)


def _check_places(*size: int) -> Iterator[Problem]:
    places = size[0] * size[-1] if len(size) > 1 else size[0]
    if places > _MOST_PLACES:
        yield Problem(("size",), f"must be at most {_MOST_PLACES} pixels in all (got {_by(size)})")


def _by(numbers: tuple[int, ...]) -> str:
    return " x ".join(map(str, numbers))


class MaxPool2d(_Pool2d):
    """The largest number of each window of an image, channel by channel."""

    kind: ClassVar[str] = "max_pool2d"

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong with the windows."""
        yield from super().problems()
        yield from _check_places(*self.size)


class AvgPool2d(_Pool2d):
    """The mean of each window of an image, channel by channel; the padding counts as zeros."""

    kind: ClassVar[str] = "avg_pool2d"


class MaxPool1d(_Pool1d):
    """The largest number of each window of a sequence, channel by channel."""

    kind: ClassVar[str] = "max_pool1d"

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong with the windows."""
        yield from super().problems()
        yield from _check_places(self.size)


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
