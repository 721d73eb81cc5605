"""The documentation names commands that exist, with options that they have."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from onotrain import errors
from onotrain.cli.program import SUBCOMMANDS, program
from onotrain.errors import EXIT_CODES, EXIT_INTERRUPTED, EXIT_OK, OnotrainError

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
COMMAND = re.compile(rf"(?<![\w.'/-])onotrain ((?:{'|'.join(SUBCOMMANDS)})\b[^`\n#;|>]*)")


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of every command line of a page, without those that show a syntax."""
    for match in COMMAND.finditer(page.read_text().replace("\\\n", " ")):
        if "[" not in match[1]:
            yield shlex.split(match[1])


def parse(words: list[str]) -> None:
    """Let click read a command line, without running anything."""
    command: click.Command = program
    context = click.Context(program)
    while isinstance(command, click.Group) and words:
        _, found, words = command.resolve_command(context, words)
        assert found is not None
        command = found
    if words:  # a subcommand alone is a way to speak of it
        command.make_context("onotrain", words)


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_commands_are_understood(page: Path) -> None:
    for words in commands(page):
        try:
            parse(list(words))
        except click.UsageError as error:
            pytest.fail(f"{page.name}: onotrain {shlex.join(words)}: {error.format_message()}")


def test_exit_codes_are_those_of_the_errors() -> None:
    """Wherever they are listed: in the help, the README and the page of the commands."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, OnotrainError)]
    assert {kind.exit_code for kind in kinds} | {EXIT_OK, EXIT_INTERRUPTED} == set(EXIT_CODES)
    listed = " ".join(CliRunner().invoke(program, ["--help"]).output.split())
    readme = (ROOT / "README.md").read_text()
    assert all(f"{code} {meaning}" in text for code, meaning in EXIT_CODES.items() for text in (listed, readme))
    table = (ROOT / "docs" / "commands.md").read_text().partition("## Exit codes")[2].partition("\n\n## ")[0]
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)] == list(EXIT_CODES)


def test_the_pages_have_commands() -> None:
    assert sum(len(list(commands(page))) for page in PAGES) > 25
