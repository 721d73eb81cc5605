"""Windows that go over an image or a sequence, of convolutions and of pooling."""

from __future__ import annotations

from typing import NamedTuple


class Axis(NamedTuple):
    """How windows go along one axis of an image."""

    size: int
    kernel: int
    stride: int
    dilation: int
    #: Zeros before the image and behind it.
    before: int
    behind: int

    @classmethod
    def of(cls, size: int, kernel: int, stride: int, dilation: int, padding: int | str) -> Axis:
        """Return the axis with its padding, a number or ``same``: then there are ``ceil(size / stride)`` windows."""
        if isinstance(padding, int):
            return cls(size, kernel, stride, dilation, padding, padding)
        missing = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
        return cls(size, kernel, stride, dilation, missing // 2, missing - missing // 2)

    @property
    def reach(self) -> int:
        """Pixels from the first to the last of a window."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def padded(self) -> int:
        """Pixels with the padding."""
        return self.before + self.size + self.behind

    @property
    def windows(self) -> int:
        """Number of windows; below 1: there is no room for one."""
        return (self.padded - self.reach) // self.stride + 1


#: Along the height of a sequence.
POINT = Axis(1, 1, 1, 1, 0, 0)
