"""What the measurements count and how they report; never how long anything takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders import config, mapping
from onotrain import _kernels
from onotrain.bench import io, kernels, measure, step
from onotrain.bench.subject import Subject, subject_of
from onotrain.cli.bench_tables import size, step_tables
from onotrain.cli.program import run
from onotrain.config import load_config
from onotrain.errors import UsageError
from onotrain.nn import operations
from onotrain.parallel.world import World

ROOT = Path(__file__).parents[2]


def quiet(text: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def subject() -> Subject:
    """Return 6-4-3, of which the first layer has no bias."""
    first = {"dense": {"units": 4, "activation": "tanh", "bias": False}}
    made = config(first, {"dropout": 0.5}, 3, data={"train": "nothing.csv"}, training={"batch_size": 8})
    return Subject(made, (6,), np.dtype(np.uint8), _kernels.load("float32"))


class Clock:
    """A clock that stands still but for what is called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._now = 0.0
        self.called: list[str] = []
        monkeypatch.setattr(measure, "perf_counter", lambda: self._now)

    def call(self, name: str, seconds: float) -> Callable[[], None]:
        """Return what takes so long."""

        def run() -> None:
            self.called.append(name)
            self._now += seconds

        return run


def test_a_convolution_counts_its_weights_at_every_position() -> None:
    layers = {"conv1d": {"filters": 3, "kernel": 5, "stride": 2}}, {"conv1d": {"filters": 6, "groups": 3}}
    made = config(*layers, 3, data={"train": "nothing.csv"}, training={"batch_size": 8})
    bench = kernels._Bench(
        World.connect(), Subject(made, (25,), np.dtype(np.uint8), _kernels.load("float32")), 1e-6, quiet
    )
    forward, backward, products = bench._other(0, 4, first=True)
    assert (forward["kernel"], forward["of"], backward["kernel"]) == (
        "conv1d_forward",
        "conv1d_0 25-11x3",
        "conv1d_backward",
    )
    assert forward["operations"] == backward["operations"] == 2 * 4 * 11 * 3 * 5
    assert forward["bytes"] == 4 * (4 * 25 + 3 * 5 + 3 + 2 * 4 * 11 * 3) and not products
    assert forward["gemm_seconds"] is None and forward["gflops"] > 0
    forward, backward, _ = bench._other(1, 4, first=False)
    assert backward["operations"] == 2 * forward["operations"] == 2 * 2 * 4 * 9 * 6 * 3


def test_operations_of_a_step_by_part() -> None:
    """Ranks that share activations leave the gradients of dense weights to the update, those of convolutions not."""
    first, second = ({"conv2d": {"filters": filters, "kernel": 2}} for filters in (3, 5))
    made = config(first, second, 4, 2, data={"train": "nothing.npz"}, training={"batch_size": 8})
    model = Subject(made, (1, 5, 5), np.dtype(np.uint8), _kernels.load("float32")).model()
    convs = 2 * 7 * 16 * 3 * 4, 2 * 7 * 9 * 5 * 3 * 4  # 5 x 5 -> 4 x 4 -> 3 x 3
    dense = 2 * 7 * 45 * 4, 2 * 7 * 4 * 2
    whole = {"forward": sum(dense), "backward": 2 * sum(dense),
             "conv forward": sum(convs), "conv backward": convs[0] + 2 * convs[1]}  # fmt: skip
    assert operations.of_parts(model, 7, all_gradients=True) == whole
    assert operations.of_parts(model, 7, all_gradients=False) == {**whole, "backward": sum(dense)}


def test_operations_of_a_step_with_frozen_layers() -> None:
    made = config(
        {"conv1d": {"filters": 3, "kernel": 1}}, {"dense": 4}, 2, model={"freeze": "dense_0"},
        data={"train": "nothing.npz"}, training={"batch_size": 8},
    )  # fmt: skip
    model = Subject(made, (5, 1), np.dtype(np.float32), _kernels.load("float32")).model()
    conv, frozen, head = 2 * 3 * 5 * 3, 2 * 3 * 15 * 4, 2 * 3 * 4 * 2
    assert operations.of_parts(model, 3, all_gradients=True) == {
        "forward": frozen + head, "backward": frozen + 2 * head, "conv forward": conv, "conv backward": conv
    }  # fmt: skip


@pytest.mark.parametrize("share", ["auto", "gradients"])
def test_convolutions_of_a_step_have_parts_of_their_own(share: str) -> None:
    made = config(
        {"conv2d": {"filters": 2}}, 3, data={"train": "nothing.npz"}, training={"batch_size": 8},
        strategy={"name": "allreduce", "share": share},
    )  # fmt: skip
    subject = Subject(made, (1, 5, 5), np.dtype(np.uint8), _kernels.load("float32"))
    (found,) = step.run(World.connect(), subject, [4], 1e-3, quiet)["steps"]
    assert found["parts_operations"] == {
        "forward": [2 * 4 * 18 * 3], "backward": [2 * 4 * 18 * 3 * (1 + (share == "gradients"))],
        "conv forward": [2 * 4 * 9 * 2 * 9], "conv backward": [2 * 4 * 9 * 2 * 9],
    }  # fmt: skip
    seconds = found["parts_seconds"]
    assert min(seconds[part][0] for part in found["parts_operations"]) > 0
    (table,) = list(step_tables({"strategy": "", "optimizer": "", "steps": [found]}))[1:]
    speeds = {row[0]: row[-1] for row in table.rows}
    for part, (count,) in found["parts_operations"].items():
        assert speeds[part] == f"{count / seconds[part][0] / 1e9:,.1f}"
    assert speeds["step"] == ""


def test_what_is_measured_in_turn_is_called_equally_often(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    calls = [clock.call("a", 0.25), clock.call("b", 0.5)]  # each is more than a group of calls takes
    first, second = measure.measure(calls, 1e-9)
    assert clock.called[:4] == ["a", "a", "b", "b"]  # to warm up
    assert clock.called[4:] == ["a", "b"] * 5
    assert (first.seconds.tolist(), second.seconds.tolist()) == ([0.25] * 5, [0.5] * 5)


def test_short_calls_are_measured_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reading covers two milliseconds, and there are as many readings as fit."""
    clock = Clock(monkeypatch)
    (timing,) = measure.measure([clock.call("a", 2.0**-13)], 0.1)
    assert timing.seconds.tolist() == [2.0**-13] * 51 and len(clock.called) == 2 + 51 * 16


def test_what_comes_before_a_call_is_done_each_time_and_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    (timing,) = measure.measure([clock.call("call", 2.0**-11)], 1e-9, before=[clock.call("before", 8.0)])
    timed = clock.called[2:]
    assert timed == ["before", "call"] * (len(timed) // 2)
    assert timing.seconds.tolist() == [2.0**-11] * 5


def test_a_time_as_a_multiple_of_another_is_taken_reading_by_reading() -> None:
    ours, theirs = measure.Timing(np.array([1.0, 2.0, 8.0])), measure.Timing(np.array([2.0, 2.0, 2.0]))
    assert ours.of(theirs) == {"median": 1.0, "min": 0.5, "max": 4.0, "readings": 3}
    assert ours.to_dict() == {"median": 2.0, "min": 1.0, "max": 8.0, "readings": 3}


@pytest.mark.parametrize(
    ("ranks", "numbers"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])]
)
def test_numbers_of_ranks(ranks: int, numbers: list[int]) -> None:
    assert step.numbers_of_ranks(ranks) == numbers


def test_numbers_of_ranks_begin_with_as_many_as_are_needed() -> None:
    """Where there are not so many, the strategy itself says so."""
    assert step.numbers_of_ranks(8, 3) == [3, 4, 8]
    assert step.numbers_of_ranks(2, 3) == [2]


def test_counts_of_a_network_that_can_be_counted_by_hand(subject: Subject) -> None:
    result = kernels.run(World.connect(), subject, [5], ["sgd", "adam", "lamb"], 1e-6, quiet)
    counted = {(k["kernel"], k["of"].split(",")[0]): (k["operations"], k["bytes"]) for k in result["kernels"]}
    # 24 weights, then 12 and 3 biases, each from a 16th element on: 24 -> 32, 12 -> 16, 3 -> 16.
    assert result["network"] == "6-4-3" and result["parameters"] == 39
    assert counted == {
        ("update", "sgd"): (0, 4 * 64 * 3),  # gradient, parameter in and out
        ("update", "adam"): (0, 4 * 64 * 7),  # and two moments in and out
        ("update", "lamb"): (0, 4 * 64 * 12),
        ("gather", "6 uint8"): (0, 5 * 6 + 5 * 6 * 4),
        ("loss", "cross_entropy"): (0, 4 * (15 + 5 + 15)),
        ("dense_forward", "dense_0 6-4"): (2 * 5 * 6 * 4, 4 * (30 + 24 + 20 + 20)),
        ("dense_backward", "dense_0 6-4"): (2 * 5 * 6 * 4, 4 * (30 + 24 + 20 + 20 + 20 + 24)),
        ("dense_forward", "dense_1 4-3"): (2 * 5 * 4 * 3, 4 * (20 + 12 + 3 + 15 + 15)),
        ("dense_backward", "dense_1 4-3"): (4 * 5 * 4 * 3, 4 * (20 + 12 + 15 + 15 + 15 + 20 + 12 + 3)),
        ("network", "6-4-3"): (2 * 5 * (2 * 24 + 3 * 12), 0),
    }


def test_speeds_follow_from_counts_and_times(subject: Subject) -> None:
    result = kernels.run(World.connect(), subject, [5], [], 1e-6, quiet)
    for kernel in result["kernels"]:
        if kernel["operations"]:
            assert kernel["gflops"] == kernel["operations"] / kernel["seconds"]["median"] / 1e9
            assert kernel["gemm_gflops"] == kernel["operations"] / kernel["gemm_seconds"]["median"] / 1e9
        else:
            assert kernel["gbytes_per_s"] == kernel["bytes"] / kernel["seconds"]["median"] / 1e9
            assert kernel["of_gemm"] is None


def test_packed_weights_are_measured_beside_the_choice(subject: Subject) -> None:
    found = kernels.run(World.connect(), subject, [1, 5], [], 1e-6, quiet)["packing"]
    assert [(each["rows"], each["of"]) for each in found] == [
        (rows, of) for rows in (1, 5) for of in ("dense_0 6-4", "dense_1 4-3")
    ]
    for each, layer in zip(found, 2 * [(4, 6), (3, 4)], strict=True):
        pays = subject.kernels.packing_pays(each["rows"], np.ones(layer, np.float32))
        assert each["taken"] == ("once" if pays else "each")
        assert min(each[f"{way}_seconds"]["median"] for way in ("each", "once", "pack")) > 0


def test_the_measured_kernels_leave_finite_numbers(subject: Subject) -> None:
    """Or what is measured would be the processor's treatment of infinities and denormals."""
    seen: list[np.ndarray] = []

    def watch(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            seen.extend(argument for argument in arguments if isinstance(argument, np.ndarray))
            del seen[:-20]
            return kernel(*arguments)

        return call if name == "update" else kernel

    kernels.run(World.connect(), replace(subject, kernels=subject.kernels.wrapped(watch)), [8], ["adam"], 2e-3, quiet)
    assert len(seen) == 20 and all(np.isfinite(array).all() and np.abs(array).max() < 1e3 for array in seen)


def test_pauses_and_costs_of_checkpoints() -> None:
    quiet_steps = np.full(19, 2.0)  # 20 steps, a checkpoint after every 5
    saving = quiet_steps.copy()
    saving[[4, 9, 14]] += [2.0, 4.0, 6.0]  # from the end of step 5 to that of step 6, and so on
    assert io.pauses_of(saving, 5, 2.0) == [1.0, 2.0, 3.0]
    assert io.cost_of(saving, quiet_steps, 5) == pytest.approx((1 + 2 + 3) / 3)
    saving[7] += 3.0  # the thread that writes slows a later step down
    assert io.pauses_of(saving, 5, 2.0) == [1.0, 2.0, 3.0]
    assert io.cost_of(saving, quiet_steps, 5) == pytest.approx((1 + 2 + 3 + 1.5) / 3)


def test_the_default_network_is_that_of_the_configuration_for_mnist() -> None:
    assert load_config(ROOT / "src/onotrain/bench/default.yaml") == load_config(ROOT / "configs/mnist-mlp.yaml")
    found = subject_of(World.connect(), None, ["optimizer.name=sgd"], None)
    assert (found.inputs, found.storage, found.config.optimizer.name) == (784, np.uint8, "sgd")


@pytest.mark.parametrize("task", ["binary_cross_entropy", "mse", "huber"])
@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("kernels", ["--rows", "4"]),
        ("step", ["--rows", "8"]),
        ("predict", ["--samples", "1500"]),
        ("io", ["--samples", "100", "--every", "4", "--directory", "."]),
    ],
)
def test_other_tasks_and_types(
    what: str, options: list[str], task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = mapping(
        {"activation": "tanh"}, 6, 1, data={"train": "missing.csv"}, loss=task, training={"dtype": "float64"}
    )
    Path("c.yaml").write_text(json.dumps(made))  # which is YAML, too
    assert run(["bench", what, "c.yaml", "--inputs", "5", *options, "--seconds", "0.002", "--json", "out.json"]) == 0
    found = json.loads(Path("out.json").read_text())
    assert (found["network"], found["dtype"]) == ("5-6-1", "float64")


@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("kernels", ["--rows", "4"]),
        ("step", ["--rows", "8"]),
        ("predict", ["--samples", "600"]),
        ("io", ["--samples", "100", "--every", "4", "--directory", "."]),
    ],
)
def test_a_table_with_an_embedding(
    what: str, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose categories the file alone knows; of two columns one has a width of its own."""
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{'abc'[n % 3]},{n},{'xy'[n % 2]},{n % 5}\n" for n in range(40))
    Path("t.csv").write_text(f"kind,size,side,y\n{rows}")
    columns = {"kind": "categorical", "side": "categorical"}
    embedding = {"embedding": {"width": 2, "widths": {"side": 3}}}
    made = mapping(embedding, 4, 1, data={"train": "t.csv", "targets": "y", "columns": columns}, loss="mse")
    Path("c.yaml").write_text(json.dumps(made))
    assert run(["bench", what, "c.yaml", *options, "--seconds", "0.002", "--json", "out.json"]) == 0
    found = json.loads(Path("out.json").read_text())
    assert found["network"] == "3-6-4-1"  # 2 of kind, 3 of side, and size
    if what == "kernels":
        (looked_up,) = [each for each in found["kernels"] if each["kernel"] == "embedding_forward"]
        assert looked_up["operations"] == 0


def test_a_network_that_normalises_over_batches_needs_two_rows() -> None:
    made = config(4, {"batch_norm": {}}, 3, data={"train": "nothing.csv"}, training={"batch_size": 8})
    subject = Subject(made, (6,), np.dtype(np.float32), _kernels.load("float32"))
    found = kernels.run(World.connect(), subject, [2], [], 1e-6, quiet)["kernels"]
    speeds = {each["kernel"]: each["gbytes_per_s"] for each in found}
    assert speeds["batch_norm_forward"] > 0 and speeds["batch_norm_backward"] > 0
    with pytest.raises(UsageError, match="rows: got 1, but layers of the network normalise over 2 or more"):
        kernels.run(World.connect(), subject, [2, 1], [], 1e-6, quiet)


def test_a_width_of_no_column_is_refused_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text("kind,y\na,1\nb,2\na,3\nb,4\n")
    made = mapping({"embedding": {"widths": {"kin": 3}}}, 1, data={"train": str(tmp_path / "t.csv")}, loss="mse")
    (tmp_path / "c.yaml").write_text(json.dumps(made))
    assert run(["bench", "predict", str(tmp_path / "c.yaml")]) == 2
    assert "'kin' is no column of categories; expected some of kind" in capsys.readouterr().err


def test_samples_of_a_file_are_known_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("d.npz", x=np.zeros((9, 2, 3), np.uint8), y=np.arange(9) % 3)
    Path("c.yaml").write_text(
        "data: {train: d.npz}\nmodel: {layers: [{dense: 3}]}\nloss: cross_entropy\n"
        "training: {epochs: 1, batch_size: 4}\n"
    )
    found = subject_of(World.connect(), "c.yaml", [], None)
    assert (found.inputs, found.storage.name) == (6, "uint8")
    other = subject_of(World.connect(), "c.yaml", ["data.train=missing.csv"], 11)
    assert (other.inputs, other.storage.name) == (11, "float32")


@pytest.mark.parametrize(
    ("nbytes", "text"), [(64, "64 B"), (4096, "4 KiB"), (6_821_671, "6.5 MiB"), (64 << 20, "64 MiB")]
)
def test_sizes(nbytes: int, text: str) -> None:
    assert size(nbytes) == text


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["krenels"], 2, ["did you mean 'kernels'?"]),
        (["kernels", "--rows", "32,x"], 2, ["'x' in '32,x'"]),
        (["kernels", "--rows", "0"], 2, ["'0'"]),
        (["kernels", "--rows", "4KiB"], 2, ["'4KiB'"]),
        (["kernels", "--optimizer", "adm"], 2, ["adm"]),
        (["kernels", "--kernels", "x86_64_v9"], 7, ["'x86_64_v9'", "reference"]),
        (["kernels", "--seconds", "0"], 2, ["--seconds"]),
        (["kernels", "missing.yaml"], 2, ["missing.yaml: no such file"]),
        (["kernels", "--set", "model.layers=3"], 2, ["model.layers"]),
        (["kernels", "--json", "no/such/file.json"], 2, ["no/such/file.json: there is no directory no/such"]),
        (["kernels", "--json", "."], 2, [".: is a directory"]),
        (["allreduce", "--sizes", "4QiB"], 2, ["4QiB"]),
        (["predict", "--samples", "0"], 2, ["--samples"]),
        (["io", "--directory", "no/such"], 6, ["no/such: could not make a directory in it"]),
    ],
)
def test_wrong_use_is_one_message(
    arguments: list[str], code: int, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert run(["bench", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("onotrain: ") and err.count("onotrain: ") == 1
    for word in words:
        assert word in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("subcommand", ["kernels", "step", "allreduce", "predict", "io"])
def test_the_help_has_examples(subcommand: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", subcommand, "--help"]) == 0
    assert f"onotrain bench {subcommand}" in capsys.readouterr().out.partition("Examples:")[2]


def test_the_machine_is_described_without_names_of_hosts_and_paths() -> None:
    from onotrain.bench.machine import describe

    described = describe(World.connect())
    for key in ("cpu", "cores", "caches", "kernels", "python", "packages", "mpi", "blas", "ranks"):
        assert described[key]
    assert not {"host", "command"} & set(described)
    assert str(Path.home()) not in json.dumps(described)
