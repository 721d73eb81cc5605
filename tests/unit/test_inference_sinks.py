"""Files of predictions: their content, whatever the order of the chunks, and what a full disk leaves."""

from __future__ import annotations

import csv
import errno
import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onotrain.errors import ResourceError, UsageError
from onotrain.files import AtomicFile
from onotrain.inference.outputs import Outputs
from onotrain.inference.sinks import SINKS, check_output

SUFFIXES = sorted(SINKS)
FLOAT, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
OUTPUTS = {
    "multiclass": Outputs("multiclass", 3, FLOAT, ("a", 'b, "c"', "ü\n")),
    "numbered": Outputs("multiclass", 3, DOUBLE, None),
    "binary": Outputs("binary", 1, FLOAT, ("no", "yes")),
    "multilabel": Outputs("multilabel", 3, FLOAT, ("red", "green", "blue")),
    "regression": Outputs("regression", 2, DOUBLE, ("x", "y")),
    "unnamed": Outputs("regression", 2, FLOAT, None),
}


def block(outputs: Outputs, rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=(rows, outputs.width)).astype(outputs.dtype)


def write(
    path: Path, outputs: Outputs, values: np.ndarray, chunks: Sequence[tuple[int, int]], **ids: np.ndarray
) -> None:
    """Write chunks ``(begin, end)`` in the given order, from one buffer as the real writer does."""
    buffer = np.empty_like(values)
    with AtomicFile(path) as file:
        sink = SINKS[path.suffix](file, outputs, len(values), ids)
        for begin, end in chunks:
            buffer[: end - begin] = values[begin:end]
            sink.write(begin, buffer[: end - begin])
            buffer.fill(-1)
        sink.finish()
        file.commit()


@contextmanager
def file_limit(nbytes: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("task", OUTPUTS)
def test_npy(tmp_path: Path, task: str) -> None:
    values = block(OUTPUTS[task], 10)
    write(tmp_path / "p.npy", OUTPUTS[task], values, [(8, 10), (0, 4), (4, 8)])
    got = np.load(tmp_path / "p.npy")
    assert got.dtype == values.dtype
    np.testing.assert_array_equal(got, values)


@pytest.mark.parametrize("task", OUTPUTS)
def test_hdf5(tmp_path: Path, task: str) -> None:
    outputs = OUTPUTS[task]
    values = block(outputs, 10)
    write(tmp_path / "p.h5", outputs, values, [(8, 10), (0, 4), (4, 8)])
    with h5py.File(tmp_path / "p.h5") as file:
        assert file.attrs["filetype"] == b"onotrain-predictions"
        assert file.attrs["version"] == 1
        assert file.attrs["task"] == outputs.task.encode()
        np.testing.assert_array_equal(file["values" if outputs.regression else "probabilities"], values)
        names = "target_names" if outputs.regression else "class_names"
        stored = None if names not in file.attrs else tuple(name.decode() for name in file.attrs[names])
        assert stored == outputs.names
        if outputs.regression:
            assert list(file) == ["values"]
        elif outputs.task == "multilabel":
            np.testing.assert_array_equal(file["class"], values > 0.5)
        elif outputs.names is None:
            np.testing.assert_array_equal(file["class"], outputs.decide(values))
        else:
            assert h5py.check_string_dtype(file["class"].dtype).encoding == "utf-8"
            expected = [outputs.names[number] for number in outputs.decide(values)]
            assert list(file["class"].asstr()) == expected


@pytest.mark.parametrize("task", OUTPUTS)
def test_csv(tmp_path: Path, task: str) -> None:
    outputs = OUTPUTS[task]
    values = block(outputs, 10)
    write(tmp_path / "p.csv", outputs, values, [(8, 10), (0, 4), (4, 8)])
    with open(tmp_path / "p.csv", encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    leading = {"regression": [], "multilabel": ["labels"]}.get(outputs.task, ["class"])
    assert header == [*leading, *outputs.columns]
    numbers = np.array([row[len(leading) :] for row in rows], outputs.dtype)
    np.testing.assert_array_equal(numbers, values)
    if outputs.task == "multilabel":
        names = np.array(outputs.shown_names)
        assert [row[0] for row in rows] == [";".join(names[chosen]) for chosen in values > 0.5]
    elif leading:
        assert [row[0] for row in rows] == [outputs.shown_names[number] for number in outputs.decide(values)]


def test_ids_stand_before_predictions_that_may_be_missing(tmp_path: Path) -> None:
    """A sample that lacks a value has neither class nor probabilities."""
    outputs = OUTPUTS["multiclass"]
    values = np.array([[0.25, 0.5, 0.25], [np.nan] * 3, [1, 0, 0]], outputs.dtype)
    ids = {"name": np.array(["Ann", "B, C", "ü"]), "year": np.array(["1999", "", "2001"])}
    chunks = [(1, 3), (0, 1)]
    write(tmp_path / "p.csv", outputs, values, chunks, **ids)
    text = (tmp_path / "p.csv").read_text(encoding="utf-8")
    assert text.startswith("name,year,class,p_a,")
    assert text.partition('p_ü\n"\n')[2] == 'Ann,1999,"b, ""c""",0.25,0.5,0.25\n"B, C",,,,,\nü,2001,a,1.0,0.0,0.0\n'
    write(tmp_path / "p.h5", outputs, values, chunks, **ids)
    with h5py.File(tmp_path / "p.h5") as file:
        assert file["id_name"].asstr()[:].tolist() == ["Ann", "B, C", "ü"]
        assert file["id_year"].asstr()[:].tolist() == ["1999", "", "2001"]
        assert file["class"].asstr()[:].tolist() == ['b, "c"', "", "a"]
        np.testing.assert_array_equal(file["probabilities"], values)


def test_values_of_scaled_targets_have_the_digits_of_the_network(tmp_path: Path) -> None:
    outputs = Outputs("regression", 1, np.dtype(np.float64), ("y",), digits=12)
    write(tmp_path / "p.csv", outputs, np.array([[250000.123456789012], [1e-7 / 3]]), [(0, 2)])
    assert (tmp_path / "p.csv").read_text().splitlines() == ["y", "250000.123457", "3.33333333333e-08"]


def test_titles_of_columns() -> None:
    assert OUTPUTS["multiclass"].columns == ["p_a", 'p_b, "c"', "p_ü\n"]
    assert OUTPUTS["numbered"].columns == ["p_0", "p_1", "p_2"]
    assert OUTPUTS["binary"].columns == ["p_yes"]
    assert OUTPUTS["unnamed"].columns == ["value_0", "value_1"]


@settings(max_examples=30)
@given(data=st.data(), suffix=st.sampled_from(SUFFIXES), task=st.sampled_from(sorted(OUTPUTS)))
def test_the_order_of_chunks_leaves_no_trace(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, suffix: str, task: str
) -> None:
    folder = tmp_path_factory.mktemp("order")
    outputs, rows = OUTPUTS[task], data.draw(st.integers(1, 12))
    chunks = [(begin, min(begin + 3, rows)) for begin in range(0, rows, 3)]
    values = block(outputs, rows)
    write(folder / f"a{suffix}", outputs, values, chunks)
    write(folder / f"b{suffix}", outputs, values, data.draw(st.permutations(chunks)))
    assert (folder / f"a{suffix}").read_bytes() == (folder / f"b{suffix}").read_bytes()


@settings(max_examples=50)
@given(values=st.sampled_from([np.float32, np.float64]).flatmap(lambda t: hnp.arrays(t, (3, 2))))
def test_numbers_in_text_are_exact(tmp_path_factory: pytest.TempPathFactory, values: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("exact") / "p.csv"
    write(path, Outputs("regression", 2, values.dtype, None), values, [(0, 3)])
    rows = path.read_text().splitlines()[1:]
    numbers = [[np.nan if text == "" else values.dtype.type(text) for text in row.split(",")] for row in rows]
    got = np.array(numbers, values.dtype)
    np.testing.assert_array_equal(got, values)


def test_numbers_in_text_are_short(tmp_path: Path) -> None:
    values = np.array([[0.1, 1e-20]], np.float32)
    write(tmp_path / "p.csv", OUTPUTS["unnamed"], values, [(0, 1)])
    assert (tmp_path / "p.csv").read_text() == "value_0,value_1\n0.1,1e-20\n"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_is_replaced_when_it_is_complete(tmp_path: Path, suffix: str) -> None:
    path, outputs = tmp_path / f"p{suffix}", OUTPUTS["binary"]
    path.write_text("old")
    values = block(outputs, 5)
    with AtomicFile(path) as file:
        sink = SINKS[suffix](file, outputs, 5, {})
        sink.write(0, values)
        assert path.read_text() == "old"
    assert path.read_text() == "old", "thrown away without commit"
    write(path, outputs, values, [(0, 5)])
    assert path.read_bytes()[:3] != b"old"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("anonymous", [True, False], ids=["nameless", "named"])
@pytest.mark.parametrize("limit", [10, 3000], ids=["at-once", "later"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, suffix: str, limit: int, anonymous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not anonymous:
        forbid_anonymous(monkeypatch)
    path = tmp_path / f"p{suffix}"
    path.write_text("old")
    values = block(OUTPUTS["multiclass"], 1000)
    with file_limit(limit), pytest.raises(ResourceError, match="File too large") as caught:
        write(path, OUTPUTS["multiclass"], values, [(0, 1000)])
    assert str(path) in caught.value.message
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == [path.name]


def forbid_anonymous(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a file system without files that have no name."""
    real = os.open

    def refuse(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_file_systems_without_nameless_files_or_reservation(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = OUTPUTS["multiclass"]
    values = block(outputs, 20)
    write(tmp_path / f"a{suffix}", outputs, values, [(0, 20)])
    forbid_anonymous(monkeypatch)

    def no_reservation(*args: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", no_reservation)
    write(tmp_path / f"b{suffix}", outputs, values, [(0, 20)])
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    assert len(os.listdir(tmp_path)) == 2


def test_write_errors_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = OUTPUTS["multiclass"]

    def fail(*args: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for suffix in SUFFIXES:
        path = tmp_path / f"p{suffix}"
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", fail)
            patch.setattr(os, "write", fail)
            with pytest.raises(ResourceError, match="No space left on device"):
                write(path, outputs, block(outputs, 5), [(0, 5)])
        write(path, outputs, block(outputs, 5), [(0, 5)])  # HDF5 is sound after that
        assert path.exists()


def test_the_output_is_checked_by_its_name(tmp_path: Path) -> None:
    assert check_output(tmp_path / "p.csv") == tmp_path / "p.csv"
    with pytest.raises(UsageError, match=r"suffix '.txt'; expected one of .h5, .npy, .csv"):
        check_output(tmp_path / "p.txt")
    with pytest.raises(UsageError, match="there is no directory"):
        check_output(tmp_path / "no" / "p.csv")
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(UsageError, match="is a directory"):
        check_output(tmp_path / "d.csv")
