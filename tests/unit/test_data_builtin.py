"""The data sets with a name."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import os
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from onotrain.data import DataSpec, check_finite, fetch, load_dataset
from onotrain.data.builtin import data_dir
from onotrain.errors import DataError, ResourceError
from onotrain.known_names import BUILT_IN

ROOT = Path(__file__).resolve().parents[2]
PLACES = [Path(os.environ.get("ONOTRAIN_DATA_DIR", "/nonexistent")), ROOT.parent / "shared" / "data"]
MNIST = next((place for place in PLACES if (place / "mnist" / "t10k-images-idx3-ubyte.gz").exists()), None)
needs_mnist = pytest.mark.skipif(MNIST is None, reason="MNIST is not in $ONOTRAIN_DATA_DIR or ../shared/data")


def test_digits() -> None:
    data = load_dataset(DataSpec("digits"))
    assert data.features.shape == (1797, 64)
    assert data.features.dtype == np.float32
    assert (data.feature_shape, data.features.dtype) == BUILT_IN["digits"][:2]
    assert (data.features.min(), data.features.max()) == (0.0, 16.0)
    assert data.feature_shape == (8, 8)
    assert data.class_names == tuple("0123456789")
    assert data.targets is not None
    assert np.bincount(data.targets).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    # The first image, as printed in scikit-learn's documentation of load_digits.
    assert data.features[0, :8].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]
    check_finite(data)


def test_digits_without_targets() -> None:
    assert load_dataset(DataSpec("digits", targets=())).targets is None


def test_digits_has_no_test_part() -> None:
    with pytest.raises(DataError, match="no test part") as caught:
        load_dataset(DataSpec("digits", part="test"))
    assert "data.validation: 0.2" in (caught.value.hint or "")


@pytest.mark.parametrize("spec", [DataSpec("digits", features="x"), DataSpec("mnist", targets="y")])
def test_columns_do_not_apply(spec: DataSpec) -> None:
    with pytest.raises(DataError, match="do not apply to a built-in data set"):
        load_dataset(spec)


def test_unknown_part() -> None:
    with pytest.raises(DataError, match="no part 'dev', expected one of train, test"):
        load_dataset(DataSpec("digits", part="dev"))


def test_missing_mnist_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONOTRAIN_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match=r"mnist: no file train-images-idx3-ubyte\[.gz\]") as caught:
        load_dataset(DataSpec("mnist"))
    assert "onotrain data fetch mnist --from DIR" in (caught.value.hint or "")


def test_data_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONOTRAIN_DATA_DIR", "/somewhere")
    assert data_dir() == Path("/somewhere")
    monkeypatch.delenv("ONOTRAIN_DATA_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert data_dir() == Path("/cache/onotrain")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data_dir() == Path.home() / ".cache" / "onotrain"


@needs_mnist
@pytest.mark.parametrize(("part", "samples"), [("train", 60_000), ("test", 10_000)])
def test_mnist(part: str, samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONOTRAIN_DATA_DIR", str(MNIST))
    data = load_dataset(DataSpec("mnist", part=part))
    assert data.features.shape == (samples, 784)
    assert data.features.dtype == np.uint8
    assert (data.feature_shape, data.features.dtype) == BUILT_IN["mnist"][:2]
    assert data.feature_shape == (28, 28)
    assert data.targets is not None
    assert data.targets.shape == (samples,)
    assert set(np.unique(data.targets)) == set(range(10))


# ---- fetch: with four small files in the place of MNIST


FILES = {name: name.encode() * 50 for name in fetch.MNIST_FILES}


@pytest.fixture(autouse=True)
def _small_files(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "source" in request.fixturenames:
        sums = {name: (hashlib.sha256(data).hexdigest(), len(data)) for name, data in FILES.items()}
        monkeypatch.setattr(fetch, "MNIST_FILES", sums)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "source"
    directory.mkdir()
    for name, data in FILES.items():
        (directory / f"{name}.gz").write_bytes(gzip.compress(data, 1))
    return directory


@pytest.fixture
def mirror(source: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(source)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_fetch_from_a_directory(source: Path, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int | None]] = []
    paths = fetch.fetch("mnist", source, tmp_path / "data", progress=lambda *args: calls.append(args))
    assert names(tmp_path / "data" / "mnist") == sorted(f"{name}.gz" for name in FILES)
    assert [gzip.decompress(path.read_bytes()) for path in paths] == list(FILES.values())
    assert [name for name, _, _ in calls] == list(FILES)
    assert all(done == size for _, done, size in calls)


def test_fetch_uncompressed_files(source: Path, tmp_path: Path) -> None:
    for name, data in FILES.items():
        (source / f"{name}.gz").unlink()
        (source / name).write_bytes(data)
    fetch.fetch("mnist", source, tmp_path / "data")
    assert names(tmp_path / "data" / "mnist") == sorted(FILES)


def test_fetch_replaces_a_wrong_file_of_the_other_form(source: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "mnist").mkdir(parents=True)
    (tmp_path / "data" / "mnist" / "train-labels-idx1-ubyte").write_bytes(b"wrong")
    fetch.fetch("mnist", source, tmp_path / "data")
    assert names(tmp_path / "data" / "mnist") == sorted(f"{name}.gz" for name in FILES)


def test_fetch_keeps_what_is_right_and_replaces_what_is_not(source: Path, tmp_path: Path) -> None:
    paths = fetch.fetch("mnist", source, tmp_path / "data")
    good, bad = paths[0].stat().st_mtime_ns, paths[1]
    bad.write_bytes(bad.read_bytes()[:-9])
    fetch.fetch("mnist", source, tmp_path / "data")
    assert paths[0].stat().st_mtime_ns == good
    assert gzip.decompress(bad.read_bytes()) == list(FILES.values())[1]


@pytest.mark.parametrize("change", ["flip", "cut", "other"])
def test_wrong_sum(source: Path, tmp_path: Path, change: str) -> None:
    name = "t10k-images-idx3-ubyte"
    file, raw = source / f"{name}.gz", bytearray((source / f"{name}.gz").read_bytes())
    if change == "other":
        raw = bytearray(gzip.compress(b"something else"))
    elif change == "cut":
        raw = raw[:40]
    else:
        raw[30] ^= 4
    file.write_bytes(bytes(raw))
    with pytest.raises(DataError, match=f"{name}.gz: ") as caught:
        fetch.fetch("mnist", source, tmp_path / "data")
    if change == "other":
        got = hashlib.sha256(b"something else").hexdigest()
        expected = hashlib.sha256(FILES[name]).hexdigest()
        assert f"is {got} (14 bytes), expected {expected}" in str(caught.value)
    # Neither the wrong file nor a part of it is left.
    assert names(tmp_path / "data" / "mnist") == ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"]


def test_a_bomb_is_not_unpacked(source: Path, tmp_path: Path) -> None:
    (source / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(1 << 26)))
    with pytest.raises(DataError, match=r"\((\d+) bytes\), expected") as caught:
        fetch.fetch("mnist", source, tmp_path / "data")
    assert f"({1 << 20} bytes), expected" in str(caught.value)


def test_missing_source(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a directory"):
        fetch.fetch("mnist", tmp_path / "nowhere", tmp_path / "data")
    (source / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"has no file t10k-labels-idx1-ubyte\[.gz\]"):
        fetch.fetch("mnist", source, tmp_path / "data")


def test_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data set 'cifar' to fetch, expected mnist"):
        fetch.fetch("cifar", None, tmp_path)
    with pytest.raises(DataError, match="digits comes with the package"):
        fetch.fetch("digits", None, tmp_path)


def test_directory_that_cannot_be_made(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="cannot be made"):
        fetch.fetch("mnist", source, tmp_path / "file" / "data")


def test_download(mirror: str, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int | None]] = []
    paths = fetch.fetch("mnist", None, tmp_path, progress=lambda *args: calls.append(args), mirrors=[mirror])
    assert [gzip.decompress(path.read_bytes()) for path in paths] == list(FILES.values())
    assert all(done == size for _, done, size in calls)


def test_download_from_the_second_mirror(mirror: str, tmp_path: Path) -> None:
    paths = fetch.fetch("mnist", None, tmp_path, mirrors=[f"{mirror}nothing/here", mirror])
    assert len(paths) == 4


def test_no_mirror_has_it_right(mirror: str, source: Path, tmp_path: Path) -> None:
    (source / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"an error page"))
    dead = "http://127.0.0.1:1/"
    with pytest.raises(DataError, match="cannot download train-labels-idx1-ubyte") as caught:
        fetch.fetch("mnist", None, tmp_path, mirrors=[dead, f"{mirror}nothing", mirror, "nonsense"])
    message = str(caught.value)
    for part in (f"{dead}train-labels", "Connection refused", "404", "SHA-256", "nonsense", "--from DIR"):
        assert part in message
    assert names(tmp_path / "mnist") == ["train-images-idx3-ubyte.gz"]


def test_download_that_breaks_off(source: Path, tmp_path: Path) -> None:
    class Broken(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"\x1f\x8b")

        def log_message(self, *args: object) -> None: ...

    server = http.server.HTTPServer(("127.0.0.1", 0), Broken)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    with pytest.raises(DataError, match="cannot download"):
        fetch.fetch("mnist", None, tmp_path, mirrors=[f"http://127.0.0.1:{server.server_port}"])
    thread.join()
    server.server_close()
    assert names(tmp_path / "mnist") == []


@needs_mnist
def test_fetch_the_real_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MNIST is not None
    fetch.fetch("mnist", MNIST / "mnist", tmp_path)
    monkeypatch.setenv("ONOTRAIN_DATA_DIR", str(tmp_path))
    assert len(load_dataset(DataSpec("mnist", part="test"))) == 10_000
