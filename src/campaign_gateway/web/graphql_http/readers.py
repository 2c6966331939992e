"""Readers: each turns the value of a variable into what a resolver gets, for one input type.

They do what `coerce_input_value` of graphql-core does, but look at the type only once.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from graphql import (
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    Undefined,
    is_leaf_type,
    is_required_input_field,
)
from graphql.utilities.coerce_input_value import coerce_default_value

from campaign_gateway.web.graphql_http.writers import TEXTS, NotPlanned

# If the type does not allow the value, it raises any exception, and graphql-core reports the error.
Read = Callable[[Any], Any]


def reader(type_: GraphQLInputType) -> Read:
    """Return the reader of a type. Raises `RecursionError` if it contains itself."""
    if not isinstance(type_, GraphQLNonNull):
        read_value = _reader_of_values(type_)
        return lambda value: None if value is None else read_value(value)
    return _reader_of_values(type_.of_type)


def _reader_of_values(type_: Any) -> Read:
    """Return a reader that refuses null."""
    if is_leaf_type(type_):
        return _read_text if type_.name in TEXTS else _leaf_reader(type_.coerce_input_value)
    if isinstance(type_, GraphQLList):
        return _list_reader(reader(type_.of_type))
    assert isinstance(type_, GraphQLInputObjectType)
    return _object_reader(type_)


def _read_text(value: Any) -> str:
    if value.__class__ is not str:
        raise NotPlanned
    text: str = value
    return text


def _leaf_reader(coerce: Read) -> Read:
    def read(value: Any) -> Any:
        if value is None:
            raise NotPlanned
        return coerce(value)

    return read


def _list_reader(read_item: Read) -> Read:
    def read(values: Any) -> list[Any]:
        if values is None:
            raise NotPlanned
        # A single item is a list too.
        items = values if values.__class__ is list else [values]
        return [read_item(item) for item in items]

    return read


# Each document has its own plan, and all of them have the same input types.
@lru_cache(1024)
def _object_reader(type_: GraphQLInputObjectType) -> Read:
    readers = {
        name: (field.out_name or name, reader(field.type)) for name, field in type_.fields.items()
    }
    required = {name for name, field in type_.fields.items() if is_required_input_field(field)}
    defaults = {
        name: field
        for name, field in type_.fields.items()
        if coerce_default_value(field) is not Undefined
    }

    def read(value: Any) -> Any:
        if value.__class__ is not dict or not required <= value.keys():
            raise NotPlanned
        members = {}
        for name, member in value.items():
            out_name, read_member = readers[name]
            members[out_name] = read_member(member)
        for name, field in defaults.items():
            if name not in value:
                members[readers[name][0]] = coerce_default_value(field)
        if type_.is_one_of and (len(members) != 1 or None in members.values()):
            raise NotPlanned
        return type_.out_type(members)

    return read
