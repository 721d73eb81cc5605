"""What the dashboards need besides the package itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from onotrain.errors import PlatformError


@contextmanager
def needing() -> Iterator[None]:
    """Say how to get a library that is missing.

    Raises
    ------
    PlatformError
        One that the block imports is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise PlatformError(
            f"the Python package {error.name} is not installed",
            hint="pip install 'onotrain[watch]'; --once prints the run without it",
        ) from error
