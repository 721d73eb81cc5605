"""Parsers that are written in Python, led by coverage: ``make fuzz``, where atheris is installed; no test of the suite.

python tests/fuzz/coverage.py [-max_total_time=60] [FOLDER OF INPUTS]
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["onotrain"]):
    from onotrain.config.columns import TextTable
    from onotrain.config.yaml_reader import YamlError, read_yaml
    from onotrain.data import idx, npy
    from onotrain.data.tables.text import read_text
    from onotrain.errors import OnotrainError
    from onotrain.runs.checkpoint_decoder import decode
    from onotrain.runs.checkpoint_format import user_block
    from onotrain.runs.json_objects import parsed

_FILE = Path(tempfile.mkdtemp(prefix="onotrain-fuzz-")) / "f"


def _of_file(read: Callable[[str], object]) -> Callable[[bytes], object]:
    """Return what reads bytes from a file."""

    def one(data: bytes) -> object:
        _FILE.write_bytes(data)
        return read(str(_FILE))

    return one


#: By the first byte of an input.
PARSERS: tuple[Callable[[bytes], object], ...] = (
    read_yaml,
    parsed,
    _of_file(npy.read_array),
    _of_file(idx.read_array),
    _of_file(lambda path: read_text(path, "csv", TextTable())),
    lambda data: decode(data, "f"),
    lambda data: decode(user_block(data) + data, "f"),
)


def one_input(data: bytes) -> None:
    """Give an input to a parser, which may refuse it."""
    if data:
        with suppress(OnotrainError, YamlError):
            PARSERS[data[0] % len(PARSERS)](data[1:])


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
