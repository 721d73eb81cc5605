"""Sections ``training`` and ``checkpoint``: how a run goes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from onotrain.config.base import ByType, Count, NotNegative, Positive, Problem, Section, Texts
from onotrain.config.metrics import mode_of


class EarlyStopping(Section):
    """Ends training when a metric has stopped getting better."""

    metric: str = Field(
        "validation_loss", description="What is watched: train_loss, train_accuracy or validation_<metric>."
    )
    patience: Count = Field(description="Stop after so many epochs in a row without improvement.")
    min_delta: NotNegative = Field(0.0, description="Smallest change that counts as an improvement.")
    restore_best: bool = Field(True, description="End with the parameters of the best epoch instead of the last.")
    mode: Literal["auto", "min", "max"] = Field(
        "auto",
        description="Whether less or more is better; `auto` (max for accuracy, top_k and r2, else min) is resolved.",
    )

    @model_validator(mode="before")
    @classmethod
    def _resolve_mode(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("mode", "auto") == "auto":
            metric = value.get("metric", "validation_loss")
            return {**value, "mode": mode_of(metric) if isinstance(metric, str) else "min"}
        return value


class Training(Section):
    """How long, in which steps, and with which precision."""

    epochs: Count = Field(description="Passes over the training data.")
    batch_size: Count = Field(description="Samples of an optimiser step, over all ranks.")
    seed: Annotated[int, Field(ge=0, lt=2**64)] = Field(
        0, description="First values, order of the samples and dropout follow from it, whatever the number of ranks."
    )
    gradient_accumulation: Count = Field(
        1, description="Pieces that a batch is computed in, to save memory; the result is the same."
    )
    clip_norm: Positive | None = Field(
        None, description="Longest gradient (L2 norm over all parameters); longer ones are scaled down."
    )
    load_balance: Literal["none", "throughput"] = Field(
        "none",
        description="`throughput`: batches are cut in proportion to what each rank computed in a second; where ranks "
        "make every step together the training is the same to rounding.  Where they share activations, the parameters "
        "that each updates are cut like that, too.  A parameter server's workers measure at the ends of epochs and a "
        "few times in the first.  Each rank reserves room for almost a whole batch.",
    )
    dtype: Literal["float32", "float64"] = Field("float32", description="Type of parameters and computation.")
    max_steps: Count | None = Field(None, description="Stop after so many optimiser steps; the run can be resumed.")
    early_stopping: EarlyStopping | None = Field(None, description="Stop when a metric has stopped getting better.")
    metrics: Annotated[Literal["auto"] | Texts, ByType("auto or a list of names")] = Field(
        "auto",
        description="What is measured on the validation data: a list of `loss`, `accuracy`, `top_5` (or any "
        "other number), `mae`, `rmse`, `r2`; `auto` is resolved: loss and accuracy for classes, all but accuracy and "
        "`top_5` for values.",
    )

    def problems(self) -> Iterator[Problem]:
        """Yield pieces smaller than a sample."""
        if self.gradient_accumulation > self.batch_size:
            yield Problem(
                ("gradient_accumulation",),
                f"must not exceed batch_size (got {self.gradient_accumulation}, batch_size is {self.batch_size})",
            )


class Checkpoint(Section):
    """When the state of a run is saved."""

    every_epochs: Count | None = Field(1, description="Save after every so many epochs.")
    every_steps: Count | None = Field(None, description="Save after every so many optimiser steps.")
    every_seconds: Positive | None = Field(
        None,
        description="Save when so much time has passed since the last time [s]; where steps leave something under way "
        "(codecs, servers that are several or not synchronous), at the end of the epoch.",
    )
    keep: Annotated[int, Field(ge=2, le=1_000_000)] = Field(
        3,
        description="Checkpoints that are kept, besides the best one of early stopping; at least two, so that one "
        "can be damaged.",
    )

    def problems(self) -> Iterator[Problem]:
        """Yield a run that would never be saved."""
        if self.every_epochs is None and self.every_steps is None and self.every_seconds is None:
            yield Problem(
                ("every_epochs",), "one of every_epochs, every_steps and every_seconds must be given (got null)"
            )
