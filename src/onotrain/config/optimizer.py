"""Section ``optimizer``: the update rules.

A class is all that is known of a rule outside its compiled kernel: options, state, scalars, and the formula in NumPy.
A new rule is a class here, a member of `Optimizer`, and its kernel in ``_kernels/rules.pxd``.

Formulas are those of PyTorch's optimisers of the same names, so that learning rates carry over.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, Strict

from onotrain.config.base import NotNegative, Positive, Problem, Section, Share
from onotrain.config.choices import OneOf

if TYPE_CHECKING:
    from numpy import ndarray as Array

Betas = Annotated[tuple[Share, Share], Strict(False)]
Scalars = Sequence[float]
State = Sequence["Array"]

_BETAS = "Decay of the running means of the gradient and of its square."
_EPS = "Added to the denominator."
_DECOUPLED = "Shrink parameters by learning_rate x weight_decay at every step, instead of an L2 term in the gradient."
_MOMENTUM = "Part of the last step that is kept."
_DECAY_ALL = "Whether weight decay also pulls biases, and the scales and shifts of normalisations, towards zero."


class UpdateRule(Section):
    """What all update rules have; the default of the learning rate is that of each."""

    #: Name of the compiled kernel; rules that differ in nothing but their defaults share one.
    kernel: ClassVar[str]
    #: Whether a parameter's step depends on its own gradients alone.  If not, the formula makes a direction instead of
    #: new parameters, and the step of each tensor is ``learning_rate |w|`` long.
    elementwise: ClassVar[bool] = True
    #: Power of the batch size that the learning rate goes with, for about the same training from fewer rows
    #: (Malladi et al., arXiv 2205.10287).
    rate_power: ClassVar[float] = 0.5
    #: Whether gradients count in the norm that is clipped and reported.
    counts: ClassVar[bool] = True

    name: str
    learning_rate: Positive
    weight_decay: NotNegative = Field(0.0, description="Strength of the pull of parameters towards zero.")
    decoupled: bool = Field(False, description=_DECOUPLED)
    decay_norm_and_bias: bool = Field(True, description=_DECAY_ALL)

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the vectors, as long as the parameters, that are kept from one update to the next."""
        raise NotImplementedError

    def decay(self, learning_rate: float) -> tuple[float, float]:
        """Return `penalty` and `shrink`: the formula gets ``g + penalty w`` and then ``shrink w``."""
        return (0.0, 1.0 - learning_rate * self.weight_decay) if self.decoupled else (self.weight_decay, 1.0)

    def scalars(self, learning_rate: float, number: int) -> tuple[float, ...]:
        """Return the numbers that the formula needs in update `number`, counted from 1."""
        raise NotImplementedError

    @staticmethod
    def formula(xp: Any, scalars: Scalars, g: Array, w: Array, state: State) -> None:
        """Update parameters and state: the reference implementation of the kernel, which gives the same bits.

        Parameters
        ----------
        xp
            NumPy, or what stands for it.
        scalars
            Those of the method of this name.
        g
            ``(n,)``: gradient, scaled and with decay.
        w
            ``(n,)``: parameters after decay, updated.
        state
            ``(n,)`` each, by `state_names`, updated.

        Raises
        ------
        ValueError
            Another number of scalars or vectors.
        """
        raise NotImplementedError


class Sgd(UpdateRule):
    """Stochastic gradient descent."""

    kernel: ClassVar[str] = "sgd"
    rate_power: ClassVar[float] = 1.0  # Goyal et al., arXiv 1706.02677

    name: Literal["sgd"] = Field(description="Stochastic gradient descent, with momentum if wanted.")
    learning_rate: Positive = Field(0.01, description="Step size.")
    momentum: Share = Field(0.0, description=_MOMENTUM)
    nesterov: bool = Field(False, description="Look ahead along the momentum (Nesterov); needs momentum.")

    def problems(self) -> Iterator[Problem]:
        """Yield Nesterov without momentum."""
        if self.nesterov and self.momentum == 0:
            yield Problem(("nesterov",), "needs momentum greater than 0 (got momentum 0)")

    @property
    def state_names(self) -> tuple[str, ...]:
        """Return the velocity, with momentum."""
        return ("velocity",) if self.momentum else ()

    def scalars(self, learning_rate: float, number: int) -> tuple[float, ...]:
        """Return learning rate, momentum, and 1 with Nesterov."""
        return learning_rate, self.momentum, float(self.nesterov)

    @staticmethod
    def formula(xp: Any, scalars: Scalars, g: Array, w: Array, state: State) -> None:
        """``v = momentum v + g``; ``w -= lr v``, or ``w -= lr (g + momentum v)`` with Nesterov."""
        lr, momentum, nesterov = scalars
        _descend(lr, momentum, nesterov, g, w, state)


class Adam(UpdateRule):
    """Adam (Kingma and Ba, arXiv 1412.6980)."""

    kernel: ClassVar[str] = "adam"

    name: Literal["adam"] = Field("adam", description="Adam.")
    learning_rate: Positive = Field(1e-3, description="Step size.")
    betas: Betas = Field((0.9, 0.999), description=_BETAS)
    eps: Positive = Field(1e-8, description=_EPS)

    @property
    def state_names(self) -> tuple[str, ...]:
        """Return the running means of the gradient and of its square."""
        return "m", "v"

    def scalars(self, learning_rate: float, number: int) -> tuple[float, ...]:
        """Return the learning rate and the root that correct the bias of the means, ``1 - betas``, and eps."""
        beta1, beta2 = self.betas
        correction1, correction2 = 1.0 - beta1**number, 1.0 - beta2**number
        return learning_rate / correction1, (1.0 / correction2) ** 0.5, 1.0 - beta1, 1.0 - beta2, self.eps

    @staticmethod
    def formula(xp: Any, scalars: Scalars, g: Array, w: Array, state: State) -> None:
        """``w -= lr m / (root sqrt(v) + eps)``."""
        lr, root, rate1, rate2, eps = scalars
        m, v = _moments(rate1, rate2, g, state)
        w -= lr * m / (root * xp.sqrt(v) + eps)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101)."""

    name: Literal["adamw"] = Field(description="Adam with decoupled weight decay.")  # type: ignore[assignment]
    decoupled: bool = Field(True, description=_DECOUPLED)


class RmsProp(UpdateRule):
    """RMSprop (Tieleman and Hinton, 2012)."""

    kernel: ClassVar[str] = "rmsprop"

    name: Literal["rmsprop"] = Field(description="RMSprop.")
    learning_rate: Positive = Field(1e-3, description="Step size.")
    alpha: Share = Field(0.99, description="Decay of the running mean of the squared gradient.")
    momentum: Share = Field(0.0, description=_MOMENTUM)
    eps: Positive = Field(1e-8, description=_EPS)

    @property
    def state_names(self) -> tuple[str, ...]:
        """Return the running mean of the squared gradient and, with momentum, the velocity."""
        return ("square", "velocity") if self.momentum else ("square",)

    def scalars(self, learning_rate: float, number: int) -> tuple[float, ...]:
        """Return learning rate, momentum, ``1 - alpha``, and eps."""
        return learning_rate, self.momentum, 1.0 - self.alpha, self.eps

    @staticmethod
    def formula(xp: Any, scalars: Scalars, g: Array, w: Array, state: State) -> None:
        """``s += rate (g^2 - s)``; a step of SGD along ``g / (sqrt(s) + eps)``."""
        lr, momentum, rate, eps = scalars
        square, *velocity = state
        square += rate * (g * g - square)
        _descend(lr, momentum, False, g / (xp.sqrt(square) + eps), w, velocity)


class Adagrad(UpdateRule):
    """Adagrad (Duchi, Hazan and Singer, JMLR 12, 2011)."""

    kernel: ClassVar[str] = "adagrad"

    name: Literal["adagrad"] = Field(description="Adagrad.")
    learning_rate: Positive = Field(0.01, description="Step size.")
    eps: Positive = Field(1e-10, description=_EPS)

    @property
    def state_names(self) -> tuple[str, ...]:
        """Return the sum of the squared gradients."""
        return ("square",)

    def scalars(self, learning_rate: float, number: int) -> tuple[float, ...]:
        """Return learning rate and eps."""
        return learning_rate, self.eps

    @staticmethod
    def formula(xp: Any, scalars: Scalars, g: Array, w: Array, state: State) -> None:
        """``s += g^2``; ``w -= lr g / (sqrt(s) + eps)``."""
        lr, eps = scalars
        (square,) = state
        square += g * g
        w -= lr * g / (xp.sqrt(square) + eps)


class Lamb(Adam):
    """LAMB, for large batches (You et al., arXiv 1904.00962)."""

    kernel: ClassVar[str] = "lamb"
    elementwise: ClassVar[bool] = False

    name: Literal["lamb"] = Field(  # type: ignore[assignment]
        description="LAMB: Adam with a step scaled for each tensor, for large batches."
    )
    eps: Positive = Field(1e-6, description=_EPS)
    decoupled: bool = Field(True, description=_DECOUPLED)

    def decay(self, learning_rate: float) -> tuple[float, float]:
        """Return no `shrink`: decoupled decay is a part of the direction."""
        return 0.0 if self.decoupled else self.weight_decay, 1.0

    def scalars(self, learning_rate: float, number: int) -> tuple[float, ...]:
        """Return those of Adam for a learning rate of 1, and decoupled decay."""
        return *super().scalars(1.0, number), self.weight_decay if self.decoupled else 0.0

    @staticmethod
    def formula(xp: Any, scalars: Scalars, g: Array, w: Array, state: State) -> None:
        """Make the direction ``factor m / (root sqrt(v) + eps) + decay w``."""
        factor, root, rate1, rate2, eps, decay = scalars
        m, v = _moments(rate1, rate2, g, state)
        w[...] = factor * m / (root * xp.sqrt(v) + eps) + decay * w


class Lion(UpdateRule):
    """Lion (Chen et al., arXiv 2302.06675)."""

    kernel: ClassVar[str] = "lion"

    name: Literal["lion"] = Field(
        description="Lion: steps of equal size along the sign of the momentum; needs a third to a tenth of the "
        "learning rate of adamw."
    )
    learning_rate: Positive = Field(1e-4, description="Step size.")
    decoupled: bool = Field(True, description=_DECOUPLED)
    betas: Betas = Field(
        (0.9, 0.99), description="Weight of the momentum against the gradient in a step, and decay of the momentum."
    )

    @property
    def state_names(self) -> tuple[str, ...]:
        """Return the momentum."""
        return ("m",)

    def scalars(self, learning_rate: float, number: int) -> tuple[float, ...]:
        """Return the learning rate and ``1 - betas``."""
        beta1, beta2 = self.betas
        return learning_rate, 1.0 - beta1, 1.0 - beta2

    @staticmethod
    def formula(xp: Any, scalars: Scalars, g: Array, w: Array, state: State) -> None:
        """``w -= lr sign(m + rate1 (g - m))``; ``m += rate2 (g - m)``."""
        lr, rate1, rate2 = scalars
        (m,) = state
        w -= lr * xp.sign(m + rate1 * (g - m))
        m += rate2 * (g - m)


class NAdam(Adam):
    """Adam with Nesterov momentum (Dozat, ICLR workshop 2016)."""

    kernel: ClassVar[str] = "nadam"

    name: Literal["nadam"] = Field(description="Adam with Nesterov momentum.")  # type: ignore[assignment]
    learning_rate: Positive = Field(2e-3, description="Step size.")
    momentum_decay: NotNegative = Field(
        4e-3, description="Rate at which the momentum rises from betas[0] / 2 to betas[0]."
    )

    def _momentum(self, number: int) -> float:
        return self.betas[0] * (1.0 - 0.5 * 0.96 ** (number * self.momentum_decay))

    def _momenta(self, number: int) -> float:
        """Return the product of the momenta up to an update, by the series of ``log(1 - x)``; 0 if 1 hides it."""
        bound = self.betas[0] ** number
        if bound < 1e-17:
            return 0.0
        rate, sum_of_logs = self.momentum_decay * math.log(0.96), 0.0
        for k in range(1, 53):
            powers = math.expm1(number * k * rate) / math.expm1(k * rate) if rate else number
            sum_of_logs -= 0.5**k / k * math.exp(k * rate) * powers
        return bound * math.exp(sum_of_logs)

    def scalars(self, learning_rate: float, number: int) -> tuple[float, ...]:
        """Return the learning rates of gradient and mean, and those of Adam but for its learning rate."""
        now, following, product = self._momentum(number), self._momentum(number + 1), self._momenta(number)
        of_gradient = learning_rate * (1.0 - now) / (1.0 - product)
        of_mean = learning_rate * following / (1.0 - product * following)
        return of_gradient, of_mean, *super().scalars(learning_rate, number)[1:]

    @staticmethod
    def formula(xp: Any, scalars: Scalars, g: Array, w: Array, state: State) -> None:
        """``w -= (lr_g g + lr_m m) / (root sqrt(v) + eps)``."""
        of_gradient, of_mean, root, rate1, rate2, eps = scalars
        m, v = _moments(rate1, rate2, g, state)
        w -= (of_gradient * g + of_mean * m) / (root * xp.sqrt(v) + eps)


def _descend(lr: float, momentum: float, nesterov: float, g: Array, w: Array, state: State) -> None:
    if momentum:
        (v,) = state
        v[...] = momentum * v + g
        g = g + momentum * v if nesterov else v
    w -= lr * g


def _moments(rate1: float, rate2: float, g: Array, state: State) -> State:
    """``m += rate1 (g - m)``; ``v += rate2 (g^2 - v)``."""
    m, v = state
    m += rate1 * (g - m)
    v += rate2 * (g * g - v)
    return m, v


Optimizer = Annotated[Sgd | Adam | AdamW | RmsProp | Adagrad | Lamb | Lion | NAdam, OneOf("optimizer", default="adam")]
#: By their names in the configuration.
UPDATE_RULES: dict[str, type[UpdateRule]] = {rule.tags()[0]: rule for rule in get_args(get_args(Optimizer)[0])}
