"""Writers: each turns what resolvers return into what JSON has, for one selection of a document."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

from graphql import GraphQLLeafType, GraphQLObjectType, Undefined

from campaign_gateway.web.graphql_http.answer_budget import (
    ANSWER_LIMIT,
    ANSWER_VALUES,
    PUNCTUATION,
)

# Bytes that JSON needs for a character at most, as for \u0000.
CHARACTER_BYTES = 6

# The scalars whose values are texts already.
TEXTS = {"String", "ID"}


class NotPlanned(Exception):
    """A selection or a value that only graphql-core can execute, or report."""


class Attribute:
    """Resolves a field to an attribute of its source, which is an `owner` and no subclass of it."""

    def __init__(self, owner: type, name: str) -> None:
        self.owner = owner
        self.read: Callable[[Any], Any] = attrgetter(name)

    def __call__(self, source: object, _info: object) -> Any:
        return self.read(source)


@dataclass(slots=True)
class Size:
    """What a response takes of its budget at most."""

    values: int = 0
    bytes: int = 0

    def add_text(self, text: str) -> None:
        self.bytes += CHARACTER_BYTES * len(text) + len('""')

    def check(self) -> None:
        """Raises `NotPlanned` if the response may be too large."""
        if self.values > ANSWER_VALUES or self.bytes > ANSWER_LIMIT:
            raise NotPlanned


# Returns a value as JSON has it, and adds it to the size. For a value of a wrong type it raises any
# exception. None is such a value: the writer around it checks first whether the value may be null.
Write = Callable[[Any, Size], Any]


class Part(NamedTuple):
    """A field of an object, by its name in the response."""

    name: str
    read: Callable[[Any], Any]
    is_nullable: bool
    write: Write


def typename_part(name: str, type_name: str) -> Part:
    return Part(name, lambda _: type_name, is_nullable=False, write=_write_text)


def owner_of(type_: GraphQLObjectType) -> type:
    """Return the type of the objects whose attributes the fields are. Raises `NotPlanned`."""
    resolvers = [field.resolve for field in type_.fields.values()]
    owners = {resolver.owner for resolver in resolvers if isinstance(resolver, Attribute)}
    if len(owners) != 1:
        raise NotPlanned
    return owners.pop()


def object_writer(owner: type, parts: Sequence[Part]) -> Write:
    own_bytes = sum(len(part.name) + PUNCTUATION for part in parts)

    def write(source: Any, size: Size) -> dict[str, Any]:
        # An exception can have attributes of these names too, and is an error.
        if source.__class__ is not owner:
            raise NotPlanned
        size.values += len(parts)
        size.bytes += own_bytes
        written = {}
        for name, read, is_nullable, write_part in parts:
            value = read(source)
            written[name] = None if value is None and is_nullable else write_part(value, size)
        return written

    return write


def union_writer(writers: Mapping[type, Write]) -> Write:
    """`writers` has one for each type of objects."""
    return lambda source, size: writers[source.__class__](source, size)


def list_writer(write_item: Write, *, is_nullable: bool) -> Write:
    """`is_nullable` is whether an item may be null."""

    def write(values: Any, size: Size) -> list[Any]:
        if values.__class__ is not list:
            raise NotPlanned
        size.values += len(values)
        size.check()
        return [
            None if value is None and is_nullable else write_item(value, size) for value in values
        ]

    return write


def leaf_writer(type_: GraphQLLeafType) -> Write:
    if type_.name in TEXTS:
        return _write_text

    def write(value: Any, size: Size) -> Any:
        written = type_.coerce_output_value(value)
        if value is None or written is None or written is Undefined:
            raise NotPlanned
        if isinstance(written, str):
            size.add_text(written)
        return written

    return write


def _write_text(value: Any, size: Size) -> str:
    if value.__class__ is not str:
        raise NotPlanned
    size.add_text(value)
    text: str = value
    return text
