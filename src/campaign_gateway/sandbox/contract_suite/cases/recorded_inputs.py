"""The ledger keeps a provider's input as JSON and as a hash, which later versions must read."""

import types
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

import pytest

from campaign_gateway.duplication import intents
from campaign_gateway.duplication.intents import dump_input, load_input
from campaign_gateway.sandbox.contract_suite.subject import (
    Subject,
)


def _whole(annotation: Any, member: int = 0) -> Any:
    """Return a value with every option set. `member` is the number of the enums' members."""
    if get_origin(annotation) in {Union, types.UnionType}:
        return _whole(get_args(annotation)[0], member)
    if get_origin(annotation) is list:
        return [_whole(get_args(annotation)[0], number) for number in (member, member + 1)]
    if is_dataclass(annotation):
        hints = get_type_hints(annotation)
        values = {field.name: _whole(hints[field.name], member) for field in fields(annotation)}
        return cast("type[Any]", annotation)(**values)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        members = list(annotation)
        return members[member % len(members)]
    # These differ from the types' own defaults.
    return {int: 7, bool: True}.get(annotation, "text ☃")


def test_example_is_equal_after_it_was_recorded_and_loaded(copy_input: Any) -> None:
    _assert_survives(copy_input)


@pytest.mark.parametrize("number", range(4))
def test_input_with_every_option_is_equal_after_it_was_recorded_and_loaded(
    subject: Subject, number: int
) -> None:
    _assert_survives(_whole(subject.connector.Input, number))


def _assert_survives(copy_input: Any) -> None:
    recorded = dump_input("main", copy_input)
    loaded = load_input(type(copy_input), recorded)
    assert loaded == replace(copy_input, account="main")
    # An enum is equal to its text.
    assert _types_in(loaded) == _types_in(copy_input)
    assert dump_input("main", loaded) == recorded


def _types_in(value: object) -> Any:
    if is_dataclass(value):
        return type(value), [
            _types_in(getattr(value, field.name))
            for field in fields(value)
            if field.name != "account"
        ]
    return [_types_in(item) for item in value] if isinstance(value, list) else type(value)


def test_fingerprint_of_the_example_is_the_one_of_older_versions(
    subject: Subject, copy_input: Any, fingerprint: str
) -> None:
    """A changed hash makes a retry across an update IDEMPOTENCY_KEY_REUSED.

    A new option must be null by default, because only then does it leave the hash of the inputs
    without it as it was.
    """
    assert intents.fingerprint(subject.provider, "main", copy_input) == fingerprint
