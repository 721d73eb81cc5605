"""Section ``schedule``: how the learning rate changes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, Strict

from onotrain.config.base import Count, CountOrZero, NotEmpty, NotNegative, Positive, Problem, Section, Share
from onotrain.config.choices import OneOf
from onotrain.config.metrics import Mode, mode_of


class ScheduleBase(Section):
    """What all schedules have: a warm-up in front, and the linear scaling rule."""

    name: str
    warmup_epochs: CountOrZero = Field(0, description="Length of a linear warm-up at the start [epochs].")
    warmup_steps: CountOrZero = Field(0, description="The same [optimiser steps]; give one of the two.")
    warmup_start: Share = Field(0.0, description="Factor on the learning rate at the start of the warm-up.")
    base_batch_size: Count | None = Field(
        None,
        description="Batch size that the learning rate is meant for: batch_size / base_batch_size scales it.",
    )

    @property
    def monitored(self) -> str | None:
        """Metric that decides about the learning rate, if one does."""
        return None

    @property
    def mode(self) -> Mode:
        """Whether a smaller (``min``) or a larger (``max``) value of it is better."""
        return mode_of(self.monitored or "loss")

    def problems(self) -> Iterator[Problem]:
        """Yield a warm-up that is given twice, or a start without one."""
        if self.warmup_epochs and self.warmup_steps:
            yield Problem(("warmup_steps",), "give warmup_epochs or warmup_steps, not both")
        if self.warmup_start and not (self.warmup_epochs or self.warmup_steps):
            yield Problem(("warmup_start",), "needs a warm-up: warmup_epochs or warmup_steps")


class Constant(ScheduleBase):
    """The learning rate stays."""

    name: Literal["constant"] = Field("constant", description="The learning rate stays constant.")


class Step(ScheduleBase):
    """The learning rate drops every few epochs."""

    name: Literal["step"] = Field(description="Multiply by `factor` every `every_epochs` epochs.")
    every_epochs: Count = Field(description="Epochs between two drops.")
    factor: Positive = Field(description="Factor per drop.")


class MultiStep(ScheduleBase):
    """The learning rate drops at given epochs."""

    name: Literal["multi_step"] = Field(description="Multiply by `factor` at each milestone.")
    milestones: Annotated[tuple[Count, ...], Strict(False), NotEmpty] = Field(
        description="Numbers of epochs after which the learning rate drops, in rising order."
    )
    factor: Positive = Field(description="Factor per drop.")

    def problems(self) -> Iterator[Problem]:
        """Yield milestones that do not rise."""
        yield from super().problems()
        for index, (before, after) in enumerate(pairwise(self.milestones), start=1):
            if after <= before:
                yield Problem(
                    ("milestones", index), f"must be greater than the milestone before it (got {after} after {before})"
                )


class Exponential(ScheduleBase):
    """The learning rate shrinks with every epoch."""

    name: Literal["exponential"] = Field(description="Multiply by `factor` after each epoch.")
    factor: Positive = Field(description="Factor per epoch.")


class Cosine(ScheduleBase):
    """The learning rate follows half a cosine."""

    name: Literal["cosine"] = Field(
        description="Follow half a cosine over all epochs (Loshchilov and Hutter, arXiv 1608.03983)."
    )
    min_factor: Share = Field(0.0, description="Factor at the end.")


class Plateau(ScheduleBase):
    """The learning rate drops when a metric stops getting better."""

    name: Literal["plateau"] = Field(description="Multiply by `factor` when a metric stops improving.")
    metric: str = Field(
        "validation_loss", description="Monitored metric: train_loss, train_accuracy or validation_<metric>."
    )
    patience: CountOrZero = Field(description="Epochs in a row without improvement that are tolerated.")
    factor: Annotated[float, Field(gt=0, lt=1)] = Field(description="Factor per drop.")
    min_delta: NotNegative = Field(0.0, description="Smallest change that counts as an improvement.")

    @property
    def monitored(self) -> str:
        """The metric."""
        return self.metric


Schedule = Annotated[
    Constant | Step | MultiStep | Exponential | Cosine | Plateau, OneOf("schedule", default="constant")
]
