"""Averaged tensors follow the data, whatever strategy, optimiser and codec move the trained ones."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np
import pytest

import averages
import launch
import toy_layer

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]  # the first test launches all trainings
#: The averages of the raw data, and of a layer within.
FIRST, SECOND = (f"parameters/follow_{number}/mean" for number in (0, 1))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """Return what all trainings end with, by the number of ranks."""
    folder = tmp_path_factory.mktemp("averages")
    toy_layer.install(folder)
    path = {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}
    found = {}
    for ranks in (1, 2, 3):
        done = launch.mpirun(ranks, sys.executable, averages.__file__, folder, env=path, timeout=250)
        assert done.returncode == 0, done.stderr
        found[ranks] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def expected(results: dict[int, dict[str, Any]]) -> np.ndarray:
    """Return the exponential average of the means of the batches, as one rank has seen them."""
    means, value = results[1]["allreduce"]["batches"], np.zeros(averages.FEATURES)
    assert len(means) == 2 * averages.ROWS // 24
    for mean in means:
        value += averages.RATE * (np.array(mean) - value)
    return value


def test_they_are_the_averages_of_the_batches(results: dict[int, dict[str, Any]], expected: np.ndarray) -> None:
    """To the last digits: neither momentum, decay, clipping, the rate nor a codec reaches them."""
    for ranks, found in results.items():
        assert list(found) == [name for name in averages.CASES | averages.UNLIKE if averages.tried(name, ranks)]
        for name in averages.CASES.keys() & found.keys():
            mean = found[name]["averages"][FIRST]
            np.testing.assert_allclose(mean, expected, rtol=1e-12, err_msg=f"{name} on {ranks}")


def test_those_within_a_network_are_the_same_on_any_number_of_ranks(results: dict[int, dict[str, Any]]) -> None:
    """Where parameters are, too."""
    for name in ("allreduce", "gradients", "flat", "local", "clipped", "lamb", "accumulated", "nodes"):
        one = results[1][name]["averages"][SECOND]
        assert np.abs(one).max() > 0.1
        for ranks in (2, 3):
            np.testing.assert_allclose(results[ranks][name]["averages"][SECOND], one, rtol=1e-9, err_msg=name)


def test_an_asynchronous_server_averages_over_as_many_samples(
    results: dict[int, dict[str, Any]], expected: np.ndarray
) -> None:
    """Of one worker exactly; of two workers, each push moves the average half as far, in whatever order."""
    for name in averages.UNLIKE:
        np.testing.assert_allclose(results[2][name]["averages"][FIRST], expected, rtol=1e-12, err_msg=name)
        np.testing.assert_allclose(results[3][name]["averages"][FIRST], expected, atol=0.6, err_msg=name)


def test_a_resumed_run_has_the_same_bits(results: dict[int, dict[str, Any]]) -> None:
    """Optimisers' states and residuals included."""
    for ranks, found in results.items():
        for name in averages.RESUMED:
            if name in found and (ranks < 3 or name not in averages.UNLIKE):
                first, resumed = found[name]["digests"]
                assert first == resumed, (name, ranks)
