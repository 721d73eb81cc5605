"""Plan and workspace: live ranges, memory that is used again, and tensors with two readers."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import builders
from onotrain import _kernels
from onotrain._kernels.recording import Live
from onotrain.nn.layers.recorder import Recorder
from onotrain.nn.plan import Array, Plan, gradient, saved, value
from onotrain.nn.workspace import SharedWorkspace, Workspace, place, private_bytes, shared_fields

arrays = st.lists(
    st.tuples(st.integers(1, 50), st.sampled_from(["float32", "uint8"]), st.integers(0, 9), st.integers(0, 9)),
    min_size=1,
    max_size=12,
).map(
    lambda made: {
        f"a{number}": Array((width,), np.dtype(dtype), min(ends), max(ends))
        for number, (width, dtype, *ends) in enumerate(made)
    }
)


@given(arrays, st.integers(0, 40))
def test_arrays_that_are_used_at_the_same_time_do_not_overlap(made: dict[str, Array], rows: int) -> None:
    layout = place(made, rows)
    assert set(layout.offsets) == set(made) and all(offset % 64 == 0 for offset in layout.offsets.values())
    for name, mine in made.items():
        begin, end = layout.offsets[name], layout.offsets[name] + mine.nbytes(rows)
        assert end <= layout.nbytes
        for other, theirs in made.items():
            if other != name and mine.first <= theirs.last and theirs.first <= mine.last:
                first = layout.offsets[other]
                assert end <= first or first + theirs.nbytes(rows) <= begin
    at_once = [sum(a.nbytes(rows) for a in made.values() if a.first <= now <= a.last) for now in range(10)]
    assert max(at_once) <= layout.nbytes <= sum(a.nbytes(rows) for a in made.values())


@given(arrays, st.integers(1, 9), st.data())
def test_a_workspace_gives_rows_of_them(made: dict[str, Array], rows: int, data: st.DataObject) -> None:
    end = data.draw(st.integers(0, rows))
    for name, array in Workspace(made, rows).rows(0, end).items():
        assert array.shape == (end, *made[name].shape) and array.dtype == made[name].dtype
        assert array.flags.c_contiguous and (array.size == 0 or array.ctypes.data % 64 == 0)


def plan(*layers: Any, **model: Any) -> Plan:
    return builders.model(builders.config(*layers, model=model), 64).plan


def test_gradients_take_two_buffers_and_so_does_prediction() -> None:
    """However many layers there are; what the backward pass reads again is kept."""
    deep = plan(*[{"dense": {"units": 64, "activation": "tanh"}}] * 7, 64)
    one = 10 * 64 * 4
    assert place(deep.prediction, 10).nbytes == 2 * one
    assert place({name: a for name, a in deep.training.items() if name.startswith("gradient")}, 10).nbytes == 2 * one
    # Samples, outputs of 7 layers and slopes of 8 are read again; the logits make way for a gradient.
    assert private_bytes(deep, 10) == (8 + 8 + 2) * one


def test_what_no_backward_pass_reads_is_not_kept() -> None:
    """Values in front of activations, and everything in front of the first layer that is trained."""
    made = plan({"dropout": 0.5}, {"dense": 8}, {"dropout": 0.2}, {"activation": "relu"}, 10, freeze=1)
    assert [step.number for step in made.backward] == [3]
    training, loss = made.training, len(made.nodes)
    assert (training[value(1)].last, training[value(2)].last, training[value(3)].last) == (1, 2, 2 * loss - 3)
    assert training[saved(1, "slope")] == Array((8,), np.dtype("float32"), 1, 1)
    assert gradient(3) not in training and set(made.products) == {"dense_1/weight", "dense_1/bias"}


def test_ranks_share_what_gradients_are_made_of() -> None:
    """And nothing else; frozen layers have none."""
    made = plan({"dense": 8}, {"dropout": 0.2}, {"activation": "relu"}, 6, 10, freeze=["dense_1"])
    fields = shared_fields(made, 30)
    assert fields == {
        name: ((30, width), np.dtype("float32"))
        for name, width in ((value(0), 64), (value(3), 6), (gradient(1), 8), (gradient(4), 10))
    }
    shared = {name: np.zeros(shape, dtype) for name, (shape, dtype) in fields.items()}
    workspace = SharedWorkspace(made, 10, 30, lambda asked: shared if asked == fields else {}, lambda: None)
    assert np.shares_memory(workspace.samples(20, 30), shared[value(0)][20:])
    assert workspace.rows(20, 30)[gradient(3)].shape == (10, 6)
    factors = {name: (of.dz.shape, None if of.x is None else of.x.shape) for name, of in workspace.factors(25)}
    assert factors["dense_0/weight"] == ((25, 8), (25, 64)) and factors["dense_2/bias"] == ((25, 10), None)
    assert workspace.nbytes == private_bytes(made, 10, shared=True) < private_bytes(made, 10)


def test_a_tensor_with_two_readers_is_kept_until_both_have_read_it() -> None:
    """In the backward pass the first one writes its gradient, and the other one beside it."""
    made = plan({"dense": 8}, {"residual": [{"activation": "tanh"}, {"dense": 8}]}, 10)
    assert made.prediction[value(1)].last == 3
    assert [step.dinputs for step in made.backward] == [
        (gradient(4),), (gradient(3), gradient(1)), (gradient(2),), ("part/1/0",), (None,),
    ]  # fmt: skip
    assert [step.added for step in made.backward if step.added] == [(("part/1/0", gradient(1)),)]
    loss = len(made.nodes)
    assert made.training["part/1/0"].first == made.training["part/1/0"].last == 2 * loss - 1
    assert (made.training[gradient(1)].first, made.training[gradient(1)].last) == (2 * loss - 3, 2 * loss)


def test_nothing_is_computed_within_a_layer_that_has_another_reader() -> None:
    """A dense layer takes the activation behind it into its pass, unless the way past it goes on with its output."""
    made = plan({"dense": 8}, {"residual": [{"activation": "gelu"}, {"dense": 8}]}, {"activation": "relu"}, 10)
    kinds = [node.layer.kind for node in made.nodes]
    assert kinds == ["dense", "activation", "dense", "residual", "activation", "dense"]


def test_a_recorded_call_gets_the_step() -> None:
    """Of a Python function as of a kernel."""
    calls: list[Any] = []
    seen: list[int] = []
    kernels = _kernels.load("float32")
    Recorder(kernels, calls, 0, (), np.empty(0), {}).call(seen.append, Live.STEP)
    kernels.program(calls).run(3, steps=2)
    assert seen == [3, 4]
