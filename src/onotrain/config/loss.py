"""Section ``loss``: what the network minimises, and what it therefore does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, Strict, field_serializer

from onotrain.config.base import FixedMapping, NotEmpty, NotNegative, Positive, Problem, Share
from onotrain.config.choices import ByType, OneOf
from onotrain.config.options import LossOptions, Task, has_options
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
    """Base of losses that are a sum over independent outputs."""

    output_weights: OutputWeights | None = Field(
        None,
        description="How much each output counts in the loss: a list, one number for each, or numbers by the outputs' "
        "names, 1 for the others.  Scaled so that their mean is 1.",
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
        weights, outputs = self.output_weights, None if others.model is None else others.model.outputs
        if isinstance(weights, tuple) and outputs is not None and len(weights) != outputs:
            yield Problem(
                ("output_weights",),
                f"must be one number for each of the network's {outputs} outputs (got {len(weights)})",
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


#: Losses of other packages: subclasses of `onotrain.nn.losses.Loss`.
PLUGINS = Plugins("onotrain.losses", has_options(LossOptions, "onotrain.nn.losses.Loss"))

Loss = Annotated[
    CrossEntropy | BinaryCrossEntropy | MeanSquaredError | MeanAbsoluteError | Huber, OneOf("loss", plugins=PLUGINS)
]
