"""File systems that have no locks, as NFS without its lock service: data are read, runs are written."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest

import launch

pytestmark = pytest.mark.long

#: Stands between a program and the kernel.
LOCKS = "#include <errno.h>\nint flock(int file, int operation) { errno = ERRNO; return -1; }\n"
CONFIG = """\
data: {train: x.h5, features: x, targets: y}
model: {layers: [{dense: 3}]}
loss: cross_entropy
training: {epochs: 1, batch_size: 32}
"""


@pytest.mark.parametrize("number", ["ENOLCK", "ENOTSUP", "ENOSYS"])
def test_no_locks(number: str, tmp_path: Path) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler is not None
    (tmp_path / "locks.c").write_text(LOCKS)
    words = [compiler, f"-DERRNO={number}", "-shared", "-fPIC", "-o", "locks.so", "locks.c"]
    subprocess.run(words, cwd=tmp_path, check=True, timeout=60)
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"], file["y"] = rng.random((200, 4), np.float32), rng.integers(0, 3, 200)
    (tmp_path / "c.yaml").write_text(CONFIG)
    for words in (
        ["train", "c.yaml", "-q", "--output", "run"],
        [
            "train",
            "c.yaml",
            "-q",
            "--output",
            "run",
            "--resume",
            "--set",
            "training.epochs=2",
            "--set",
            "data.stream=true",
        ],
        ["data", "convert", "x.h5", "new.h5"],
        ["predict", "run", "x.h5", "--output", "out.h5"],
    ):
        command = launch.onotrain_command(*words)
        done = launch.run(command, cwd=tmp_path, env={"LD_PRELOAD": str(tmp_path / "locks.so")})
        assert done.returncode == 0, done.stderr
