"""Small valid files of every format, and a run that was trained on one of them."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np
import yaml

from fuzz.bounded import Bounded, check
from fuzz.mutations import TEXTS, changed_array, changed_bytes, changed_hdf5, changed_json, changed_lines, changed_npy

CONFIG: dict[str, Any] = {
    "data": {"train": "d.csv", "targets": "y", "validation": 0.2, "columns": {"c": "categorical"}},
    "model": {"layers": [{"dense": {"units": 4, "activation": "relu"}}, {"dropout": 0.1}, {"dense": 2}]},
    "loss": "cross_entropy",
    "optimizer": {"name": "adam", "learning_rate": 0.001},
    "schedule": {"name": "cosine"},
    "training": {"epochs": 1, "batch_size": 8, "early_stopping": {"patience": 3}},
}


def table(rows: int = 40) -> bytes:
    """Return a CSV file with numbers, categories, dates and classes."""
    random = Random(1)
    lines = [
        f"{random.random():.3f},{random.randrange(9)},{'pqr'[i % 3]},2021-01-{i % 28 + 1:02d},{'uv'[i % 2]}"
        for i in range(rows)
    ]
    return "\n".join(["a,b,c,d,y", *lines, ""]).encode()


def arrays() -> tuple[np.ndarray, np.ndarray]:
    """Return features and classes of 40 samples."""
    draw = np.random.Generator(np.random.Philox(1))
    return draw.normal(size=(40, 3)).astype(np.float32), np.arange(40, dtype=np.int64) % 2


def npy() -> bytes:
    """Return an NPY file."""
    file = io.BytesIO()
    np.save(file, arrays()[0])
    return file.getvalue()


def changed_npz(random: Random) -> bytes:
    """Return an NPZ file with other arrays, members or bytes."""
    x, y = arrays()
    members: dict[str, Any] = {"x": x, "y": y, "class_names": np.array(["u", "v"]), "feature_names": np.array([*"abc"])}
    name = random.choice(sorted(members))
    members[name] = changed_array(members[name], random)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", random.choice((0, 8, 8, 12))) as archive:
        for key, array in members.items():
            member = io.BytesIO()
            np.save(member, array, allow_pickle=False)
            data = member.getvalue() if random.random() < 0.9 else changed_npy(member.getvalue(), random)
            named = random.choice([t for t in TEXTS if t and t.isprintable()]) if random.random() < 0.1 else key
            archive.writestr(f"{named}.npy", data)
    data = file.getvalue()
    return changed_bytes(data, random) if random.random() < 0.4 else data


def changed_idx(random: Random) -> bytes:
    """Return an IDX file with other extents or bytes, gzipped or not."""
    extents = [random.choice((40, 2, 0, 1 << 31, 4, 2**32 - 1)) for _ in range(random.choice((1, 2, 3, 3, 8, 255)))]
    head = struct.pack(f">HBB{len(extents)}I", 0, random.choice((8, 9, 11, 13, 14, 7)), len(extents), *extents)
    data = head + bytes(range(256)) * 2
    data = changed_bytes(data, random) if random.random() < 0.3 else data
    return _gzipped(data, random) if random.random() < 0.5 else data


def _gzipped(data: bytes, random: Random) -> bytes:
    packed = gzip.compress(data, mtime=0)
    return changed_bytes(packed, random) if random.random() < 0.3 else packed


def _arrays_of(file: h5py.File) -> None:
    file["x"], file["y"] = arrays()
    file["y"].attrs["class_names"] = ["u", "v"]
    file["feature_names"] = [*"abc"]


def _columns_of(file: h5py.File) -> None:
    x, y = arrays()
    for number, name in enumerate("abc"):
        file[name] = x[:, number]
        file[name].attrs["units"] = "m"
    file["t"] = np.array([b"p", b"q"] * 20)
    file["y"] = y


def changed_file(kind: str, random: Random) -> tuple[str, bytes]:
    """Return the name and bytes of a hostile data file."""
    if kind == "csv":
        data = changed_lines(table(), random)
        return ("f.csv.gz", _gzipped(data, random)) if random.random() < 0.2 else ("f.csv", data)
    if kind == "npy":
        return "f.npy", changed_npy(npy(), random)
    if kind == "npz":
        return "f.npz", changed_npz(random)
    if kind == "idx":
        return "f-images-idx3-ubyte", changed_idx(random)
    return "f.h5", changed_hdf5(random.choice((_arrays_of, _columns_of)), random)


def changed_config(random: Random) -> bytes:
    """Return a configuration with other values, keys or bytes."""
    if random.random() < 0.3:
        return changed_bytes(yaml.safe_dump(CONFIG).encode(), random)
    value = changed_json(CONFIG, random)
    if random.random() < 0.5:
        return json.dumps(value).encode()
    return yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "surrogatepass")


def make_run(place: Path, runs: Bounded) -> None:
    """Write ``d.csv``, ``c.yaml``, and a run of an epoch, ``run``."""
    (place / "d.csv").write_bytes(table())
    (place / "c.yaml").write_text(yaml.safe_dump(CONFIG))
    ended = check(runs.run("train", "c.yaml", "--output", "run", "--quiet", cwd=place))
    assert ended.code == 0, ended.err
