"""The numerical contract: what must not depend on the number of ranks, and what must not depend on being stopped.

Trainings that are compared are made in few launches, one for each number of ranks.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import builders
from builders import OPTIMIZERS, mapping, relu
from launch import Completed, mpirun

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]  # the first tests launch all trainings
DRIVER = Path(__file__).with_name("train_driver.py")

BASE = mapping(
    {"dropout": 0.1},
    relu(48),
    {"dropout": 0.2},
    {"dense": {"units": 24, "activation": "gelu"}},
    10,
    data={"validation": 0.2, "normalize": "standard"},
    loss={"name": "cross_entropy", "label_smoothing": 0.05},
    optimizer={"name": "sgd", "learning_rate": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4},
    schedule={"name": "cosine", "warmup_steps": 7},
    training={"epochs": 2, "batch_size": 50, "seed": 5},
)

ADAM = {"optimizer": {"name": "adam", "learning_rate": 2e-3, "weight_decay": 1e-4}}
#: Rules that are tried on every number of ranks: without state, with it, and with norms of whole tensors.
WIDELY_TRIED = ("sgd", "adam", "lamb")
STOPS = (1, 13, 29, 30, 57)


def changed(**sections: Any) -> dict[str, Any]:
    """Return the base configuration with keys of its sections replaced."""
    return builders.changed(BASE, **sections)


def launched(folder: Path, ranks: int, configs: dict[str, dict[str, Any]], *options: str) -> Completed:
    """Train each of the configurations on a number of ranks, one after the other."""
    for name, config in configs.items():
        (folder / f"{name}.yaml").write_text(json.dumps(config))  # which is YAML, too
    return mpirun(ranks, sys.executable, DRIVER, folder, *configs, *options, timeout=100)


def trained(folder: Path, ranks: int, configs: dict[str, dict[str, Any]], *options: str) -> dict[str, dict[str, Any]]:
    """Return what the driver wrote of each training."""
    done = launched(folder, ranks, configs, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in configs}


@pytest.fixture(scope="module")
def by_ranks(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, dict[str, Any]]]:
    """Fifty steps with each optimiser, dropout on, a short last batch, clipping; and others that are compared."""
    rules = {
        name: changed(training={"max_steps": 50, "clip_norm": 5.0}, optimizer=rule) for name, rule in OPTIMIZERS.items()
    }
    few = {name: rules[name] for name in WIDELY_TRIED}
    short = {"short": changed(training={"batch_size": 3, "max_steps": 30})}
    forty = changed(training={"max_steps": 40})
    more = {
        1: short,
        2: {"whole": forty, "pieces": changed(training={"max_steps": 40, "gradient_accumulation": 3})},
        3: {
            "first": BASE,
            "other": changed(training={"seed": 6}),
            "arena": forty,
            "flat": changed(training={"max_steps": 40}, strategy={"name": "flat"}),
        },
        5: short,
    }
    return {
        ranks: trained(
            tmp_path_factory.mktemp("trained"), ranks, {**(rules if ranks in (1, 3) else few), **more.get(ranks, {})}
        )
        for ranks in (1, 2, 3, 5, 7)
    }


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_losses_do_not_depend_on_the_number_of_ranks(by_ranks: dict[int, Any], optimizer: str) -> None:
    """As one rank computes them, to summation error."""
    alone = by_ranks[1][optimizer]
    assert len(alone["losses"]) == 50
    tolerance = 1e-5 if optimizer.startswith("sgd") else 1e-4
    for ranks, found in by_ranks.items():
        if ranks not in (1, 3) and optimizer not in WIDELY_TRIED:
            continue
        together = found[optimizer]
        assert together["losses"] == pytest.approx(alone["losses"], rel=tolerance, abs=0)
        assert len(set(together["digests"])) == 1 and len(together["digests"]) == ranks


def test_two_runs_of_the_same_rank_count_are_bit_identical(by_ranks: dict[int, Any], tmp_path: Path) -> None:
    """Same bytes of all parameters on all ranks and in both runs; another seed gives others."""
    first, other = by_ranks[3]["first"], by_ranks[3]["other"]
    second = trained(tmp_path, 3, {"second": BASE})["second"]
    assert first["digests"] == second["digests"] and first["losses"] == second["losses"]
    assert other["digests"] != first["digests"]


def test_flat_and_arena_compute_the_same(by_ranks: dict[int, Any]) -> None:
    """Only the strategy differs: the losses are equal to summation error."""
    arena, flat = by_ranks[3]["arena"], by_ranks[3]["flat"]
    assert flat["losses"] == pytest.approx(arena["losses"], rel=1e-5, abs=0)
    assert len(set(flat["digests"])) == 1


def test_gradient_accumulation_changes_nothing(by_ranks: dict[int, Any]) -> None:
    """A batch computed in three pieces is the same batch."""
    assert by_ranks[2]["pieces"]["losses"] == pytest.approx(by_ranks[2]["whole"]["losses"], rel=1e-5, abs=0)


def test_more_ranks_than_samples_in_a_batch(by_ranks: dict[int, Any]) -> None:
    """Ranks without a sample take part with a gradient of zeros."""
    assert by_ranks[5]["short"]["losses"] == pytest.approx(by_ranks[1]["short"]["losses"], rel=2e-5, abs=0)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    """Trainings that were not stopped, and others that were stopped after a number of steps."""
    folder = tmp_path_factory.mktemp("stopped")
    stops = {f"adam-{stop}": changed(**ADAM, training={"max_steps": stop}) for stop in STOPS}
    stops["sgd-17"] = changed(training={"max_steps": 17})
    for name, rule in OPTIMIZERS.items():
        stops[f"all of {name}"] = changed(optimizer=rule, training={"max_steps": 20})
        stops[f"half of {name}"] = changed(optimizer=rule, training={"max_steps": 10})
    return folder, trained(folder, 2, {"sgd": BASE, "adam": changed(**ADAM), **stops})


def test_stop_after_any_step_and_resume(stopped: tuple[Path, dict[str, Any]]) -> None:
    """Within an epoch, at its last step (of 29), just after: bit-equal to never having stopped."""
    folder, whole = stopped[0], stopped[1]["adam"]
    resumed = trained(folder, 2, {f"adam-{stop}": changed(**ADAM) for stop in STOPS}, "--resume")
    for stop, rest in zip(STOPS, resumed.values(), strict=True):
        assert rest["summary"]["parameters_sha256"] == whole["summary"]["parameters_sha256"], stop
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
        assert [record["epoch"] for record in builders.records(folder / f"adam-{stop}")] == [1, 2]


def test_every_optimizer_resumes(stopped: tuple[Path, dict[str, Any]]) -> None:
    """Bit-equal to never having stopped: nothing but its vectors and the number of the step is remembered."""
    configs = {
        f"half of {name}": changed(optimizer=rule, training={"max_steps": 20}) for name, rule in OPTIMIZERS.items()
    }
    for name, rest in trained(stopped[0], 2, configs, "--resume").items():
        whole = stopped[1][name.replace("half", "all")]
        assert rest["summary"]["parameters_sha256"] == whole["summary"]["parameters_sha256"], name
        assert rest["losses"] == whole["losses"][10:]


def test_resume_with_another_number_of_ranks(stopped: tuple[Path, dict[str, Any]]) -> None:
    """The order of the samples goes on where it was: losses as in an uninterrupted run, to summation error."""
    rest = trained(stopped[0], 3, {"sgd-17": BASE}, "--resume")["sgd-17"]
    assert rest["losses"] == pytest.approx(stopped[1]["sgd"]["losses"][17:], rel=1e-5, abs=0)


def test_fewer_epochs_than_are_made_are_refused(tmp_path: Path) -> None:
    """The run keeps what it has, its configuration included."""
    trained(tmp_path, 1, {"run": changed(training={"max_steps": 40})})
    before = (tmp_path / "run" / "config.yaml").read_text()
    assert launched(tmp_path, 1, {"run": changed(training={"epochs": 1})}, "--resume").returncode == 2
    assert (tmp_path / "run" / "config.yaml").read_text() == before


def test_a_signal_saves_and_the_run_resumes(stopped: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """USR1 to one rank stops all at the same step with exit code 75."""
    assert launched(tmp_path, 2, {"run": BASE}, "--stop-at", "20").returncode == 75
    rest = trained(tmp_path, 2, {"run": BASE}, "--resume")["run"]
    assert rest["summary"]["parameters_sha256"] == stopped[1]["sgd"]["summary"]["parameters_sha256"]


def test_a_signal_before_the_first_step_or_after_the_last_is_heard_too(tmp_path: Path) -> None:
    """While data are read: a step is made, saved, and the run stops.  While the summary is written: it is written."""
    done = launched(tmp_path, 2, {"run": BASE}, "--stop-at", "started")
    assert done.returncode == 75 and "stopped on request after step 1; the state is saved" in done.stderr
    rest = trained(tmp_path, 2, {"run": BASE}, "--resume", "--stop-at", "ended")["run"]
    assert rest["summary"]["finished"] and rest["summary"]["steps"] == 58


def test_a_stop_whose_save_fails_does_not_claim_to_be_saved(tmp_path: Path) -> None:
    """The disk is full when the signal comes: exit code 6 and the reason, once, from one rank for all."""
    done = launched(tmp_path, 2, {"run": BASE}, "--stop-at", "20", "--full-disk")
    assert done.returncode == 6
    assert done.stderr.count("could not write") == 1 and "rank 0:" not in done.stderr
    assert "stopped on request" not in done.stderr
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []
    assert trained(tmp_path, 2, {"run": BASE}, "--resume")["run"]["summary"]["finished"]
