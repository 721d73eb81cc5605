"""The command line itself: start-up, help, messages about wrong usage, exit codes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from onotrain import __version__
from onotrain.cli.program import COLLECTIVE, SUBCOMMANDS, program, run

HEAVY = ("numpy", "scipy", "pydantic", "mpi4py", "rich", "h5py", "yaml")


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(program, list(arguments), prog_name="onotrain")


def loaded_by(*arguments: str) -> set[str]:
    """Return which heavy packages a command line imports."""
    code = (
        "import sys\nfrom onotrain.cli.program import run\nrun(sys.argv[1:])\n"
        f"print('loaded', *[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_version() -> None:
    assert invoke("--version").output == f"onotrain {__version__}\n"


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], []])
def test_start_up_loads_nothing_heavy(arguments: list[str]) -> None:
    assert loaded_by(*arguments) == set()


@pytest.mark.parametrize("subcommand", SUBCOMMANDS)
def test_the_help_of_a_subcommand_loads_nothing_heavy_and_shows_examples(subcommand: str) -> None:
    assert loaded_by(subcommand, "--help") == set()
    output = invoke(subcommand, "--help").output
    assert f"Usage: onotrain {subcommand}" in output
    if subcommand != "data":  # a group; its subcommands have examples
        assert f"onotrain {subcommand}" in output.partition("Examples:")[2]


@pytest.mark.parametrize("subcommand", ["info", "convert", "fetch"])
def test_the_help_of_data(subcommand: str) -> None:
    assert f"\n  onotrain data {subcommand} " in invoke("data", subcommand, "--help").output.partition("Examples:")[2]


#: Shown to be copied: these stay whole where there is no place for them.
COPIED = re.compile(r"  (mpirun -n 4 |srun )?onotrain |  --\w+ \[")


@pytest.mark.parametrize("columns", [80, 60])
@pytest.mark.parametrize("words", [[], *([name] for name in SUBCOMMANDS), ["data", "info"], ["bench", "step"]])
def test_help_is_whole_at_any_width(words: list[str], columns: int) -> None:
    output = CliRunner().invoke(program, [*words, "--help"], terminal_width=columns).output
    wide = [line for line in output.splitlines() if len(line) > columns]
    assert [line for line in wide if columns == 80 or not COPIED.match(line)] == []
    assert not re.search(r"\b\d+,?$", output.partition("Exit codes:")[2], re.MULTILINE)  # a code and what it means


def test_the_subcommands_are_listed_with_what_they_do() -> None:
    output = invoke("--help").output
    for subcommand, (_, line) in SUBCOMMANDS.items():
        assert subcommand in output
        assert " ".join(line.split()) in " ".join(output.split())
    assert set(SUBCOMMANDS) > COLLECTIVE


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], ["no such command 'trian'; did you mean 'train'?", "see onotrain --help"]),
        (["frobnicate"], ["expected one of init, validate, train"]),
        (["data", "inof"], ["did you mean 'info'?", "see onotrain data --help"]),
        (["train", "x.yaml", "--ouptut", "r"], ["no such option --ouptut; did you mean '--output'?"]),
        (["train"], ["missing argument 'CONFIG'", "see onotrain train --help"]),
        (["train", "x.yaml", "--resume"], ["--resume needs --output"]),
        (["train", "x.yaml", "--progress", "loud"], ["'loud'"]),
        (["validate"], ["missing argument 'CONFIG'"]),
        (["data", "info"], ["DATA"]),
        (["data", "convert", "a.csv", "b.h5", "--shuffle", "-3"], ["-3"]),
        (["validate", "nothing.yaml"], ["nothing.yaml: no such file"]),
    ],
)
def test_wrong_usage_is_one_message_and_code_2(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("onotrain: ") and err.count("onotrain: ") == 1
    assert "Traceback" not in err
    for word in words:
        assert word in err


@pytest.mark.parametrize("subcommand", sorted(set(SUBCOMMANDS) - COLLECTIVE))
def test_subcommands_without_mpi_are_left_to_rank_0(
    subcommand: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PMIX_RANK", "1")
    assert run([subcommand, "--no-such-option"]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m onotrain validate --schema | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "{\n0\n"
    assert done.stderr == ""


def test_a_reader_that_has_left_before_is_no_error_either() -> None:
    """The pipe breaks while it is written to, not when it is flushed at the end."""
    command = [sys.executable, "-m", "onotrain", "validate", "--schema"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 0


def test_validate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "data: {train: digits}\nmodel: {layers: [{dense: {units: 8, activation: relu}}, {dense: 10}]}\n"
        "loss: cross_entropy\ntraining: {epochs: 2, batch_size: 8}\n"
    )
    assert run(["validate", str(path)]) == 0
    out = capsys.readouterr().out
    assert "1,797 samples of 64 features" in out
    assert f"8x8-8-10, {64 * 8 + 8 + 8 * 10 + 10:,} parameters" in out
    assert out.endswith(f"{path}: OK\n")
    assert run(["validate", str(path), "--set", "training.epochs=7", "--resolved"]) == 0
    resolved = capsys.readouterr().out
    assert "epochs: 7" in resolved
    (tmp_path / "resolved.yaml").write_text(resolved)
    assert run(["validate", str(tmp_path / "resolved.yaml")]) == 0
    capsys.readouterr()
    assert run(["validate", str(path), "--set", "data.train=nothing.csv"]) == 0
    assert "?-8-10" in capsys.readouterr().out
    assert run(["validate", str(path), "--set", f"data.train={tmp_path}/part-*.csv"]) == 0
    assert "cannot be read yet" in capsys.readouterr().out
    for number, row in enumerate(("1,2,b", "1,oops")):
        (tmp_path / f"part-{number}.csv").write_text("p,q,kind\n0.5,1,a\n" + f"{row}\n" * 4)
    assert run(["validate", str(path), "--set", f"data.train={tmp_path}/part-*.csv"]) == 3  # as `train` would
    assert "part-1.csv:3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("training.metrics=['f1[ten]']", "there is no class 'ten'"),
        ("training.early_stopping={patience: 1, metric: 'validation_f1[ten]'}", "there is no class 'ten'"),
        ("training.metrics=[weighted_f1]", "needs weights of the samples"),
        ("training.metrics=['f1[9]']", ""),
    ],
)
def test_validate_knows_the_classes_that_metrics_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: str, said: str
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "data: {train: digits, validation: 0.2}\nmodel: {layers: [{dense: 10}]}\n"
        "loss: cross_entropy\ntraining: {epochs: 1, batch_size: 64}\n"
    )
    found = run(["validate", str(path), "--set", setting])
    assert said in capsys.readouterr().err
    output = ["--output", str(tmp_path / "run"), "--quiet"]
    assert found == run(["train", str(path), "--set", setting, *output]) == (2 if said else 0)
