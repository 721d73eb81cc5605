"""Sections ``optimizer`` and ``schedule``: how parameters follow the gradient."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, Strict

from onotrain.config.base import Count, CountOrZero, NotEmpty, NotNegative, Positive, Problem, Section, Share
from onotrain.config.choices import OneOf
from onotrain.config.metrics import Mode, mode_of

Betas = Annotated[tuple[Share, Share], Strict(False)]

_BETAS = "Decay of the running means of the gradient and of its square."
_EPS = "Added to the denominator."
_DECOUPLED = "Shrink parameters by learning_rate x weight_decay at every step, instead of an L2 term in the gradient."
_MOMENTUM = "Part of the last step that is kept."


class OptimizerBase(Section):
    """What all optimisers have; the default of the learning rate is that of each."""

    name: str
    learning_rate: Positive
    weight_decay: NotNegative = Field(0.0, description="Strength of the pull of parameters towards zero.")
    decoupled: bool = Field(False, description=_DECOUPLED)


class Sgd(OptimizerBase):
    """Stochastic gradient descent."""

    name: Literal["sgd"] = Field(description="Stochastic gradient descent, with momentum if wanted.")
    learning_rate: Positive = Field(0.01, description="Step size.")
    momentum: Share = Field(0.0, description=_MOMENTUM)
    nesterov: bool = Field(False, description="Look ahead along the momentum (Nesterov); needs momentum.")

    def problems(self) -> Iterator[Problem]:
        """Yield Nesterov without momentum."""
        if self.nesterov and self.momentum == 0:
            yield Problem(("nesterov",), "needs momentum greater than 0 (got momentum 0)")


class Adam(OptimizerBase):
    """Adam (Kingma and Ba, arXiv 1412.6980)."""

    name: Literal["adam"] = Field("adam", description="Adam.")
    learning_rate: Positive = Field(1e-3, description="Step size.")
    betas: Betas = Field((0.9, 0.999), description=_BETAS)
    eps: Positive = Field(1e-8, description=_EPS)


class AdamW(OptimizerBase):
    """Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101)."""

    name: Literal["adamw"] = Field(description="Adam with decoupled weight decay.")
    learning_rate: Positive = Field(1e-3, description="Step size.")
    betas: Betas = Field((0.9, 0.999), description=_BETAS)
    eps: Positive = Field(1e-8, description=_EPS)
    decoupled: bool = Field(True, description=_DECOUPLED)


class RmsProp(OptimizerBase):
    """RMSprop (Tieleman and Hinton, 2012)."""

    name: Literal["rmsprop"] = Field(description="RMSprop.")
    learning_rate: Positive = Field(1e-3, description="Step size.")
    alpha: Share = Field(0.99, description="Decay of the running mean of the squared gradient.")
    momentum: Share = Field(0.0, description=_MOMENTUM)
    eps: Positive = Field(1e-8, description=_EPS)


class Adagrad(OptimizerBase):
    """Adagrad (Duchi, Hazan and Singer, JMLR 12, 2011)."""

    name: Literal["adagrad"] = Field(description="Adagrad.")
    learning_rate: Positive = Field(0.01, description="Step size.")
    eps: Positive = Field(1e-10, description=_EPS)


class Lamb(OptimizerBase):
    """LAMB, for large batches (You et al., arXiv 1904.00962)."""

    name: Literal["lamb"] = Field(description="LAMB: Adam with a step scaled for each tensor, for large batches.")
    learning_rate: Positive = Field(1e-3, description="Step size.")
    betas: Betas = Field((0.9, 0.999), description=_BETAS)
    eps: Positive = Field(1e-6, description=_EPS)
    decoupled: bool = Field(True, description=_DECOUPLED)


Optimizer = Annotated[Sgd | Adam | AdamW | RmsProp | Adagrad | Lamb, OneOf("optimizer", default="adam")]


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
