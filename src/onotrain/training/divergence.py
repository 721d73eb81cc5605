"""What to do about a training that has diverged."""

from __future__ import annotations

import shlex

from onotrain.config import Config
from onotrain.runs.run_directory import CONFIG_NAME, RunDirectory

#: A learning rate that may do is this part of one that does not.
_SMALLER = 0.1
_OTHERWISE = "or set training.clip_norm, or normalise the data"


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
    run = str(directory.path)
    command = f"onotrain train {shlex.quote(f'{run}/{CONFIG_NAME}')} --from {shlex.quote(run)} {change}"
    return f"go on from its checkpoint at a lower rate: {command}\n  {_OTHERWISE}"
