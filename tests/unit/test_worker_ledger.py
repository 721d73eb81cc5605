"""What a server knows of its workers: who may go on, how stale gradients are, and whether a batch is complete."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onotrain.strategies.parameter_server.ledger import WorkerLedger


def ledger(workers: int = 2, bound: int | None = None, *, overlap: bool = False, batch: int = 1) -> WorkerLedger:
    """Return one whose workers all push `batch` next, with parameters of version 0."""
    made = WorkerLedger(workers, bound, overlap=overlap)
    made.begin(batch, 0)
    return made


def test_staleness_is_the_number_of_updates_since_the_worker_was_replied_to() -> None:
    """The slow worker's gradient is of the first parameters, whatever the fast one has pushed since."""
    workers = ledger()
    for version in range(3):
        assert workers.push(0, version + 1, version) == 0
        assert workers.release(version + 1) == [0]
    assert workers.push(1, 1, 3) == 3
    workers.release(4)
    assert workers.push(1, 2, 4) == 0


def test_with_overlap_a_gradient_is_of_the_reply_before() -> None:
    """A worker begins its next batch before the reply to its push: that is known to the batch after it."""
    workers = ledger(1, overlap=True)
    found = []
    for version in range(4):
        found.append(workers.push(0, version + 1, version))
        workers.release(version + 1)
    assert found == [0, 1, 1, 1]
    workers.begin(5, 4)  # at a synchronisation point it has waited
    assert workers.push(0, 5, 4) == 0


def test_who_may_go_on_by_hand() -> None:
    """With bound 1 the fast worker is parked two steps ahead, and let go with the slow one."""
    workers = ledger(bound=1)
    workers.push(0, 1, 0)
    assert workers.release(1) == [0]
    workers.push(0, 2, 1)
    assert workers.release(2) == []
    workers.push(1, 1, 2)
    assert workers.release(3) == [0, 1]
    assert workers.report()["worker_leads"] == [2, 0]


def test_a_batch_is_complete_when_the_slowest_has_pushed_it() -> None:
    workers = ledger(3, batch=11)
    assert not workers.complete(11) and workers.complete(10)
    for worker in (2, 0):
        workers.push(worker, 11, 0)
    workers.release(0)
    workers.push(2, 12, 0)
    assert not workers.complete(11) and workers.batch_ahead() == 13
    workers.push(1, 11, 0)
    assert workers.complete(11) and not workers.complete(12)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_push_of_another_batch_is_an_error(batch: int) -> None:
    """Sums would be of different samples without a word."""
    workers = ledger(batch=2)
    with pytest.raises(RuntimeError, match=f"worker 1 pushed batch {batch} after 0 steps"):
        workers.push(1, batch, 0)


def test_a_push_of_a_worker_that_was_not_released_is_an_error() -> None:
    workers = ledger(bound=0)
    workers.push(0, 1, 0)
    with pytest.raises(RuntimeError, match="worker 0 finished a step that it was not to begin"):
        workers.push(0, 2, 0)


def test_reports_are_of_the_epoch_and_histograms_of_the_run() -> None:
    """Which a checkpoint keeps; steps are those since the strategy was made."""
    workers = ledger()
    workers.push(0, 1, 0)
    workers.push(1, 1, 1)
    first = workers.report()
    assert first["staleness"] == {
        "gradients": 2, "mean": 0.5, "max": 1, "histogram": [1, 1], "run_histogram": [1, 1],
    }  # fmt: skip
    assert (first["worker_steps"], first["worker_leads"]) == ([1, 1], [1, 0])
    resumed = WorkerLedger(2, None, overlap=False)
    resumed.restore(workers.notes())
    resumed.begin(2, 2)
    resumed.push(1, 2, 2)
    second = resumed.report()
    assert (second["staleness"]["histogram"], second["staleness"]["run_histogram"]) == ([1], [2, 1])
    assert (second["worker_steps"], second["worker_leads"]) == ([0, 1], [0, 1])
    assert resumed.report()["worker_leads"] == [0, 0]


@given(st.data(), st.integers(1, 4), st.none() | st.integers(0, 3), st.booleans(), st.integers(1, 50))
def test_staleness_in_every_schedule(
    data: st.DataObject, workers: int, bound: int | None, overlap: bool, first: int
) -> None:
    """By its definition: versions now less that of the parameters that the worker had when it began the batch."""
    made = ledger(workers, bound, overlap=overlap, batch=first)
    pushed, version = [0] * workers, 0
    #: Versions that each worker was sent, from the first on.
    sent = [[0] for _ in range(workers)]
    working = set(range(workers))
    for _ in range(data.draw(st.integers(0, 30))):
        worker = data.draw(st.sampled_from(sorted(working)))
        working.remove(worker)
        before = sent[worker][-2:][0] if overlap else sent[worker][-1]
        assert made.push(worker, first + pushed[worker], version) == version - before
        pushed[worker] += 1
        version += data.draw(st.integers(0, 1))  # a compensation may hold it back
        released = made.release(version)
        for other in released:
            sent[other].append(version)
        working |= set(released)
        assert made.batch_ahead() == first + max(pushed)
        assert made.complete(first + min(pushed) - 1) and not made.complete(first + min(pushed))
