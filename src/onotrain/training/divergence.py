"""What to do about a training that has diverged."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from onotrain.config import Config
from onotrain.runs.run_directory import RunDirectory
from onotrain.runs.run_files import CONFIG_NAME

#: A learning rate that may do is this part of one that does not.
_SMALLER = 0.1
_OTHERWISE = "or set training.clip_norm, or normalise the data"
#: A network whose loss is this many times that of guessing, or of an epoch before, is no beginning for another one.
_LOST = 10.0


def advice(directory: RunDirectory, config: Config) -> str:
    """Return what to type next, as far as the run has left a checkpoint.

    Parameters
    ----------
    directory
        Of the run; nothing is being saved.
    config
        Of the run.
    """
    change = f"--set optimizer.learning_rate={config.optimizer.learning_rate * _SMALLER:.3g}"
    saved = directory.store().paths()
    if not saved:
        return f"there is no checkpoint yet: start again at a lower rate, such as {change}, {_OTHERWISE}"
    if _lost(directory.records(), config):
        return f"its checkpoint is of no use any more: start again at a lower rate, such as {change}, {_OTHERWISE}"
    run = str(directory.path)
    command = f"onotrain train {shlex.quote(f'{run}/{CONFIG_NAME}')} --from {shlex.quote(run)} {change}"
    return f"go on from its checkpoint at a lower rate: {command}\n  {_OTHERWISE}"


def _lost(records: Sequence[Mapping[str, Any]], config: Config) -> bool:
    """Return whether the network of the last epoch was worse than guessing already."""
    if not records:
        return False
    last, least = records[-1], min(record["train_loss"] for record in records)
    if last["train_loss"] > _LOST * least > 0 or last.get("validation_r2", 0.0) < -_LOST:
        return True
    return config.task != "regression" and last["train_loss"] > _LOST * max(1.0, math.log(config.model.outputs))
