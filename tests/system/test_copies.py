"""Processes that were launched as one job and are alone for MPI: refused before they do the same work many times."""

from __future__ import annotations

from pathlib import Path

import pytest

import launch

CONFIG = """\
data: {train: digits}
model: {layers: [{dense: 10}]}
loss: cross_entropy
training: {epochs: 1, batch_size: 32}
"""
#: A launcher that this MPI does not know, such as srun for Open MPI from pip.
SRUN = """\
export SLURM_JOB_ID=7 SLURM_NTASKS=2 SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=2
for rank in 0 1; do
  (SLURM_PROCID=$rank "$@" > out.$rank 2> err.$rank; echo $? > code.$rank) &
done
wait
"""


@pytest.mark.parametrize(
    "arguments", ["train c.yaml", "evaluate r digits", "doctor", "predict r digits --output y.npy"]
)
def test_copies_are_refused(arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(CONFIG)
    launch.run(["bash", "-c", SRUN, "srun", *launch.onotrain_command(*arguments.split())])
    codes, errors, outputs = (
        [Path(f"{kind}.{rank}").read_text() for rank in range(2)] for kind in ("code", "err", "out")
    )
    assert codes == ["7\n", "0\n"]
    assert errors[0].startswith("onotrain: 2 processes were launched (SLURM_STEP_NUM_TASKS), but for MPI")
    assert errors[0].count("\n") == 2 and errors[1] == "" and outputs == ["", ""]
    assert sorted(path.name for path in tmp_path.iterdir() if "." not in path.name) == []
    assert not (tmp_path / "y.npy").exists()


@pytest.mark.parametrize("ranks", [0, 1, 2])
def test_a_job_within_a_step_is_none_of_it(ranks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch script, and mpirun in a task of srun: what the batch system says is not about these processes."""
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(CONFIG)
    step = {"SLURM_STEP_NUM_TASKS": "3"} if ranks else {}
    env = {"SLURM_NTASKS": "3", "SLURM_PROCID": "2" if ranks else "0", "PMI_RANK": "2", "PMI_SIZE": "3", **step}
    if not ranks:
        del env["PMI_RANK"], env["PMI_SIZE"]
    done = launch.onotrain("train", "c.yaml", "--output", "run", ranks=ranks, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{max(ranks, 1)} rank" in done.stdout
