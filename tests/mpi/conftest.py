"""What tests on several ranks share: the job, and a place for files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from onotrain.parallel.world import World


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of modules to which this number of ranks says nothing new: not one of their `RANKS`.

    Of these, a module's `USUAL_RANKS` are for `make test`, and the others for `make test-long`.
    """
    if not config.getoption("--with-mpi"):
        return
    size, more = World.connect().size, "ONOTRAIN_TEST_MORE" in os.environ

    def wanted(item: pytest.Item) -> bool:
        module = getattr(item, "module", None)
        ranks = getattr(module, "RANKS", (size,))
        return size in ranks and (size in getattr(module, "USUAL_RANKS", ranks)) != more

    left_out = [item for item in items if not wanted(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if wanted(item)]


@pytest.fixture(scope="module")
def world() -> World:
    """Return the job."""
    return World.connect()


@pytest.fixture
def place(world: World, tmp_path: Path) -> Path:
    """Return a directory that is the same on all ranks."""
    return world.comm.bcast(tmp_path, root=0)


@pytest.fixture(params=[1, 2], ids=["one server", "two servers"])
def servers(request: pytest.FixtureRequest, world: World) -> int:
    """Return a number of servers that leaves a worker."""
    if world.size <= request.param:
        pytest.skip("Test requires 3 MPI processes")
    return request.param
