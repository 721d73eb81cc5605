"""Prediction and evaluation inside one job of any number of ranks: the bits of one process."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import networks
from onotrain.config.columns import TextTable
from onotrain.data import DataSpec, streaming
from onotrain.data.samples import ArraySamples
from onotrain.data.tables.encoders import CategoricalEncoder, NumericEncoder
from onotrain.data.tables.preparation import Preparation
from onotrain.errors import CheckpointError, DataError, ResourceError, UsageError
from onotrain.evaluation.forward_pass import PASS_ROWS
from onotrain.inference import distributed, evaluation, job, source
from onotrain.inference.loading import load_everywhere
from onotrain.inference.predictor import Predictor, load
from onotrain.inference.source import Source
from onotrain.parallel.shared_memory import allocate
from onotrain.parallel.world import World

pytestmark = pytest.mark.mpi

ROWS = 20 * PASS_ROWS + 77


class Collect:
    """A sink that keeps the predictions, and notes how many rows there are."""

    def __init__(self, rows: int, outputs: int, done: np.ndarray | None = None) -> None:
        self.array = np.full((rows, outputs), np.nan, np.float32)
        self._done = np.zeros(1, np.int64) if done is None else done

    def write(self, begin: int, block: np.ndarray) -> None:
        assert np.isnan(self.array[begin : begin + len(block)]).all(), "predicted twice"
        self.array[begin : begin + len(block)] = block
        self._done += 1

    def finish(self) -> None:
        pass


def network() -> Predictor:
    return Predictor.from_checkpoint(networks.example("multiclass"), "test")


def samples(rows: int = ROWS) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, 5)).astype(np.float32)


def source_of(x: np.ndarray, **options: Any) -> Source:
    return Source("test", ArraySamples(x, np.empty(0)), **options)


@pytest.mark.parametrize("rows", [1, PASS_ROWS, PASS_ROWS + 1, ROWS])
@pytest.mark.parametrize("chunk", [PASS_ROWS, 3 * PASS_ROWS])
def test_every_row_is_predicted_once(world: World, rows: int, chunk: int) -> None:
    predictor, x = network(), samples(rows)
    sink = Collect(rows, 3) if world.rank == 0 else None
    progress: list[int] = []
    counts = distributed.predict(world, predictor, source_of(x, chunk=chunk), sink, progress.append)
    if sink is None:
        assert counts == [] and progress == []
    else:
        np.testing.assert_array_equal(sink.array, predictor.predict(x))
        assert len(counts) == world.size
        assert sum(counts) == -(-rows // chunk) == len(progress)
        assert sum(progress) == rows


def test_a_rank_that_stands_still_gets_no_more(world: World) -> None:
    """Rank 1 waits in its first chunk until all others are done, but for the one that it has in hand."""
    if world.size == 1:
        pytest.skip("Test requires 2 MPI processes, only 1 MPI processes")
    predictor, x = network(), samples()
    chunks = -(-ROWS // PASS_ROWS)
    done = allocate(world.comm, {"done": ((1,), np.int64)})["done"]

    class Slow(ArraySamples):
        def features(self, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
            while world.rank == 1 and done[0] < chunks - 2:
                time.sleep(0.01)
            return super().features(begin, end)

    sink = Collect(ROWS, 3, done) if world.rank == 0 else None
    counts = distributed.predict(world, predictor, Source("test", Slow(x, np.empty(0))), sink)
    if sink is not None:
        assert counts[1] == 2
        assert sum(counts) == chunks
        np.testing.assert_array_equal(sink.array, predictor.predict(x))


def test_all_ranks_have_the_same_network(world: World, place: Path) -> None:
    path = place / "net.h5"
    if world.rank == 0:
        networks.save(path, networks.example("multiclass"))
    predictor, warnings = load_everywhere(world, path)
    assert warnings == []
    x = samples(600)
    np.testing.assert_array_equal(predictor.predict(x), load(path).predict(x))
    assert predictor.class_names == load(path).class_names


def test_a_network_that_is_not_there(world: World, place: Path) -> None:
    with pytest.raises(UsageError, match="no such run directory") as caught:
        load_everywhere(world, place / "nothing")
    assert caught.value.agreed
    if world.rank == 0:
        (place / "damaged.h5").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError) as damaged:
        load_everywhere(world, place / "damaged.h5")
    assert damaged.value.agreed


@pytest.fixture
def files(world: World, place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network and data in one directory; the job's ranks, whoever launched them."""
    if world.rank == 0:
        networks.save(place / "net.h5", networks.example("multiclass"))
        x = samples()
        with h5py.File(place / "data.h5", "w") as file:
            file.create_dataset("x", data=x, chunks=(700, 5))
            file["y"] = (network().predict_classes(x) + (np.arange(ROWS) % 7 == 0)) % 3
        bad = x.copy()
        bad[-1, 2] = np.nan
        with h5py.File(place / "bad.h5", "w") as file:
            file["x"] = bad
    world.barrier()
    for module in (job, evaluation):
        monkeypatch.setattr(module, "connect", lambda: world)
    return place


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("suffix", [".npy", ".csv", ".h5"])
def test_files_are_those_of_one_process(
    world: World, files: Path, suffix: str, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = DataSpec(str(files / "data.h5"))
    report = job.predict_file(files / "net.h5", spec, files / f"many{suffix}", stream=stream)
    if world.rank > 0:
        assert report is None
        return
    assert report is not None
    assert report.samples == ROWS and len(report.chunks) == world.size and report.samples_per_second > 0
    monkeypatch.setattr(job, "connect", lambda: None)
    job.predict_file(files / "net.h5", spec, files / f"one{suffix}")
    assert (files / f"many{suffix}").read_bytes() == (files / f"one{suffix}").read_bytes()


@pytest.mark.parametrize("stream", [False, True])
def test_metrics_are_those_of_one_process(
    world: World, files: Path, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = DataSpec(str(files / "data.h5"))
    many = evaluation.evaluate(files / "net.h5", spec, stream=stream)
    monkeypatch.setattr(evaluation, "connect", lambda: None)
    one = evaluation.evaluate(files / "net.h5", spec)
    assert many.metrics == one.metrics  # to the last bit
    assert 0.5 < many.metrics["roc_auc"] < 1 and 0.5 < many.metrics["f1"] < 1
    assert many.metrics["accuracy"] == np.mean(np.arange(ROWS) % 7 != 0)
    np.testing.assert_array_equal(many.confusion, one.confusion)


def test_failures_are_everyones(world: World, files: Path) -> None:
    """Each fails on one rank or on one per node; all get the same error, and the job is still in step."""
    net, data = files / "net.h5", DataSpec(str(files / "data.h5"))
    with pytest.raises(UsageError, match="suffix") as caught:
        job.predict_file(net, data, files / "out.txt")
    assert caught.value.agreed
    for spec in (DataSpec(str(files / "missing.npy")), DataSpec(str(files / "bad.h5"))):
        with pytest.raises(DataError) as broken:
            job.predict_file(net, spec, files / "out.npy", stream=False)
        assert broken.value.agreed
    with pytest.raises(DataError, match="outside the classes|no targets"):
        evaluation.evaluate(net, DataSpec(str(files / "bad.h5")), stream=True)


def test_an_output_that_cannot_be_written(world: World, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(ResourceError, match="No space left on device") as caught:
        job.predict_file(files / "net.h5", DataSpec(str(files / "data.h5")), files / "out.npy")
    assert caught.value.agreed
    world.barrier()
    assert sorted(path.name for path in files.iterdir()) == ["bad.h5", "data.h5", "net.h5"]


@pytest.mark.mpi(min_size=2)
@pytest.mark.parametrize("suffix", [".parquet", ".h5"])
def test_nodes_with_more_and_less_memory_read_alike(
    world: World, place: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows have the same numbers on all of them, which a rank that streams counts in larger chunks."""
    columns = ("a", "b", "c", "d", "e")
    if world.rank == 0:
        table = {name: samples()[:, number] for number, name in enumerate(columns)}
        pq.write_table(pa.table(table), place / "x.parquet")
        with h5py.File(place / "x.h5", "w") as file:
            file.create_dataset("x", data=samples(), chunks=(700, 5))
    world.barrier()
    encoders = tuple((name, NumericEncoder(0.0, 1.0)) for name in columns)
    preparation = Preparation(encoders) if suffix == ".parquet" else None
    predictor = Predictor.from_checkpoint(networks.example("multiclass", preparation=preparation), "test")
    for module in (streaming, source):
        monkeypatch.setattr(module, "available_bytes", lambda: (1 << 40) if world.rank == 0 else 1000)
    with World.connect(world.comm, 1) as nodes, ExitStack() as stack:
        spec = DataSpec(str(place / f"x{suffix}"))
        found = source.open_source(stack, nodes, predictor.metadata, spec, "auto", labelled=False)
        assert len({*nodes.comm.allgather((found.chunk, type(found.samples)))}) == 1
        sink = Collect(ROWS, predictor.outputs) if nodes.rank == 0 else None
        distributed.predict(nodes, predictor, found, sink)
        if sink is not None:
            np.testing.assert_array_equal(sink.array, predictor.predict(samples()))


def test_what_is_to_be_known_of_a_file_is_known_to_all_ranks(world: World, place: Path) -> None:
    """Of one without a header, and with a category that the training data lacked."""
    if world.rank == 0:
        (place / "new.csv").write_text("".join(f"{k}.5,{'Titan' if k % 5 == 0 else 'steel'}\n" for k in range(20)))
    world.barrier()
    encoders = (("width", NumericEncoder(0.0, 1.0)), ("material", CategoricalEncoder(("glass", "steel"), True, False)))
    made = networks.example("multiclass", preparation=Preparation(encoders, columns=("width", "material")))
    predictor = Predictor.from_checkpoint(made, "test")
    with World.connect(world.comm, 1) as nodes, ExitStack() as stack:
        spec = DataSpec(str(place / "new.csv"), csv=TextTable(header=True))
        found = source.open_source(stack, nodes, predictor.metadata, spec, "auto", labelled=False)
        (notes,) = {*nodes.comm.allgather(found.notes)}
    assert len(found.samples) == 20 and len(notes) == 2
    assert notes[0].endswith(
        "has no header: its columns are taken for width, material, in the order of the training file"
    )
    assert notes[1] == (
        "4 samples have values of 'material' that the training data lacked: Titan; they are taken for `other`"
    )
