"""Kinds of hostile files, each with several members: strange files, links, bombs, and what a terminal would obey."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from fuzz import seeds
from fuzz.bounded import Bounded, Ended, check
from onotrain.runs.checkpoint_store import read_checkpoint

ESCAPE = "\x1b[31mred\x1b[0m"


@pytest.fixture(scope="module")
def runs() -> Iterator[Bounded]:
    with Bounded() as made:
        yield made


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def run(runs: Bounded, place: Path) -> Path:
    """Make a run."""
    seeds.make_run(place, runs)
    return place / "run"


def refused(runs: Bounded, place: Path, code: int, *arguments: object) -> Ended:
    """Run a command that must be refused with one message, soon."""
    ended = check(runs.run(*arguments, cwd=place))
    assert ended.code == code, ended
    assert ended.err.startswith("onotrain: ") and ended.err.count("\nonotrain: ") == 0 and ended.seconds < 10, ended
    return ended


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


STRANGE: dict[str, Callable[[Path], object]] = {
    "pipe": _pipe,
    "socket": _socket,
    "zeros": lambda path: path.symlink_to("/dev/zero"),
    "null": lambda path: path.symlink_to("/dev/null"),
    "directory": lambda path: path.mkdir(),
    "endless link": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_what_is_no_file_is_refused_at_once(
    kind: str, runs: Bounded, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    for suffix in ("csv", "csv.gz", "npy", "npz", "h5", "parquet"):
        STRANGE[kind](place / f"f.{suffix}")
        refused(runs, place, 3, "data", "info", f"f.{suffix}")
    STRANGE[kind](place / "f.yaml")
    refused(runs, place, 2, "validate", "f.yaml")
    assert check(runs.run("inspect", "f.h5", cwd=place)).code in (2, 4, 6)


@pytest.mark.parametrize("kind", ["pipe", "zeros", "directory"])
@pytest.mark.parametrize("name", ["metrics.jsonl", "environment.json", "summary.json"])
def test_a_record_that_is_no_file(kind: str, name: str, runs: Bounded, run: Path) -> None:
    (run / name).unlink()
    STRANGE[kind](run / name)
    assert check(runs.run("inspect", "run", cwd=run.parent)).code in (2, 3)


@pytest.mark.parametrize("name", ["run.lock", "metrics.jsonl", "config.yaml", "split.npz", "checkpoints/best.json"])
def test_links_that_leave_the_run_are_not_followed(name: str, runs: Bounded, run: Path) -> None:
    outside = run.parent / "outside"
    outside.write_text("mine")
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(outside)
    refused(runs, run.parent, 2, "inspect", "run")
    refused(runs, run.parent, 2, "train", "c.yaml", "--output", "run", "--resume", "--set", "training.epochs=2")
    assert outside.read_text() == "mine"


# Bombs ----------------------------------------------------------------------------------------------------------------

_ROWS = b"a,b,y\n" + b"1,2,3\n" * 7_000_000


def _npz() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, x=np.zeros((12_000_000, 1), np.float32), y=np.zeros(12_000_000, np.int8))
    return file.getvalue()


def _idx() -> bytes:
    return gzip.compress(struct.pack(">HBB2I", 0, 8, 2, 50_000, 1000) + bytes(50_000_000))


def _hdf5() -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as made:
        data = made.create_dataset("x", (3_000_000, 250), "f4", chunks=(30_000, 250), compression="gzip")
        chunk = zlib.compress(bytes(30_000_000))
        for number in range(100):
            data.id.write_direct_chunk((number * 30_000, 0), chunk)
        made["y"] = np.zeros(3_000_000, np.int8)
    return file.getvalue()


def _endless_line() -> bytes:
    return gzip.compress(b"a,b,y\n" + b"1" * 90_000_000)


def _shared_text() -> bytes:
    """Return an HDF5 file of which 5,000 entries refer to one text of 200,000 characters."""
    file = io.BytesIO()
    with h5py.File(file, "w") as made:
        texts = made.create_dataset("t", (5000,), h5py.string_dtype())
        texts[0], made["a"], made["y"] = "z" * 200_000, np.arange(5000.0), np.arange(5000) % 2
        made.flush()
        begin = texts.id.get_offset()
    data = bytearray(file.getvalue())
    data[begin : begin + 16 * 5000] = data[begin : begin + 16] * 5000
    return bytes(data)


BOMBS = {
    "text.h5": _shared_text,
    "text.csv": lambda: b"a,b,y\n" + b"x" * 100_000 + b",1,2\n" + b"q,1,2\n" * 20_000,
    "f.csv.gz": lambda: gzip.compress(_ROWS),
    "f.csv.bz2": lambda: bz2.compress(b"a,b,y\n" + b"1,2,3\n" * 150_000) * 47,
    "line.csv.gz": _endless_line,
    "zeros.csv.gz": lambda: gzip.compress(bytes(90_000_000)),
    "wide.csv": lambda: b"\n".join(b",".join([number] * 100_000) for number in (b"a", b"1", b"2")),
    "f.npz": _npz,
    "f-images-idx2-ubyte.gz": _idx,
    "f.h5": _hdf5,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb(name: str, runs: Bounded, place: Path) -> None:
    (place / name).write_bytes(BOMBS[name]())
    refused(runs, place, 3, "data", "info", name)


def test_a_network_of_too_many_layers(runs: Bounded, place: Path) -> None:
    layers = [{"dense": 1}] * 2_000
    (place / "f.yaml").write_text(json.dumps({**seeds.CONFIG, "model": {"layers": layers}}))
    refused(runs, place, 2, "validate", "f.yaml")


def test_what_is_packed_well_is_read(runs: Bounded, place: Path) -> None:
    (place / "f.csv.gz").write_bytes(gzip.compress(b"a,b,y\n" + b"1,2,3\n4,5,6\n" * 200_000))
    assert check(runs.run("data", "info", "f.csv.gz", cwd=place)).code == 0


# What is shown --------------------------------------------------------------------------------------------------------


def test_names_are_shown_escaped(runs: Bounded, place: Path) -> None:
    name = f"a\nonotrain: {ESCAPE}.csv"
    refused(runs, place, 3, "data", "info", name)
    (place / name).write_bytes(seeds.table().replace(b"a,b", f"{ESCAPE},b".encode(), 1))
    assert check(runs.run("data", "info", name, cwd=place)).code == 0
    assert check(runs.run("init", name, "-o", "o.yaml", cwd=place)).code == 0
    check(runs.run("train", "o.yaml", "--output", "other", "--set", "training.epochs=1", cwd=place))
    check(runs.run("inspect", "other", cwd=place))


@pytest.mark.parametrize("key", [ESCAPE, "a\nonotrain: b", "\x9b2J", "\u202eab", "\x7f"])
def test_keys_of_a_configuration_are_shown_escaped(key: str, runs: Bounded, place: Path) -> None:
    for value in ({**seeds.CONFIG, key: 1}, {**seeds.CONFIG, "data": {"train": "d.csv", key: key}}, {key: {key: key}}):
        (place / "f.yaml").write_text(json.dumps(value))
        refused(runs, place, 2, "validate", "f.yaml")


def test_records_are_shown_escaped(runs: Bounded, run: Path) -> None:
    for name in ("environment.json", "summary.json"):
        changed = json.loads((run / name).read_text()) | {"kernels": ESCAPE, "strategy": ESCAPE, ESCAPE: 1}
        (run / name).write_text(json.dumps(changed))
    assert check(runs.run("inspect", "run", cwd=run.parent)).code == 0


# Checkpoints ----------------------------------------------------------------------------------------------------------


def test_unknown_keys_of_the_progress_are_ignored(runs: Bounded, run: Path) -> None:
    from fuzz.mutations import with_metadata

    path = next((run / "checkpoints").glob("step-*.h5"))
    metadata = dict(read_checkpoint(path).metadata)
    metadata["progress"] = {**metadata["progress"], "x": {"y": [1]}}
    metadata["later"] = 1
    path.write_bytes(with_metadata(path.read_bytes(), json.dumps(metadata).encode()))
    for arguments in (("inspect", "run"), ("predict", "run", "d.csv", "-o", "p.csv")):
        assert check(runs.run(*arguments, cwd=run.parent)).code == 0
    resume = ("train", "c.yaml", "--output", "run", "--resume", "--quiet", "--set", "training.epochs=2")
    assert check(runs.run(*resume, cwd=run.parent)).code == 0
    assert yaml.safe_load((run / "config.yaml").read_text())["training"]["epochs"] == 2
