"""Files of results, and the pages that are made of them.

A file holds what tables and plots need, one result a line: medians, least and greatest values, how many readings,
machine and commit.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from programs import ROOT, Ours

RESULTS = ROOT / "benchmarks" / "results"
STRATEGIES = ROOT / "docs" / "strategies-measured.md"


def commit() -> str:
    """Return the commit of the sources, with a mark if they have changed since."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def machine(ours: Ours, ranks: int = 1) -> dict[str, Any]:
    """Describe where this runs, and what."""
    found: dict[str, Any] = ours.bench("kernels", "--rows", 1, "--seconds", 1e-4, ranks=ranks)["machine"]
    return {"date": datetime.date.today().isoformat(), **found, "commit": commit()}


def parser(description: str | None, names: Sequence[str]) -> argparse.ArgumentParser:
    """Return a parser of the options ``--cases`` and ``--output``."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--cases", nargs="+", choices=names, default=names, metavar="CASE", help=", ".join(names))
    made.add_argument("--output", type=Path, help="file of results; default: one of today in benchmarks/results")
    return made


def slug(text: str) -> str:
    """Return a text such as the name of a processor as a part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def today(name: str) -> Path:
    """Return the path of today's file of that name."""
    return RESULTS / f"{datetime.date.today().isoformat()}-{name}.json"


def load(path: Path) -> list[dict[str, Any]]:
    """Return the results of a file; none if it is not there."""
    return json.loads(path.read_text())["results"] if path.exists() else []


def save(path: Path, about: Mapping[str, Any], results: Iterable[Mapping[str, Any]]) -> None:
    """Write what the results are about, and the results."""
    entries = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in about.items()]
    lines = ",\n".join(f"  {json.dumps(result)}" for result in results)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join([*entries, f' "results": [\n{lines}\n ]']) + "\n}\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [columns, ["---"] * len(columns), *rows])


def filled(page: str, content: str, name: str) -> str:
    """Return the page with other content between its markers of that name.

    Raises
    ------
    ValueError
        It does not have each of them once, in this order.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise ValueError(f"the page needs the lines {begin} and {end}, once, in this order")
    return f"{page[: page.index(begin)]}{begin}\n{content}\n{page[page.index(end) :]}"


def put(page: Path, content: str, name: str) -> None:
    """Put content between the markers of that name in a page."""
    page.write_text(filled(page.read_text(encoding="utf-8"), content, name), encoding="utf-8")
