"""Start programs as a user would, with and without mpirun, and leave no process behind.

Every launch has a timeout.  All processes of a launch carry one random tag in their environment, because mpirun puts
its ranks into process groups of their own and a killed mpirun may leave them behind: what carries the tag is killed.
A launch inside a launch carries both tags.

Most of what a short command takes is the start of Python and its imports.  So ``onotrain`` without mpirun is a fork of
a process that has imported the package and done nothing else; where it is the start that matters, a test gives
`onotrain_command` to `run`.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import reduction
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import IO, Any

TAG = "ONOTRAIN_TEST_LAUNCH"
GRACE_S = 3.0
"""How long the processes of a launch may outlive its end [s]."""

SETTINGS = Path(__file__).resolve().parents[1] / "scripts" / "openmpi.env"
IMPORTED = (
    *(f"onotrain.cli.{name}" for name in ("init", "validate", "train", "inspect", "evaluate", "predict", "export")),
    *("onotrain.cli.data", "onotrain.cli.display", "onotrain.cli.epochs", "onotrain.cli.tables"),
    *("onotrain.training", "onotrain.inference", "onotrain.inference.evaluation", "onotrain.data.tables.text"),
    *("onotrain.hdf5_layout", "onotrain._kernels.gemm", "onotrain._kernels.program"),
)
"""What a forked program finds imported: most of what takes time, and nothing that has an effect."""
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

Completed = subprocess.CompletedProcess[str]


class Launch(subprocess.Popen[str]):
    """A started command; every process that it starts can be found by its tag."""

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        cwd: str | os.PathLike[str] | None,
        out: IO[str] | int = subprocess.PIPE,
        err: IO[str] | int = subprocess.PIPE,
    ) -> None:
        self.tag = uuid.uuid4().hex
        # What a killed mpirun leaves in the common folder makes a later one of the same process number fail.
        scratch = tempfile.mkdtemp(prefix="onotrain-")
        weakref.finalize(self, shutil.rmtree, scratch, ignore_errors=True)
        super().__init__(
            command,
            env={**env, TAG: f"{os.environ.get(TAG, '')}/{self.tag}", "TMPDIR": scratch},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def members(self) -> dict[int, str]:
        """Return the live processes (pid: command line) of this launch."""
        mark, tag = f"{TAG}=".encode(), self.tag.encode()
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                # A process that has ended meanwhile has no files, and a zombie has empty ones.
                with contextlib.suppress(OSError):
                    variables = (entry / "environ").read_bytes().split(b"\0")
                    if any(variable.startswith(mark) and tag in variable for variable in variables):
                        command = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                        found[int(entry.name)] = command.decode(errors="replace").strip()
        return found

    def leftovers(self, seconds: float = GRACE_S) -> dict[int, str]:
        """Wait until nothing of this launch is alive, for a number of seconds at most; return what still is."""
        deadline = time.monotonic() + seconds
        while (alive := self.members()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return alive

    def destroy(self) -> None:
        """Kill whatever of this launch is alive, stopped processes included."""
        deadline = time.monotonic() + 10.0
        while (alive := self.members()) and time.monotonic() < deadline:
            for pid in alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        self.wait(timeout=10.0)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a launch: ours, less what a surrounding MPI job left in it, plus `extra`."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OMPI_COMM_WORLD_", "PMIX_", "PMI_", "PRTE_", "PYTEST_"))
    }
    here = str(Path(sys.executable).parent)
    path = {"PATH": here + os.pathsep + os.environ.get("PATH", "")}
    return {**inherited, **path, **mpi_settings(), **ONE_THREAD, **(extra or {})}


@functools.cache
def mpi_settings() -> dict[str, str]:
    """Return the variables that let Open MPI run anywhere (scripts/openmpi.env says why)."""
    lines = SETTINGS.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@functools.cache
def launcher() -> str:
    """Return the path of mpirun: beside the Python interpreter, else on PATH."""
    found = shutil.which("mpirun", path=environment()["PATH"])
    if found is None:
        raise FileNotFoundError("no mpirun beside the Python interpreter or on PATH")
    return found


def run(
    command: Sequence[object],
    *,
    timeout: float = 60.0,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
) -> Completed:
    """Run a command to its end and return its exit code, standard output and standard error.

    Parameters
    ----------
    command
        Program and arguments.
    timeout
        Time after which everything that the command started is killed [s].
    env
        Variables added to the usual environment.
    cwd
        Working directory.

    Raises
    ------
    subprocess.TimeoutExpired
        The command took too long; its output so far is in the exception.
    RuntimeError
        The command ended and left processes behind.
    """
    words = [str(word) for word in command]
    # Files, because a pipe stays open as long as an orphan holds it.
    with _scratch() as out, _scratch() as err:
        launch = Launch(words, environment(env), cwd, out, err)
        try:
            launch.wait(timeout=timeout)
            orphans = launch.leftovers()
        except subprocess.TimeoutExpired:
            raise subprocess.TimeoutExpired(words, timeout, output=_text(out), stderr=_text(err)) from None
        finally:
            launch.destroy()
        if orphans:
            raise RuntimeError(f"{' '.join(words)} ended with code {launch.returncode} and left behind: {orphans}")
        return subprocess.CompletedProcess(words, launch.returncode, _text(out), _text(err))


@contextlib.contextmanager
def start(
    command: Sequence[object],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
) -> Iterator[Launch]:
    """Start a command for a test that meddles with it while it runs; it and its children are killed on leaving."""
    launch = Launch([str(word) for word in command], environment(env), cwd)
    try:
        yield launch
    finally:
        launch.destroy()
        for stream in (launch.stdout, launch.stderr):
            if stream is not None:
                stream.close()


def mpi_command(n: int, *command: object) -> list[str]:
    """Return the command line that runs `command` on `n` ranks."""
    return [launcher(), "-n", str(n), *map(str, command)]


def mpirun(
    n: int,
    *command: object,
    timeout: float = 60.0,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
) -> Completed:
    """Run `command` on `n` ranks; see `run`."""
    return run(mpi_command(n, *command), timeout=timeout, env=env, cwd=cwd)


def onotrain_command(*args: object, ranks: int = 0) -> list[str]:
    """Return the command line of ``onotrain ARGS``, under mpirun if `ranks` is not 0."""
    script = Path(sys.executable).parent / "onotrain"
    # A development environment may have the package on its path without the script.
    words = [script] if script.exists() else [sys.executable, "-c", "from onotrain.cli import main; main()"]
    return mpi_command(ranks, *words, *args) if ranks else [str(word) for word in (*words, *args)]


def onotrain(
    *args: object,
    ranks: int = 0,
    timeout: float = 60.0,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
) -> Completed:
    """Run ``onotrain ARGS`` and return the result: one forked process, or `ranks` of them under mpirun."""
    if ranks:
        return run(onotrain_command(*args, ranks=ranks), timeout=timeout, env=env, cwd=cwd)
    words = ["onotrain", *map(str, args)]
    with _scratch() as out, _scratch() as err:
        process = fork(*args, out=out.fileno(), err=err.fileno(), env=env, cwd=cwd)
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(words, timeout, output=_text(out), stderr=_text(err))
        return subprocess.CompletedProcess(words, process.exitcode, _text(out), _text(err))


#: Runs command lines one after the other, and shows where what each prints ends.
SEVERAL = """\
import json, sys
from onotrain.cli.program import run
for arguments in json.loads(sys.argv[1]):
    code = run(arguments)
    assert code == 0, (code, arguments)
    print(end="\f", flush=True)
"""


def several(
    ranks: int,
    lines: Sequence[Sequence[object]],
    *,
    timeout: float = 60.0,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
) -> list[str]:
    """Run ``onotrain LINE`` for each line on the same ranks, without an error; return what each prints."""
    words = json.dumps([[str(word) for word in line] for line in lines])
    done = mpirun(ranks, sys.executable, "-c", SEVERAL, words, timeout=timeout, env=env, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    printed = done.stdout.split("\f")[:-1]
    assert len(printed) == len(lines)
    return printed


def fork(
    *args: object,
    out: int,
    err: int,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
) -> ForkServerProcess:
    """Start ``onotrain ARGS`` as a fork, with descriptors for its standard output and standard error."""
    arguments = (list(map(str, args)), _Descriptor(out), _Descriptor(err), environment(env), os.fspath(cwd or "."))
    process = _server().Process(target=_program, args=(*arguments, os.getcwd()), daemon=True)
    process.start()
    return process


@functools.cache
def _server() -> ForkServerContext:
    """Return what starts processes as forks of one that has imported the package."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    return context


class _Descriptor:
    """A descriptor on its way to a process that is being started, where it is a number again."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Callable[[Any], int], tuple[Any]]:
        return _received, (reduction.DupFd(self.number),)


def _received(duplicate: Any) -> int:
    return int(duplicate.detach())


def _program(arguments: list[str], out: int, err: int, env: dict[str, str], cwd: str, base: str) -> None:
    """Be what ``onotrain ARGUMENTS`` is, in a process that was forked."""
    os.environ.clear()
    os.environ.update(env)
    os.chdir(base)
    os.chdir(cwd)
    sys.path[:0] = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    for number, descriptor in ((1, out), (2, err)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False, errors="backslashreplace")
    sys.argv = ["onotrain", *arguments]
    from onotrain.cli import main

    try:
        main()
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out


def _scratch() -> IO[str]:
    return tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")


def _text(file: IO[str]) -> str:
    file.seek(0)
    return file.read()
