"""The two faces of a run that is watched: the terminal by its keys, the page by HTTP."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from textual.widgets import Static

from onotrain.config.recording import Address
from onotrain.errors import PlatformError, UsageError
from onotrain.runs import live
from onotrain.runs.live import Request
from onotrain.runs.run_directory import RunDirectory
from onotrain.watching import terminal, web
from onotrain.watching.extra import needing
from onotrain.watching.terminal import Dashboard
from onotrain.watching.watched import WatchedRun
from onotrain.watching.web import Page

PAGE = Path(web.__file__).with_name("page.html")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunDirectory]:
    """Give a run that this process holds; its name is no markup."""
    with RunDirectory.create(tmp_path / "[red]<b>run", config_yaml="training: {epochs: 4}", environment={}) as held:
        live.write_progress(held.path, {"host": "node7", "phase": "training", "step": 3, "total_steps": 6})
        live.add_event(held.path, "noted", message="[bold]x[/] is no markup")
        yield held


def test_a_library_that_is_missing() -> None:
    with pytest.raises(PlatformError, match="no_such_library") as caught, needing():
        import no_such_library  # noqa: F401
    assert "onotrain[watch]" in (caught.value.hint or "")


# The terminal ---------------------------------------------------------------------------------------------------------


def pressed(run: RunDirectory, *keys: str, columns: int = 80) -> str:
    """Return what the dashboard shows after some keys."""

    async def press() -> str:
        app = Dashboard(WatchedRun(run.path))
        async with app.run_test(size=(columns, 40)) as pilot:
            await pilot.pause()
            for key in keys:
                await pilot.press(key)
                await pilot.pause()
            body = app.screen_stack[0].query_one("#body", Static)
            return "\n".join(strip.text for strip in body.render_lines(body.region.reset_offset))

    return asyncio.run(press())


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_what_a_terminal_shows(run: RunDirectory, columns: int) -> None:
    shown = pressed(run, columns=columns)
    assert "[red]<b>run  > running" in shown and "50 %" in shown and "[bold]x[/] is no markup" in shown


@pytest.mark.parametrize(
    ("keys", "asked"),
    [("s", {Request.SAVE}), ("x", set()), ("xn", set()), ("xy", {Request.STOP}), ("xys", {Request.STOP, Request.SAVE})],
)
def test_keys_ask(run: RunDirectory, keys: str, asked: set[Request]) -> None:
    pressed(run, *keys)
    assert {request for request in Request if live.asked(run.path, request)} == asked


def test_a_run_that_is_over_is_not_asked(run: RunDirectory) -> None:
    run.close()
    pressed(run, "s")
    assert not live.asked(run.path, Request.SAVE)


def test_a_directory_that_goes_ends_the_dashboard(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "INTERVAL_S", 0.01)

    async def watch() -> Dashboard:
        app = Dashboard(WatchedRun(run.path))
        async with app.run_test() as pilot:
            run.path.rename(run.path.with_name("elsewhere"))
            for _ in range(100):
                if app.failure is None:
                    await pilot.pause(0.05)
        return app

    failure = asyncio.run(watch()).failure
    assert failure is not None and "is gone" in failure.message


# The page -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def page(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """Give a page that is served by a thread."""
    monkeypatch.setattr(web, "INTERVAL_S", 0.05)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    served = Page(WatchedRun(run.path), Address("127.0.0.1", port))
    thread = threading.Thread(target=served.serve)
    thread.start()
    yield served
    served.end()
    thread.join(20)
    assert not thread.is_alive()


def token_of(page: Page) -> str:
    return parse_qs(urlsplit(page.url).query)["token"][0]


def answer(page: Page, method: str, path: str, **headers: str) -> tuple[int, str, http.client.HTTPMessage]:
    """Return status, text and headers of an answer."""
    connection = http.client.HTTPConnection(urlsplit(page.url).netloc, timeout=20)
    connection.request(method, path, headers=headers)
    found = connection.getresponse()
    text = found.read().decode()
    connection.close()
    return found.status, text, found.headers


def views(page: Page) -> Iterator[dict]:
    """Yield the views that a browser is sent."""
    connection = http.client.HTTPConnection(urlsplit(page.url).netloc, timeout=20)
    connection.request("GET", f"/events?token={token_of(page)}")
    stream = connection.getresponse()
    assert stream.headers["content-type"].startswith("text/event-stream")
    try:
        while True:
            line = stream.readline().decode()
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))
    finally:
        stream.close()
        connection.close()


def test_without_the_token_there_is_nothing(page: Page, run: RunDirectory) -> None:
    token = token_of(page)
    for method, path, header in (
        ("GET", "/", ""), ("GET", "/?token=", ""), ("GET", f"/?token={token[:-1]}", ""), ("GET", "/events", ""),
        ("GET", "/events?token=%C3%A4", ""), ("POST", "/ask/stop", ""), ("POST", "/ask/stop", "x" * 32),
        ("POST", f"/ask/stop?token={token}", ""),
    ):  # fmt: skip
        status, text, _ = answer(page, method, path, **{"X-Onotrain-Token": header})
        assert status == 403 and "running" not in text and token not in text
    assert not live.asked(run.path, Request.STOP)


def test_the_page_needs_nothing_from_elsewhere(page: Page) -> None:
    status, text, headers = answer(page, "GET", f"/?token={token_of(page)}")
    assert status == 200 and text == PAGE.read_text("utf-8")
    assert "default-src 'none'" in headers["content-security-policy"] and headers["referrer-policy"] == "no-referrer"
    assert set(re.findall(r"https?://[^\"' ]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "innerHTML" not in text and "document.write" not in text


def test_a_browser_is_sent_what_changes(page: Page, run: RunDirectory) -> None:
    sent = views(page)
    first = next(sent)
    assert (first["name"], first["state"], first["step"]) == ("[red]<b>run", "running", 3)
    live.write_progress(run.path, {"host": "node7", "phase": "evaluating", "step": 4, "total_steps": 6})
    assert any(view["step"] == 4 and view["words"] == "evaluating" for view in sent)
    sent.close()  # type: ignore[attr-defined]


def test_requests_of_a_browser(page: Page, run: RunDirectory) -> None:
    next(views(page))
    known = {"X-Onotrain-Token": token_of(page)}
    assert answer(page, "POST", "/ask/dance", **known)[0] == 404
    assert answer(page, "GET", "/ask/stop", **known)[0] == 405
    assert answer(page, "POST", "/ask/save", **known)[0] == 200 and live.asked(run.path, Request.SAVE)
    run.close()
    status, text, _ = answer(page, "POST", "/ask/stop", **known)
    assert status == 409 and "nobody would hear it" in text and not live.asked(run.path, Request.STOP)


def test_a_port_that_is_taken(run: RunDirectory) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(UsageError, match="cannot listen at 127.0.0.1:"):
            Page(WatchedRun(run.path), address)
