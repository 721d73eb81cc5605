"""Section ``loss``: what the network minimises, and what it therefore does."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, Strict, field_serializer

from onotrain.config.base import FixedMapping, NotEmpty, NotNegative, Positive, Problem, Share
from onotrain.config.choices import ByType, OneOf
from onotrain.config.options import LossOptions, PerTarget, Task, has_options
from onotrain.config.plugins import Plugins

_CLASS_WEIGHTS = (
    "What a sample of each class counts in the loss: `balanced` (n / (k n_c): all classes together count alike), or "
    "weights by the classes' names, 1 for the others.  Multiplied with the weights of the samples, and scaled so that "
    "the mean over the training data is 1."
)
ClassWeights = Annotated[
    Literal["balanced"] | Annotated[dict[str, NotNegative], AfterValidator(FixedMapping)],
    ByType("balanced or a mapping of classes to weights"),
]
OutputWeights = Annotated[
    Annotated[tuple[NotNegative, ...], Strict(False), NotEmpty]
    | Annotated[dict[str, NotNegative], AfterValidator(FixedMapping)],
    ByType("a list of weights or a mapping of outputs to weights"),
]


class ByOutput(LossOptions):
    """Base of losses that are a sum over independent outputs, or over targets with some outputs each."""

    output_weights: OutputWeights | None = Field(
        None,
        description="How much each output (each target, where it has several outputs) counts in the loss: a list, one "
        "number for each, or numbers by their names, 1 for the others.  Scaled so that their mean is 1.",
    )

    @field_serializer("output_weights")
    def _plain(self, value: Any) -> Any:
        return list(value) if isinstance(value, tuple) else value

    def problems(self) -> Iterator[Problem]:
        """Yield weights of which none counts."""
        if isinstance(self.output_weights, tuple) and not any(self.output_weights):
            yield Problem(("output_weights",), "are all 0; expected a number above 0 for one output at least")

    def problems_with(self, others: Any) -> Iterator[Problem]:
        """Yield another number of weights than of outputs, and names of none of the targets, where these are known."""
        weights, outputs = self.output_weights, None if others.model is None else self.targets(others.model.outputs)
        if isinstance(weights, tuple) and outputs is not None and len(weights) != outputs:
            each = "network's {} outputs" if len(self.per_target.names) == 1 else "{} targets"
            yield Problem(
                ("output_weights",), f"must be one number for each of the {each.format(outputs)} (got {len(weights)})"
            )
        known = None if others.data is None else others.data.target_columns
        if isinstance(weights, dict) and known is not None and len(known) == outputs:
            for name in weights:
                if name not in known:
                    expected = ", ".join(known[:10]) + (", ..." if len(known) > 10 else "")
                    yield Problem(("output_weights", name), f"is no target; expected some of {expected}", is_key=True)


class CrossEntropy(LossOptions):
    """Several classes, one of which is right."""

    activation = "softmax"

    name: Literal["cross_entropy"] = Field(description="Softmax and cross-entropy, for one right class of several.")
    label_smoothing: Share = Field(0.0, description="Fraction of the target that is spread evenly over all classes.")
    class_weights: ClassWeights | None = Field(None, description=_CLASS_WEIGHTS)

    @classmethod
    def task(cls, outputs: int) -> Task:
        """One class of several."""
        return "multiclass"


class BinaryCrossEntropy(ByOutput):
    """Yes or no for every output."""

    activation = "sigmoid"

    name: Literal["binary_cross_entropy"] = Field(
        description="Sigmoid and cross-entropy: each output is a yes or no (one output: binary; several: multi-label)."
    )
    class_weights: ClassWeights | None = Field(None, description=_CLASS_WEIGHTS)

    def problems_with(self, others: Any) -> Iterator[Problem]:
        """Yield weights of classes where a sample has several."""
        yield from super().problems_with(others)
        if self.class_weights is not None and others.model is not None and others.model.outputs > 1:
            yield Problem(
                ("class_weights",),
                f"needs one class a sample, which {others.model.outputs} outputs of binary_cross_entropy have not; "
                "weigh samples with data.weights",
            )

    @classmethod
    def task(cls, outputs: int) -> Task:
        """Yes or no once, or several times."""
        return "binary" if outputs == 1 else "multilabel"


class MeanSquaredError(ByOutput):
    """Squared difference."""

    name: Literal["mse"] = Field(description="Squared difference, summed over the outputs of a sample.")


class MeanAbsoluteError(ByOutput):
    """Absolute difference."""

    name: Literal["mae"] = Field(description="Absolute difference, summed over the outputs of a sample.")


class Huber(ByOutput):
    """Squared for small differences, absolute for large ones."""

    name: Literal["huber"] = Field(description="Squared difference below `delta`, absolute above.")
    delta: Positive = Field(1.0, description="Difference at which the loss turns from squared to absolute.")


class LogCosh(ByOutput):
    """Squared for small differences, absolute for large ones, and smooth."""

    name: Literal["log_cosh"] = Field(
        description="log(cosh(difference)), summed over the outputs of a sample: half the squared difference where it "
        "is small, the absolute one less log(2) where it is large."
    )


class Quantile(ByOutput):
    """Quantiles of the distribution of each target."""

    name: Literal["quantile"] = Field(
        description="Pinball loss, summed over targets and quantiles: each target has an output for each of its "
        "quantiles, side by side."
    )
    quantiles: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Strict(False), NotEmpty] = Field(
        (0.1, 0.5, 0.9),
        description="Which quantiles to predict, rising, between 0 and 1.  Metrics such as mae are about the one that "
        "is nearest to the median.",
    )

    @field_serializer("quantiles")
    def _list(self, value: Any) -> Any:
        return list(value)

    @property
    def per_target(self) -> PerTarget:
        """The quantiles."""
        q = self.quantiles
        middle = min(range(len(q)), key=lambda number: abs(q[number] - 0.5))
        words = f"{len(q)} quantile{'s' * (len(q) != 1)}"
        return PerTarget(tuple(f"q{each!r}" for each in q), middle, (True,) * len(q), words)

    def problems(self) -> Iterator[Problem]:
        """Yield quantiles that do not rise."""
        yield from super().problems()
        for number, (before, this) in enumerate(pairwise(self.quantiles), 1):
            if this <= before:
                yield Problem(("quantiles", number), f"must be above the quantile before it, {before:g} (got {this:g})")


class Poisson(ByOutput):
    """Counts."""

    activation = "exp"
    counts = True

    name: Literal["poisson"] = Field(
        description="Counts: the outputs are logarithms of their means, exp(output) - target output is summed over the "
        "outputs of a sample.  Predictions are the means."
    )

    def unfit_scaling(self, setting: Any) -> str | None:
        """Refuse any: the loss is about the counts themselves."""
        return None if setting == "none" else "must be none with loss poisson, which is about the counts themselves"


class GaussianNLL(ByOutput):
    """Mean and variance of each target."""

    activation = "gaussian"

    name: Literal["gaussian_nll"] = Field(
        description="Normal distribution: each target has two outputs, its mean and the logarithm s of its variance "
        "exp(s) + `min_variance`; (log(variance) + (difference from the mean)^2 / variance) / 2 is summed over the "
        "targets.  Predictions are means and standard deviations."
    )
    min_variance: Positive = Field(
        1e-6, description="What every variance is above, in the units that targets are learned in, squared."
    )

    @property
    def per_target(self) -> PerTarget:
        """Mean and standard deviation."""
        return PerTarget(("", "std"), 0, (True, False), "2 (mean and log variance)")

    def unfit_scaling(self, setting: Any) -> str | None:
        """Refuse logarithms: their deviation is none in the units of the data."""
        if setting != "log":
            return None
        return (
            "must not be log with loss gaussian_nll, whose standard deviations have the units of the data; expected "
            "none, standard or minmax (quantiles of loss quantile do go with log)"
        )


#: Losses of other packages: subclasses of `onotrain.nn.losses.Loss`.
PLUGINS = Plugins("onotrain.losses", has_options(LossOptions, "onotrain.nn.losses.Loss"))

Loss = Annotated[
    CrossEntropy
    | BinaryCrossEntropy
    | MeanSquaredError
    | MeanAbsoluteError
    | Huber
    | LogCosh
    | Quantile
    | Poisson
    | GaussianNLL,
    OneOf("loss", plugins=PLUGINS),
]
