"""Control groups of Linux that this process is in: where the limits of a job are written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

#: Where each version has the files of a controller.
_MOUNT = "sys/fs/cgroup"


def folders(controller: str, root: Path) -> Iterator[tuple[Path, int]]:
    """Yield the folders of a controller, such as ``memory``, of this process's groups and all above, and their version.

    In a container those that it cannot see do not exist.

    Parameters
    ----------
    controller
        Its name.
    root
        Where ``/proc`` and ``/sys`` are.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        controllers, _, path = line.partition(":")[2].partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        group = Path(path.lstrip("/"))
        for folder in (group, *group.parents):
            yield (root / _MOUNT / controller / folder, 1) if controllers else (root / _MOUNT / folder, 2)


def read_number(path: Path) -> int | None:
    """Return the number that a file holds; None if there is none, or no file."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
