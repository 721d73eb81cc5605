"""``onotrain compare``."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from onotrain.cli.subcommand import Subcommand

if TYPE_CHECKING:
    from onotrain.config.study import Cell, Study
    from onotrain.supervisor.study import Outcome

EXAMPLES = """
onotrain compare configs/studies/strategies-digits.yaml
onotrain compare study.yaml --mpirun-args '--hostfile hosts'
onotrain compare study.yaml --slurm --time 30 --site site.sh --submit
"""


#: What batch systems set in their jobs.
_BATCH_SYSTEMS = {"SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID"}
#: What Open MPI is told about more ranks than cores (as in scripts/openmpi.env); others ask nobody.
_OVERSUBSCRIBED = {
    "PRTE_MCA_rmaps_default_mapping_policy": "slot:oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
}


@click.command(cls=Subcommand, examples=EXAMPLES)
@click.argument("study", type=click.Path(path_type=Path), metavar="STUDY")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), metavar="DIR",
    help="Directory of the study; what is finished in it is kept.  [default: studies/NAME]",
)  # fmt: skip
@click.option("--mpirun", default="mpirun", metavar="PROGRAM", help="The launcher of MPI.  [default: mpirun]")
@click.option("--mpirun-args", default="", metavar="TEXT", help="Further options of it, such as '--hostfile hosts'.")
@click.option("--only", type=click.IntRange(1), metavar="N", help="Do training N alone, without a report.")
@click.option("--report", "only_report", is_flag=True, help="Report on what is trained; train nothing.")
@click.option("--slurm", is_flag=True, help="Write a batch script instead, with a job for each training.")
@click.option("--time", default="01:00:00", metavar="TIME", help="Of a job, as of sbatch.  [default: 01:00:00]")
@click.option(
    "--site", type=click.Path(path_type=Path), metavar="FILE", help="Lines of your site, as for `onotrain slurm`."
)
@click.option("--submit", is_flag=True, help="Submit the batch script, and a job that reports in the end.")
def command(
    study: Path, output: Path | None, mpirun: str, mpirun_args: str, only: int | None, only_report: bool, slurm: bool,
    time: str, site: Path | None, submit: bool,
) -> None:  # fmt: skip
    """Train one configuration by several methods, and report what each is good for.

    STUDY names the configuration, what is changed in it, numbers of ranks and seeds; every combination is a training
    under mpirun.  A training that fails is a row of the report.  Started again, finished trainings are kept, and one
    that was stopped goes on.
    """
    from onotrain.cli.launch import launcher_of
    from onotrain.config.study import cells_of, load_study
    from onotrain.errors import EXIT_OK, StoppedOnRequest, UsageError
    from onotrain.parallel import launcher
    from onotrain.reporting.report import check
    from onotrain.supervisor.study import outcome_of, run_study, write_outcomes

    if launcher.may_have_others():
        raise UsageError("compare takes the place of mpirun, and does not run under it")
    check()
    wanted = load_study(study)
    cells = cells_of(wanted, study)
    if any(cell.changes_cluster for cell in cells):
        raise UsageError(f"{study}: changes the cluster, which is simulated alone", hint=f"onotrain simulate {study}")
    output = output or Path("studies") / study.stem
    command = launcher_of(mpirun, mpirun_args, outlives_ranks=False)
    arguments = [os.path.normpath(study.parent / wanted.config)]
    if slurm:
        click.echo(_batch(study, output, cells, time, site, submit=submit))
        return
    if only is not None and only > len(cells):
        raise UsageError(f"--only: there are {len(cells)} trainings (got {only})")
    chosen = cells if only is None else cells[only - 1 : only]
    _share_cores(max(cell.ranks for cell in chosen), mpirun_args)
    click.echo(f"{len(chosen)} trainings of {arguments[0]}, in {output}")
    began, outcomes = monotonic(), list[Any]()
    found = map(partial(outcome_of, output=output), cells) if only_report else None
    for outcome in found or run_study(chosen, arguments, command, output, wanted.minutes):
        outcomes.append(outcome)
        click.echo(_line(outcome, outcomes, chosen, output, wanted.counted, monotonic() - began))
    if outcomes[-1].state == "stopped":
        raise StoppedOnRequest("stopped on request", hint="go on with the same command")
    good = [each for each in outcomes if each.state in ("kept", "done")]
    if good and only is None:
        write_outcomes(outcomes, output)
        click.echo(_report(wanted, study, output, outcomes, cells))
    sys.exit(
        EXIT_OK if len(good) == len(outcomes) else max(each.code for each in outcomes) or StoppedOnRequest.exit_code
    )


def _share_cores(ranks: int, mpirun_args: str) -> None:
    """Let Open MPI start more ranks than there are cores here, and say so; where somebody else places ranks, do not."""
    from onotrain.parallel.cores import node_cores

    cores = node_cores()
    if ranks > cores and not mpirun_args and not _BATCH_SYSTEMS & os.environ.keys():
        for name, value in _OVERSUBSCRIBED.items():
            os.environ.setdefault(name, value)
        click.echo(f"up to {ranks} ranks share {cores} core{'s' * (cores > 1)} of this host: mind that in times")


def _line(
    outcome: Outcome, outcomes: Sequence[Outcome], cells: Sequence[Cell], output: Path, counted: str, seconds: float
) -> str:
    """Return what became of a training, and how long the others will take."""
    from onotrain.text import count, duration

    width = len(str(len(cells)))
    ranks = count(outcome.count, counted[:-1])
    what = f"{len(outcomes):>{width}}/{len(cells)}  {outcome.label}, {ranks}, seed {outcome.seed}: "
    if outcome.state == "failed":
        what += f"FAILED with {outcome.code}: {outcome.error}"
    elif outcome.state in ("stopped", "missing"):
        what += outcome.state
    else:
        what += (
            "finished before" if outcome.state == "kept" else f"{_result(outcome, output)} in {outcome.seconds:.1f} s"
        )
    made = sum(each.state in ("done", "failed") for each in outcomes)
    left = len(cells) - len(outcomes)
    return what + (
        f"; about {duration(seconds / made * left)} left"
        if made and left and outcome.state in ("done", "failed")
        else ""
    )


def _result(outcome: Outcome, output: Path) -> str:
    """Return the metric that says the most."""
    from onotrain.reporting.history import History
    from onotrain.supervisor.study import RUNS_NAME
    from onotrain.text import figure

    run = History.read(output / RUNS_NAME / outcome.name)
    return f"{run.headline.replace('_', ' ')} {figure(run.at_end(run.headline))}"


def _report(wanted: Study, study: Path, output: Path, outcomes: Sequence[Outcome], cells: Sequence[Cell]) -> str:
    """Write the report, and return what to say of it."""
    from dataclasses import asdict

    from onotrain.cli.study_report import write_study_report
    from onotrain.reporting.comparison import Trained
    from onotrain.reporting.history import History
    from onotrain.reporting.judged import best_of, judged
    from onotrain.supervisor.study import RUNS_NAME

    trained = [
        Trained(each.label, each.count, each.seed, History.read(output / RUNS_NAME / each.name, each.name))
        for each in outcomes if each.state in ("kept", "done")
    ]  # fmt: skip
    failed = [asdict(each) for each in outcomes if each.error]
    learned = judged(best_of([each.run for each in trained]))
    predicted = _predicted(wanted, cells)
    return write_study_report(wanted, trained, failed, output / "report", study.stem, [learned], predicted)


def _predicted(wanted: Study, cells: Sequence[Cell]) -> dict[tuple[str, int], float]:
    """Return samples per second of each method and number of ranks, where there is a cluster to simulate.

    Starts MPI, behind which nothing can be launched.
    """
    from onotrain.parallel.world import World
    from onotrain.planning.simulated import Probes, simulated

    first = list({(cell.label, cell.count): cell for cell in reversed(cells)}.values())
    if wanted.cluster is None or len({cell.count for cell in first}) == 1:
        return {}
    with World.connect() as world:
        found = list(simulated(first, Probes(world, first)))
    return {(cell.label, cell.count): course.summary["samples_per_second"] for cell, course, _ in found if course}


def _batch(study: Path, output: Path, cells: Sequence[Cell], time: str, site: Path | None, *, submit: bool) -> str:
    """Write a batch script, submit it if that is wanted, and return what to say of it."""
    from onotrain.cli.slurm import lines_of, submitted
    from onotrain.errors import UsageError
    from onotrain.supervisor.slurm import StudyBatch

    script, report = Path(f"{study.stem}.sbatch"), ["compare", str(study), "--output", str(output), "--report"]
    batch = StudyBatch(study.stem, len(cells), max(cell.ranks for cell in cells), time, study, output, lines_of(site))
    if script.exists() and script.read_text() != batch.script():
        raise UsageError(f"{script}: exists already, and is another one", hint="remove it, or rename the study")
    script.write_text(batch.script())
    said = f"{script}: {len(cells)} jobs, results in {output}"
    if not submit:
        return f"{said}\nnext: sbatch {script}\n      onotrain {' '.join(report)}"
    job = submitted([str(script)]).split()[-1]
    wrapped = ["--dependency", f"afterany:{job}", "--ntasks=1", f"--output={study.stem}-report.log"]
    last = submitted([*wrapped, "--wrap", shlex.join([sys.executable, "-m", "onotrain", *report])]).split()[-1]
    return f"{said}\nsubmitted as job {job}; job {last} reports in the end"
