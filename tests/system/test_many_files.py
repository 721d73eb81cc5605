"""Many files as one data set, from the command line: who reads them, what is said, and what a damaged one does."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import launch
from builders import mapping

pytestmark = pytest.mark.long

COUNTING = """\
import sys
from pathlib import Path

from onotrain.data import DataSpec, load_dataset
from onotrain.parallel.reading import NodeReader, share_read
from onotrain.parallel.world import World


def bytes_read():
    return int(dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["rchar"])


world = World.connect()
load_dataset(DataSpec(f"{sys.argv[1]}/part-0.h5"))  # imports what reads the others
reader = NodeReader(world.node)
before = bytes_read()
arrays, _ = share_read(
    reader, world.node, lambda: ({"x": load_dataset(DataSpec(f"{sys.argv[1]}/part-*.h5"), reader).features}, None)
)
counted = sum(world.comm.allgather(bytes_read() - before))
read = reader.report(world)
if world.rank == 0:
    print(counted, read.files, read.nbytes, *read.ranks_files, len(arrays["x"]))
"""

FAILING = """\
import sys

from onotrain.parallel import guard


def main():
    import onotrain
    from onotrain.data import hdf5
    from onotrain.parallel.world import start_mpi

    read, failing = hdf5.read_hdf5, int(sys.argv[3])  # each has one of the two files

    def fail(spec):
        if spec.path in ("part-6.h5", "part-7.h5") and start_mpi().COMM_WORLD.rank == failing:
            raise ZeroDivisionError("injected")
        return read(spec)

    hdf5.read_hdf5 = fail
    onotrain.train(sys.argv[1], output=sys.argv[2])


sys.exit(guard.run(main))
"""


def write(place: Path, files: int, rows: int) -> None:
    rng = np.random.default_rng(3)
    for number in range(files):
        with h5py.File(place / f"part-{number}.h5", "w") as file:
            x = rng.normal(size=(rows, 64)).astype(np.float32)
            file["x"], file["y"] = x, (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0)
    made = mapping(3, data={"train": "part-*.h5", "validation": 0.25})
    (place / "run.yaml").write_text(json.dumps(made))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_byte_of_a_thousand_files_is_read_once_on_four_ranks(place: Path) -> None:
    write(place, 1000, 400)
    (place / "count.py").write_text(COUNTING)
    done = launch.mpirun(4, sys.executable, "count.py", str(place), timeout=110)
    assert done.returncode == 0, done.stderr
    counted, files, nbytes, *each, samples = map(int, done.stdout.split())
    assert (files, samples, each) == (1000, 400_000, [250] * 4)
    assert nbytes == sum(path.stat().st_size for path in place.glob("*.h5"))
    assert nbytes < counted < nbytes + 1000 * 32_000  # with signatures, and what says where arrays are


def test_train_evaluate_and_predict_say_and_do_the_same_on_any_ranks(place: Path) -> None:
    write(place, 10, 30)
    trained = launch.onotrain("train", "run.yaml", "--output", "run", ranks=3)
    assert trained.returncode == 0, trained.stderr
    assert re.search(r"^  files  +10 files, 0\.\d+ MB, read by 3 ranks in \d+\.\d+ s$", trained.stdout, re.MULTILINE)
    read = json.loads((place / "run" / "summary.json").read_text())["files_read"]
    assert (read["files"], read["ranks_files"]) == (10, [4, 3, 3])
    predicted = []
    for ranks in (0, 3):
        out = f"{ranks}.csv"
        done = launch.onotrain("predict", "run", "part-*.h5", "--output", out, ranks=ranks)
        assert done.returncode == 0, done.stderr
        evaluated = launch.onotrain("evaluate", "run", "part-*.h5", "--json", ranks=ranks)
        assert evaluated.returncode == 0, evaluated.stderr
        predicted.append(((place / out).read_bytes(), json.loads(evaluated.stdout)))
    assert predicted[0] == predicted[1]
    assert predicted[0][1]["samples"] == 300


def test_a_damaged_file_is_one_message(place: Path) -> None:
    write(place, 10, 30)
    (place / "part-6.h5").write_bytes(b"\x89HDF\r\n\x1a\n nothing else")
    done = launch.onotrain("train", "run.yaml", "--output", "run", ranks=3)
    assert done.returncode == 3
    assert done.stderr.count("part-6.h5") == 1 and "Traceback" not in done.stderr


@pytest.mark.parametrize("failing", [0, 1])
def test_a_bug_while_reading_ends_the_job(place: Path, failing: int) -> None:
    write(place, 10, 30)
    (place / "fail.py").write_text(FAILING)
    done = launch.mpirun(2, sys.executable, "fail.py", "run.yaml", "run", failing)
    assert done.returncode == 1
    assert "ZeroDivisionError: injected" in done.stderr
