"""A strategy, a loss and a metric of a package that is not in the tree: installed, configured, trained with."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

import launch

PACKAGE = '''
"""Descent along signs, a loss for counts, and how far predictions are off on average."""

from typing import Literal

import numpy as np
from pydantic import Field

from onotrain.config import LossOptions, StrategyOptions
from onotrain.nn.losses import Loss
from onotrain.strategies import Flat, Strategy


class SignOptions(StrategyOptions):
    name: Literal["sign"] = Field(description="Each rank contributes the signs of its gradient.")
    scale: float = Field(1.0, gt=0, description="Length of a sign.")


class Sign(Flat):
    """signSGD (Bernstein et al., arXiv 1802.04434) with the mean of the ranks' signs."""

    Options = SignOptions

    def __init__(self, context):
        super().__init__(context)
        self._length = context.options.scale / context.world.size

    def step(self, learning_rate, number, samples, statistics, *, synchronize):
        gradient = self.replica.gradient
        np.multiply(np.sign(gradient, out=gradient), self._length, out=gradient)
        super().step(learning_rate, number, samples, statistics, synchronize=synchronize)


class CountsOptions(LossOptions):
    activation = None

    name: Literal["counts"] = Field(description="Negative log-likelihood of counts; the network predicts their mean.")
    floor: float = Field(0.0, ge=0, description="Smallest mean.")


class Counts(Loss):
    Options = CountsOptions

    def __call__(self, logits, targets, weight, dlogits, loss_sums):
        means = np.exp(logits)
        loss_sums[0] += (means - targets * logits).sum(dtype=np.float64)
        if dlogits is not None:
            np.multiply(means - targets, weight, out=dlogits)

    def activate(self, logits, out):
        np.maximum(np.exp(logits), self.options.floor, out=out)


class Stepless(Strategy):
    class Options(StrategyOptions):
        name: Literal["stepless"]


class Stranger:
    class Options(StrategyOptions):
        name: Literal["stranger"]


class Mute(Loss):
    class Options(LossOptions):
        name: Literal["mute"]


class Alien:
    class Options(LossOptions):
        name: Literal["alien"]


class Bias:
    name, size = "bias", 1
    tasks, mode = ("regression",), "min"

    def __init__(self, loss, origin):
        self._outputs = loss.outputs

    def sums(self, logits, targets, loss_sums):
        return np.array([(logits - targets).sum(dtype=np.float64)])

    def value(self, sums, samples):
        return float(sums[0]) / (samples * self._outputs)
'''
ENTRY_POINTS = """
[onotrain.strategies]
sign = acme:Sign
lost = acme.nowhere:Lost
other = acme:Sign
stepless = acme:Stepless
stranger = acme:Stranger

[onotrain.losses]
counts = acme:Counts
naked = acme:Bias
mute = acme:Mute
alien = acme:Alien

[onotrain.metrics]
bias = acme:Bias
biased = acme:Counts
"""
CONFIG = """\
data: {train: counts.csv, validation: 0.25}
model: {layers: [{dense: {units: 8, activation: tanh}}, {dense: 1}]}
loss: {name: counts, floor: 0.01}
optimizer: {name: sgd, learning_rate: 0.002}
training:
  epochs: 4
  batch_size: 20
  metrics: [loss, bias, mae]
  early_stopping: {metric: validation_bias, patience: 9}
strategy: {name: sign, scale: 2}
"""


def install(folder: Path, name: str, entry_points: str) -> None:
    """Write what an installed package leaves beside its modules."""
    info = folder / f"{name.replace('-', '_')}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(entry_points)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Return the environment in which the package is installed."""
    folder = tmp_path_factory.mktemp("site")
    install(folder, "acme", ENTRY_POINTS)
    (folder / "acme.py").write_text(PACKAGE)
    return {"PYTHONPATH": str(folder)}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [f"{x / 10},{(x * 7) % 5 / 5},{(x * x) % 4 + x // 40}" for x in range(160)]
    Path("counts.csv").write_text("\n".join(["a,b,target", *rows]) + "\n")
    Path("c.yaml").write_text(CONFIG)
    return tmp_path


def complaints(site: Mapping[str, str], *overrides: str) -> list[str]:
    """Return the lines of what `validate` finds wrong."""
    changes = [word for override in overrides for word in ("--set", override)]
    done = launch.onotrain("validate", "c.yaml", *changes, env=site)
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr.removeprefix("onotrain: ").splitlines()


def test_a_configuration_is_validated_and_written_out(site: Mapping[str, str]) -> None:
    done = launch.onotrain("validate", "c.yaml", env=site)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "c.yaml: OK" and "strategy   sign" in done.stdout
    resolved = launch.onotrain("validate", "c.yaml", "--set", "strategy=sign", "--resolved", env=site).stdout
    assert yaml.safe_load(resolved)["strategy"] == {"name": "sign", "scale": 1.0}


@pytest.mark.parametrize("ranks", [0, 2])
def test_it_trains_evaluates_and_predicts(site: Mapping[str, str], ranks: int) -> None:
    """With the strategy, the loss and the metric; another loss than the tree's has predictions of its own."""
    done = launch.onotrain("train", "c.yaml", "--output", "run", "--quiet", ranks=ranks, env=site)
    assert (done.returncode, done.stderr) == (0, "")
    records = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert records[-1]["train_loss"] < records[0]["train_loss"]
    assert {"validation_loss", "validation_bias", "validation_mae"} <= records[-1].keys()
    assert json.loads(Path("run/summary.json").read_text())["strategy"] == "sign"
    done = launch.onotrain("train", "c.yaml", "--output", "run", "--resume", "--set", "training.epochs=5", env=site)
    assert done.returncode == 0 and "resumed" in done.stdout
    assert "scale: 2.0" in Path("run/config.yaml").read_text()

    done = launch.onotrain("evaluate", "run", "counts.csv", "--json", ranks=ranks, env=site)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["metrics"]
    done = launch.onotrain("predict", "run", "counts.csv", "--output", "p.csv", ranks=ranks, env=site)
    assert done.returncode == 0, done.stderr
    predicted = [float(line) for line in Path("p.csv").read_text().splitlines()[1:]]
    targets = [float(line.rpartition(",")[2]) for line in Path("counts.csv").read_text().splitlines()[1:]]
    errors = [p - t for p, t in zip(predicted, targets, strict=True)]
    assert min(predicted) > 0.0
    assert found["bias"] == pytest.approx(sum(errors) / 160, abs=1e-5)
    assert found["mae"] == pytest.approx(sum(map(abs, errors)) / 160, abs=1e-5)

    done = launch.onotrain("export", "run", "--format", "npz", "--output", "n.npz", env=site)
    assert done.returncode == 2
    assert "loss counts of acme predicts by a function of its own, which npz cannot hold" in done.stderr


def test_wrong_options_are_found_like_built_in_ones(site: Mapping[str, str]) -> None:
    Path("c.yaml").write_text(CONFIG.replace("scale: 2", "scal: 2").replace("floor: 0.01", "floor: -1"))
    assert complaints(site) == [
        "c.yaml:3:29: loss.floor: must be at least 0 (got -1)",
        "c.yaml:10:24: strategy.scal: unknown key of strategy 'sign'; did you mean 'scale'?",
    ]
    Path("c.yaml").write_text(CONFIG)
    assert complaints(site, "strategy.name=sing", "loss.name=coutns") == [
        "--set strategy.name=sing: unknown strategy (got 'sing'); did you mean 'sign'?",
        "--set loss.name=coutns: unknown loss (got 'coutns'); did you mean 'counts'?",
    ]
    assert complaints(site, "training.metrics=[bias, baas]") == [
        "--set training.metrics=[bias, baas]: training.metrics.1: unknown metric (got 'baas'); did you mean 'bias'?"
    ]
    assert complaints(site, "training.early_stopping.metric=validation_bas") == [
        "--set training.early_stopping.metric=validation_bas: no such metric with loss counts (got "
        "'validation_bas'); did you mean 'validation_bias'?"
    ]
    assert complaints(site, "communication.codec=int8", "training.load_balance=throughput") == [
        "--set communication.codec=int8: must be none with strategy sign, which encodes no messages (got int8)",
        "--set training.load_balance=throughput: needs a strategy whose ranks share every batch, allreduce, flat or "
        "parameter_server (got sign)",
    ]


def test_what_does_not_work_is_named_when_it_is_used(site: Mapping[str, str], tmp_path: Path) -> None:
    """And not before: all of these are installed in the other tests, too."""
    assert complaints(site, "strategy=lost") == [
        "--set strategy=lost: entry point 'lost' of acme 1.2 (group onotrain.strategies) cannot be loaded: "
        "ModuleNotFoundError: No module named 'acme.nowhere'; 'acme' is not a package"
    ]
    assert complaints(site, "strategy=other") == [
        "--set strategy=other: entry point 'other' of acme 1.2 (group onotrain.strategies) has Options of another name "
        "(got sign)"
    ]
    assert complaints(site, "loss=naked") == [
        "--set loss=naked: entry point 'naked' of acme 1.2 (group onotrain.losses) must be a class whose attribute "
        "Options is a subclass of LossOptions (got <class 'acme.Bias'>)"
    ]
    biased = complaints(site, "training.metrics=[biased, bias]")
    assert len(biased) == 1 and "entry point 'biased' of acme 1.2 (group onotrain.metrics) must be a class" in biased[0]
    install(tmp_path / "more", "acme-fork", "[onotrain.strategies]\nsign = fork:Sign\n")
    both = {"PYTHONPATH": f"{site['PYTHONPATH']}:{tmp_path / 'more'}"}
    assert complaints(both) == [
        "c.yaml:10:18: strategy.name: entry point 'sign' of acme 1.2 (group onotrain.strategies) is also one of "
        "acme-fork 1.2; uninstall all but one"
    ]


@pytest.mark.parametrize(
    ("section", "name", "found"),
    [
        ("strategy", "stepless", "must have the method step (got <class 'acme.Stepless'> without)"),
        (
            "strategy", "stranger",
            "must be a subclass of onotrain.strategies.base.Strategy (got <class 'acme.Stranger'>)",
        ),
        ("loss", "mute", "must have the method __call__ (got <class 'acme.Mute'> without)"),
        ("loss", "alien", "must be a subclass of onotrain.nn.losses.Loss (got <class 'acme.Alien'>)"),
    ],
)  # fmt: skip
def test_a_class_of_another_kind(site: Mapping[str, str], section: str, name: str, found: str) -> None:
    """Options alone make no strategy or loss; before anything is built."""
    group = {"strategy": "strategies", "loss": "losses"}[section]
    assert complaints(site, f"{section}={name}") == [
        f"--set {section}={name}: entry point '{name}' of acme 1.2 (group onotrain.{group}) {found}"
    ]


def test_built_in_names_ask_for_no_package(site: Mapping[str, str], tmp_path: Path) -> None:
    """Not even for the list of them: a broken installation of another package harms nobody."""
    code = """
import onotrain.config.plugins
onotrain.config.plugins.entry_points = None
from onotrain.config import load_config
load_config("c.yaml", ["strategy=flat", "loss=mse", "training.metrics=auto", "training.early_stopping=null"])
"""
    done = launch.run([sys.executable, "-c", code], env=site)
    assert (done.returncode, done.stderr) == (0, "")
