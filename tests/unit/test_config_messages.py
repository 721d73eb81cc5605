"""What a user reads when a configuration is wrong: every kind of mistake, word for word."""

# ruff: noqa: E501 -- messages are compared whole, and read best so

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from onotrain.config import Config, load_config
from onotrain.config.choices import OneKey
from onotrain.config.layers import LAYER_KINDS
from onotrain.config.optimizer import UPDATE_RULES
from onotrain.config.wording import any_of
from onotrain.errors import EXIT_OK, ConfigError
from schema_walk import Place, places

*MOST_RULES, LAST_RULE = UPDATE_RULES
RULES = f"{', '.join(MOST_RULES)} or {LAST_RULE}"
CHOICES = [place for place in places(Config) if place.choice is not None]

GOOD = """\
data: {train: digits, validation: 0.2}
model:
  layers:
    - dense: {units: 16, activation: relu}
    - dense: 10
loss: cross_entropy
optimizer: {name: adam}
schedule: {name: constant}
training: {epochs: 2, batch_size: 32}
strategy: {name: allreduce}
checkpoint: {keep: 3}
"""


def lines(tmp_path: Path, text: str, *overrides: str) -> list[str]:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    assert caught.value.exit_code == 2 != EXIT_OK
    return caught.value.message.replace(str(path), "run.yaml").split("\n")


def test_the_good_one_is_good(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(GOOD, encoding="utf-8")
    assert load_config(path).data.train == "digits"


ONE_MISTAKE = [
    # unknown keys
    ("{keep: 3}", "{kep: 3}", "11:14: checkpoint.kep: unknown key; did you mean 'keep'?"),
    ("strategy:", "strtegy:", "10:1: strtegy: unknown key; did you mean 'strategy'?"),
    ("{keep: 3}", "{seed: 3}", "11:14: checkpoint.seed: unknown key; did you mean 'training.seed'?"),
    ("{keep: 3}", "{zzz: 3}", "11:14: checkpoint.zzz: unknown key; known keys are every_epochs, every_steps, every_seconds and keep"),
    ("{name: adam}", "{name: adam, lr: 0.1}", "7:25: optimizer.lr: unknown key of optimizer 'adam'; did you mean 'learning_rate'?"),
    ("{name: adam}", "{name: sgd, betas: [0, 0]}",
     "7:24: optimizer.betas: unknown key of optimizer 'sgd'; known keys are name, learning_rate, weight_decay, decoupled, decay_norm_and_bias, momentum and nesterov"),
    ("{name: allreduce}", "{name: flat, period: 3}", "10:24: strategy.period: unknown key of strategy 'flat'; known key is name"),
    ("{units: 16,", "{unts: 16, units: 3,", "4:15: model.layers.0.dense.unts: unknown key of layer 'dense'; did you mean 'units'?"),
    ("{keep: 3}", "{<keep>: 3}", "11:14: checkpoint.'<keep>': unknown key; did you mean 'keep'?"),
    ("{name: adam}", "{name: adam, <adam>: 0.1}",
     "7:25: optimizer.'<adam>': unknown key of optimizer 'adam'; known keys are name, learning_rate, weight_decay, decoupled, decay_norm_and_bias, betas and eps"),
    # missing keys
    ("loss: cross_entropy\n", "", "1:1: loss: required key is missing"),
    ("{epochs: 2, batch_size: 32}", "{epochs: 2}", "9:1: training.batch_size: required key is missing"),
    ("{name: constant}", "{name: step, factor: 1}", "8:1: schedule.every_epochs: required key of schedule 'step' is missing"),
    ("loss: cross_entropy", "loss: {}", "6:1: loss.name: required key is missing; expected cross_entropy, binary_cross_entropy, mse, mae, huber, log_cosh, quantile, poisson or gaussian_nll"),
    ("{units: 16,", "{", "4:7: model.layers.0.dense.units: required key of layer 'dense' is missing"),
    # names
    ("{name: adam}", "{name: adm}", "7:19: optimizer.name: unknown optimizer (got 'adm'); did you mean 'adam'?"),
    ("loss: cross_entropy", "loss: crossentropy", "6:7: loss: unknown loss (got 'crossentropy'); did you mean 'cross_entropy'?"),
    ("{name: allreduce}", "ring", "10:11: strategy: unknown strategy (got 'ring'); expected allreduce, flat, local_sgd, parameter_server or strategy_switch"),
    ("{name: allreduce}", "{name: parameter_server, compensation: delay}", "10:50: strategy.compensation: needs staleness greater than 0: synchronous gradients are never stale (got delay)"),
    ("{name: allreduce}", "{name: parameter_server, staleness: ever}", "10:47: strategy.staleness: expected a whole number or unbounded (got 'ever')"),
    ("{name: allreduce}", "parameter_servr", "10:11: strategy: unknown strategy (got 'parameter_servr'); did you mean 'parameter_server'?"),
    ("{name: allreduce}", "{name: strategy_switch, at_epoch: 0}", "10:45: strategy.at_epoch: must be at least 1 (got 0)"),
    ("{name: allreduce}", "{name: strategy_switch, server: {staleness: 0, overlap: true}}", "10:67: strategy.server.overlap: needs staleness greater than 0: no batch is begun before the parameters of the last one (got true)"),
    ("{name: allreduce}", "{name: local_sgd, period: 0}", "10:29: strategy.period.steps: must be at least 1 (got 0)"),
    ("{name: allreduce}", "{name: local_sgd, period: adaptve}", "10:37: strategy.period: unknown period (got 'adaptve'); did you mean 'adaptive'?"),
    ("{name: allreduce}", "{name: local_sgd, outer: {name: nesterov, momentum: 1}}", "10:63: strategy.outer.momentum: must be less than 1 (got 1)"),
    ("{name: adam}", "{name: 3}", f"7:19: optimizer.name: unknown optimizer (got 3); expected {RULES}"),
    ("{name: adam}", "[adam]", "7:12: optimizer: must be the name of one optimizer or a mapping with a name (got a list of 1); "
     f"expected {RULES}"),
    ("activation: relu", "activation: rellu", "4:38: model.layers.0.dense.activation: unknown name (got 'rellu'); did you mean 'relu'?"),
    ("activation: relu", "activation: 3",
     "4:38: model.layers.0.dense.activation: must be identity, relu, leaky_relu, sigmoid, tanh, gelu, silu, elu or softplus (got 3)"),
    ("activation: relu", "initializer: xavier", "4:39: model.layers.0.dense.initializer: unknown initializer (got 'xavier'); did you mean 'xavier_normal'?"),
    ("    - dense: 10", "    - dens: 10", "5:7: model.layers.1.dens: unknown kind of layer; did you mean 'dense'?"),
    ("    - dense: 10", "    - lstm: 10", f"5:7: model.layers.1.lstm: unknown kind of layer; expected {any_of(list(LAYER_KINDS))}"),
    ("    - dense: 10", "    - lstm", "5:7: model.layers.1: must be a mapping of one kind of layer to its options, such as 'dense: 10' (got 'lstm')"),
    ("    - dense: 10", "    - conv: 10", "5:7: model.layers.1.conv: unknown kind of layer; did you mean 'conv2d'?"),
    ("    - dense: 10", "    - conv2d: {filters: 4, kernel: 0}\n    - dense: 10",
     "5:36: model.layers.1.conv2d.kernel: must be at least 1 (got 0)"),
    ("    - dense: 10", "    - max_pool2d: {size: [2, 0]}\n    - dense: 10",
     "5:30: model.layers.1.max_pool2d.size.1: must be at least 1 (got 0)"),
    ("    - dense: 10", "    - max_pool2d: {size: 2, stride: -1}\n    - dense: 10",
     "5:37: model.layers.1.max_pool2d.stride: must be at least 1 (got -1)"),
    ("    - dense: 10", "    - residual:\n        - activation: relu\n        - dense: {units: 4, unts: 4}",
     "7:29: model.layers.1.residual.1.dense.unts: unknown key of layer 'dense'; did you mean 'units'?"),
    ("    - dense: 10", "    - residual: [{dense: 4}, {residual: {layers: [{dropout: 2}]}}]\n    - dense: 10",
     "5:52: model.layers.1.residual.1.residual.layers.0.dropout.rate: must be less than 1 (got 2)"),
    ("    - dense: 10", "    - residual: []\n    - dense: 10", "5:7: model.layers.1.residual.layers: must not be empty"),
    ("    - dense: 10", "    - residual: 3\n    - dense: 10", "5:7: model.layers.1.residual.layers: must be a list (got 3)"),
    ("    - dense: 10", "    - residual: [{dense: 10}]", "5:7: model.layers.1: the last layer must be dense (got residual)"),
    ("    - dense: 10", "    - relu", "5:7: model.layers.1: must be a mapping of one kind of layer to its options, such as 'dense: 10' (got 'relu')"),
    ("    - dense: 10", "    - {dense: 10, dropout: 0}",
     "5:7: model.layers.1: must be a mapping of one kind of layer to its options, such as 'dense: 10' (got 2 keys: dense, dropout)"),
    ("validation: 0.2", "normalize: standrd", "1:34: data.normalize: unknown name (got 'standrd'); did you mean 'standard'?"),
    ("batch_size: 32", "batch_size: 32, dtype: float23", "9:46: training.dtype: unknown name (got 'float23'); did you mean 'float32'?"),
    ("batch_size: 32", "batch_size: 32, metrics: [loss, acuracy]", "9:55: training.metrics.1: unknown metric (got 'acuracy'); did you mean 'accuracy'?"),
    ("validation: 0.2", "partition: by_lable", "1:34: data.partition: unknown partition (got 'by_lable'); did you mean 'by_label'?"),
    ("validation: 0.2", "partition: {name: by_rank, alpha: 1}", "1:50: data.partition.alpha: unknown key of partition 'by_rank'; known key is name"),
    # types
    ("epochs: 2", "epochs: two", "9:20: training.epochs: must be a whole number (got 'two')"),
    ("epochs: 2", "epochs: 1.5", "9:20: training.epochs: must be a whole number (got 1.5)"),
    ("epochs: 2", "epochs: yes", "9:20: training.epochs: must be a whole number (got 'yes')"),
    ("epochs: 2", "epochs:", "9:19: training.epochs: must be a whole number (got null)"),
    ("epochs: 2", "epochs: [1]", "9:20: training.epochs: must be a whole number (got a list of 1)"),
    ("checkpoint: {keep: 3}", "checkpoint: 3", "11:13: checkpoint: must be a mapping of keys to values (got 3)"),
    ("validation: 0.2", "validation: [0.2]", "1:35: data.validation: expected a fraction, 'test', a path or null (got a list of 1)"),
    ("validation: 0.2", "normalize: {mean: 0, std: x}", "1:49: data.normalize.std: expected a number or a list of numbers (got 'x')"),
    ("validation: 0.2", "stream: maybe", "1:31: data.stream: expected auto, true or false (got 'maybe')"),
    ("validation: 0.2", "partition: 4", "1:34: data.partition: must be the name of one partition or a mapping with a name (got 4); "
     "expected none, by_rank or by_label"),
    ("batch_size: 32", "batch_size: 32, metrics: loss", "9:48: training.metrics: expected auto or a list of names (got 'loss')"),
    ("batch_size: 32", "batch_size: 32, early_stopping: 3", "9:55: training.early_stopping: must be a mapping of keys to values (got 3)"),
    ("name: adam", "name: adam, betas: 0.9", "7:32: optimizer.betas: must be a list (got 0.9)"),
    ("name: adam", "name: adam, betas: [0.9]", "7:32: optimizer.betas: has too few entries (got a list of 1)"),
    ("name: adam", "name: adam, betas: [0, 0, 0]", "7:32: optimizer.betas: has too many entries (got a list of 3, at most 2)"),
    ("    - dense: {units: 16, activation: relu}\n    - dense: 10", "    []", "4:5: model.layers: must not be empty"),
    ("train: digits", "train: ''", "1:15: data.train: must not be empty"),
    # ranges
    ("epochs: 2", "epochs: 0", "9:20: training.epochs: must be at least 1 (got 0)"),
    ("epochs: 2", "epochs: 3000000000", "9:20: training.epochs: must be at most 2147483647 (got 3000000000)"),
    ("epochs: 2", "epochs: " + "9" * 399, "9:20: training.epochs: must be at most 2147483647 (got " + "9" * 60 + "...)"),
    ("validation: 0.2", "validation: 1.0", "1:35: data.validation: must be less than 1 (got 1.0)"),
    ("validation: 0.2", "validation: 0", "1:35: data.validation: must be greater than 0 (got 0)"),
    ("name: adam", "name: adam, learning_rate: -1e-3", "7:40: optimizer.learning_rate: must be greater than 0 (got -0.001)"),
    ("name: adam", "name: adam, learning_rate: .nan", "7:40: optimizer.learning_rate: must be a finite number (got nan)"),
    ("name: adam", "name: adam, learning_rate: 1e999", "7:40: optimizer.learning_rate: must be a finite number (got inf)"),
    ("    - dense: 10", "    - dropout: 1\n    - dense: 10", "5:7: model.layers.1.dropout.rate: must be less than 1 (got 1)"),
    ("validation: 0.2", "partition: {name: by_label, alpha: 0}", "1:58: data.partition.alpha: must be at least 1e-06 (got 0)"),
    ("keep: 3", "keep: 1", "11:20: checkpoint.keep: must be at least 2 (got 1)"),
    ("batch_size: 32", "batch_size: 32, seed: -1", "9:45: training.seed: must be at least 0 (got -1)"),
    ("batch_size: 32", "batch_size: 32, early_stopping: {patience: 0}", "9:66: training.early_stopping.patience: must be at least 1 (got 0)"),
    # within a section
    ("name: adam", "name: sgd, nesterov: true", "7:34: optimizer.nesterov: needs momentum greater than 0 (got momentum 0)"),
    ("activation: relu", "initializer: {name: uniform, low: 1, high: 1}",
     "4:69: model.layers.0.dense.initializer.high: must be greater than low (got high 1, low 1)"),
    ("activation: relu", "activation: relu, negative_slope: 0.1",
     "4:60: model.layers.0.dense.negative_slope: is for leaky_relu only; the activation is relu"),
    ("    - dense: 10", "    - dense: 10\n    - dropout: 0.5", "6:7: model.layers.2: the last layer must be dense (got dropout)"),
    ("batch_size: 32", "batch_size: 4, gradient_accumulation: 8",
     "9:61: training.gradient_accumulation: must not exceed batch_size (got 8, batch_size is 4)"),
    ("name: constant", "name: multi_step, factor: 0.1, milestones: [2, 2]",
     "8:59: schedule.milestones.1: must be greater than the milestone before it (got 2 after 2)"),
    ("name: constant", "warmup_epochs: 1, warmup_steps: 1", "8:44: schedule.warmup_steps: give warmup_epochs or warmup_steps, not both"),
    ("name: constant", "warmup_start: 0.1", "8:26: schedule.warmup_start: needs a warm-up: warmup_epochs or warmup_steps"),
    ("keep: 3", "every_epochs: null", "11:28: checkpoint.every_epochs: one of every_epochs, every_steps and every_seconds must be given (got null)"),
    ("train: digits, validation: 0.2", "train: x.csv, validation: test",
     "1:34: data.validation: 'test' is a part of the built-in data sets digits and mnist only; give a fraction or a path"),
    ("train: digits, validation: 0.2", "train: x.npy, targets: y.npy, validation: v.npy",
     "1:50: data.validation: only one file of labels can be named, and data.targets is that of 'x.npy'; give a fraction, "
     "or files that hold their labels (`onotrain data convert SRC DST --targets LABELS`)"),
    ("train: digits, validation: 0.2", "train: x, format: idx, targets: y, validation: v",
     "1:55: data.validation: only one file of labels can be named, and data.targets is that of 'x'; give a fraction, "
     "or files that hold their labels (`onotrain data convert SRC DST --targets LABELS`)"),
    ("validation: 0.2", "format: csv", "1:31: data.format: is for files; data.train is the built-in data set 'digits'"),
    ("validation: 0.2", "stream: true", "1:31: data.stream: only HDF5 and Parquet can be streamed (got true with the built-in data set 'digits')"),
    ("train: digits", "train: a, format: csv, stream: true", "1:39: data.stream: only HDF5 and Parquet can be streamed (got true with format csv)"),
    ("validation: 0.2", "normalize: {mean: 0, std: 0}", "1:49: data.normalize.std: must be greater than 0 (got 0)"),
    ("validation: 0.2", "normalize: {mean: 0, std: [1, -2]}", "1:53: data.normalize.std.1: must be greater than 0 (got -2)"),
    ("validation: 0.2", "normalize: {mean: [0, 0, 0], std: [1, 1]}",
     "1:57: data.normalize.std: must have as many entries as mean (got 2, mean has 3)"),
    ("train: digits", "train: a.h5, stream: true, partition: by_rank",
     "1:29: data.stream: streamed samples come as they lie in the file; partition by_rank needs them in memory "
     "(got true, expected auto or false)"),
    # between sections
    ("dense: 10", "dense: 1", "5:7: model.layers.1.dense.units: cross_entropy needs one output per class, 2 or more (got 1)"),
    ("dense: 10", "dense: {units: 10, activation: sigmoid}",
     "5:38: model.layers.1.dense.activation: cross_entropy brings its own activation; the last layer must have none (got sigmoid)"),
    ("batch_size: 32", "batch_size: 32, metrics: [mae]",
     "9:49: training.metrics.0: has no meaning with loss cross_entropy (got 'mae'); expected loss, accuracy, top_5, balanced_accuracy, "
     "precision, recall, f1, mcc, roc_auc, average_precision, log_loss, brier or calibration_error"),
    ("batch_size: 32", "batch_size: 32, metrics: [top_10]",
     "9:49: training.metrics.0: k must be smaller than the number of classes, 10 (got 'top_10')"),
    ("batch_size: 32", "batch_size: 32, metrics: [loss, loss]", "9:55: training.metrics.1: is in the list already (got 'loss')"),
    ("batch_size: 32", "batch_size: 32, early_stopping: {patience: 1, metric: validation_acc}",
     "9:77: training.early_stopping.metric: no such metric with loss cross_entropy (got 'validation_acc'); did you mean 'validation_accuracy'?"),
    ("batch_size: 32", "batch_size: 32, early_stopping: {patience: 1, metric: train_top_5}",
     "9:77: training.early_stopping.metric: no such metric with loss cross_entropy (got 'train_top_5'); did you mean 'train_loss'?"),
    ("batch_size: 32", "batch_size: 32, metrics: [loss], early_stopping: {patience: 1, metric: validation_accuracy}",
     "9:94: training.early_stopping.metric: validation_accuracy is not measured; add accuracy to training.metrics"),
    ("batch_size: 32", "batch_size: 32, early_stopping: {patience: 1, metric: validation_top_10}",
     "9:77: training.early_stopping.metric: k must be smaller than the number of classes, 10 (got 'validation_top_10')"),
    # addresses
    ("{keep: 3}", "{keep: 3}\nmetrics: {prometheus: 9400}",
     "12:23: metrics.prometheus: expected HOST:PORT or :PORT with a port from 1 to 65535, such as ':9400' (got 9400)"),
    ("{keep: 3}", "{keep: 3}\nmetrics: {prometheus: ':94000'}",
     "12:23: metrics.prometheus: expected HOST:PORT or :PORT with a port from 1 to 65535, such as ':9400' (got ':94000')"),
    ("{keep: 3}", "{keep: 3}\nmetrics: {prometheus: 'http://node:9400'}",
     "12:23: metrics.prometheus: expected HOST:PORT or :PORT with a port from 1 to 65535, such as ':9400' (got 'http://node:9400')"),
    # the noise scale
    ("{name: allreduce}\ncheckpoint: {keep: 3}", "{name: local_sgd, period: 4}\nmetrics: {noise_scale: true}",
     "11:24: metrics.noise_scale: needs a strategy whose ranks compute each gradient together, allreduce or flat (got local_sgd)"),
    ("{name: allreduce}\ncheckpoint: {keep: 3}", "{name: parameter_server}\nmetrics: {noise_scale: 5}",
     "11:24: metrics.noise_scale: needs a strategy whose ranks compute each gradient together, allreduce or flat (got parameter_server)"),
    ("    - dense: 10\nloss: cross_entropy", "    - batch_norm\n    - dense: 10\nmetrics: {noise_scale: 5}\nloss: cross_entropy",
     "7:24: metrics.noise_scale: has no meaning with batch_norm, with which the gradient of a sample depends on the others of its batch; group_norm and layer_norm go with it"),
    ("validation: 0.2}", "validation: 0.2, partition: by_rank}\nmetrics: {noise_scale: 5}",
     "2:24: metrics.noise_scale: needs samples that all ranks share (data.partition is by_rank)"),
    # YAML
    ("    - dense: {units: 16", "\t- dense: {units: 16", "4:1: not YAML: a tab (YAML is indented with spaces)"),
    ("strategy:", "loss:", "10:1: duplicate key 'loss'; the first one is in line 6"),
    ("{keep: 3}", "{keep: 3", "12:1: not YAML: expected ',' or '}', but got '<stream end>' while parsing a flow mapping"),
]  # fmt: skip


PARTITIONED = GOOD.replace("validation: 0.2", "partition: {name: by_label, alpha: 0.1}")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("loss: cross_entropy", "loss: mse", "1:34: data.partition: needs one class a sample, which loss mse has not (got by_label); expected by_rank"),
        ("loss: cross_entropy", "loss: binary_cross_entropy",
         "1:34: data.partition: needs one class a sample, which loss binary_cross_entropy and 10 outputs has not (got by_label); expected by_rank"),
        ("batch_size: 32", "batch_size: 32, load_balance: throughput",
         "9:53: training.load_balance: must be none with data.partition by_label, with which a rank computes the same slice of every batch (got throughput)"),
        ("{name: allreduce}", "{name: strategy_switch}",
         "1:34: data.partition: needs a strategy with which a rank computes the same slice of every batch (got by_label with strategy_switch)"),
    ],
    ids=["loss", "multilabel", "balance", "switch"],
)  # fmt: skip
def test_what_a_partition_does_not_go_with(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert lines(tmp_path, PARTITIONED.replace(old, new, 1)) == [f"run.yaml:{expected}"]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("loss: validation", "10:41: strategy.loss: needs validation data (got validation); give data.validation, or use train"),
        ("switch_back: {patience: 2}",
         "10:59: strategy.switch_back.patience: looks at the validation loss, which needs data.validation; give it, or use max_staleness"),
    ],
    ids=["loss", "patience"],
)  # fmt: skip
def test_a_switch_by_the_validation_loss_needs_one(tmp_path: Path, strategy: str, expected: str) -> None:
    text = GOOD.replace(", validation: 0.2", "")
    text = text.replace("{name: allreduce}", f"{{name: strategy_switch, {strategy}}}")
    assert lines(tmp_path, text) == [f"run.yaml:{expected}"]


def test_a_partition_goes_with_one_yes_or_no(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    text = PARTITIONED.replace("loss: cross_entropy", "loss: binary_cross_entropy").replace("dense: 10", "dense: 1")
    path.write_text(text, encoding="utf-8")
    assert load_config(path).data.partition.alpha == 0.1
    assert load_config(path, ["data.partition=by_label"]).data.partition.alpha == 0.5
    path.write_text(text.replace("binary_cross_entropy", "mse"), encoding="utf-8")
    assert load_config(path, ["data.partition=by_rank"]).data.partition.name == "by_rank"


@pytest.mark.parametrize(
    ("old", "new", "expected"), ONE_MISTAKE, ids=[line.split(": ", 2)[1] for *_, line in ONE_MISTAKE]
)
def test_one_mistake_one_line(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert GOOD.count(old) >= 1
    assert lines(tmp_path, GOOD.replace(old, new, 1)) == [f"run.yaml:{expected}"]


@pytest.mark.parametrize("place", CHOICES, ids=lambda place: place.id)
def test_unknown_keys_are_called_after_what_was_chosen(place: Place) -> None:
    """Whatever is chosen, and wherever: ``unknown key of loss 'mse'``."""
    for name in place.sections:
        path = (*place.path, name) if isinstance(place.choice, OneKey) else place.path
        value = {name: {"zzz": 1}} if isinstance(place.choice, OneKey) else {"name": name, "zzz": 1}
        with pytest.raises(ConfigError) as caught:
            Config.from_mapping(place.data(value))
        noun = place.choice.noun
        text = f"{'.'.join(map(str, path))}.zzz: unknown key of {noun} '{name}'; "
        assert any(line.startswith(text) for line in caught.value.message.split("\n"))


def test_metric_of_validation_needs_validation_data(tmp_path: Path) -> None:
    text = GOOD.replace(", validation: 0.2", "").replace("name: constant", "name: plateau, patience: 1, factor: 0.5")
    assert lines(tmp_path, text) == [
        "run.yaml:8:1: schedule.metric: validation_loss needs validation data; give data.validation, or watch train_loss"
    ]


def test_everything_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = GOOD.replace("digits", "1").replace("dense: 10", "dense: {units: 1, activation: tanh}")
    text = (
        text.replace("name: adam", "name: adam, eps: 0")
        .replace("epochs: 2", "epoch: 2")
        .replace("keep: 3", "keep: 3, x: 1")
    )
    assert lines(tmp_path, text, "training.seed=x", "nothing", "strategy=ring") == [
        "run.yaml:1:15: data.train: expected a name, a path or a list of paths (got 1)",
        "run.yaml:5:22: model.layers.1.dense.units: cross_entropy needs one output per class, 2 or more (got 1)",
        "run.yaml:5:37: model.layers.1.dense.activation: cross_entropy brings its own activation; "
        "the last layer must have none (got tanh)",
        "run.yaml:7:30: optimizer.eps: must be greater than 0 (got 0)",
        "run.yaml:9:1: training.epochs: required key is missing",
        "run.yaml:9:12: training.epoch: unknown key; did you mean 'epochs'?",
        "run.yaml:11:23: checkpoint.x: unknown key; known keys are every_epochs, every_steps, every_seconds and keep",
        "--set training.seed=x: must be a whole number (got 'x')",
        "--set strategy=ring: unknown strategy (got 'ring'); expected allreduce, flat, local_sgd, parameter_server or strategy_switch",
        "--set nothing: expected key.path=value, such as optimizer.learning_rate=1e-3",
    ]


def test_the_example_of_the_documentation_is_real(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    example = re.search(r"```text\n(.*?)```", page, re.DOTALL)
    assert example is not None
    text = (
        "data:\n  {train: digits, normalize: standrd}\nmodel:\n  layers:\n    - dense: {units: 8, unts: 16}\n    - dense: 10\n"
        "loss: cross_entropy\noptimizer: {name: adam, learning_rate: -1}\ntraining: {epochs: 1, batch_size: 1}\n"
    )
    assert lines(tmp_path, text, "training.epochs=0") == example[1].splitlines()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").write_text("# nothing\n")
    (tmp_path / "list").write_text("\n- a\n")
    (tmp_path / "bytes").write_bytes(b"a: \xff")
    (tmp_path / "large").write_bytes(b"#" * 2_000_000)
    expected = {
        "absent": "{}: no such file",
        "": "{}: is a directory; expected a YAML file",
        "pipe": "{}: is not a regular file; expected a YAML file",
        "empty": "{}: empty; expected the sections data, model, loss and training",
        "list": "{}:2:1: must be a mapping of sections (got a list of 1)",
        "bytes": "{}:1:4: not UTF-8 (got byte 0xff)",
        "large": "{}: too large (got more than 1048576 bytes)",
        "list/x": "{!r}: cannot be read: Not a directory",
        "a\0": "{!r}: cannot be read: embedded null byte",
    }
    for name, message in expected.items():
        path = os.path.join(tmp_path, name) if name else str(tmp_path)
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        assert caught.value.message == message.format(path)
        assert (caught.value.hint is None) == (name in ("bytes", "large"))


def test_more_problems_than_anybody_reads(tmp_path: Path) -> None:
    got = lines(tmp_path, GOOD.replace("{keep: 3}", "{" + ", ".join(f"x{i}: 1" for i in range(150)) + "}"))
    assert len(got) == 101
    assert got[-1] == "and 50 more problems"
    layers = "\n".join(["    - dense: x"] * 150)
    got = lines(tmp_path, GOOD.replace("    - dense: 10", layers).replace("epochs: 2", "epochs: 0"))
    assert got[-1] == "and 51 more problems"


def test_long_values_are_cut(tmp_path: Path) -> None:
    got = lines(
        tmp_path, GOOD.replace("digits", "a" * 3000), "training.epochs=" + "9" * 3000, f"{'y' * 3000}=1", "z" * 3000
    )
    assert len(got) == 3
    assert max(map(len, got)) < 500
