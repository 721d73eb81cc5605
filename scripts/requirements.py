"""Print the requirements of pyproject.toml, one a line: what the build needs, the dependencies, and the extras named.

python scripts/requirements.py [EXTRA]...
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

project_file = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
project = project_file["project"]
known = project["optional-dependencies"]
if unknown := set(sys.argv[1:]) - set(known):
    sys.exit(f"no extra is called {', '.join(sorted(unknown))}; the extras are {', '.join(known)}")
chosen = [requirement for extra in sys.argv[1:] for requirement in known[extra]]
print(*project_file["build-system"]["requires"], "build", *project["dependencies"], *chosen, sep="\n")
