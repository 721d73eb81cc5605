"""Section ``loss``: what the network minimises, and what it therefore does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from onotrain.config.base import FixedMapping, NotNegative, Positive, Problem, Share
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


class BinaryCrossEntropy(LossOptions):
    """Yes or no for every output."""

    activation = "sigmoid"

    name: Literal["binary_cross_entropy"] = Field(
        description="Sigmoid and cross-entropy: each output is a yes or no (one output: binary; several: multi-label)."
    )
    class_weights: ClassWeights | None = Field(None, description=_CLASS_WEIGHTS)

    def problems_with(self, others: Any) -> Iterator[Problem]:
        """Yield weights of classes where a sample has several."""
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


class MeanSquaredError(LossOptions):
    """Squared difference."""

    name: Literal["mse"] = Field(description="Squared difference, summed over the outputs of a sample.")


class MeanAbsoluteError(LossOptions):
    """Absolute difference."""

    name: Literal["mae"] = Field(description="Absolute difference, summed over the outputs of a sample.")


class Huber(LossOptions):
    """Squared for small differences, absolute for large ones."""

    name: Literal["huber"] = Field(description="Squared difference below `delta`, absolute above.")
    delta: Positive = Field(1.0, description="Difference at which the loss turns from squared to absolute.")


#: Losses of other packages: subclasses of `onotrain.nn.losses.Loss`.
PLUGINS = Plugins("onotrain.losses", has_options(LossOptions, "onotrain.nn.losses.Loss"))

Loss = Annotated[
    CrossEntropy | BinaryCrossEntropy | MeanSquaredError | MeanAbsoluteError | Huber, OneOf("loss", plugins=PLUGINS)
]
