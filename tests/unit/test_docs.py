"""The documentation names what exists: commands with options that they have, pages, headings and files."""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click
import pytest
from click.testing import CliRunner

from onotrain import errors
from onotrain.cli.program import SUBCOMMANDS, program
from onotrain.config import Config
from onotrain.config.communication import Communication
from onotrain.config.strategy import Strategy
from onotrain.errors import EXIT_CODES, EXIT_INTERRUPTED, EXIT_OK, OnotrainError
from onotrain.known_names import ACTIVATIONS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
INDEX = DOCS / "index.md"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.glob("*.md")])
COMMAND = re.compile(rf"(?<![\w.'/-])onotrain ((?:{'|'.join(SUBCOMMANDS)})\b[^`\n#;|>]*)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
#: A file or folder of the repository, or of the package as it is imported.
FILE = re.compile(r"`((?:tests|benchmarks|scripts|configs|docs|src|onotrain)/[\w./-]+)`")
#: Longest line of a page, besides the rows of tables.
WIDTH = 100

every_page = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of every command line of a page, without those that show a syntax."""
    for match in COMMAND.finditer(page.read_text().replace("\\\n", " ")):
        if "[" not in match[1].split("'")[0]:
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


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Yield file and heading of every link of a page to another place of the repository."""
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" not in target:
            path, _, heading = target.partition("#")
            yield (page.parent / path if path else page), heading


def headings(page: Path) -> set[str]:
    """Return the names that code hosts give to the headings of a page."""
    titles = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE), re.M
    )
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@every_page
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


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for path, heading in links(page):
        assert path.exists(), f"{page.name}: {path}"
        assert not heading or heading in headings(path), f"{page.name}: no heading #{heading} in {path.name}"


@every_page
def test_files_that_are_named_exist(page: Path) -> None:
    for name in FILE.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / name).exists() or (ROOT / "src" / name).exists(), f"{page.name}: {name}"


@every_page
def test_lines_are_short(page: Path) -> None:
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
    assert [number for number, line in lines if len(line) > WIDTH and not line.startswith("|")] == []


def test_the_index_lists_every_page_once() -> None:
    listed = [path.name for path, _ in links(INDEX) if path.parent == DOCS]
    entries = re.findall(r"^\* \[[^]]+\]\(([^)]+)\): ", INDEX.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(entries) == sorted(page.name for page in DOCS.glob("*.md") if page != INDEX)
    assert set(entries) <= set(listed)


@every_page
def test_every_page_has_one_title(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1 and text.startswith("# ")


def test_the_glossary_names_what_is_in_the_code() -> None:
    """A name that a change has renamed is found here."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src" / "onotrain").rglob("*.py"))
    words = set(re.findall(r"\w+", source)) | {path.stem for path in (ROOT / "src" / "onotrain").rglob("*.py")}
    rows = re.findall(
        r"^\| (.+?) \| .+ \| (.*?) ?\|$", (DOCS / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    for word, name in rows:
        for part in re.findall(r"\w+", "".join(re.findall(r"`([^`]+)`", name))):
            assert part in words, f"{word}: no {part} in the code"
    assert len(rows) > 60


def test_the_design_lists_the_packages_from_the_lowest_to_the_highest() -> None:
    table = (DOCS / "design.md").read_text(encoding="utf-8").partition("| package |")[2].partition("\n\n")[0]
    listed = [
        name for cells in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", cells)
    ]
    assert tuple(listed) == runpy.run_path(str(ROOT / "tests" / "unit" / "test_layers.py"))["LAYERS"]


def test_every_option_of_a_strategy_is_in_its_section_of_the_reference() -> None:
    sections = re.split(r"^## ", (DOCS / "strategies-reference.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for options in get_args(get_args(Strategy)[0]):
        (text,) = [section for section in sections if section.startswith(f"`{options.tags()[0]}`\n")]
        for name in options.model_fields.keys() - {"name"}:
            assert re.search(rf"`{name}[`:]", text), f"{options.tags()[0]}: {name}"


def test_everything_that_is_computed_by_a_name_is_on_the_page_of_formulas() -> None:
    text = (DOCS / "math.md").read_text(encoding="utf-8")
    unions = [Config.model_fields[name].annotation for name in ("loss", "optimizer", "schedule")]
    unions.append(Communication.model_fields["codec"].annotation)
    names = [name for union in unions for options in get_args(union) for name in options.tags()]
    for name in [*names, *ACTIVATIONS]:
        assert name == "none" or f"`{name}`" in text or f"**{name}**" in text, name
    assert len(names) > 20
