"""Ranks, BLAS threads and cores: what is worth a warning."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from onotrain.parallel import threads


@pytest.mark.parametrize(
    ("ranks", "blas_threads", "vendor", "words"),
    [
        (4, 1, "MPICH", None),
        (5, 1, "Open MPI", None),
        (5, 1, "MPICH", "5 ranks on 4 cores: they keep the cores busy"),
        (5, 1, "Intel MPI", "start at most 4 ranks on a node"),
        (2, 2, "MPICH", None),
        (2, 3, "Open MPI", "2 ranks x 3 BLAS threads on 4 cores: they will fight"),
        (5, 2, "MPICH", "set OPENBLAS_NUM_THREADS=1"),
    ],
)
def test_more_ranks_or_threads_than_cores(
    ranks: int, blas_threads: int, vendor: str, words: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", str(blas_threads))
    monkeypatch.setattr(threads, "node_cores", lambda: 4)
    monkeypatch.setattr(threads, "start_mpi", lambda: SimpleNamespace(get_vendor=lambda: (vendor, (1, 0, 0))))
    warning = threads.warning(ranks)
    assert (warning is None) == (words is None) and (words or "") in (warning or "")
