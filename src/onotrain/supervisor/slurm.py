"""Batch scripts for Slurm, filled in: of one training, and of the trainings of a study."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

_SITE = "# module load"
_ARGUMENTS = "if (($# < 2)); then"


@dataclass(frozen=True)
class Batch:
    """What a job asks for, and what it runs.

    Parameters
    ----------
    name, nodes, ntasks_per_node, cpus_per_task, time
        As of sbatch.
    launcher
        ``mpirun`` or ``srun``.
    arguments
        CONFIG, RUN_DIRECTORY and options of ``onotrain train``.
    site
        Lines of a site: those that begin with ``#SBATCH`` ask for something, the others prepare the environment.
    """

    name: str
    nodes: int
    ntasks_per_node: int
    cpus_per_task: int
    time: str
    launcher: str
    arguments: Sequence[str]
    site: Sequence[str] = ()

    def script(self) -> str:
        """Return the text of the script."""
        asked = {
            "job-name": self.name, "nodes": self.nodes, "ntasks-per-node": self.ntasks_per_node,
            "cpus-per-task": self.cpus_per_task, "time": self.time,
        }  # fmt: skip
        text = _with_options("train.sbatch", asked, self.site)
        text = _replaced(r"(?<=^launcher=\$\{ONOTRAIN_LAUNCHER:-).*?(?=\})", self.launcher, text)
        return _replaced(rf"^{re.escape(_ARGUMENTS)}$", f'set -- {shlex.join(self.arguments)} "$@"\n{_ARGUMENTS}', text)


@dataclass(frozen=True)
class StudyBatch:
    """An array of jobs, each of which does one training of a study.

    Parameters
    ----------
    name, time
        As of sbatch.
    trainings
        Their number.
    ranks
        Of the largest one.
    study, output
        Arguments of ``onotrain compare``.
    site
        As of `Batch`.
    """

    name: str
    trainings: int
    ranks: int
    time: str
    study: Path
    output: Path
    site: Sequence[str] = ()

    def script(self) -> str:
        """Return the text of the script."""
        asked = {
            "job-name": self.name, "array": f"1-{self.trainings}", "ntasks": self.ranks, "time": self.time,
            "output": f"{self.name}-%A-%a.log",
        }  # fmt: skip
        text = _with_options("study.sbatch", asked, self.site)
        return _replaced(
            r"^study=.*$", f"study={shlex.quote(str(self.study))} output={shlex.quote(str(self.output))}", text
        )


def _with_options(name: str, asked: Mapping[str, Any], site: Sequence[str]) -> str:
    """Return a script with what it asks for, the lines of a site, and this Python's environment."""
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    for option, value in asked.items():
        text = _replaced(rf"^#SBATCH --{option}=.*$", f"#SBATCH --{option}={value}", text)
    wanted = [line for line in site if line.startswith("#SBATCH")]
    text = _replaced(r"^(#SBATCH --requeue)$", "\n".join([*wanted, "#SBATCH --requeue"]), text)
    prepared = [line for line in site if not line.startswith("#SBATCH")]
    text = _replaced(rf"^{_SITE}.*$", "\n".join(prepared) or "# no lines of a site were given (--site)", text)
    return _replaced(r"(?<=^venv=\$\{ONOTRAIN_VENV:-).*?(?=\})", sys.prefix, text)


def _replaced(pattern: str, by: str, text: str) -> str:
    """Return the text with what matches once replaced."""
    found, count = re.subn(pattern, lambda _: by, text, count=1, flags=re.MULTILINE)
    assert count == 1, pattern  # noqa: S101 - the script is ours
    return found
