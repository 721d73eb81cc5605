"""Sections ``training`` and ``checkpoint``: how a run goes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from onotrain.config.base import Count, NotNegative, Positive, Problem, Section, Texts
from onotrain.config.choices import ByType
from onotrain.config.metrics import TRAINING, mode_of, shown_automatic
from onotrain.config.wording import any_of
from onotrain.known_names import Precision


class EarlyStopping(Section):
    """Ends training when a metric has stopped getting better."""

    metric: str = Field(
        "validation_loss",
        description=f"Monitored metric: {any_of([*(f'train_{name}' for name in TRAINING), 'validation_<metric>'])}.",
    )
    patience: Count = Field(description="Epochs in a row without improvement after which training stops.")
    min_delta: NotNegative = Field(0.0, description="Smallest change that counts as an improvement.")
    restore_best: bool = Field(True, description="End with the parameters of the best epoch, not of the last one.")
    mode: Literal["auto", "min", "max"] = Field(
        "auto",
        description="Whether less or more is better; `auto`: as [metrics](metrics.md) says, such as max for accuracy.",
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
    batch_size: Count = Field(description="Samples per optimiser step, over all ranks.")
    seed: Annotated[int, Field(ge=0, lt=2**64)] = Field(
        0,
        description="Determines initial parameters, order of samples and dropout, for any number of ranks.",
    )
    gradient_accumulation: Count = Field(
        1, description="Micro-batches per batch and rank, to save memory; the result is the same."
    )
    clip_norm: Positive | None = Field(
        None, description="Largest L2 norm of the gradient over all parameters; a larger gradient is scaled down to it."
    )
    load_balance: Literal["none", "throughput"] = Field(
        "none",
        description="`throughput`: the slice of a batch that a rank computes is proportional to its throughput "
        "[samples/s]; where all ranks contribute to every update, the result is the same to rounding.  Where ranks "
        "share activations, the parameters that each rank updates are divided in the same proportion.  Workers of a "
        "parameter server measure at the end of each epoch, and a few times in the first.  Each rank reserves memory "
        "for almost a whole batch.",
    )
    dtype: Literal["float32", "float64"] = Field("float32", description="Type of parameters and computation.")
    precision: Precision = Field(
        "full",
        description="What matrix products and convolutions are computed in.  `full`: in `dtype`.  `bf16`: factors are "
        "rounded to bfloat16, sums, parameters, activations and the state of the optimiser stay float32, and so do "
        "filters that read one channel; faster, and needs a CPU with AVX-512 BF16 on every node.",
    )
    max_steps: Count | None = Field(
        None, description="Number of optimiser steps after which training stops; the run can be resumed."
    )
    early_stopping: EarlyStopping | None = Field(None, description="Stop when a metric has stopped getting better.")
    metrics: Annotated[Literal["auto"] | Texts, ByType("auto or a list of names")] = Field(
        "auto",
        description="Metrics of the validation data, such as `f1`, `f1[rose]`, `roc_auc` or `top_5`: see "
        f"[metrics](metrics.md).  `auto`: {shown_automatic()}.",
    )

    def problems(self) -> Iterator[Problem]:
        """Yield micro-batches smaller than a sample, and products in bf16 of what is not float32."""
        if self.gradient_accumulation > self.batch_size:
            yield Problem(
                ("gradient_accumulation",),
                f"must not exceed batch_size (got {self.gradient_accumulation}, batch_size is {self.batch_size})",
            )
        if self.precision == "bf16" and self.dtype != "float32":
            yield Problem(("precision",), f"bf16 needs dtype float32 (got bf16, dtype is {self.dtype})")


class Checkpoint(Section):
    """When the state of a run is saved."""

    every_epochs: Count | None = Field(1, description="Interval between checkpoints [epochs]; null: off.")
    every_steps: Count | None = Field(None, description="Interval between checkpoints [optimiser steps]; null: off.")
    every_seconds: Positive | None = Field(
        None,
        description="Interval between checkpoints [s]; null: off.  With a codec, several servers or asynchronous "
        "workers, the checkpoint waits for the end of the epoch.",
    )
    keep: Annotated[int, Field(ge=2, le=1_000_000)] = Field(
        3,
        description="Number of checkpoints that are kept, besides the best one of early stopping; at least 2, so that "
        "one may be damaged.",
    )

    def problems(self) -> Iterator[Problem]:
        """Yield a run that would never be saved."""
        if self.every_epochs is None and self.every_steps is None and self.every_seconds is None:
            yield Problem(
                ("every_epochs",), "one of every_epochs, every_steps and every_seconds must be given (got null)"
            )
