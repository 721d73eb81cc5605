"""The trace of a rank and the file of all: slices within each other, arrows with two ends, one gzip member."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import mapping, relu
from onotrain._kernels.recording import EVENT, Label, Place
from onotrain.config import Config
from onotrain.config.recording import ProfiledSteps
from onotrain.errors import ConfigError
from onotrain.runs.trace_file import TraceFile, compress, joined_crc32
from onotrain.training.profiling import text
from onotrain.training.profiling.slices import Slices, by_kernel, by_rank, slices_of, summary_of
from traces import Trace, read

FORWARD, BACKWARD = (Label("kernel", f"dense_{phase}", Place(phase, "dense_0", 8)) for phase in ("forward", "backward"))
UPDATE, STEP, PASS = Label("kernel", "update"), Label("step", "step"), Label("pass", "gradient")
BARRIER, VALIDATION = Label("wait", "barrier: gradients"), Label("span", "validation")


def events(*rows: tuple[Label, int, int] | tuple[Label, int, int, dict[str, int]]) -> tuple[np.ndarray, list[Label]]:
    """Return events of (label, begin, end, fields), in the order of their ends, and their labels."""
    labels = list(dict.fromkeys(row[0] for row in rows))
    found = np.zeros(len(rows), EVENT)
    found["number"], found["peer"] = -1, -1
    for index, (label, begin, end, *fields) in enumerate(sorted(rows, key=lambda row: row[2])):
        found[index]["label"], found[index]["begin"], found[index]["duration"] = labels.index(label), begin, end - begin
        for name, value in (fields[0] if fields else {}).items():
            found[index][name] = value
    return found, labels


#: A step made by one program, and one of which the update is not in the program; then validation.
TWO_STEPS = events(
    (STEP, 100, 200, {"number": 3}), (FORWARD, 100, 130), (BACKWARD, 130, 160), (BARRIER, 160, 170), (UPDATE, 170, 200),
    (STEP, 210, 400, {"number": 4}), (PASS, 215, 300), (FORWARD, 215, 240), (BACKWARD, 240, 280), (UPDATE, 280, 300),
    (UPDATE, 300, 390), (VALIDATION, 400, 450), (FORWARD, 410, 440),
)  # fmt: skip


def written(path: Path, *ranks: Slices, since: int = 0, extra: str = "") -> Trace:
    """Return what the file of some ranks holds."""
    with TraceFile(path) as file:
        file.add(compress([text.beginning({"steps": [1, 2]})]))
        ends = []
        for rank, slices in enumerate(ranks):
            file.add(compress(text.of_rank(rank, f"rank {rank}", slices, since, lambda label: 8 * label.place.rows)))
            ends.append(text.ends_of_arrows(rank, slices, since))
        file.add(compress([*text.arrows(np.concatenate(ends)), extra, text.END]))
        file.commit()
    return read(path)


def test_slices_are_within_each_other(tmp_path: Path) -> None:
    """Epochs, steps, passes, phases, kernels; a phase ends where a pass does."""
    trace = written(tmp_path / "trace.json.gz", slices_of(*TWO_STEPS, steps_per_epoch=3), since=100)
    epochs = {each.name: (each.begin, each.end) for each in trace.of("span")}
    assert epochs == {"epoch 1": (0, 100), "epoch 2": (110, 300), "validation": (300, 350)}
    assert [(each.name, each.within) for each in trace.of("step")] == [
        ("step 3", ("epoch 1",)), ("step 4", ("epoch 2",))
    ]  # fmt: skip
    phases = [(each.name, each.begin, each.end, each.within) for each in trace.of("phase")]
    assert phases == [
        ("forward", 0, 30, ()), ("backward", 30, 60, ()), ("update", 70, 100, ()),
        ("forward", 115, 140, (PASS.name,)), ("backward", 140, 180, (PASS.name,)), ("update", 180, 200, (PASS.name,)),
        ("update", 200, 290, ()), ("forward", 310, 340, ()),
    ]  # fmt: skip
    first, *_ = trace.of("kernel")
    assert (first.name, first.within) == ("dense_0 dense_forward", ("forward",))
    assert first.args == {"phase": "forward", "layer": "dense_0", "rows": 8, "floating point operations": 64}
    assert [each.thread for each in trace.of("wait")] == ["synchronisation"]


def test_time_is_summed_by_rank_and_kernel() -> None:
    slices = slices_of(*TWO_STEPS, steps_per_epoch=3)
    summary = summary_of(slices, lambda label: 1000 * (label == BACKWARD), missed=2)
    (rank,) = by_rank([summary])
    assert [rank.steps, rank.compute, rank.wait, rank.communication] == pytest.approx([290e-9, 280e-9, 10e-9, 0.0])
    kernels = [(each.name, each.layer, each.calls, each.operations) for each in by_kernel([summary, summary])]
    assert kernels == [  # without that of the validation
        ("update", "", 6, 0), ("dense_backward", "dense_0", 4, 4000), ("dense_forward", "dense_0", 4, 0)
    ]  # fmt: skip
    assert [each.seconds for each in by_kernel([summary])] == pytest.approx([140e-9, 70e-9, 55e-9])
    assert summary.steps == 2 and summary.missed == 2


@given(st.data())
def test_whatever_a_rank_does_nothing_overlaps(data: st.DataObject) -> None:
    """Any steps, passes and kernels within each other, down to 0 ns."""
    rows: list[Any] = []
    now = data.draw(st.integers(0, 5))
    kernels = st.lists(st.tuples(st.sampled_from([FORWARD, BACKWARD, UPDATE]), st.integers(0, 3)), max_size=4)
    for number in range(data.draw(st.integers(0, 4))):
        begin = now
        for label in data.draw(st.lists(st.sampled_from([PASS, None]), max_size=3)):
            first = now
            for kernel, duration in data.draw(kernels):
                rows.append((kernel, now, now + duration))
                now += duration + data.draw(st.integers(0, 1))
            now += 1
            if label is not None:
                rows.append((label, first, now))
        rows.append((STEP, begin, now, {"number": number + 1}))
    slices = slices_of(*events(*rows), steps_per_epoch=2)
    per_track: dict[Any, list[int]] = {}
    for each in slices.events:
        kind = slices.labels[each["label"]].kind
        ends = per_track.setdefault("steps" if kind in ("step", "span") else "compute", [])
        begin, end = int(each["begin"]), int(each["begin"] + each["duration"])
        while ends and ends[-1] <= begin and end > ends[-1]:
            ends.pop()
        assert not ends or end <= ends[-1]
        ends.append(end)


def test_arrows_have_two_ends_in_the_slices_of_their_messages(tmp_path: Path) -> None:
    """A push whose arrival is not in the trace has none, and messages to several ranks are told apart."""
    sent, received = Label("sent", "push"), Label("received", "push")
    worker = events(
        (sent, 10, 12, {"number": 5, "nbytes": 7, "peer": 0}), (sent, 30, 32, {"number": 6, "peer": 0}),
    )  # fmt: skip
    server = events((received, 20, 24, {"number": 5, "nbytes": 7, "peer": 1}))
    both = [slices_of(*each, steps_per_epoch=1) for each in (server, worker)]
    trace = written(tmp_path / "trace.json.gz", *both)
    assert trace.arrows == [("push", 1, "push to rank 0", 0, "push from rank 1")]
    assert [each.args for each in trace.of("sent")] == [{"bytes": 7, "number": 5}, {"number": 6}]


def test_messages_under_way_may_overlap(tmp_path: Path) -> None:
    bucket = Label("flight", "bucket")
    rank = slices_of(*events((bucket, 10, 30), (bucket, 20, 40, {"nbytes": 3})), steps_per_epoch=1)
    assert written(tmp_path / "trace.json.gz", rank).flights == [(0, "bucket", 10, 30), (0, "bucket", 20, 40)]


def test_a_reader_that_checks_can_fail(tmp_path: Path) -> None:
    """Two slices that overlap."""
    kernels = events((FORWARD, 10, 30), (UPDATE, 20, 40))
    with pytest.raises(AssertionError, match="overlaps"):
        written(tmp_path / "trace.json.gz", Slices(*kernels))


def test_nothing_is_a_trace_too(tmp_path: Path) -> None:
    rank = slices_of(np.empty(0, EVENT), [], steps_per_epoch=1)
    assert written(tmp_path / "trace.json.gz", rank).slices == []
    assert summary_of(rank, lambda label: 0, 0).steps == 0


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_checksums_join(parts: list[bytes]) -> None:
    whole = 0
    for part in parts:
        whole = joined_crc32(whole, zlib.crc32(part), len(part))
    assert whole == zlib.crc32(b"".join(parts))


def test_parts_are_one_gzip_member(tmp_path: Path) -> None:
    """Long ones, and an empty one."""
    texts = ["ä" * 3_000_000, "", json.dumps(list(range(99_999)))]
    with TraceFile(tmp_path / "file.gz") as file:
        for each in texts:
            file.add(compress([each[:7], each[7:]]))
        file.commit()
    data = (tmp_path / "file.gz").read_bytes()
    assert gzip.decompress(data).decode() == "".join(texts)
    assert data.count(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff") == 1


@pytest.mark.parametrize(
    ("written", "made", "expected"),
    [("100", 0, range(11, 111)), ("5", 40, range(51, 56)), ("200-300", 7, range(200, 301)), ("9-9", 0, range(9, 10))],
)
def test_steps_are_counted_from_the_launch_or_from_the_beginning(written: str, made: int, expected: range) -> None:
    steps = ProfiledSteps.of(written)
    assert steps is not None and steps.after(made) == expected


@pytest.mark.parametrize("written", ["", "0", "0-5", "9-8", "5-", "-5", "1:2", "x", "1-2-3", "٣"])
def test_what_is_no_range_of_steps(written: str) -> None:
    assert ProfiledSteps.of(written) is None


def test_steps_in_a_configuration() -> None:
    def config(profile: Any) -> Config:
        return Config.from_mapping(mapping(relu(8), 2, metrics={"profile": profile}))

    assert config(50).metrics.profiled_steps == (None, 50)
    assert config("8-9").metrics.profiled_steps == (8, 2)
    assert config(None).metrics.profiled_steps is None
    for wrong in (True, "9-8", 1.5, 0):
        with pytest.raises(ConfigError, match=r"expected STEPS or FIRST-LAST, such as 100 or 201-300 \(got"):
            config(wrong)
