"""Run the test suite in stages and say at the end what passed, what failed and what was skipped for want of something.

    python scripts/run_tests.py                    all but the long ones, as `make test` does
    python scripts/run_tests.py unit               tests/unit, tests/kernels, and a short form of tests/fuzz
    python scripts/run_tests.py fuzz               tests/fuzz, ONOTRAIN_FUZZ=n times as many inputs
    python scripts/run_tests.py mpi --ranks 3      tests/mpi inside mpirun -n 3
    python scripts/run_tests.py more               tests/mpi on numbers of ranks that are left to `make test-long`
    python scripts/run_tests.py system -- -k resume
    python scripts/run_tests.py slurm              tests/slurm, which starts a Slurm of its own
    python scripts/run_tests.py faults             trainings whose ranks are killed, ONOTRAIN_FAULTS=n of each kind
    python scripts/run_tests.py long               those of tests/system that take long, as `make test-long` does

Arguments after `--` go to pytest.  The full output of each stage is in build/test-reports/.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "build" / "test-reports"
sys.path.insert(0, str(ROOT / "tests"))

import launch  # noqa: E402 - a helper of the tests, found by the line above

TAIL_LINES = 120
NO_TESTS = 5
"""Exit code of pytest where it was to choose among no tests, as `-k` may leave them in one folder of two."""

STAGES = ("unit", "mpi", "system", "more", "long", "slurm", "fuzz", "faults")
USUAL = STAGES[:3]
LIMIT_S = {
    "unit": 900.0,
    "mpi": 400.0,
    "system": 1800.0,
    "more": 400.0,
    "long": 1800.0,
    "slurm": 600.0,
    "fuzz": 7200.0,
    "faults": 14400.0,
}
"""When a stage is killed, whatever it is doing [s]; each test has a timeout of its own besides."""

ON_RANKS = ("mpi", "more")
"""Stages that are run on several numbers of ranks."""

FAULTS = (
    *(f"tests/system/test_{name}.py" for name in ("torture", "watchdog", "launch_again", "survivors", "lost_rank")),
    "tests/unit/test_killed_writer.py",
)
"""What kills, stops and slows ranks, be it marked as long or not."""

# A skip with any other reason fails a strict run (CI): the machine there is to have every tool and all the data.
ALLOWED_SKIPS = (
    r"Test requires \d+ MPI processes",  # pytest-mpi, on the runs with fewer ranks
    r"\b(Py)?[tT]orch\b",  # 200 MB, which `make test-torch` installs elsewhere
    r"\b(AVX|x86_64|CPU)",  # the machine's processor is what it is
    r"\broot\b",  # file permissions do not stop root
)


@dataclass
class Outcome:
    """What one stage came to; `skips` counts reasons."""

    name: str
    passed: int = 0
    failed: int = 0
    skips: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    note: str = ""


def main() -> int:
    """Run the chosen stages; return 0 if nothing failed."""
    own, pytest_arguments = _split(sys.argv[1:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"of {', '.join(STAGES)}; default: the first three")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 3, 4], help="sizes of the MPI runs")
    options = parser.parse_args(own)
    if wrong := [stage for stage in options.stages if stage not in STAGES]:
        parser.error(f"unknown stage {wrong[0]}; expected one of {', '.join(STAGES)}")
    strict = os.environ.get("CI") == "true" or os.environ.get("ONOTRAIN_STRICT_SKIPS") == "1"

    REPORTS.mkdir(parents=True, exist_ok=True)
    for old in REPORTS.iterdir():
        old.unlink()
    outcomes = []
    for stage in options.stages or USUAL:
        for ranks in options.ranks if stage in ON_RANKS else [0]:
            outcomes.append(run_stage(stage, ranks, pytest_arguments))
    return summarise(outcomes, strict)


def run_stage(stage: str, ranks: int, pytest_arguments: list[str]) -> Outcome:
    """Run one stage, print its line, and the end of its output if it failed."""
    name = f"{stage}-{ranks}" if ranks else stage
    title = {
        "unit": "unit and kernel tests", "mpi": f"tests on {ranks} rank(s)", "system": "system tests",
        "more": f"more on {ranks} rank(s)",
        "long": "long system tests", "slurm": "tests on a real Slurm", "fuzz": "files of strangers",
        "faults": "faults",
    }[stage]  # fmt: skip
    print(f"  {title:<24}", end="", flush=True)
    started = time.monotonic()
    command, report = _command(stage, ranks, name, pytest_arguments)
    code, output = _run(command, LIMIT_S[stage], {"ONOTRAIN_TEST_MORE": "1"} if stage == "more" else {})
    (REPORTS / f"{name}.log").write_text(output)
    outcome = read_outcome(name, report, code)
    outcome.seconds = time.monotonic() - started
    print(f"{_counts(outcome)} in {outcome.seconds:.0f} s{outcome.note}", flush=True)
    if outcome.failed:
        print(*output.splitlines()[-TAIL_LINES:], sep="\n")
        print(f"  (the whole output: {(REPORTS / name).relative_to(ROOT)}.log)\n", flush=True)
    return outcome


def summarise(outcomes: list[Outcome], strict: bool) -> int:
    """Print what was skipped and the totals; return the exit code."""
    skips: Counter[str] = sum((outcome.skips for outcome in outcomes), Counter())
    missing = {reason: count for reason, count in skips.items() if not _allowed(reason)}
    for reason, count in sorted(skips.items()):
        if not reason.startswith("Test requires"):
            print(
                f"  skipped {count}: {reason}{' -- a failure here, CI has every tool' * (strict and reason in missing)}"
            )
    denied = sum(missing.values()) if strict else 0
    failed = sum(outcome.failed for outcome in outcomes) + denied
    print(
        f"{sum(outcome.passed for outcome in outcomes)} passed, {failed} failed, {sum(skips.values()) - denied} skipped"
    )
    return 1 if failed else 0


def _command(stage: str, ranks: int, name: str, extra: list[str]) -> tuple[list[str], Path]:
    """Return the command line of a stage, and the JUnit file that it writes."""
    quiet = ["-q", "--color=no", "-p", "no:cacheprovider"]
    if stage == "mpi" and ranks == 1:  # one process has no use for mpirun, and two of them for two cores
        mpi = ["--with-mpi", "-n", "2", "--dist", "loadfile", "tests/mpi"]
        report = REPORTS / f"{name}.0.xml"
        return [sys.executable, "-m", "pytest", f"--junitxml={report}", *quiet, *mpi, *extra], report
    if stage in ON_RANKS:
        session = [sys.executable, "tests/mpi_session.py", str(REPORTS / name), *quiet, "tests/mpi", *extra]
        return launch.mpi_command(ranks, *session), REPORTS / f"{name}.0.xml"
    report = REPORTS / f"{name}.xml"
    if stage == "slurm":  # one cluster after the other
        return [sys.executable, "-m", "pytest", f"--junitxml={report}", *quiet, "tests/slurm", *extra], report
    if stage == "faults":  # one after the other: how long it takes to recover is measured
        return [sys.executable, "-m", "pytest", f"--junitxml={report}", *quiet, "-rP", *FAULTS, *extra], report
    # Two files at a time: a core would be idle otherwise.  Of system tests those with long trainings come first.
    chosen = ["-m", "long" if stage == "long" else "not long"]
    system = ["tests/system", "--no-loadscope-reorder", *chosen]
    folders = {"unit": ["tests/unit", "tests/kernels", "tests/fuzz"], "fuzz": ["tests/fuzz"]}.get(stage, system)
    two = ["-n", "2", "--dist", "loadfile"]
    return [sys.executable, "-m", "pytest", f"--junitxml={report}", *quiet, *two, *folders, *extra], report


def _run(command: list[str], limit: float, extra: dict[str, str]) -> tuple[int, str]:
    """Run a command in the repository; return its exit code (124 if it was killed) and all that it printed."""
    # Only the installed package is to be found: no PYTHONPATH, and no `-m` adding the working directory.
    settings = {
        "ONOTRAIN_TEST_INSTALLED": os.environ.get("ONOTRAIN_TEST_INSTALLED", "1"),
        "PYTHONPATH": "",
        "PYTHONSAFEPATH": "1",
        **extra,
    }
    try:
        done = launch.run(command, timeout=limit, env=settings, cwd=ROOT)
    except subprocess.TimeoutExpired as expired:
        return 124, f"{expired.output}{expired.stderr}\nkilled after {limit:.0f} s"
    except RuntimeError as orphans:
        return 1, str(orphans)
    return done.returncode, done.stdout + done.stderr


def read_outcome(name: str, report: Path, code: int) -> Outcome:
    """Make an outcome of a JUnit file and an exit code."""
    outcome = Outcome(name)
    if report.exists():
        for case in ElementTree.parse(report).getroot().iter("testcase"):
            if case.find("failure") is not None or case.find("error") is not None:
                outcome.failed += 1
            elif (skip := case.find("skipped")) is not None:
                outcome.skips[skip.get("message", "no reason given").strip()] += 1
            else:
                outcome.passed += 1
    if code and not outcome.failed:
        # Died, hung or collected nothing: no test case says so.
        outcome.failed = 1
        outcome.note = f" (exit code {code}{', no tests found' * (code == NO_TESTS)})"
    return outcome


def _counts(outcome: Outcome) -> str:
    parts = [f"{outcome.passed} passed", f"{outcome.failed} failed", f"{sum(outcome.skips.values())} skipped"]
    return ", ".join(part for part in parts if not part.startswith("0 "))


def _allowed(reason: str) -> bool:
    return any(re.search(pattern, reason) for pattern in ALLOWED_SKIPS)


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Split at `--`."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at + 1 :]


if __name__ == "__main__":
    sys.exit(main())
