"""The dashboard as a page that a browser updates, by server-sent events.

Whoever has the token of the page's address sees the run and may ask for something; nobody else gets an answer.  A
request is taken from a header only, which a page of somebody else cannot send.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from importlib import resources

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from onotrain.config.recording import Address
from onotrain.errors import OnotrainError, UsageError
from onotrain.runs.json_objects import line_of
from onotrain.runs.live import Request
from onotrain.watching.watched import WatchedRun

#: Between two looks at the run, and the longest time without a word to a browser [s].
INTERVAL_S, KEEP_ALIVE_S = 1.0, 10.0
_NOTHING_FROM_ELSEWHERE = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Page:
    """Serves a run until the process is interrupted.

    Parameters
    ----------
    run
        What is watched.
    address
        Where to listen.

    Raises
    ------
    UsageError
        It is taken, or none of this host.
    """

    def __init__(self, run: WatchedRun, address: Address) -> None:
        self._run, self._token = run, secrets.token_urlsafe(24)
        self._socket = _listening(address)
        shown = Address(socket.gethostname() if address.host in ("0.0.0.0", "::") else address.host, address.port)
        #: What a browser is given.
        self.url = f"http://{shown}/?token={self._token}"
        #: The newest view, replaced at every change; and its number.
        self._data, self._number = "", 0
        routes = [
            Route("/", self._page),
            Route("/events", self._events),
            Route("/ask/{request}", self._ask, methods=["POST"]),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes), log_config=None, access_log=False, lifespan="off", server_header=False,
            timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = uvicorn.Server(config)

    def serve(self) -> None:
        """Serve; return when `end` is called, or the process is interrupted by Ctrl-C.

        Raises
        ------
        UsageError
            The run is gone.
        """
        with suppress(KeyboardInterrupt):  # which the server raises again when it is through
            asyncio.run(self._serve())

    def end(self) -> None:
        """Serve no longer; may be called by any thread."""
        self._server.should_exit = True

    async def _serve(self) -> None:
        looks = asyncio.create_task(self._look())
        looks.add_done_callback(lambda _: self.end())
        await self._server.serve(sockets=[self._socket])
        if looks.done():
            looks.result()
        looks.cancel()

    async def _look(self) -> None:
        while True:
            view = await asyncio.to_thread(self._run.look)
            data = line_of(view.to_dict()).decode()
            if data != self._data:
                self._data, self._number = data, self._number + 1
            await asyncio.sleep(INTERVAL_S)

    def _knows(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self._token.encode())

    async def _page(self, request: HttpRequest) -> Response:
        if not self._knows(request.query_params.get("token", "")):
            return _refusal()
        text = resources.files("onotrain.watching").joinpath("page.html").read_text("utf-8")
        return HTMLResponse(text, headers=_NOTHING_FROM_ELSEWHERE)

    async def _events(self, request: HttpRequest) -> Response:
        if not self._knows(request.query_params.get("token", "")):
            return _refusal()
        return StreamingResponse(self._stream(), media_type="text/event-stream", headers=_NOTHING_FROM_ELSEWHERE)

    async def _stream(self) -> AsyncIterator[str]:
        """Yield the view whenever it is another one; a browser that leaves ends it."""
        sent, silent = 0, 0.0
        while not self._server.should_exit:
            if self._number != sent:
                sent, silent = self._number, 0.0
                yield f"data: {self._data}\n\n"
            elif silent > KEEP_ALIVE_S:
                silent = 0.0
                yield ": \n\n"
            await asyncio.sleep(INTERVAL_S / 4)
            silent += INTERVAL_S / 4

    async def _ask(self, request: HttpRequest) -> Response:
        if not self._knows(request.headers.get("x-onotrain-token", "")):
            return _refusal()
        try:
            await asyncio.to_thread(self._run.ask, Request(request.path_params["request"]))
        except OnotrainError as error:
            return PlainTextResponse(error.message, 409, _NOTHING_FROM_ELSEWHERE)
        except ValueError:
            return PlainTextResponse("no such request", 404, _NOTHING_FROM_ELSEWHERE)
        return PlainTextResponse("asked", headers=_NOTHING_FROM_ELSEWHERE)


def _refusal() -> Response:
    text = "The token is missing or wrong: use the address that `onotrain watch` has printed."
    return PlainTextResponse(text, 403, _NOTHING_FROM_ELSEWHERE)


def _listening(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server(tuple(address), family=family)
    except OSError as error:
        raise UsageError(
            f"--web: cannot listen at {address}: {error.strerror or error}",
            hint="give another port, or a host that is an address of this one",
        ) from error
