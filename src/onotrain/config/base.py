"""What all sections of the configuration are made of: strict frozen models, number types, and choices by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    Strict,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError, core_schema

#: Largest count that MPI and the kernels can take as a C int.
MAX_COUNT = 2**31 - 1

Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
CountOrZero = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
#: A share of something, zero included, all of it not.
Share = Annotated[float, Field(ge=0, lt=1)]


def _number_to_list(value: Any) -> Any:
    if _type_of(value) not in ("number", "list"):
        raise PydanticCustomError("wrong_type", "wrong type", {"expected": "a number or a list of numbers"})
    return (value,) if _type_of(value) == "number" else value


def _check_not_empty(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if not value:
        raise PydanticCustomError("empty_list", "empty list")
    return value


def _check_text(value: str) -> str:
    if "\0" in value:
        raise PydanticCustomError("null_character", "null character")
    return value


NotEmpty = AfterValidator(_check_not_empty)

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


class Problem(NamedTuple):
    """Something that is wrong with a value that has the right type.

    Attributes
    ----------
    path
        Keys and indices down to the value, relative to the section that reports it.
    text
        What is wrong, got and expected.
    """

    path: tuple[str | int, ...]
    text: str


class Section(BaseModel):
    """Base of every part of the configuration: immutable, no unknown keys, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)

    @classmethod
    def tags(cls) -> tuple[str, ...]:
        """Return the names that choose this section in a union: the values of its literal ``name``."""
        field = cls.model_fields.get("name")
        return get_args(field.annotation) if field is not None and get_origin(field.annotation) is Literal else ()

    @classmethod
    def variants(cls) -> tuple[type[Section], ...]:
        """Return the sections that this one stands for: itself, unless it is a union in disguise."""
        return (cls,)

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong between the values of this section."""
        yield from ()

    @model_validator(mode="after")
    def _consistent(self) -> Section:
        found = list(self.problems())
        if found:
            raise problem_error(found)
        return self


def problem_error(problems: list[Problem]) -> PydanticCustomError:
    """Return the error that carries several problems through pydantic; `messages` takes them apart again."""
    return PydanticCustomError("problems", "inconsistent values", {"problems": problems})


def tag_of(name: str) -> str:
    """Return how the choice `name` is marked in the location of a pydantic error, so that it is not taken for a key."""
    return f"<{name}>"


class OneOf:
    """Annotation of a union of sections that are told apart by their ``name``.

    Only the errors of the section that the name stands for are reported.  A name alone is short for ``{name: ...}``.

    Parameters
    ----------
    noun
        What is chosen, for messages.
    default
        Name that is meant if none is given.
    number
        Section and key that a number alone is short for.
    """

    def __init__(self, noun: str, *, default: str | None = None, number: tuple[str, str] | None = None) -> None:
        self.noun = noun
        self.default = default
        self.number = number

    def names(self, union: Any) -> dict[str, type[Section]]:
        """Return the section class of every name."""
        classes = get_args(union) or (union,)
        return {name: cls for cls in classes for name in cls.tags()}

    def expand(self, value: Any) -> Any:
        """Return the full form of a short one; anything else as it is."""
        if isinstance(value, str):
            return {"name": value}
        if self.number and isinstance(value, (int, float)) and not isinstance(value, bool):
            name, key = self.number
            return {"name": name, key: value}
        if self.default and isinstance(value, Mapping) and "name" not in value:
            return {"name": self.default, **value}
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Build the union, with the name checked in front of it."""
        table = self.names(source)

        def check(value: Any) -> Any:
            if isinstance(value, Section):
                return value
            value = self.expand(value)
            context = {"noun": self.noun, "choices": list(table)}
            if not isinstance(value, Mapping):
                raise PydanticCustomError("choice_type", "not a name or a mapping", context)
            if "name" not in value:
                raise PydanticCustomError("choice_missing", "name is missing", context)
            if not isinstance(value["name"], str) or value["name"] not in table:
                raise PydanticCustomError("choice_unknown", "unknown name", {**context, "name": value["name"]})
            return value

        def tag(value: Any) -> str:
            return tag_of(value["name"] if isinstance(value, Mapping) else value.name)

        schemas = {cls: handler.generate_schema(cls) for cls in dict.fromkeys(table.values())}
        union = core_schema.tagged_union_schema({tag_of(name): schemas[cls] for name, cls in table.items()}, tag)
        return core_schema.no_info_before_validator_function(check, union)

    def __get_pydantic_json_schema__(self, schema: core_schema.CoreSchema, handler: Any) -> dict[str, Any]:
        """Describe the full form and the short ones."""
        full = handler(schema["schema"])
        branches = full.pop("oneOf", None) or [full]
        unique = [branch for index, branch in enumerate(branches) if branch not in branches[:index]]
        short: list[dict[str, Any]] = [{"enum": [tag[1:-1] for tag in schema["schema"]["choices"]]}]
        if self.number:
            short.append({"type": "number"})
        return {"anyOf": [*short, *unique]}


class ByType:
    """Annotation of a union whose member is chosen by the type of the value, so that only its errors are reported.

    Parameters
    ----------
    expected
        What is expected if the type is that of no member, for messages.
    """

    def __init__(self, expected: str) -> None:
        self.expected = expected

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Build the union, with the type checked in front of it."""
        choices = {tag_of(_type_of_member(member)): handler.generate_schema(member) for member in get_args(source)}
        names = [name for member in get_args(source) if get_origin(member) is Literal for name in get_args(member)]

        def check(value: Any) -> Any:
            unknown = names and isinstance(value, str) and value not in names
            if unknown or tag_of(_type_of(value)) not in choices:
                raise PydanticCustomError("wrong_type", "wrong type", {"expected": self.expected, "names": names})
            return value

        union = core_schema.tagged_union_schema(choices, lambda value: tag_of(_type_of(value)))
        return core_schema.no_info_before_validator_function(check, union)


def _type_of(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else "bool"
    types = (((int, float), "number"), (str, "text"), ((list, tuple), "list"), ((Mapping, Section), "mapping"))
    return next((name for cls, name in types if isinstance(value, cls)), "other")


def _type_of_member(member: Any) -> str:
    if get_origin(member) is Annotated:
        return _type_of_member(get_args(member)[0])
    if get_origin(member) is Literal:
        return "text"
    if member is None or member is type(None) or member is bool:
        return "bool" if member is bool else "null"
    origin = get_origin(member) or member
    types = (((int, float), "number"), (str, "text"), (tuple, "list"), (Section, "mapping"))
    return next(name for cls, name in types if issubclass(origin, cls))
