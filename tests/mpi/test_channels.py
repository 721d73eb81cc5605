"""Persistent message channels: what arrives, how a rank waits for it, and what is left when nobody sends any more."""

from __future__ import annotations

from collections.abc import Sequence
from time import sleep

import numpy as np
import pytest

from onotrain.errors import PlatformError
from onotrain.parallel import collectives
from onotrain.parallel.channels import BUSY_S, LONGEST_PAUSE_S, SHORTEST_PAUSE_S, Arrivals, Endpoint, finish
from onotrain.parallel.world import World

pytestmark = pytest.mark.mpi(min_size=2)

QUESTION = np.dtype([("number", np.int64), ("asks", np.bool_)], align=True)
ANSWER = np.dtype([("seconds", np.float64)])


def leader(world: World, received: Sequence[np.ndarray], sent: Sequence[np.ndarray]) -> Endpoint:
    """Return rank 0's channels to all others."""
    return Endpoint(world.comm, range(1, world.size), sent=(ANSWER, sent), received=(QUESTION, received))


def other(world: World, sent: np.ndarray, received: np.ndarray) -> Endpoint:
    """Return the channels of another rank to rank 0."""
    return Endpoint(world.comm, [0], sent=(QUESTION, [sent]), received=(ANSWER, [received]))


@pytest.mark.parametrize("size", [0, 1, 25, 26, 1000])
def test_headers_and_vectors_arrive_in_every_round(world: World, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Long vectors in chunks, here of 100 bytes, the short last one too, and empty ones as nothing; each rank's own."""
    monkeypatch.setattr(collectives, "CHUNK_BYTES", 100)
    if world.rank == 0:
        received, sent = np.zeros((2, world.size - 1, size), np.float32)
        end = leader(world, received, sent)
        arrivals = Arrivals(end.incoming, world.failures.check, np.zeros(1, np.int64))
        for number in range(3):
            missing = set(range(world.size - 1))
            for index in missing:
                arrivals.expect(index)
            while missing:
                for index in arrivals.wait():
                    missing.remove(index)
                    assert end.received[index].item() == (number, index == 0)
                    assert (received[index] == 10 * number + index).all()
                    finish(end.outgoing[index : index + 1])
                    sent[index], end.sent["seconds"][index] = -received[index], 0.5 * index
                    end.outgoing[index].start()
        finish(end.outgoing)
    else:
        sent, received = np.zeros((2, size), np.float32)
        end = other(world, sent, received)
        for number in range(3):
            sent[:] = 10 * number + world.rank - 1
            end.sent["number"], end.sent["asks"] = number, world.rank == 1
            for channel in (*end.incoming, *end.outgoing):
                channel.start()
            finish((*end.outgoing, *end.incoming))
            assert end.all_sent() and not any(channel.active for channel in (*end.outgoing, *end.incoming))
            assert (received == -sent).all() and end.received["seconds"][0] == 0.5 * (world.rank - 1)
    assert {len(channel.requests) for channel in (*end.incoming, *end.outgoing)} == {1 + -(-size // 25)}
    world.barrier()
    end.close()


def test_a_rank_that_waits_leaves_the_core_to_others(world: World) -> None:
    """After 0.1 ms it sleeps between looks, for an eighth of the time that it has waited, at most 10 ms.

    Time goes on by what is slept, and 25 us with each look before.  After a second the others are told to send.
    """
    time, pauses, let_go = [0.0], [], []

    def moment() -> None:
        let_go.append(time[0])
        time[0] += 25e-6

    def pause(seconds: float) -> None:
        pauses.append((time[0], seconds))
        time[0] += seconds
        if time[0] - seconds < 1.0 <= time[0]:
            for rank in range(1, world.size):
                world.comm.send(None, rank, tag=7)
        if time[0] > 1.0:
            sleep(0.001)  # the messages need true time

    if world.rank == 0:
        vectors = [np.zeros(4) for _ in range(world.size - 1)]
        end = leader(world, vectors, vectors)
        arrivals = Arrivals(
            end.incoming, world.failures.check, np.zeros(1, np.int64), now=lambda: time[0], let_go=moment, sleep=pause
        )
        for index in range(world.size - 1):
            arrivals.expect(index)
        arrived = arrivals.wait()
        assert let_go[:4] == pytest.approx([0.0, 25e-6, 50e-6, 75e-6])
        before = [(waited, seconds) for waited, seconds in pauses if waited < 1.0]
        assert before[0] == (pytest.approx(BUSY_S), SHORTEST_PAUSE_S) and before[-1][1] == LONGEST_PAUSE_S
        for waited, seconds in before:
            assert seconds == min(LONGEST_PAUSE_S, max(SHORTEST_PAUSE_S, waited / 8))
        assert sum(seconds for _, seconds in pauses) == pytest.approx(time[0] - 25e-6 * len(let_go))
        # Some 50 until pauses are at their longest, which they are after 80 ms.
        assert sum(waited < 1.0 for waited, _ in pauses) < 60 + 100
        while len(arrived) < world.size - 1:
            arrived += arrivals.wait()
        assert [vector.tolist() for vector in vectors] == [[rank] * 4 for rank in range(1, world.size)]
    else:
        end = other(world, np.full(4, float(world.rank)), np.zeros(4))
        world.comm.recv(source=0, tag=7)
        end.outgoing[0].start()
        finish(end.outgoing)
    world.barrier()
    end.close()


def test_the_rest_of_a_message_is_not_waited_for_asleep(world: World) -> None:
    """Long vectors come only as fast as both sides look: with a header, the wait begins anew.

    The header is sent after a second of the wait, its vector when the pauses have become short.
    """
    time, pauses = [0.0], [0.0]

    def moment() -> None:
        time[0] += 25e-6

    def pause(seconds: float) -> None:
        if time[0] < 1.0 <= time[0] + seconds:
            world.comm.send(None, 1, tag=7)
        elif seconds < pauses[-1]:
            world.comm.send(None, 1, tag=8)
        time[0] += seconds
        pauses.append(seconds)
        if time[0] > 1.0:
            sleep(0.001)  # the messages need true time

    if world.rank == 0:
        vectors = [np.zeros(4) for _ in range(world.size - 1)]
        end = leader(world, vectors, vectors)
        arrivals = Arrivals(
            end.incoming, world.failures.check, np.zeros(1, np.int64), now=lambda: time[0], let_go=moment, sleep=pause
        )
        arrivals.expect(0)
        assert arrivals.wait() == [0]
        assert vectors[0].tolist() == [1.0] * 4
        begins_anew = next(n for n, (one, other) in enumerate(zip(pauses, pauses[1:], strict=False)) if other < one)
        assert pauses[begins_anew : begins_anew + 2] == [LONGEST_PAUSE_S, SHORTEST_PAUSE_S]
    else:
        end = other(world, np.full(4, float(world.rank)), np.zeros(4))
        if world.rank == 1:
            end.outgoing[0].active = True
            for part, request in enumerate(end.outgoing[0].requests):
                world.comm.recv(source=0, tag=7 + part)
                request.Start()
            finish(end.outgoing)
    world.barrier()
    end.close()


def test_waiting_ends_when_the_others_are_gone(world: World) -> None:
    """What is noticed while waiting is raised, and what was expected in vain does not take later messages."""

    def gone() -> None:
        raise PlatformError("rank 1 is gone")

    vectors = [np.zeros(2) for _ in range(world.size - 1)]
    if world.rank == 0:
        end = leader(world, vectors, vectors)
        arrivals = Arrivals(end.incoming, gone, np.zeros(1, np.int64))
        arrivals.expect(0)
        with pytest.raises(PlatformError, match="rank 1 is gone"):
            arrivals.wait()
        arrivals.cancel()
        end.close()
        end = leader(world, vectors, vectors)
        end.incoming[0].start()
        world.barrier()
        finish(end.incoming)
        assert vectors[0].tolist() == [3.0, 4.0]
    else:
        end = other(world, np.array([3.0, 4.0]), np.zeros(2))
        world.barrier()
        if world.rank == 1:
            end.outgoing[0].start()
            finish(end.outgoing)
    world.barrier()
    end.close()


def test_what_is_under_way_is_not_given_back(world: World) -> None:
    """A job that fails closes everything; MPI still reads and writes those buffers."""
    if world.rank == 1:
        end = other(world, np.zeros(1), np.zeros(1))
        end.incoming[0].start()
        end.close()
        assert end.incoming[0].requests and not end.outgoing[0].requests
        for request in end.incoming[0].requests:
            request.Cancel()
            request.Wait()
            request.Free()
    world.barrier()
