"""The batch script that `onotrain slurm` writes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from onotrain.cli.program import run
from onotrain.supervisor.slurm import Batch

CONFIG = (
    "data: {train: digits}\nmodel: {layers: [{dense: 10}]}\nloss: cross_entropy\ntraining: {epochs: 1, batch_size: 8}\n"
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a net.yaml").write_text(CONFIG)


def write(*options: str) -> str:
    """Return the script; bash must understand it."""
    assert run(["slurm", "a net.yaml", "--ntasks-per-node", "32", "--script", "job.sbatch", *options]) == 0
    subprocess.run(["bash", "-n", "job.sbatch"], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "-x", "job.sbatch"], check=True)
    return Path("job.sbatch").read_text()


def test_it_asks_for_what_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    text = write("--nodes", "4", "--cpus-per-task", "2", "--time", "2:00:00", "--launcher", "srun")
    for line in ("nodes=4", "ntasks-per-node=32", "cpus-per-task=2", "time=2:00:00", "job-name=a net", "requeue"):
        assert text.count(f"\n#SBATCH --{line}\n") == 1
    assert "#SBATCH --signal=B:USR2@120" in text and "ONOTRAIN_LAUNCHER:-srun}" in text
    said = capsys.readouterr().out
    assert "128 ranks on 4 nodes" in said and "next: sbatch job.sbatch" in said


def test_it_trains_the_configuration_with_its_changes(tmp_path: Path) -> None:
    """Seen by programs of the same names that write down how they are called."""
    text = write("--set", "training.epochs=3", "--output", "runs/my run")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("mpirun", "onotrain"):
        (programs / name).write_text('#!/bin/bash\nprintf "%s\\n" "$0" "$@" >> calls\n')
        (programs / name).chmod(0o755)
    settings = {"SLURM_SUBMIT_DIR": ".", "SLURM_NTASKS": "32", "SLURM_JOB_ID": "1", "SLURM_JOB_NUM_NODES": "1"}
    (tmp_path / "job.sbatch").write_text(
        text.replace('export PATH="$venv/bin:$PATH"', f'export PATH="{programs}:$PATH"')
    )
    subprocess.run(["bash", "job.sbatch"], check=True, env={"PATH": "/usr/bin:/bin", **settings}, timeout=30)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[1:] == [
        "-n", "32", "--bind-to", "none", "onotrain", "train", "a net.yaml", "--output", "runs/my run",
        "--set", "training.epochs=3",
    ]  # fmt: skip


def test_lines_of_a_site_are_where_they_belong() -> None:
    Path("site.sh").write_text("#SBATCH --partition=cpu\nmodule load openmpi/5.0\n")
    lines = write("--site", "site.sh").splitlines()
    assert (
        lines.index("#SBATCH --partition=cpu")
        < lines.index("set -euo pipefail")
        < lines.index("module load openmpi/5.0")
    )


def test_what_is_wrong_is_said_before_anything_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.yaml").write_text(CONFIG.replace("epochs", "epoch"))
    assert run(["slurm", "bad.yaml", "--ntasks-per-node", "2"]) == 2
    assert not list(Path().glob("*.sbatch")) and "did you mean 'epochs'" in capsys.readouterr().err
    write()
    assert run(["slurm", "a net.yaml", "--ntasks-per-node", "2", "--script", "job.sbatch"]) == 2
    assert "--force" in capsys.readouterr().err
    assert run(["slurm", "a net.yaml", "--ntasks-per-node", "2", "--site", "nowhere"]) == 3


def test_submitting_needs_slurm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert run(["slurm", "a net.yaml", "--ntasks-per-node", "2", "--submit"]) == 7
    assert "sbatch: there is no such program" in capsys.readouterr().err


def test_the_script_in_the_repository_is_the_one_that_is_filled_in() -> None:
    batch = Batch("onotrain", 2, 2, 1, "01:00:00", "mpirun", ("c.yaml", "run"))
    script = Path(__file__).resolve().parents[2] / "scripts" / "slurm" / "train.sbatch"
    differ = [line for line in batch.script().splitlines() if line not in script.read_text().splitlines()]
    assert len(differ) == 3  # the environment, the lines of a site, and the arguments


def test_a_study_is_an_array_of_jobs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each does a training of its own; signals are passed on, and what was saved is requeued."""
    Path("study.yaml").write_text("config: a net.yaml\nworkers: [1, 3]\nmatrix: {strategy: {a: {}, b: {}, c: {}}}\n")
    Path("site.sh").write_text("#SBATCH --partition=cpu\nexport SITE=here\n")
    words = ["compare", "study.yaml", "--slurm", "--output", "my studies/x", "--time", "30", "--site", "site.sh"]
    assert run(words) == 0 and run(words) == 0
    said = capsys.readouterr().out
    assert "6 jobs" in said and "onotrain compare study.yaml --output my studies/x --report" in said
    text = Path("study.sbatch").read_text()
    for line in ("array=1-6", "ntasks=3", "time=30", "job-name=study", "partition=cpu", "requeue"):
        assert text.count(f"\n#SBATCH --{line}\n") == 1
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "-x", "study.sbatch"], check=True)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "onotrain").write_text(
        '#!/bin/bash\nprintf "%s\\n" "$@" >> calls\ntrap "exit 75" USR1; sleep 0.5; kill -USR2 $PPID; sleep 9 & wait\n'
    )
    (programs / "scontrol").write_text('#!/bin/bash\nprintf "%s\\n" "$@" >> calls\nkill -KILL $PPID\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    settings = {"SLURM_SUBMIT_DIR": ".", "SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_JOB_ID": "77"}
    Path("job.sbatch").write_text(text.replace('export PATH="$venv/bin:$PATH"', f'export PATH="{programs}:$PATH"'))
    subprocess.run(["bash", "job.sbatch"], env={"PATH": "/usr/bin:/bin", **settings}, timeout=30, check=False)
    assert (tmp_path / "calls").read_text().splitlines() == [
        "compare", "study.yaml", "--output", "my studies/x", "--only", "4", "--mpirun-args", "--bind-to none",
        "requeue", "77_4",
    ]  # fmt: skip
    Path("study.sbatch").write_text("mine")
    assert run(words) == 2 and "exists already" in capsys.readouterr().err
