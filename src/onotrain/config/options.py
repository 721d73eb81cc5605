"""What strategies, losses and layers declare about themselves, those of other packages too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import GetJsonSchemaHandler, model_validator
from pydantic_core import core_schema

from onotrain.config.base import Section

#: What a network does.
Task = Literal["multiclass", "binary", "multilabel", "regression"]


class PerTarget(NamedTuple):
    """What a network of a regression predicts of each target: an output for each of it, side by side."""

    #: What each is called, behind the name of the target; empty for the target itself.
    names: tuple[str, ...] = ("",)
    #: Number of the one that metrics such as ``mae`` are about.
    point: int = 0
    #: Whether each moves with a target that is shifted, which a spread does not.
    shifts: tuple[bool, ...] = (True,)
    #: All of them in words.
    words: str = "1 value"

    @property
    def titles(self) -> tuple[str, ...]:
        """What to append to the name of the target."""
        return tuple(f"_{name}" if name else "" for name in self.names)

    def needed(self, targets: int) -> str:
        """Say how many outputs so many targets need."""
        outputs = f"{len(self.names) * targets} output{'s' * (len(self.names) * targets != 1)}"
        return f"the last dense layer needs {outputs}: {targets} target{'s' * (targets != 1)} x {self.words}"


class StrategyOptions(Section):
    """Base of the ``strategy`` section of each strategy."""

    #: Whether ranks may get slices of a batch of any sizes, as ``training.load_balance`` makes them.
    balances_load: ClassVar[bool] = False
    #: Whether messages go through ``communication.codec``.
    codes_messages: ClassVar[bool] = False
    #: Whether the ranks compute one gradient together in each step, all with the same parameters.
    shares_gradients: ClassVar[bool] = False
    #: Whether a rank computes the same slice of every batch of a run, as ``data.partition`` needs.
    keeps_slices: ClassVar[bool] = True

    name: str

    @property
    def fewest_ranks(self) -> int:
        """Number of ranks that a job must have."""
        return 1

    @property
    def serving_ranks(self) -> int:
        """Number of ranks that compute no gradients, in the phase of a run in which they are most."""
        return 0

    @property
    def shown(self) -> str:
        """What messages call it."""
        return f"strategy {self.name}"


class LossOptions(Section):
    """Base of the ``loss`` section of each loss."""

    #: What turns logits into predictions; None: a function of the loss's own, which no exported file can hold.
    activation: ClassVar[Literal["identity", "sigmoid", "softmax", "exp", "gaussian"] | None] = "identity"
    #: Whether the targets are counts, which are not negative.
    counts: ClassVar[bool] = False

    name: str

    @property
    def per_target(self) -> PerTarget:
        """What is predicted of each target of a regression."""
        return PerTarget()

    def targets(self, outputs: int) -> int:
        """Return how many targets, or classes, a network with `outputs` outputs learns."""
        return outputs // len(self.per_target.names)

    def unfit_scaling(self, setting: Any) -> str | None:
        """Return why targets cannot be scaled as ``data.normalize_targets`` says; None: they can."""
        return None

    @classmethod
    def task(cls, outputs: int) -> Task:
        """Return what a network with `outputs` outputs does."""
        return "regression"


class LayerOptions(Section):
    """Base of the options of a kind of layer."""

    #: What it is called in configurations; of another package: the name of its entry point.
    kind: ClassVar[str] = ""
    #: Key that a value alone is short for; empty: there is no short form.
    short_key: ClassVar[str] = ""
    #: Whether it has parameters: its tensors, and what freezes them, are called by its kind and number.
    has_parameters: ClassVar[bool] = False
    #: Whether it is trained on statistics of the whole batch, which micro-batches do not have.
    needs_whole_batch: ClassVar[bool] = False
    #: Whether it reads codes of categories, which columns of a table then become by default.
    reads_codes: ClassVar[bool] = False

    @property
    def within(self) -> tuple[Any, ...]:
        """Layers of the section ``model`` that it is made of, in the order in which they are built."""
        return ()

    @property
    def codes(self) -> Mapping[int, int]:
        """Return which features are codes of categories, counted from 0, and how many categories each has."""
        return {}

    @classmethod
    def tags(cls) -> tuple[str, ...]:
        """Return the kind."""
        return (cls.kind,) if cls.kind else ()

    @classmethod
    def full(cls, value: Any) -> Any:
        """Return the mapping that a value alone is short for."""
        return value if isinstance(value, (Mapping, Section)) or not cls.short_key else {cls.short_key: value}

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: Any) -> Any:
        return cls.full(value)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe the short form too."""
        full = handler.resolve_ref_schema(handler(schema))
        return {"anyOf": [full["properties"][cls.short_key], full]} if cls.short_key else full


def has_options(base: type[Section], kind: str) -> Callable[[str, Any], str | None]:
    """Return the check of plug-ins that have options.

    Parameters
    ----------
    base
        What its ``Options`` must be a subclass of, with the entry point's name.
    kind
        Module and name of what the class itself must be a concrete subclass of: no class here, for it is above this
        package.
    """

    def complaint(name: str, found: Any) -> str | None:
        options = getattr(found, "Options", None)
        if not isinstance(found, type) or not isinstance(options, type) or not issubclass(options, base):
            return f"must be a class whose attribute Options is a subclass of {base.__name__} (got {found!r})"
        if name not in options.tags():
            return f"has Options of another name (got {', '.join(options.tags()) or 'no literal name'})"
        if all(f"{each.__module__}.{each.__qualname__}" != kind for each in found.__mro__):
            return f"must be a subclass of {kind} (got {found!r})"
        missing = sorted(getattr(found, "__abstractmethods__", ()))
        if missing:
            return f"must have the method {' and '.join(missing)} (got {found!r} without)"
        return None

    return complaint
