"""What holds for the whole suite: which onotrain is tested, BLAS threads, hypothesis."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

# Before NumPy is imported: two ranks that start two BLAS threads each on two cores are several times slower.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# Where PyTorch is (`make test-torch`): behind all else, so that what both environments have is that of this one.
sys.path += filter(None, [os.environ.get("ONOTRAIN_TEST_TORCH")])

import hypothesis  # noqa: E402
import pytest  # noqa: E402

import onotrain  # noqa: E402

# Random examples would differ between ranks (a mismatched collective hangs) and between runs; the machine may be busy.
hypothesis.settings.register_profile("onotrain", derandomize=True, deadline=None, database=None, print_blob=True)
hypothesis.settings.load_profile("onotrain")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to test the source tree when the installed package is meant (make test sets ONOTRAIN_TEST_INSTALLED).

    No width is asked for, either, and the terminal is a usual one: what is drawn depends on it.
    """
    os.environ["TERM"] = "xterm-256color"
    os.environ.pop("COLUMNS", None)  # as a process of pytest-xdist has it, and nobody who runs without a terminal
    home = Path(onotrain.__file__).resolve()
    installed = Path(sysconfig.get_path("platlib")).resolve()
    if os.environ.get("ONOTRAIN_TEST_INSTALLED") == "1" and installed not in home.parents:
        raise pytest.UsageError(f"the installed onotrain is to be tested, but {home} was imported (not in {installed})")


def pytest_report_header() -> str:
    """Name the tested package."""
    return f"onotrain {onotrain.__version__} from {Path(onotrain.__file__).parent}"
