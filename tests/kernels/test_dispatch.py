from __future__ import annotations

import inspect
import os
import subprocess
import sys

import numpy as np
import pytest

from onotrain import _kernels
from onotrain._kernels import _dispatch
from onotrain.errors import PlatformError


def test_compiled_kernels_are_installed():
    assert "baseline" in _kernels.available()
    assert _kernels.available()[-1] == "reference"


def test_every_kernel_has_a_twin_with_the_same_parameters(build):
    twins = _kernels.load("float32", "reference")
    gather = inspect.signature(twins.gather)
    assert list(inspect.signature(_kernels.load("float32", build).gather).parameters) == list(gather.parameters)
    for module, levelled in _dispatch._MODULES.items():
        if build == "reference":
            continue
        name = f"onotrain._kernels.{build}.{module}" if levelled else f"onotrain._kernels.{module}"
        compiled = __import__(name, fromlist=["*"])
        for kernel in set(_dispatch.NAMES) & set(vars(compiled)):
            got = inspect.signature(getattr(compiled, kernel)).parameters
            assert list(got) == list(inspect.signature(getattr(twins, kernel)).parameters), kernel


def test_kernels_of_one_dtype_know_it(kernels, build):
    assert kernels.path == build
    assert kernels.dtype in (np.float32, np.float64)
    assert all(callable(getattr(kernels, name)) for name in _dispatch.NAMES)


def test_another_dtype_is_refused():
    with pytest.raises(ValueError, match="got int32, expected float32 or float64"):
        _kernels.load("int32")


def test_the_variable_selects_and_select_sets_it(monkeypatch):
    monkeypatch.delenv("ONOTRAIN_KERNELS", raising=False)
    assert _kernels.path() == _kernels.available()[0]
    monkeypatch.setenv("ONOTRAIN_KERNELS", "reference")
    assert _kernels.path() == "reference"
    _kernels.select("baseline")
    assert (_kernels.path(), os.environ["ONOTRAIN_KERNELS"]) == ("baseline", "baseline")


@pytest.mark.parametrize("wrong", ["fast", "BASELINE", "x86_64_v9"])
def test_an_unknown_build_is_refused_with_the_right_ones(monkeypatch, wrong):
    monkeypatch.setenv("ONOTRAIN_KERNELS", wrong)
    for call in (_kernels.path, lambda: _kernels.load("float32"), lambda: _kernels.select(wrong)):
        with pytest.raises(PlatformError, match=f"got '{wrong}', expected one of .*baseline, reference") as error:
            call()
        assert error.value.exit_code == 7 and error.value.hint


def test_a_build_that_the_cpu_lacks_is_not_offered(monkeypatch):
    from onotrain._kernels import cpu

    assert set(_kernels.available()[:-1]) <= set(cpu.levels())


def test_importing_the_kernels_changes_no_environment():
    code = "import os; before = dict(os.environ); import onotrain._kernels; assert dict(os.environ) == before"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
