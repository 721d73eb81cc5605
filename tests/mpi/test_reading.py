"""Many files on the ranks of a node: each byte is read once, and what comes out is what one process reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builders import config, refused
from onotrain.data import DataSpec, load_dataset
from onotrain.data.identity import digest_of
from onotrain.data.prepare import prepare
from onotrain.data.reading import ReadFiles, in_turn
from onotrain.data.sources import is_table, read_table
from onotrain.errors import DataError, ResourceError
from onotrain.parallel.reading import NodeReader, share_read
from onotrain.parallel.world import World
from onotrain.training import train
from onotrain.training.observers import Observer, Reading

pytestmark = pytest.mark.mpi
USUAL_RANKS = (1, 3)

FILES = 10
WRONG = {3, 6}


def hdf5(path: Path, x: np.ndarray, y: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        file["x"], file["y"] = x, y


def npz(path: Path, x: np.ndarray, y: np.ndarray) -> None:
    np.savez(path, x=x, y=y)


def csv(path: Path, x: np.ndarray, y: np.ndarray) -> None:
    rows = ("".join(f"{value!r}," for value in row.tolist()) + f"c{label}\n" for row, label in zip(x, y, strict=True))
    path.write_text("a,b,c,kind\n" + "".join(rows))


def parquet(path: Path, x: np.ndarray, y: np.ndarray) -> None:
    kinds = pa.array([f"c{label}" for label in y])
    pq.write_table(pa.table({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "kind": kinds}), path)


WRITERS: dict[str, Callable[[Path, np.ndarray, np.ndarray], None]] = {
    "h5": hdf5, "npz": npz, "csv": csv, "parquet": parquet,
}  # fmt: skip


def write(world: World, place: Path, suffix: str, files: int = FILES, rows: int = 40) -> str:
    """Write files of different lengths with different values; return their pattern.  *Collective*."""
    if world.rank == 0:
        rng = np.random.default_rng(7)
        for number in range(files):
            x = rng.normal(size=(rows + 17 * (number % 3), 3))
            WRITERS[suffix](place / f"part-{number}.{suffix}", x, rng.integers(0, 4, len(x)))
    world.barrier()
    return f"{place}/part-*.{suffix}"


def arrays_of(spec: DataSpec, reader: ReadFiles) -> dict[str, np.ndarray]:
    """Return all that a data set holds, as arrays."""
    if not is_table(spec):
        dataset = load_dataset(spec, reader)
        assert dataset.targets is not None
        return {"x": dataset.features, "y": dataset.targets}
    table = read_table(spec, reader=reader)
    kinds = np.array(table["kind"].texts(), "U8")
    return {"kind": kinds, **{name: table[name].values for name in table.names if name != "kind"}}


@pytest.mark.parametrize("ranks_per_node", [None, 1, 2])
@pytest.mark.parametrize("suffix", WRITERS)
def test_the_bits_of_one_process(world: World, place: Path, suffix: str, ranks_per_node: int | None) -> None:
    spec = DataSpec(write(world, place, suffix))
    wanted = arrays_of(spec, in_turn)
    with World.connect(world.comm, ranks_per_node) as job:
        reader = NodeReader(job.node)
        found, _ = share_read(reader, job.node, lambda: (arrays_of(spec, reader), None))
        read = reader.report(job)
    assert list(found) == list(wanted)
    assert digest_of(found.values()) == digest_of(wanted.values())
    sizes = sum(path.stat().st_size for path in place.iterdir())
    assert (read.files, read.nbytes) == (FILES, sizes)
    assert sum(read.ranks_files) == FILES * job.nodes and sum(read.ranks_bytes) == sizes * job.nodes
    assert min(read.ranks_files) >= FILES // max(job.node_sizes)


@pytest.mark.parametrize("suffix", WRITERS)
def test_data_of_a_run_are_those_of_one_process(world: World, place: Path, suffix: str) -> None:
    data = config(data={"train": write(world, place, suffix), "validation": 0.25}).data
    arguments: Any = (data, "multiclass", 4, "float64", 10**9)
    alone = prepare(*arguments)
    reader = NodeReader(world.node)

    def make() -> tuple[dict[str, np.ndarray], str]:
        prepared = prepare(*arguments, reader=reader)
        return prepared.arrays, prepared.description.digest

    arrays, digest = share_read(reader, world.node, make)
    assert digest == alone.description.digest
    assert {name: digest_of([array]) for name, array in arrays.items()} == {
        name: digest_of([array]) for name, array in alone.arrays.items()
    }


def number_of(spec: DataSpec) -> int:
    return int(spec.path)


def fails(spec: DataSpec) -> np.ndarray:
    number = number_of(spec)
    if number in WRONG:
        raise DataError(f"file {number}", hint="fix it")
    return np.full(number, number)


def has_no_memory(spec: DataSpec) -> int:
    if number_of(spec) == 5:
        raise MemoryError("5 GB")
    return number_of(spec)


def specs(count: int) -> list[DataSpec]:
    return [DataSpec(str(number)) for number in range(count)]


def test_the_first_file_that_fails_is_everyones_error_and_reading_goes_on(world: World) -> None:
    reader = NodeReader(world.node)
    for read, message in ((fails, "^file 3\n  hint: fix it"), (has_no_memory, "^5: no memory is left")):

        def make(read: Callable[[DataSpec], Any] = read) -> tuple[dict[str, np.ndarray], Any]:
            return {}, reader(read, specs(FILES))

        with pytest.raises(DataError if read is fails else ResourceError, match=message) as caught:
            share_read(reader, world.node, make)
        assert caught.value.agreed
    for count in (1, 2, 3, 100):
        _, numbers = share_read(reader, world.node, lambda count=count: ({}, reader(number_of, specs(count))))  # type: ignore[misc]
        assert numbers == list(range(count))


def test_what_fails_beside_reading_lets_the_others_go(world: World) -> None:
    reader = NodeReader(world.node)

    def make() -> tuple[dict[str, np.ndarray], Any]:
        reader(number_of, specs(4))
        raise DataError("they do not fit")

    with pytest.raises(DataError, match="they do not fit"):
        share_read(reader, world.node, make)


def test_progress_is_seen_on_the_first_rank(world: World) -> None:
    seen: list[tuple[int, int]] = []
    reader = NodeReader(world.node, lambda done, files: seen.append((done, files)))
    share_read(reader, world.node, lambda: ({}, reader(number_of, specs(FILES))))
    assert seen == ([(done, FILES) for done in range(FILES + 1)] if world.rank == 0 else [])


def bytes_read() -> int:
    """Return how many bytes this process has read from files so far."""
    return int(dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["rchar"])


@pytest.mark.parametrize("kind", ["float32", "uint8", "chunked", "gzip", "images"])
def test_each_byte_of_hdf5_is_read_once(world: World, place: Path, kind: str) -> None:
    files, rows = 40, 2500
    if world.rank == 0:
        rng = np.random.default_rng(1)
        dtype, shape = ("u1" if kind in ("uint8", "images") else "f4"), ((8, 8) if kind == "images" else (64,))
        options: dict[str, Any] = {"chunked": {"chunks": (100, 64)}, "gzip": {"compression": "gzip"}}.get(kind, {})
        for number in range(files):
            with h5py.File(place / f"{number}.h5", "w") as file:
                file.create_dataset("x", data=rng.integers(0, 256, (rows, *shape)).astype(dtype), **options)
                file["y"] = np.arange(rows) % 3
    world.barrier()
    load_dataset(DataSpec(f"{place}/0.h5"))  # imports what reads the others
    reader = NodeReader(world.node)
    before = bytes_read()
    share_read(reader, world.node, lambda: ({"x": load_dataset(DataSpec(f"{place}/*.h5"), reader).features}, None))
    counted = sum(world.comm.allgather(bytes_read() - before))
    size = sum(path.stat().st_size for path in place.iterdir())
    assert size // 2 < counted <= size + files * OVERHEAD + world.size * PROCESS


#: Read of a file besides its arrays: its signature, and what says where the arrays are [bytes].
OVERHEAD = 40_000
#: Read of /proc by each rank [bytes].
PROCESS = 50_000


class Watch(Observer):
    """Keeps what it learns of files."""

    def __init__(self) -> None:
        self.seen: list[Reading] = []

    def reading(self, reading: Reading) -> None:
        self.seen.append(reading)


def test_a_run_says_who_read_what(world: World, place: Path) -> None:
    pattern, watch = write(world, place, "h5"), Watch()
    made = config(4, data={"train": pattern, "validation": 0.25})
    summary = train(made, world.comm, output=place / "run", observers=[watch]).summary
    read = summary["files_read"]
    assert read["files"] == sum(read["ranks_files"]) == FILES
    assert read["bytes"] == sum(read["ranks_bytes"]) == sum(p.stat().st_size for p in place.glob("*.h5"))
    assert len(read["ranks_files"]) == world.size
    if world.rank == 0:
        assert watch.seen[-1] == Reading(FILES, FILES)


def test_a_damaged_file_ends_a_run_on_all_ranks(world: World, place: Path) -> None:
    pattern = write(world, place, "h5")
    if world.rank == 0:
        (place / "part-7.h5").write_bytes(b"\x89HDF\r\n\x1a\n nothing else")
    world.barrier()
    made = config(4, data={"train": pattern, "validation": 0.25})
    refused(world, DataError, r"part-7\.h5", made, world.comm, output=place / "run")
