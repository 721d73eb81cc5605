"""The dashboard in a terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Footer, Static

from onotrain.errors import OnotrainError
from onotrain.runs.live import Request
from onotrain.watching.drawing import Line, draw
from onotrain.watching.view import View
from onotrain.watching.watched import WatchedRun

#: Between two looks [s].
INTERVAL_S = 1.0
#: Columns of the scroll bar.
_BAR_COLUMNS = 2
_STYLES = {
    "": "", "bold": "bold", "dim": "dim", "good": "bold ansi_green", "warn": "ansi_yellow", "bad": "bold ansi_red",
    "train": "ansi_cyan", "validation": "ansi_magenta", "compute": "ansi_green", "communication": "ansi_yellow",
    "wait": "dim",
}  # fmt: skip


class Confirmation(ModalScreen[bool]):
    """Asks whether the run is to stop."""

    CSS = """
    Confirmation { align: center middle; }
    Confirmation Static { width: auto; max-width: 90%; height: auto; padding: 1 2; border: round; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "yes, stop it"),
        Binding("n,escape", "dismiss(False)", "no"),
    ]

    def compose(self) -> ComposeResult:
        """Ask."""
        yield Static("Let the run save and stop?\n\ny: yes   n: no")


class Dashboard(App[None]):
    """A run, looked at every second.

    Parameters
    ----------
    run
        What is watched.
    """

    ENABLE_COMMAND_PALETTE = False
    CSS = "#body { padding: 0 1 0 0; height: auto; } VerticalScroll { scrollbar-size-vertical: 1; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "save", "save now"),
        Binding("x", "stop", "stop the run"),
        Binding("q,ctrl+c", "quit", "leave"),
    ]

    def __init__(self, run: WatchedRun) -> None:
        super().__init__()
        self.theme = "ansi-dark"  # the terminal's own colours, be it dark or light
        self._run = run
        self._seen: View | None = None
        #: Why the run cannot be looked at any more.
        self.failure: OnotrainError | None = None

    def compose(self) -> ComposeResult:
        """Show the run, and the keys."""
        with VerticalScroll():
            yield Static("", id="body")
        yield Footer()

    async def on_mount(self) -> None:
        """Look for the first time, and every second from then on."""
        self.title = "onotrain watch"
        await self._look()
        self.set_interval(INTERVAL_S, self._look)

    async def _look(self) -> None:
        """Look at the run, by a thread: its file system may be slow."""
        try:
            self._seen = await asyncio.to_thread(self._run.look)
        except OnotrainError as error:
            self.failure = error
            self.exit()
            return
        self._show()

    def on_resize(self) -> None:
        """Show the same at the new width."""
        self._show()

    def _show(self) -> None:
        if self._seen is not None and self.screen_stack:
            lines = draw(self._seen, max(20, self.size.width - _BAR_COLUMNS))
            self.query_one("#body", Static).update(content(lines))

    def action_save(self) -> None:
        """Ask the run to save."""
        self._ask(Request.SAVE)

    def action_stop(self) -> None:
        """Ask the run to stop, if that is meant."""
        self.push_screen(Confirmation(), lambda meant: self._ask(Request.STOP) if meant else None)

    def _ask(self, request: Request) -> None:
        try:
            self._run.ask(request)
        except OnotrainError as error:
            self.notify(error.message, severity="error", markup=False)
        else:
            self.notify(f"asked the run to {request}")


def content(lines: Iterable[Line]) -> Content:
    """Return lines as Textual has them; text is text, and no markup."""
    return Content("\n").join(Content.assemble(*((text, _STYLES[style]) for text, style in line)) for line in lines)
