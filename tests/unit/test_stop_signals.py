"""Which signals ask a run to stop, and which are left to whoever started it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from onotrain.parallel import launcher
from onotrain.parallel.stop_signals import StopRequest

ALWAYS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
SIGNALS = (*ALWAYS, signal.SIGHUP, signal.SIGINT)


@pytest.fixture(autouse=True)
def dispositions() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("ignored", [(), (signal.SIGHUP,), (signal.SIGHUP, signal.SIGINT)])
def test_what_is_caught(ranks: int, ignored: tuple[signal.Signals, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """What a script's `&` or nohup ignore stays so; Ctrl-C ends a process alone, and lets a launcher's ranks save."""
    monkeypatch.setattr(launcher, "may_have_others", lambda: ranks > 1)
    for number in (signal.SIGHUP, signal.SIGINT):  # whatever the tests themselves were started with
        signal.signal(number, signal.SIG_IGN if number in ignored else signal.default_int_handler)
    before = {number: signal.getsignal(number) for number in SIGNALS}
    caught = {*ALWAYS, signal.SIGHUP, *([signal.SIGINT] if ranks > 1 else [])} - set(ignored)
    for number in SIGNALS:
        with StopRequest.listening() as stop:
            assert {n for n in SIGNALS if signal.getsignal(n) != before[n]} == caught
            if number in caught:
                os.kill(os.getpid(), number)
                assert stop.signal == number.name
        assert all(signal.getsignal(n) == before[n] for n in SIGNALS)


def test_what_came_before_a_run_listens_is_not_lost() -> None:
    early = StopRequest()
    early.take()
    os.kill(os.getpid(), signal.SIGUSR2)
    with StopRequest.listening() as stop:
        assert stop.signal == "SIGUSR2"
    os.kill(os.getpid(), signal.SIGTERM)  # after the end of the run nobody is there to be asked
    assert early.signal == "SIGTERM"
