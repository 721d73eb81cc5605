"""Studies: which trainings there are, and what is said about them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from onotrain.config.study import cells_of, load_study
from onotrain.config.yaml_writer import write_yaml
from onotrain.errors import ConfigError
from onotrain.reporting.comparison import _difference, _speed_ups, epoch_of
from onotrain.reporting.tables import csv_of, latex_of

BASE = "data: {train: digits, validation: 0.2}\nmodel: {layers: [{dense: 10}]}\nloss: cross_entropy\n" \
       "training: {epochs: 2, batch_size: 32}\n"  # fmt: skip
SERVER = {"name": "parameter_server", "servers": 2}


STUDIES = sorted((Path(__file__).parents[2] / "configs" / "studies").glob("*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_that_is_shipped_can_be_trained(path: Path) -> None:
    assert cells_of(load_study(path), path)


@pytest.fixture
def study(tmp_path: Path) -> Any:
    """Return what writes a study, and reads it with its trainings."""
    (tmp_path / "base.yaml").write_text(BASE)

    def cells(**sections: Any) -> Any:
        path = tmp_path / "study.yaml"
        path.write_text(write_yaml({"config": "base.yaml", "ranks": [2], **sections}))
        return cells_of(load_study(path), path)

    return cells


def test_every_combination_is_a_training(study: Any) -> None:
    found = study(
        seeds=[3, 4], set={"training.epochs": 7},
        matrix={"strategy": {"ring": {}, "servers": {"strategy": SERVER}}, "training.batch_size": [8, 64]},
    )  # fmt: skip
    assert len(found) == 2 * 2 * 2 and len({cell.name for cell in found}) == 8
    assert {cell.config.training.epochs for cell in found} == {7}
    assert [cell.config.training.seed for cell in found[:2]] == [3, 4]
    last = found[-1]
    assert (last.config.strategy.name, last.config.training.batch_size) == ("parameter_server", 64)
    assert last.label == "servers, training.batch_size 64"
    assert last.name == "servers--training.batch_size-64/2-ranks/seed-4"


def test_servers_are_added_to_workers(study: Any) -> None:
    methods = {"strategy": {"ring": {}, "servers": {"strategy": SERVER}, "switch": {"strategy": "strategy_switch"}}}
    assert [cell.ranks for cell in study(ranks=None, workers=[3], matrix=methods)] == [3, 5, 4]
    assert [cell.ranks for cell in study(ranks=[3], matrix=methods)] == [3, 3, 3]


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"workers": [2]}, "one of ranks and workers must be given"),
        ({"ranks": None}, "one of ranks and workers must be given"),
        ({"ranks": [0]}, "ranks.0"),
        ({"seeds": []}, "seeds: must not be empty"),
        ({"matrix": {"strategy": {"ring": 3}}}, "must be a mapping from labels to mappings of changes"),
        ({"matrix": {"training.seed": []}}, "must be a mapping from labels"),
        ({"matrix": {"strategy": {"a": {"strategy": "gossip"}}}}, "a:\n.*unknown strategy"),
        ({"set": {"training.epoch": 3}}, "did you mean 'epochs'"),
        ({"set": {"training.epochs": "many"}}, "training.epochs"),
        ({"matrix": {"x": {"a b": {}, "a-b": {}}}}, "two trainings would be called a-b/2-ranks/seed-0"),
        ({"config": "nothing.yaml"}, "nothing.yaml: no such file"),
        ({"target": {"metric": "validation_loss"}}, "value"),
        ({"sedes": [1]}, "did you mean"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_trained(study: Any, sections: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){words}"):
        study(**sections)


def test_labels_leave_no_folder(study: Any) -> None:
    """They are words of a stranger's file."""
    found = study(matrix={"method": {"../../up": {}, "/etc": {}, "...": {}, "ä ü": {}}})
    assert all(".." not in cell.name.split("/") and not cell.name.startswith("/") for cell in found)


def history(**series: list[float]) -> Any:
    return SimpleNamespace(series=lambda key: np.array(series[key], np.float64))


def test_the_target_is_reached_from_the_right_side() -> None:
    run = history(validation_accuracy=[0.1, 0.96, 0.9], validation_loss=[2.0, 1.0, 0.4])
    assert epoch_of(run, "validation_accuracy", 0.95) == 1
    assert epoch_of(run, "validation_loss", 0.5) == 2
    assert epoch_of(run, "validation_accuracy", 0.99) is None


def test_speed_up_is_of_the_fewest_ranks() -> None:
    assert _speed_ups({4: 30.0, 2: 10.0, 8: 60.0}) == {2: 1.0, 4: 3.0, 8: 6.0}


def test_paired_differences_are_those_of_scipy() -> None:
    from scipy import stats

    one, other = np.array([0.90, 0.91, 0.95, 0.92]), np.array([0.92, 0.92, 0.97, 0.95])
    found = _difference(other - one)
    assert found["p"] == f"{stats.ttest_rel(other, one).pvalue:.3f}"
    assert found["difference"] == "0.020000"
    assert _difference(np.zeros(3))["95 % interval"] == "no spread"


def test_tables_for_others() -> None:
    rows = [{"": "a & b_1", "loss": "0.5 ± 0.1"}, {"": "50 % \\ #", "loss": "<1"}]
    text = latex_of(rows, "A {caption}")
    assert r"a \& b\_1 & 0.5 $\pm$ 0.1 \\" in text and r"50 \% \textbackslash{} \# & $<$1 \\" in text
    assert r"\caption{A \{caption\}}" in text and r"\begin{tabular}{lr}" in text
    assert csv_of([{"a": 1, "b": "x,y"}, {"a": 2, "c": None}]) == 'a,b,c\n1,"x,y",\n2,,\n'
