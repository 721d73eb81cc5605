"""One word for one thing, and that the field's: words that were retired stay away (docs/glossary.md has the others)."""

from __future__ import annotations

import io
import keyword
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: Retired word -> what to say instead.
RETIRED = {
    "meeting": "synchronisation point, averaging round",
    "letter": "message channel",
    "mailbox": "message channel",
    "inbox": "message channel",
    "outbox": "message channel",
    "tally": "step statistics",
    "lockstep": "bulk-synchronous",
    "portion": "chunk",
    "fellows": "server communicator",
    "keeper": "run writer",
    "twin": "reference implementation",
    "verb": "subcommand",
    "mend": "fix",
    "house": "package, layers",
}
#: Retired as a part of a name; the words themselves are good English.
RETIRED_NAMES = {
    "piece": "micro-batch, chunk",
    "told": "notified, given",
    "card": "model metadata",
    "settle": "drain, synchronize",
    "settled": "complete",
    "travel": "inject_latency",
    "slowness": "injection",
    "room": "package",
    "ways": "deltas, methods",
}


def words(name: str) -> list[str]:
    """Return the words of a name, in singular."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return [singular(part.lower()) for part in parts]


def singular(word: str) -> str:
    """Return a word as the lists have it."""
    if word in RETIRED_NAMES or word in RETIRED:
        return word
    return re.sub(r"ies$", "y", word) if word.endswith("ies") else word.removesuffix("s")


def names(text: str) -> Iterator[tuple[int, str]]:
    """Yield (line, name) of all names in Python or Cython."""
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
                yield token.start[0], token.string
    except (tokenize.TokenError, SyntaxError):  # Cython's braces of C
        return


def retired_in_names(text: str) -> list[str]:
    """Return what is wrong with the names of a source text."""
    return [
        f"line {line}: {name}; say {(RETIRED | RETIRED_NAMES)[word]}"
        for line, name in names(text)
        for word in words(name)
        if word in RETIRED or word in RETIRED_NAMES
    ]


def retired_in_prose(text: str) -> list[str]:
    """Return what is wrong with the words of a text, names and all."""
    return [
        f"line {number}: {found}; say {RETIRED[singular(found.lower())]}"
        for number, line in enumerate(text.splitlines(), 1)
        for found in re.findall(r"[A-Za-z]+", line)
        if singular(found.lower()) in RETIRED
    ]


FOLDERS = ("src/onotrain", "tests", "benchmarks", "scripts")
SOURCES = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py*")
    if path.suffix in (".py", ".pyx", ".pxd", ".pyi") and path != Path(__file__)
)
TEXTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "configs").glob("*.yaml"), ROOT / "Makefile"]
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_sources_say_what_the_field_says(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert retired_in_names(text) + retired_in_prose(text) == []


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_texts_say_what_the_field_says(path: Path) -> None:
    assert retired_in_prose(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("class StepTally: ...", True),
        ("def meets(): meetings = 1", True),
        ("# a letter to the server", True),
        ("self._pieces = {}", True),
        ("# piece by piece", False),
        ("told = 1", True),
        ("discard = cardinality = 1", False),
        ("statistics = 1", False),
    ],
)
def test_a_retired_word_is_seen(text: str, found: bool) -> None:
    assert bool(retired_in_names(text) + retired_in_prose(text)) == found
