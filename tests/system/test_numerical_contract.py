"""The numerical contract: what must not depend on the number of ranks, and what must not depend on being stopped."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from launch import mpirun

DRIVER = Path(__file__).with_name("train_driver.py")

BASE: dict[str, Any] = {
    "data": {"train": "digits", "validation": 0.2, "normalize": "standard"},
    "model": {
        "layers": [
            {"dropout": 0.1},
            {"dense": {"units": 48, "activation": "relu"}},
            {"dropout": 0.2},
            {"dense": {"units": 24, "activation": "gelu"}},
            {"dense": {"units": 10}},
        ]
    },
    "loss": {"name": "cross_entropy", "label_smoothing": 0.05},
    "optimizer": {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4},
    "schedule": {"name": "cosine", "warmup_steps": 7},
    "training": {"epochs": 2, "batch_size": 50, "seed": 5},
}

OPTIMIZERS = {
    "sgd": BASE["optimizer"],
    "adam": {"name": "adam", "learning_rate": 2e-3, "weight_decay": 1e-4},
    "lamb": {"name": "lamb", "learning_rate": 1e-2, "weight_decay": 1e-2},
}


def changed(**sections: dict[str, Any]) -> dict[str, Any]:
    """Return the base configuration with keys of its sections replaced."""
    return {**BASE, **{name: {**BASE.get(name, {}), **section} for name, section in sections.items()}}


def run(
    directory: Path, config: dict[str, Any], ranks: int, *extra: str, name: str = "run", code: int = 0
) -> dict[str, Any]:
    """Train in `directory` on `ranks` ranks; return what the driver wrote, or what was said if it should fail."""
    path = directory / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    result = directory / f"{name}.json"
    done = mpirun(ranks, sys.executable, DRIVER, path, directory / name, result, *extra, timeout=100)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(result.read_text()) if code == 0 else {"message": done.stderr}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_losses_do_not_depend_on_the_number_of_ranks(tmp_path: Path, optimizer: str) -> None:
    """Fifty steps, dropout on, a short last batch, clipping for LAMB: as one rank computes them, to summation error."""
    config = {**changed(training={"max_steps": 50, "clip_norm": 5.0}), "optimizer": OPTIMIZERS[optimizer]}
    alone = run(tmp_path, config, 1, name="1")
    assert len(alone["losses"]) == 50
    tolerance = 1e-5 if optimizer == "sgd" else 1e-4
    for ranks in (2, 3, 4, 7):
        together = run(tmp_path, config, ranks, name=str(ranks))
        assert together["losses"] == pytest.approx(alone["losses"], rel=tolerance, abs=0)
        assert len(set(together["digests"])) == 1 and len(together["digests"]) == ranks


def test_two_runs_of_the_same_rank_count_are_bit_identical(tmp_path: Path) -> None:
    """Same bytes of all parameters on all ranks and in both runs; another seed gives others."""
    first = run(tmp_path, BASE, 3, name="first")
    second = run(tmp_path, BASE, 3, name="second")
    other = run(tmp_path, changed(training={"seed": 6}), 3, name="other")
    assert first["digests"] == second["digests"] and first["losses"] == second["losses"]
    assert other["digests"] != first["digests"]


def test_flat_and_arena_compute_the_same(tmp_path: Path) -> None:
    """Only the strategy differs: the losses are equal to summation error."""
    config = changed(training={"max_steps": 40})
    arena = run(tmp_path, config, 3, name="arena")
    flat = run(tmp_path, {**config, "strategy": {"name": "flat"}}, 3, name="flat")
    assert flat["losses"] == pytest.approx(arena["losses"], rel=1e-5, abs=0)
    assert len(set(flat["digests"])) == 1


def test_gradient_accumulation_changes_nothing(tmp_path: Path) -> None:
    """A batch computed in three pieces is the same batch."""
    whole = run(tmp_path, changed(training={"max_steps": 40}), 2, name="whole")
    pieces = run(tmp_path, changed(training={"max_steps": 40, "gradient_accumulation": 3}), 2, name="pieces")
    assert pieces["losses"] == pytest.approx(whole["losses"], rel=1e-5, abs=0)


def test_more_ranks_than_samples_in_a_batch(tmp_path: Path) -> None:
    """Ranks without a sample take part with a gradient of zeros."""
    config = changed(training={"batch_size": 3, "max_steps": 30})
    alone = run(tmp_path, config, 1, name="1")
    many = run(tmp_path, config, 5, name="5")
    assert many["losses"] == pytest.approx(alone["losses"], rel=2e-5, abs=0)


@pytest.mark.parametrize("stop", [1, 13, 29, 30, 57])
def test_stop_after_any_step_and_resume(tmp_path: Path, stop: int) -> None:
    """Within an epoch, at its last step (of 29), just after: bit-equal to never having stopped."""
    config = {**BASE, "optimizer": OPTIMIZERS["adam"]}
    whole = run(tmp_path, config, 2, name="whole")
    run(tmp_path, {**config, "training": {**BASE["training"], "max_steps": stop}}, 2, name="run")
    rest = run(tmp_path, config, 2, "--resume", name="run")
    assert rest["summary"]["parameters_sha256"] == whole["summary"]["parameters_sha256"]
    assert rest["losses"] == whole["losses"][stop:]
    keys = (
        "steps",
        "epochs",
        "train_loss",
        "train_accuracy",
        "validation_loss",
        "validation_accuracy",
        "learning_rate",
    )
    assert {key: rest["summary"][key] for key in keys} == {key: whole["summary"][key] for key in keys}
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]


def test_fewer_epochs_than_are_made_are_refused(tmp_path: Path) -> None:
    """The run keeps what it has, its configuration included."""
    run(tmp_path, changed(training={"max_steps": 40}), 1, name="run")
    before = (tmp_path / "run" / "config.yaml").read_text()
    run(tmp_path, changed(training={"epochs": 1}), 1, "--resume", name="run", code=2)
    assert (tmp_path / "run" / "config.yaml").read_text() == before


def test_a_signal_saves_and_the_run_resumes(tmp_path: Path) -> None:
    """USR1 to one rank stops all at the same step with exit code 75."""
    whole = run(tmp_path, BASE, 2, name="whole")
    run(tmp_path, BASE, 2, "--stop-at", "20", name="run", code=75)
    rest = run(tmp_path, BASE, 2, "--resume", name="run")
    assert rest["summary"]["parameters_sha256"] == whole["summary"]["parameters_sha256"]


def test_a_signal_before_the_first_step_or_after_the_last_is_heard_too(tmp_path: Path) -> None:
    """While data are read: a step is made, saved, and the run stops.  While the summary is written: it is written."""
    stopped = run(tmp_path, BASE, 2, "--stop-at", "started", name="run", code=75)
    assert "stopped on request after step 1; the state is saved" in stopped["message"]
    rest = run(tmp_path, BASE, 2, "--resume", "--stop-at", "ended", name="run")
    assert rest["summary"]["finished"] and rest["summary"]["steps"] == 58


def test_a_stop_whose_save_fails_does_not_claim_to_be_saved(tmp_path: Path) -> None:
    """The disk is full when the signal comes: exit code 6 and the reason, once, from one rank for all."""
    failed = run(tmp_path, BASE, 2, "--stop-at", "20", "--full-disk", name="run", code=6)
    assert failed["message"].count("could not write") == 1 and "rank 0:" not in failed["message"]
    assert "stopped on request" not in failed["message"]
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []
    assert run(tmp_path, BASE, 2, "--resume", name="run")["summary"]["finished"]


def test_resume_with_another_number_of_ranks(tmp_path: Path) -> None:
    """The order of the samples goes on where it was: losses as in an uninterrupted run, to summation error."""
    whole = run(tmp_path, BASE, 2, name="whole")
    run(tmp_path, changed(training={"max_steps": 17}), 2, name="run")
    rest = run(tmp_path, BASE, 3, "--resume", name="run")
    assert rest["losses"] == pytest.approx(whole["losses"][17:], rel=1e-5, abs=0)
