"""What all sections of the configuration are made of: strict frozen models, number types, and problems."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from onotrain.config.wording import got

#: Largest count that MPI and the kernels can take as a C int.
MAX_COUNT = 2**31 - 1
_MOST_ENTRIES = 1000


class Problem(NamedTuple):
    """Something that is wrong with a value.

    Attributes
    ----------
    path
        Keys and indices down to the value, relative to the section that reports it.
    text
        What is wrong, got and expected.
    is_key
        Whether it is the key that is wrong, not its value.
    """

    path: tuple[str | int, ...]
    text: str
    is_key: bool = False


def problem_error(*problems: Problem) -> PydanticCustomError:
    """Return the error that carries problems through pydantic; `messages` takes them apart again."""
    return PydanticCustomError("problems", "inconsistent values", {"problems": problems})


def _number_to_list(value: Any) -> Any:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number and not isinstance(value, (list, tuple)):
        raise problem_error(Problem((), f"expected a number or a list of numbers {got(value)}"))
    return (value,) if is_number else value


def _check_not_empty(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if not value:
        raise problem_error(Problem((), "must not be empty"))
    return value


def _check_few(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(value) > _MOST_ENTRIES:
        raise problem_error(Problem((), f"must have at most {_MOST_ENTRIES} entries (got {len(value)})"))
    return value


def _check_text(value: str) -> str:
    if "\0" in value:
        raise problem_error(Problem((), f"must not have a null character {got(value)}"))
    return value


Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
CountOrZero = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
#: A share of something, zero included, all of it not.
Share = Annotated[float, Field(ge=0, lt=1)]

NotEmpty = AfterValidator(_check_not_empty)
#: Of what takes time and memory for each entry, whatever its size is.
Few = AfterValidator(_check_few)

#: Models are strict, and a list is how YAML spells a tuple.
#: The length is checked last, because pydantic counts only the valid entries.
Numbers = Annotated[
    tuple[float, ...],
    Strict(False),
    BeforeValidator(_number_to_list),
    NotEmpty,
    WithJsonSchema({"type": ["number", "array"], "items": {"type": "number"}, "minItems": 1}),
]
Text = Annotated[str, Field(min_length=1), AfterValidator(_check_text)]
Texts = Annotated[tuple[Text, ...], Strict(False), NotEmpty]


class FixedMapping(dict[str, Any]):
    """A mapping that cannot be changed and can be hashed, as sections are."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:  # else it would be filled when it is unpickled
        return type(self), (dict(self),)

    def _refuse(self, *arguments: Any, **options: Any) -> Any:
        raise TypeError("a configuration cannot be changed")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse


class Section(BaseModel):
    """Base of every part of the configuration: immutable, no unknown keys, no silent conversions."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True, defer_build=True
    )

    @classmethod
    def tags(cls) -> tuple[str, ...]:
        """Return the names that choose this section in a union: the values of its literal ``name``."""
        field = cls.model_fields.get("name")
        return get_args(field.annotation) if field is not None and get_origin(field.annotation) is Literal else ()

    @classmethod
    def variants(cls) -> tuple[type[Section], ...]:
        """Return the sections that this one stands for: itself, unless it is a union in disguise."""
        return (cls,)

    @classmethod
    def full(cls, value: Any) -> Any:
        """Return the full form of a short one; anything else as it is."""
        return value

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong between the values of this section."""
        yield from ()

    def problems_with(self, others: Any) -> Iterator[Problem]:
        """Yield what in this section does not go with others.

        Parameters
        ----------
        others
            Has every section of the configuration as an attribute; those that are wrong themselves are None.
        """
        yield from ()

    @model_validator(mode="after")
    def _consistent(self) -> Section:
        found = list(self.problems())
        if found:
            raise problem_error(*found)
        return self
