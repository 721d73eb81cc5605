"""Every test of a kernel runs for every build that this machine can run, not only for the one that it would choose."""

from __future__ import annotations

import numpy as np
import pytest

from onotrain import _kernels

BUILDS = _kernels.available()
COMPILED = [build for build in BUILDS if build != "reference"]


@pytest.fixture(params=BUILDS)
def build(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["float32", "float64"])
def kernels(request: pytest.FixtureRequest, build: str) -> _kernels.Kernels:
    return _kernels.load(request.param, build)


@pytest.fixture(params=[(dtype, build) for build in COMPILED for dtype in ("float32", "float64")], ids="-".join)
def compiled(request: pytest.FixtureRequest) -> _kernels.Kernels:
    """Return kernels that there is a point in comparing with the reference: not itself."""
    return _kernels.load(*request.param)


@pytest.fixture
def double_kernels(build: str) -> _kernels.Kernels:
    return _kernels.load("float64", build)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240607)
