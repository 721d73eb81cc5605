"""The runner of this suite: what it counts, and that nothing that went wrong counts as passed."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "run_tests.py"
REPORT = """<testsuites><testsuite name="pytest">
  <testcase name="a"/>
  <testcase name="b"><failure message="assert 1 == 2"/></testcase>
  <testcase name="c"><error message="fixture"/></testcase>
  <testcase name="d"><skipped message="needs shellcheck"/></testcase>
  <testcase name="e"><skipped message="needs shellcheck"/></testcase>
</testsuite></testsuites>"""


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_tests", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["run_tests"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_a_report_is_counted(runner: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "r.xml").write_text(REPORT)
    outcome = runner.read_outcome("unit", tmp_path / "r.xml", 1)
    assert (outcome.passed, outcome.failed, outcome.skips) == (1, 2, Counter({"needs shellcheck": 2}))


@pytest.mark.parametrize("code", [1, 5, 124, 139])
def test_a_stage_that_died_has_failed(runner: ModuleType, tmp_path: Path, code: int) -> None:
    outcome = runner.read_outcome("mpi-2", tmp_path / "never-written.xml", code)
    assert outcome.failed == 1
    assert f"exit code {code}" in outcome.note


@pytest.mark.parametrize(
    ("reason", "strict", "line", "code"),
    [
        ("needs shellcheck", False, "7 passed, 0 failed, 2 skipped", 0),
        ("needs shellcheck", True, "7 passed, 2 failed, 0 skipped", 1),
        ("could not import 'torch': No module named 'torch'", True, "7 passed, 0 failed, 2 skipped", 0),
        ("Test requires 3 MPI processes, only 1 MPI processes specified", True, "7 passed, 0 failed, 2 skipped", 0),
        ("no MNIST in $ONOTRAIN_DATA_DIR", True, "7 passed, 2 failed, 0 skipped", 1),
    ],
)  # fmt: skip
def test_a_skip_for_want_of_a_tool_fails_only_where_the_tools_are(
    runner: ModuleType, capsys: pytest.CaptureFixture[str], reason: str, strict: bool, line: str, code: int
) -> None:
    outcomes = [runner.Outcome("unit", passed=3, skips=Counter({reason: 2})), runner.Outcome("system", passed=4)]
    assert runner.summarise(outcomes, strict) == code
    assert capsys.readouterr().out.splitlines()[-1] == line
