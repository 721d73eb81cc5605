"""onotrain bench as a user starts it: alone, under mpirun, and with the NumPy kernels."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import launch

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
CONFIG = """\
data: {train: digits, validation: 0.2}
model: {layers: [{dense: {units: 16, activation: relu}}, {dropout: 0.1}, {dense: 10}]}
loss: cross_entropy
optimizer: {name: sgd, momentum: 0.9}
schedule: {name: plateau, patience: 2, factor: 0.5}
training: {epochs: 3, batch_size: 16, early_stopping: {patience: 3}}
"""
#: Subcommand -> options that make it short.
SMALL: dict[str, list[str]] = {
    "kernels": ["--rows", "4,9"],
    "step": ["--rows", "8"],
    "allreduce": ["--sizes", "4KiB,100000"],
    "predict": ["--samples", "1500"],
    "io": ["--samples", "100", "--every", "4", "--directory", "."],
}
#: The fields that docs/commands.md promises, beside `bench` and `machine`.
FIELDS = {
    "kernels": {"network", "parameters", "dtype", "precision", "build", "ranks", "kernels", "packing"},
    "step": {"network", "parameters", "dtype", "precision", "build", "strategy", "optimizer", "steps"},
    "allreduce": {"build", "ranks", "nodes", "barriers", "sums"},
    "predict": {
        "network", "parameters", "dtype", "precision", "build", "ranks", "samples", "seconds", "samples_per_s",
        "operations", "gflops", "gemm_seconds", "gemm_gflops", "of_gemm",
    },
    "io": {"network", "parameters", "dtype", "precision", "build", "ranks", "checkpoint", "data", "saving"},
}  # fmt: skip


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(CONFIG)


def bench(what: str, *options: str, ranks: int = 0, env: dict[str, str] | None = None) -> tuple[dict[str, Any], str]:
    """Run one measurement; return its JSON and what it printed."""
    done = launch.onotrain(
        "bench",
        what,
        *SMALL[what],
        "--seconds",
        "0.002",
        "--json",
        "out.json",
        *options,
        ranks=ranks,
        env=env,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in Path().iterdir()) == ["c.yaml", "out.json"]  # nothing is left behind
    return json.loads(Path("out.json").read_text()), done.stdout


def spreads(value: Any) -> list[dict[str, float]]:
    """Return all medians of a JSON document, with their extremes."""
    if isinstance(value, dict) and "readings" in value:
        return [value]
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [found for child in children for found in spreads(child)]


@pytest.mark.parametrize(("ranks", "build"), [(1, None), (2, None), (2, "reference"), (3, "baseline")])
def test_every_measurement_runs(ranks: int, build: str | None) -> None:
    """One after the other in one launch."""
    lines = [["bench", what, "c.yaml", *SMALL[what], "--seconds", "0.002", "--json", what] for what in SMALL]
    env = {"ONOTRAIN_KERNELS": build} if build else None
    printed = launch.several(ranks, lines, env=env)
    assert {path.name for path in Path().iterdir()} == {"c.yaml", *SMALL}  # nothing is left behind
    for what, out in zip(SMALL, printed, strict=True):
        found = json.loads(Path(what).read_text())
        assert found["bench"] == what
        assert set(found) == FIELDS[what] | {"bench", "machine"}
        assert found["machine"]["ranks"] == ranks
        if build is not None:
            assert found["build"] == found["machine"]["kernels"] == build
        for timing in spreads(found):
            assert timing["min"] <= timing["median"] <= timing["max"]
            assert timing["readings"] >= 3
        assert f"kernels {found['build']}" in out
        assert re.search(rf"{ranks} ranks? on 1 node", out)


def test_the_precision_is_chosen_by_an_option() -> None:
    found, out = bench("kernels", "c.yaml", "--kernels", "reference", "--precision", "bf16")
    assert found["precision"] == "bf16"
    assert "float32, products in bf16; kernels reference" in out


def test_the_build_is_chosen_by_an_option_as_well() -> None:
    assert bench("kernels", "c.yaml", "--kernels", "reference")[0]["build"] == "reference"


def test_steps_are_measured_with_growing_numbers_of_ranks() -> None:
    found, out = bench("step", "c.yaml", "--rows", "8,12", ranks=3)
    assert [(step["rows"], step["ranks"]) for step in found["steps"]] == [
        (rows, ranks) for rows in (8, 12) for ranks in (1, 2, 3)
    ]
    for step in found["steps"]:
        assert step["batch_size"] == step["rows"] * step["ranks"]
        parts = {name: ranks for name, ranks in step["parts_seconds"].items() if name != "step"}
        assert all(len(ranks) == step["ranks"] for ranks in parts.values())
        assert parts["forward"][0] > 0 and parts["backward"][0] > 0 and parts["reduce + update"][0] > 0
        assert parts["exchange"] == [0.0] * step["ranks"]  # one node
        assert step["efficiency"] == step["speed_up"] / step["ranks"]
    assert "where it goes: 12 rows on 3 ranks" in out


def test_the_flat_strategy_exchanges() -> None:
    found, _ = bench("step", "c.yaml", "--set", "strategy.name=flat", ranks=2)
    assert found["strategy"] == "flat"
    assert min(found["steps"][-1]["parts_seconds"]["exchange"]) > 0


def test_a_parameter_server_is_measured_with_the_ranks_that_it_needs() -> None:
    found, _ = bench("step", "c.yaml", "--set", "strategy.name=parameter_server", ranks=3)
    assert [(step["ranks"], step["efficiency"]) for step in found["steps"]] == [
        (2, 1.0), (3, found["steps"][1]["speed_up"] * 2 / 3),
    ]  # fmt: skip


def test_sums_of_the_sizes_that_were_asked_for() -> None:
    found, out = bench("allreduce", ranks=2)
    assert [entry["bytes"] for entry in found["sums"]] == [4096, 100032]  # whole cache lines
    for entry in found["sums"]:
        for way in ("node", "strategy_allreduce", "strategy_flat", "mpi"):
            assert entry[f"{way}_gbytes_per_s"] == entry["bytes"] / entry[f"{way}_seconds"]["median"] / 1e9
    assert "97.7 KiB" in out


def test_operations_of_prediction() -> None:
    found, _ = bench("predict", "c.yaml", ranks=2)
    assert found["operations"] == 2 * 1500 * (64 * 16 + 16 * 10)
    assert found["gflops"] == found["operations"] / found["seconds"]["median"] / 1e9


def test_bytes_of_files() -> None:
    found, _ = bench("io", "c.yaml")
    assert found["data"]["bytes"] == 100 * 64 * 4
    # Parameters and momentum, 1,210 numbers each, and the file's own.
    assert 2 * 1210 * 4 < found["checkpoint"]["bytes"] < 2 * 1210 * 4 + 64_000
    assert found["saving"]["pause_steps"]["readings"] == 9
    assert found["saving"]["every_steps"] == 4


def test_an_error_of_all_ranks_comes_once() -> None:
    done = launch.onotrain("bench", "step", "missing.yaml", ranks=2)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("onotrain: missing.yaml: no such file")
    assert done.stderr.count("onotrain: ") == 1


def test_divergence_while_other_ranks_sleep_ends_the_job() -> None:
    arguments = ["--set", "optimizer.learning_rate=1e30", "--set", "optimizer.momentum=0", "--set", "loss=mse"]
    arguments += ["--set", "data.train=missing.csv", "--inputs", "5"]
    done = launch.onotrain("bench", "step", "c.yaml", *SMALL["step"], *arguments, ranks=3)
    assert done.returncode == 5
    assert "onotrain: training diverged at step" in done.stderr
