"""The checkpoint file: gives back what was put in, and refuses whatever is not that."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onotrain.errors import CheckpointError
from onotrain.runs import checkpoint_image
from onotrain.runs.checkpoint_decoder import decode
from onotrain.runs.checkpoint_encoder import encode
from onotrain.runs.checkpoint_format import (
    FIELDS,
    MAGIC,
    Checkpoint,
    DamagedCheckpointError,
    image_bytes,
    sha256,
    to_text,
    user_block,
)
from onotrain.runs.metadata import check_arrays

pytestmark = pytest.mark.timeout(60)

DATA = Path(__file__).parents[1] / "data"
WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)
SMALL = Checkpoint({"parameters/dense_0/weight": WEIGHT, "parameters/dense_0/bias": WEIGHT[0]}, {"step": 3})


def assert_same(got: Checkpoint, expected: Checkpoint) -> None:
    assert got.arrays.keys() == expected.arrays.keys()
    for name, array in expected.arrays.items():
        assert got.arrays[name].dtype == array.dtype.newbyteorder("=")
        assert got.arrays[name].shape == array.shape
        assert got.arrays[name].flags.c_contiguous and got.arrays[name].flags.writeable
        assert got.arrays[name].tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes()
    assert json.dumps(got.metadata, sort_keys=True) == json.dumps(expected.metadata, sort_keys=True)


# What goes in comes out ----------------------------------------------------------------------------------------------

DTYPES = st.sampled_from(["f2", "<f4", ">f4", "f8", "i1", "<i2", ">i4", "i8", "u1", "u2", "u4", "u8"])
NAMES = st.lists(st.text("abcäz_09 -.", min_size=1).filter(lambda s: s.strip(".")), min_size=1, max_size=3).map(
    "/".join
)


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(NAMES, hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, min_side=0, max_dims=3)), max_size=5).filter(
        lambda arrays: not any(a != b and b.startswith(a + "/") for a in arrays for b in arrays)
    ),
    st.dictionaries(
        st.text(), st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.floats())
    ),
)
def test_arrays_and_metadata_survive_bit_by_bit(arrays: dict, metadata: dict) -> None:
    checkpoint = Checkpoint(arrays, metadata)
    data = encode(checkpoint)
    assert_same(decode(data, "file"), checkpoint)
    assert encode(decode(data, "file")) == data


def test_many_arrays_and_much_metadata() -> None:
    arrays = {f"parameters/dense_{i}/weight": np.full((i, 3), i, np.float32) for i in range(300)}
    checkpoint = Checkpoint(arrays, {"text": "é" * 200_000})  # an attribute could not hold it
    assert_same(decode(encode(checkpoint), "file"), checkpoint)


def test_equal_content_gives_equal_bytes_in_any_order_process_and_second() -> None:
    swapped = Checkpoint(dict(reversed(SMALL.arrays.items())), dict(reversed({"b": 1, "a": 2}.items())))
    assert encode(swapped) == encode(Checkpoint(SMALL.arrays, {"b": 1, "a": 2}))
    code = """
import hashlib, importlib.util, sys, time
time.sleep(1.1)  # time stamps of HDF5 count seconds
spec = importlib.util.spec_from_file_location("made", sys.argv[1])
made = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made)
sys.stdout.buffer.write(made.encode(made.CONTENT))
"""
    run = subprocess.run([sys.executable, "-c", code, DATA / "make_checkpoint_v1.py"], capture_output=True, timeout=60)
    assert run.returncode == 0, run.stderr.decode()
    assert run.stdout == encode(version_1())


def test_numpy_scalars_and_tuples_in_metadata_become_plain() -> None:
    metadata = {"a": np.float32(0.1), "b": (1, np.int64(2)), "c": np.bool_(True)}
    assert decode(encode(Checkpoint({}, metadata)), "f").metadata == {
        "a": float(np.float32(0.1)),
        "b": [1, 2],
        "c": True,
    }


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "a//b", "a/../b", ".", "metadata", "metadata/x", "a\0b", "x/" * 20 + "x"]
)
def test_names_that_a_file_cannot_hold_are_a_bug_of_the_caller(name: str) -> None:
    with pytest.raises(ValueError, match="cannot hold"):
        encode(Checkpoint({name: WEIGHT}, {}))


@pytest.mark.parametrize(
    "array", [np.array([object()]), np.array(["text"]), np.array([1j]), np.array([True]), np.zeros(1, "f4,i4")]
)
def test_other_dtypes_are_a_bug_of_the_caller(array: np.ndarray) -> None:
    with pytest.raises(TypeError, match="expected floats or integers"):
        encode(Checkpoint({"a": array}, {}))


@pytest.mark.parametrize("value", [{1: 2}, {"a": {1, 2}}, {"a": b"bytes"}, {"a": [object()]}])
def test_metadata_that_json_cannot_hold_is_a_bug_of_the_caller(value: dict) -> None:
    with pytest.raises(TypeError, match="metadata"):
        encode(Checkpoint({}, value))


# The format is kept --------------------------------------------------------------------------------------------------


def version_1() -> Checkpoint:
    spec = importlib.util.spec_from_file_location("make_checkpoint_v1", DATA / "make_checkpoint_v1.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CONTENT


def test_a_file_of_version_1_is_read_for_ever() -> None:
    got = decode((DATA / "checkpoint-v1.h5").read_bytes(), "checkpoint-v1.h5")
    assert_same(got, version_1())
    # Spelled out as well, so that a change of the script cannot change the promise.
    assert sorted(got.arrays) == [
        "counters", "empty", "optimizer/m/dense_0/bias", "optimizer/m/dense_0/weight",
        "parameters/dense_0/bias", "parameters/dense_0/weight",
    ]  # fmt: skip
    np.testing.assert_array_equal(got.arrays["parameters/dense_0/bias"], np.array([0.5, -0.25, np.pi], np.float32))
    np.testing.assert_array_equal(got.arrays["parameters/dense_0/weight"][2], [1.0, 1.125, 1.25, 1.375])
    assert got.arrays["counters"].tolist() == [2**63 - 1, -1]
    assert got.metadata["progress"] == {"epoch": 2, "steps": 57, "best": 0.30000000000000004, "worst": float("inf")}
    assert got.metadata["targets"]["class_names"] == ["null", "éins", "二"]
    assert got.metadata["seed"] == 2**64 - 1


def test_any_hdf5_tool_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "step.h5"
    path.write_bytes(encode(SMALL))
    with h5py.File(path) as file:
        assert file.userblock_size == 512
        assert file.attrs["filetype"] == b"onotrain-checkpoint"
        assert file.attrs["version"] == 1
        np.testing.assert_array_equal(file["parameters/dense_0/weight"], WEIGHT)
        assert file["metadata"][()] == b'{"step": 3}'


@pytest.mark.parametrize("sizes", [[], [0], [1], [128 << 10], [(128 << 10) + 1, 0, 5], [1_000_003, 300_000]])
def test_blocks_give_the_digest_of_the_whole(sizes: list[int]) -> None:
    buffers = [bytes(range(256)) * (size // 256 + 1) for size in sizes]
    buffers = [buffer[:size] for buffer, size in zip(buffers, sizes, strict=True)]
    pauses: list[None] = []
    digest = sha256(map(memoryview, buffers), lambda: pauses.append(None))
    assert digest.hexdigest() == hashlib.sha256(b"".join(buffers)).hexdigest()
    assert len(pauses) == sum(-(-size // (128 << 10)) for size in sizes)


# Damage --------------------------------------------------------------------------------------------------------------


def test_every_one_of_200_bit_flips_is_refused_before_hdf5_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_image, "read_image", lambda *_: pytest.fail("libhdf5 was given a damaged file"))
    data = encode(version_1())
    random = np.random.default_rng(0)
    places = [*random.choice(8 * len(data), 150, replace=False), *random.choice(8 * 512, 50, replace=False)]
    for place in places:
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << (place % 8)
        with pytest.raises(DamagedCheckpointError, match="step-1.h5.*expected"):
            decode(bytes(flipped), "step-1.h5")


def test_truncation_and_excess_are_refused() -> None:
    data = encode(version_1())
    cut = [len(data) * part // 16 for part in range(16)]
    for damaged in [data[:end] for end in [*cut, 1, 8, 511, 512, 513, len(data) - 1]] + [data + b"\0", data + data]:
        with pytest.raises(DamagedCheckpointError):
            decode(damaged, "file")


@pytest.mark.parametrize("data", [b"", b"a,b,c\n1,2,3\n" * 100, b"\x89HDF\r\n\x1a\n" + bytes(5000), bytes(2000)])
def test_other_files_are_refused_with_a_hint(data: bytes) -> None:
    with pytest.raises(CheckpointError, match="table.csv: not an onotrain checkpoint") as caught:
        decode(data, "table.csv")
    assert caught.value.hint and caught.value.exit_code == 4


def test_a_newer_version_says_upgrade() -> None:
    fields = FIELDS.pack(MAGIC, 2, 512, 0, bytes(32)).ljust(480, b"\0")
    block = fields + hashlib.sha256(fields).digest()
    with pytest.raises(CheckpointError, match="version 2, expected 1") as caught:
        image_bytes(block, "file")
    assert "upgrade" in (caught.value.hint or "") and not isinstance(caught.value, DamagedCheckpointError)


# Files made to harm: whole, with a right digest ----------------------------------------------------------------------


def hostile(
    tmp_path: Path, fill: Callable[[h5py.File], object], *, version: int = 1, filetype: str = "onotrain-checkpoint"
) -> bytes:
    path = tmp_path / "hostile.h5"
    with h5py.File(path, "w", userblock_size=512, libver=("v108", "latest")) as file:
        file.attrs["filetype"] = np.bytes_(filetype)
        file.attrs["version"] = version
        file["metadata"] = np.bytes_(b"{}")
        fill(file)
    image = path.read_bytes()[512:]
    return user_block(image) + image


def refused(data: bytes, match: str) -> None:
    with pytest.raises(CheckpointError, match=match) as caught:
        decode(data, "hostile.h5")
    assert str(caught.value).startswith("hostile.h5") and "expected" in caught.value.message and caught.value.hint


def test_the_hostile_files_differ_from_good_ones_by_their_harm_alone(tmp_path: Path) -> None:
    data = hostile(tmp_path, lambda f: f.create_dataset("parameters/w", data=WEIGHT))
    np.testing.assert_array_equal(decode(data, "good").arrays["parameters/w"], WEIGHT)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.h5"
    with h5py.File(path, "w") as file:
        file["key"] = np.arange(4.0)
    return path


def test_links_are_refused(tmp_path: Path, secret: Path) -> None:
    def external(file: h5py.File) -> None:
        file["parameters/w"] = h5py.ExternalLink(str(secret), "/key")

    def soft(file: h5py.File) -> None:
        file["w"] = h5py.SoftLink("/metadata")

    def hard(file: h5py.File) -> None:
        file["w"] = WEIGHT
        file["again"] = file["w"]

    def cycle(file: h5py.File) -> None:
        file.create_group("a")["b"] = file["/"]

    refused(hostile(tmp_path, external), "ExternalLink")
    refused(hostile(tmp_path, soft), "SoftLink")
    refused(hostile(tmp_path, hard), "another name")
    refused(hostile(tmp_path, cycle), "another name")


def test_storage_elsewhere_is_refused(tmp_path: Path, secret: Path) -> None:
    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((4,), "f8")
        layout[:] = h5py.VirtualSource(str(secret), "key", (4,))
        file.create_virtual_dataset("w", layout)

    refused(hostile(tmp_path, virtual), "virtual")
    refused(
        hostile(tmp_path, lambda f: f.create_dataset("w", (4,), "f8", external=[("/etc/passwd", 0, 32)])), "external"
    )


def test_bombs_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    def compressed(file: h5py.File) -> None:
        file.create_dataset("w", (1 << 40,), "f4", chunks=(1 << 20,), compression="gzip")

    def chunked(file: h5py.File) -> None:
        file.create_dataset("w", (1 << 40,), "f4", chunks=(1 << 20,))

    def unwritten(file: h5py.File) -> None:
        file.create_dataset("w", (1 << 40,), "f4")

    def deep(file: h5py.File) -> None:
        file.create_group("a/" * 1000)

    refused(hostile(tmp_path, compressed), "filtered")
    refused(hostile(tmp_path, chunked), "chunked")
    refused(hostile(tmp_path, unwritten), "declares 4398046511104 bytes and stores 0")
    refused(hostile(tmp_path, deep), "nested")


@pytest.mark.parametrize(
    "dtype",
    [
        h5py.string_dtype(),
        h5py.vlen_dtype(np.int32),
        h5py.ref_dtype,
        np.dtype("f4,i4"),
        np.dtype("c8"),
        np.dtype("V8"),
        np.dtype("?"),
    ],
)
def test_other_dtypes_are_refused(tmp_path: Path, dtype: np.dtype) -> None:
    refused(hostile(tmp_path, lambda f: f.create_dataset("w", (2,), dtype)), "dtype|HDF5 cannot read")


def test_other_objects_and_heads_are_refused(tmp_path: Path) -> None:
    def named_type(file: h5py.File) -> None:
        file["t"] = np.dtype("f4")

    def long_attribute(file: h5py.File) -> None:
        file.attrs["filetype"] = np.bytes_("x" * 1000)

    def empty_space(file: h5py.File) -> None:
        file["w"] = h5py.Empty("f4")

    refused(hostile(tmp_path, named_type), "Datatype")
    refused(hostile(tmp_path, long_attribute), "filetype")
    refused(hostile(tmp_path, empty_space), "declares")
    refused(hostile(tmp_path, lambda f: f.attrs.__delitem__("version")), "no attribute 'version'")
    refused(hostile(tmp_path, lambda f: None, filetype="other"), "other")
    refused(hostile(tmp_path, lambda f: None, version=2), "version 2")


@pytest.mark.parametrize(
    "text", [b"[]", b"{", b"\xff", b'{"a": NaN}', b'{"a":' * 100_000, b'{"a": ' + b"9" * 10_000 + b"}"]
)
def test_metadata_that_is_not_our_json_is_refused(tmp_path: Path, text: bytes) -> None:
    def replace(file: h5py.File) -> None:
        del file["metadata"]
        file["metadata"] = np.bytes_(text)

    refused(hostile(tmp_path, replace), "metadata")


def test_metadata_of_another_kind_is_refused(tmp_path: Path) -> None:
    def numbers(file: h5py.File) -> None:
        del file["metadata"]
        file["metadata"] = np.arange(3)

    refused(hostile(tmp_path, lambda f: f.__delitem__("metadata")), "no text in /metadata")
    refused(hostile(tmp_path, numbers), "no text in /metadata")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_an_image_of_noise_behind_a_right_digest_is_refused(image: bytes) -> None:
    refused(user_block(image) + image, "HDF5 cannot read")


def test_a_dict_that_looks_like_our_mark_for_nan_is_not_mistaken() -> None:
    with pytest.raises(TypeError, match="float"):
        to_text({"a": {"$float": "nan"}})


# Another network -----------------------------------------------------------------------------------------------------


def test_check_arrays_lists_what_does_not_fit() -> None:
    expected = {name: (array.shape, array.dtype) for name, array in SMALL.arrays.items()}
    check_arrays(SMALL, expected, "file")
    other = {
        "parameters/dense_0/weight": ((3, 2), np.float32),
        "parameters/dense_1/weight": ((10, 2), np.float32),
    }
    with pytest.raises(CheckpointError) as caught:
        check_arrays(SMALL, other, "step.h5")
    assert caught.value.message.splitlines() == [
        "step.h5: a checkpoint of another network or optimizer",
        "  missing: parameters/dense_1/weight float32[10, 2]",
        "  unexpected: parameters/dense_0/bias float32[3]",
        "  parameters/dense_0/weight: got float32[2, 3], expected float32[3, 2]",
    ]


def test_check_arrays_shortens_a_long_list() -> None:
    with pytest.raises(CheckpointError, match="and 90 more"):
        check_arrays(SMALL, expected={f"w{i}": ((1,), np.float32) for i in range(98)}, source="f")


# The specification ---------------------------------------------------------------------------------------------------


def test_the_example_of_the_specification_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs" / "checkpoint-format.md").read_text("utf-8")
    example = text.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    Path("step-000000123.h5").write_bytes(encode(SMALL))
    names: dict = {}
    exec(example, names)
    np.testing.assert_array_equal(names["weight"], WEIGHT)
    assert names["metadata"] == {"step": 3}
