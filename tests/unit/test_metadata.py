"""The arrays of a checkpoint and the flat vectors that they are copied to."""

from __future__ import annotations

import numpy as np
import pytest

from onotrain.errors import CheckpointError
from onotrain.nn import ParameterLayout
from onotrain.runs.checkpoint_format import Checkpoint
from onotrain.runs.metadata import Vectors, arrays_of, read_arrays

LAYOUT = ParameterLayout([("dense_0/weight", (3, 5)), ("dense_0/bias", (3,))], np.float32)


def vectors(seed: int, **strategy_state: np.ndarray) -> Vectors:
    rng = np.random.default_rng(seed)
    made = [LAYOUT.zeros() for _ in range(2)]
    for flat in (*made, *strategy_state.values()):
        for view in LAYOUT.views(flat).values():
            view[...] = rng.normal(size=view.shape)
    return Vectors(made[0], {"velocity": made[1]}, strategy_state)


def test_what_is_written_is_read() -> None:
    """Parameters, the optimiser's state and the strategy's own, each in its place."""
    written, read = vectors(1, delta_residual=LAYOUT.zeros()), vectors(2, delta_residual=LAYOUT.zeros())
    read_arrays(Checkpoint(arrays_of(LAYOUT, written), {}), LAYOUT, read, "step-1.h5")
    for name, vector in written.by_prefix().items():
        np.testing.assert_array_equal(read.by_prefix()[name], vector)


def test_a_strategy_does_without_the_state_of_another() -> None:
    """Its own stays as it is, and what it does not know is not read."""
    written, read = vectors(1, gradient_residual=LAYOUT.zeros()), vectors(2, delta_residual=LAYOUT.zeros())
    before = read.strategy_state["delta_residual"].copy()
    read_arrays(Checkpoint(arrays_of(LAYOUT, written), {}), LAYOUT, read, "step-1.h5")
    np.testing.assert_array_equal(read.parameters, written.parameters)
    np.testing.assert_array_equal(read.strategy_state["delta_residual"], before)


def test_a_residual_of_an_older_version_is_read() -> None:
    """Under the name that it had: what messages have left to send is not lost."""
    written, read = vectors(1, way_residual=LAYOUT.zeros()), vectors(2, delta_residual=LAYOUT.zeros())
    read_arrays(Checkpoint(arrays_of(LAYOUT, written), {}), LAYOUT, read, "step-1.h5")
    np.testing.assert_array_equal(read.strategy_state["delta_residual"], written.strategy_state["way_residual"])


def test_a_checkpoint_of_another_optimiser_is_refused() -> None:
    """One without the state that this one needs."""
    written = vectors(1)._replace(optimizer_state={})
    with pytest.raises(CheckpointError, match="velocity"):
        read_arrays(Checkpoint(arrays_of(LAYOUT, written), {}), LAYOUT, vectors(2), "step-1.h5")
