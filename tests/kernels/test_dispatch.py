from __future__ import annotations

import inspect
import os
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest

from onotrain import _kernels
from onotrain._kernels import _dispatch
from onotrain._kernels.table import NAMES
from onotrain.errors import PlatformError


def test_compiled_kernels_are_installed():
    assert "baseline" in _kernels.available()
    assert _kernels.available()[-1] == "reference"


def test_every_kernel_has_the_parameters_of_its_reference(build):
    """Which are those that type checkers see, all with a type."""
    modules = [
        import_module(f"onotrain._kernels.{build}.{module}" if levelled else f"onotrain._kernels.{module}")
        for module, levelled in _dispatch._MODULES.items()
        if build != "reference"
    ]
    kernels = _kernels.load("float32", build)
    for name in NAMES:
        expected = inspect.signature(getattr(_kernels.Kernels, name))
        assert "empty" not in str([expected.return_annotation, *(p.annotation for p in expected.parameters.values())])
        # Specialisations of compiled kernels have no signature, the functions that they are made of do.
        made_of = [vars(module)[name] for module in modules if name in vars(module)] or [getattr(kernels, name)]
        parameters = [each for each in inspect.signature(made_of[0]).parameters if each != "record"]
        assert parameters == list(expected.parameters), name
        assert (getattr(kernels, name) is getattr(_kernels.Kernels, name)) == (build == "reference"), name


def test_a_build_must_have_every_kernel():
    with pytest.raises(KeyError, match="gather"):
        _kernels.Kernels(np.dtype("float32"), "half", {name: len for name in NAMES if name != "gather"})


def test_kernels_can_be_wrapped(kernels):
    calls = []
    wrapped = kernels.wrapped(lambda name, kernel: lambda *arguments: (calls.append(name), kernel(*arguments))[1])
    assert wrapped.sum_of_squares(np.ones(3, kernels.dtype)) == 3
    assert calls == ["sum_of_squares"]
    assert (wrapped.dtype, wrapped.path) == (kernels.dtype, kernels.path)


def test_kernels_of_one_dtype_know_it(kernels, build):
    assert kernels.path == build
    assert kernels.dtype in (np.float32, np.float64)
    assert all(callable(getattr(kernels, name)) for name in NAMES)


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
