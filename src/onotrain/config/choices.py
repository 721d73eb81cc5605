"""Unions in which the value itself says which member it is, so that only the errors of that member are reported."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import GetCoreSchemaHandler, TypeAdapter
from pydantic_core import core_schema

from onotrain.config.base import Problem, Section, problem_error
from onotrain.config.plugins import PluginError, Plugins
from onotrain.config.wording import any_of, did_you_mean, got, nearest


class Choice:
    """Annotation of a union whose member is chosen by `pick`."""

    #: What is chosen, for messages; empty where members have no names.
    noun = ""

    def members(self, union: Any) -> dict[str, Any]:
        """Return the members of the union by their tags."""
        raise NotImplementedError

    def full(self, value: Any) -> Any:
        """Return the full form of a short one; anything else as it is."""
        return value

    def pick(self, union: Any, value: Any) -> tuple[str, Any]:
        """Return the tag and the member that `value` is to be validated as.

        Raises
        ------
        PydanticCustomError
            It is none; see `problem_error`.
        """
        raise NotImplementedError

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Validate by the member that is picked; the union within is for the JSON schema alone."""
        members = self.members(source)
        validators: dict[Any, Callable[[Any], Any]] = {}

        def validate(value: Any, _: Any) -> Any:
            member = self.pick(source, value)[1]
            if member not in validators:
                validators[member] = _validator(member)
            return validators[member](self.full(value))

        schemas = {member: handler.generate_schema(member) for member in dict.fromkeys(members.values())}
        union = core_schema.tagged_union_schema({tag: schemas[member] for tag, member in members.items()}, str)
        return core_schema.no_info_wrap_validator_function(
            validate, union, serialization=core_schema.simple_ser_schema("any")
        )


def _validator(member: Any) -> Callable[[Any], Any]:
    if isinstance(member, type) and issubclass(member, Section):
        return member.model_validate
    return TypeAdapter(member, config=Section.model_config).validate_python


class OneOf(Choice):
    """Sections that are given apart by their ``name``; a name alone is short for ``{name: ...}``.

    Parameters
    ----------
    noun
        What is chosen, for messages.
    default
        Name that is meant if none is given.
    number
        Section and key that a number alone is short for.
    plugins
        Where sections of other packages are found.
    """

    def __init__(
        self,
        noun: str,
        *,
        default: str | None = None,
        number: tuple[str, str] | None = None,
        plugins: Plugins | None = None,
    ) -> None:
        self.noun = noun
        self.default = default
        self.number = number
        self.plugins = plugins

    def members(self, union: Any) -> dict[str, type[Section]]:
        """Return the section class of every built-in name."""
        classes = get_args(union) or (union,)
        return {name: variant for cls in classes for variant in cls.variants() for name in variant.tags()}

    def full(self, value: Any) -> Any:
        """Return the mapping that a name or a number is short for, and the name where it has a default."""
        if isinstance(value, str):
            return {"name": value}
        if self.number and isinstance(value, (int, float)) and not isinstance(value, bool):
            name, key = self.number
            return {"name": name, key: value}
        if self.default and isinstance(value, Mapping) and "name" not in value:
            return {"name": self.default, **value}
        return value

    def known(self, union: Any) -> list[str]:
        """Return all names, those of other packages last."""
        return [*self.members(union), *(self.plugins.names if self.plugins else ())]

    def pick(self, union: Any, value: Any) -> tuple[str, type[Section]]:
        """Return the name and its section class."""
        table = self.members(union)
        full = {"name": getattr(value, "name", None)} if isinstance(value, Section) else self.full(value)
        if not isinstance(full, Mapping):
            text = f"must be the name of one {self.noun} or a mapping with a name {got(value)}"
            raise problem_error(Problem((), f"{text}; expected {any_of(self.known(union))}"))
        if "name" not in full:
            text = f"required key is missing; expected {any_of(self.known(union))}"
            raise problem_error(Problem(("name",), text, is_key=True))
        name, where = full["name"], ("name",) if isinstance(value, Mapping) else ()
        if isinstance(name, str) and name in table:
            return name, table[name]
        if not isinstance(name, str) or self.plugins is None or name not in self.plugins.names:
            text = f"unknown {self.noun} {got(name)}; {did_you_mean(name, self.known(union))}"
            raise problem_error(Problem(where, text))
        return name, self._of_plugin(name, where)

    def _of_plugin(self, name: str, where: tuple[str, ...]) -> Any:
        """Return the options of a class of another package."""
        assert self.plugins is not None  # noqa: S101 - for the type checker: it has the name
        try:
            return self.plugins.load(name).Options
        except PluginError as error:
            raise problem_error(Problem(where, error.message)) from None

    def __get_pydantic_json_schema__(self, schema: core_schema.CoreSchema, handler: Any) -> dict[str, Any]:
        """Describe the full form and the short ones."""
        full = handler(schema["schema"])
        branches = full.pop("oneOf", None) or [full]
        unique = [branch for index, branch in enumerate(branches) if branch not in branches[:index]]
        short: list[dict[str, Any]] = [{"enum": list(schema["schema"]["choices"])}]
        if self.number:
            short.append({"type": "number"})
        return {"anyOf": [*short, *unique]}


class OneKey(OneOf):
    """Sections that are given apart by their only key, such as ``{dense: ...}``.

    Parameters
    ----------
    noun, plugins
        As of `OneOf`.
    section
        Makes the section with one key of that key and the class of its options.
    alone
        Keys that are short for themselves with no options.
    """

    def __init__(
        self, noun: str, *, plugins: Plugins, section: Callable[[str, Any], type[Section]], alone: Collection[str]
    ) -> None:
        super().__init__(noun, plugins=plugins)
        self._section, self._alone = section, alone

    def full(self, value: Any) -> Any:
        """Return the mapping that a key alone is short for."""
        return {value: {}} if isinstance(value, str) else value

    def pick(self, union: Any, value: Any) -> tuple[str, type[Section]]:
        """Return the key and its section class."""
        table = self.members(union)
        if isinstance(value, Section):
            value = dict.fromkeys(type(value).tags())
        if isinstance(value, str) and value in self._alone:
            value = self.full(value)
        if not isinstance(value, Mapping) or len(value) != 1:
            keys = (
                f"(got {len(value)} keys: {', '.join(map(str, value))})" if isinstance(value, Mapping) and value else ""
            )
            text = f"must be a mapping of one kind of {self.noun} to its options, such as 'dense: 10'"
            raise problem_error(Problem((), f"{text} {keys or got(value)}"))
        kind = next(iter(value))
        if kind in table:
            return kind, table[kind]
        if kind not in self.known(union):
            text = f"unknown kind of {self.noun}; {did_you_mean(kind, self.known(union))}"
            raise problem_error(Problem((kind,), text, is_key=True))
        return kind, self._section(kind, self._of_plugin(kind, (kind,)))

    def __get_pydantic_json_schema__(self, schema: core_schema.CoreSchema, handler: Any) -> dict[str, Any]:
        """Describe the mappings of one key, and the keys that may stand alone."""
        return {"anyOf": [{"enum": list(self._alone)}, handler(schema["schema"])]}


class ByType(Choice):
    """Members that are given apart by the type of the value.

    Parameters
    ----------
    expected
        What is expected if the type is that of no member, for messages.
    """

    def __init__(self, expected: str) -> None:
        self.expected = expected

    def members(self, union: Any) -> dict[str, Any]:
        """Return the members by numbers that mean nothing."""
        return {str(number): member for number, member in enumerate(get_args(union))}

    def pick(self, union: Any, value: Any) -> tuple[str, Any]:
        """Return the member of the value's type; it has no tag."""
        members = get_args(union)
        names = [name for member in members if get_origin(member) is Literal for name in get_args(member)]
        near = nearest(value, names) if isinstance(value, str) and value not in names else None
        if near is not None:
            raise problem_error(Problem((), f"unknown name {got(value)}; did you mean {near!r}?"))
        for member in members:
            if value in names if get_origin(member) is Literal else _is_of(value, member):
                return "", member
        raise problem_error(Problem((), f"expected {self.expected} {got(value)}"))


def _is_of(value: Any, member: Any) -> bool:
    """Tell whether a value has the type of a member, right or not."""
    if get_origin(member) is Annotated:
        return _is_of(value, get_args(member)[0])
    kind = get_origin(member) or member
    if isinstance(value, bool):
        return kind is bool
    types: dict[Any, Any] = {int: (int, float), float: (int, float), tuple: (list, tuple)}
    return isinstance(value, types.get(kind, (Mapping, Section) if issubclass(kind, Section) else kind))
