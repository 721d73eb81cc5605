"""What `scripts/hosts.sh` says where it makes no hosts; tests/system/test_hosts.py makes some."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "hosts.sh"
BASH = shutil.which("bash") or "/bin/bash"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gets that far")


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script."""
    return subprocess.run(
        [BASH, SCRIPT, *words], env={**os.environ, **environment}, capture_output=True, text=True, timeout=20
    )


@pytest.mark.parametrize("words", ["", "up", "up 2 1mbit 1ms more", "down now", "run 2 ono1", "agent ono1", "start"])
def test_a_mistake_shows_the_usage(words: str) -> None:
    done = run(*words.split())
    assert done.returncode == 2 and done.stdout == ""
    assert all(f"  hosts.sh {name} " in done.stderr for name in ("up", "run", "down", "agent"))
    assert "set -" not in done.stderr and "#" not in done.stderr


def test_help_is_no_mistake() -> None:
    done = run("--help")
    assert done.returncode == 0 and "hosts.sh up N" in done.stdout and done.stderr == ""


@pytest.fixture
def few_programs(tmp_path: Path) -> str:
    """Return a PATH that has nothing of iproute2."""
    for name in ("readlink", "unshare", "hostname"):
        (tmp_path / name).symlink_to(shutil.which(name) or "/bin/true")
    return str(tmp_path)


@as_root
@pytest.mark.parametrize(
    ("words", "missing"), [("up 2", "ip tc"), ("down", "ip"), ("run 2 ono1,ono2 true", "ip"), ("agent ono1 true", "ip")]
)
def test_missing_programs_are_named_with_their_package(few_programs: str, words: str, missing: str) -> None:
    done = run(*words.split(), PATH=few_programs)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == f"hosts.sh: not found: {missing}; on Debian or Ubuntu: apt-get install iproute2\n"


@pytest.fixture
def all_programs(tmp_path: Path) -> str:
    """Return a PATH that has what the script needs, none of which does anything."""
    for name in ("ip", "tc", "unshare", "hostname"):
        (tmp_path / name).symlink_to("/bin/true")
    return f"{tmp_path}:{os.environ['PATH']}"


def test_others_than_root_are_refused() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # which others may look into, whatever TMPDIR is
        Path(folder).chmod(0o755)
        copy = shutil.copy(SCRIPT, folder)
        nobody = 65534 if os.geteuid() == 0 else None
        done = subprocess.run([BASH, copy, "down"], user=nobody, capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and done.stdout == ""
    assert "only root may make network namespaces: sudo" in done.stderr and done.stderr.count("\n") == 1


@as_root
@pytest.mark.parametrize("count", ["0", "-1", "two", "255", "1000", "08x"])
def test_a_number_of_hosts_that_is_none(all_programs: str, count: str) -> None:
    done = run("up", count, PATH=all_programs)
    assert (
        done.returncode == 2
        and done.stderr == f"hosts.sh: up: expected a number of hosts from 1 to 254 (got {count})\n"
    )


@as_root
@pytest.mark.parametrize("name", ["ono1", "Ono", "o", "averylongname", "a b"])
def test_a_name_that_would_not_do(all_programs: str, name: str) -> None:
    done = run("down", PATH=all_programs, ONOTRAIN_HOSTS=name)
    assert done.returncode == 1 and f"(got {name})" in done.stderr
