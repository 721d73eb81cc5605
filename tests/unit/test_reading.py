"""How the files of a data set are read: in order, counted, and dealt to the ranks of a node."""

from __future__ import annotations

import glob
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onotrain.cli.epochs import files_read, megabytes
from onotrain.cli.files_read import INTERVAL_S, FilesBar, FilesLines, FilesProgress
from onotrain.data import DataSpec, load_dataset
from onotrain.data.reading import FileReader, FilesRead, in_turn
from onotrain.data.sources import expanded, files_of, read_table
from onotrain.errors import DataError
from onotrain.parallel.reading import dealt


def files(directory: Path, count: int) -> str:
    for number in range(count):
        np.savez(directory / f"part-{number}.npz", x=np.full((number + 1, 3), number), y=np.arange(number + 1))
    return f"{directory}/part-*.npz"


class TestFileReader:
    def test_counts_what_it_reads(self, tmp_path: Path) -> None:
        pattern, seen = files(tmp_path, 4), list[tuple[int, int]]()
        reader = FileReader(lambda done, total: seen.append((done, total)))
        assert load_dataset(DataSpec(pattern), reader).targets.tolist() == [0, 0, 1, 0, 1, 2, 0, 1, 2, 3]  # type: ignore[union-attr]
        assert seen == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
        assert (reader.files, reader.nbytes) == (4, sum(Path(path).stat().st_size for path in glob.glob(pattern)))
        load_dataset(DataSpec(f"{tmp_path}/part-0.npz"), reader)
        assert reader.files == 5

    def test_what_is_no_file_has_no_bytes(self) -> None:
        reader = FileReader()
        load_dataset(DataSpec("digits"), reader)
        assert (reader.files, reader.nbytes) == (1, 0)

    def test_the_first_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        pattern = files(tmp_path, 5)
        for number in (3, 1):
            (tmp_path / f"part-{number}.npz").write_bytes(b"PK\x03\x04")
        for reader in (FileReader(), in_turn):
            with pytest.raises(DataError, match=r"part-1\.npz"):
                load_dataset(DataSpec(pattern), reader)

    def test_tables(self, tmp_path: Path) -> None:
        for number in range(3):
            (tmp_path / f"{number}.csv").write_text(f"a,b\n{number},x\n")
        reader = FileReader()
        table = read_table(DataSpec(f"{tmp_path}/*.csv"), texts=("a",), reader=reader)
        assert table["a"].texts().tolist() == ["0", "1", "2"]
        assert (reader.files, reader.nbytes) == (3, 24)


def test_a_pattern_is_expanded_once(tmp_path: Path) -> None:
    spec = expanded(DataSpec(files(tmp_path, 2)))
    np.savez(tmp_path / "part-9.npz", x=np.zeros((1, 3)), y=np.zeros(1))
    (tmp_path / "part-0.npz").rename(tmp_path / "0.npz")
    assert [Path(each.path).name for each in files_of(spec)] == ["part-0.npz", "part-1.npz"]
    assert all(each.expanded for each in files_of(spec))
    with pytest.raises(DataError, match=r"part-0\.npz: no such file"):
        load_dataset(spec)


class TestDealing:
    def test_equal_files_go_round(self) -> None:
        assert dealt([5] * 7, 3) == [[0, 3, 6], [1, 4], [2, 5]]
        assert dealt([0, 0], 4) == [[0], [1], [], []]

    def test_a_large_file_counts_for_many_small_ones(self) -> None:
        assert dealt([10**6] * 3 + [10**9] + [10**6] * 3, 2) == [[3], [0, 1, 2, 4, 5, 6]]

    @given(st.lists(st.integers(0, 10**9), max_size=50), st.integers(1, 5))
    def test_each_file_once_and_no_rank_much_more_than_others(self, sizes: list[int], ranks: int) -> None:
        shares = dealt(sizes, ranks)
        assert sorted(number for share in shares for number in share) == list(range(len(sizes)))
        assert all(share == sorted(share) for share in shares)
        loads = [sum(sizes[number] for number in share) for share in shares]
        assert max(loads) - min(loads) <= max(sizes, default=0) + 50 * 2**16


class TestDisplay:
    def lines(self, *times: float) -> list[str]:
        """Return the lines for files each of which is read at one of these times [s]."""
        said: list[str] = []
        clock = iter((0.0, *times))
        progress = FilesProgress(FilesLines(said.append), lambda: next(clock))
        for done in range(len(times) + 1):
            progress(done, len(times))
        return said

    def test_nothing_is_said_of_what_takes_less_than_a_second(self) -> None:
        assert self.lines(0.5, 0.9, 0.99) == []
        assert self.lines(5.0) == []

    def test_lines_become_rare(self) -> None:
        assert self.lines(*(0.125 * number for number in range(1, 161))) == [
            "read 8 of 160 files in 1.0 s", "read 32 of 160 files in 4.0 s", "read 128 of 160 files in 16.0 s",
        ]  # fmt: skip

    def test_each_data_set_begins_anew(self) -> None:
        said: list[str] = []
        clock = iter([0.0, 2.0, 3.0, 10.0, 10.5, 11.5, 12.0])
        progress = FilesProgress(FilesLines(said.append), lambda: next(clock))
        for done, total in ((0, 2), (1, 2), (2, 2), (0, 3), (1, 3), (2, 3), (3, 3)):
            progress(done, total)
        assert said == ["read 1 of 2 files in 2.0 s", "read 2 of 3 files in 1.5 s"]

    def test_a_bar_comes_and_goes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stream = io.StringIO()
        monkeypatch.setattr("onotrain.cli.terminal.terminal_stream", lambda: stream)
        bar = FilesBar(80)
        bar.close()
        for _ in range(2):  # of two data sets
            assert bar.show(3, 10, 1.5) == bar.show(4, 10, 1.6) == INTERVAL_S
            assert "3/10" in stream.getvalue() and "4/10" in stream.getvalue()
            bar.close()
            stream.seek(0)
            stream.truncate()

    def test_what_it_took_in_words(self) -> None:
        read = FilesRead(1000, 57_300_000, 0.8, (300, 0, 700), (1, 0, 1))
        assert files_read(read) == "1,000 files, 57 MB, read by 2 ranks in 0.80 s"
        assert [megabytes(size) for size in (310_000, 9_940_000, 9_960_000, 1_250_000_000)] == [
            "0.31 MB", "9.9 MB", "10 MB", "1,250 MB",
        ]  # fmt: skip
