"""The confusion matrix: its entries, in little memory, and only where it is asked for."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

import builders
import networks
from onotrain.data import DataSpec
from onotrain.evaluation import confusion
from onotrain.evaluation.confusion import Confusion
from onotrain.evaluation.rows import Rows
from onotrain.inference.evaluation import evaluate


@pytest.mark.parametrize("many", [1, 1 << 18])
def test_entries_are_those_of_the_whole_matrix(many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often equal pairs have been added up on the way."""
    monkeypatch.setattr(confusion, "_MANY", many)
    rng, criterion = np.random.default_rng(0), builders.model(builders.config(7), 1).loss
    y, logits = rng.integers(0, 7, 900).astype(np.int32), rng.normal(size=(900, 7)).astype(np.float32)
    collection, kept = Confusion(7), []
    for begin in range(0, 900, 90):
        kept.append(collection.keep(Rows(criterion, logits[begin : begin + 90], y[begin : begin + 90])))
        kept = collection.compact(kept)
    assert len(kept) < 10 or many > 900
    found = collection.result(kept)
    np.testing.assert_array_equal(found.dense(), confusion_matrix(y, logits.argmax(axis=1)))
    assert (found.samples > 0).all() and found.samples.sum() == 900


def many_classes(tmp_path: Path, classes: int = 300) -> tuple[Path, DataSpec]:
    net = networks.save(tmp_path / "net.h5", networks.checkpoint([{"dense": classes}]))
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "t.npz", x=rng.normal(size=(700, 5)).astype("f4"), y=rng.integers(0, classes, 700))
    return net, DataSpec(str(tmp_path / "t.npz"))


def test_many_classes_have_the_entries_that_are_not_zero(tmp_path: Path) -> None:
    found = evaluate(*many_classes(tmp_path))
    entries = found.to_mapping()["confusion"]
    assert sum(entries["samples"]) == 700 and min(entries["samples"]) > 0
    matrix = np.zeros((300, 300), np.int64)
    matrix[entries["true"], entries["predicted"]] = entries["samples"]
    np.testing.assert_array_equal(matrix, found.confusion)
    listed = {entry["name"] for entry in found.to_mapping()["classes"]}
    assert listed == {str(number) for number in np.flatnonzero(matrix.sum(axis=0) + matrix.sum(axis=1))}


def test_what_is_not_asked_for_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, spec = many_classes(tmp_path)
    assert evaluate(net, spec, ["confusion"]).counts is not None
    monkeypatch.setattr(Confusion, "keep", lambda self, rows: pytest.fail("a matrix that nobody asked for"))
    found = evaluate(net, spec, ["accuracy"])
    assert (
        found.counts is None and "confusion" not in found.to_mapping() and list(found.metrics) == ["loss", "accuracy"]
    )


@pytest.mark.timeout(300)
def test_thousands_of_classes_take_little_memory(tmp_path: Path) -> None:
    """A table of classes x classes for each chunk took 200 MB a piece."""
    net = networks.save(tmp_path / "net.h5", networks.checkpoint([{"dense": 5000}]))
    rng = np.random.default_rng(0)
    y = np.concatenate([np.arange(5000), rng.integers(0, 5000, 5000)])
    np.savez(tmp_path / "t.npz", x=rng.normal(size=(10_000, 5)).astype("f4"), y=y)
    tracemalloc.start()
    try:
        found = evaluate(net, DataSpec(str(tmp_path / "t.npz")))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 << 20
    assert found.counts is not None and len(found.counts.samples) <= 10_000
    assert "balanced_accuracy" in found.metrics and "roc_auc" not in found.metrics
