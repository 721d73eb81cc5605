"""``python -m onotrain.config docs``: bring the documentation of the configuration in step with the models."""

from __future__ import annotations

import sys
from pathlib import Path

from onotrain.config.reference import write_reference

if __name__ == "__main__":
    write_reference(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
