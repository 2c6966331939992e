"""The ledger keeps a provider's input as JSON and as a hash, which later versions must read."""

import types
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum, StrEnum
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

import pytest

from campaign_gateway.connectors.registry import CONNECTORS
from campaign_gateway.duplication.intents import (
    UnreadableInput,
    dump_input,
    fingerprint,
    load_input,
)
from support.connectors import example_of

# The hash of each provider's example. A changed hash makes a retry across an update
# IDEMPOTENCY_KEY_REUSED. A new option must be null by default, because only then does it leave the
# hash of the inputs without it as it was.
FINGERPRINTS = {
    "altcraft": "02c5bfd7b8f97bc229b8baac384af77c2f3d7fa062d992d984322cf1f58e10cb",
    "braze": "25d7c7c3002a2b4f195d1f39b0feff85caaa613012ca6a06879c4a57cd183aac",
    "hubspot": "793ce04b670c6cfb5831bdb53fd7c91e9d20805c61a791e3e2b8cb6d0c0ece54",
    "klaviyo": "d0a72895936b56e01509a729810ebb2560bf10fd8585fcb1aa69756372b34c53",
    "mailchimp": "933a5ba2b9d366810a9dad40c3b9367f3fba1eda8f8e934b26237d8e13c18112",
    "marketo": "653c3db191ae71bd33d44b1f62a1337af670af32634fe788650834c30406deff",
    "meta": "126a49b889e1997b8fd93bb5f61606d01f37b16c3f5df79d5acffa7d7428a555",
    "omnisend": "3851df77aa10d29933ae8bba75123842d172235ab211776768c7950bc037a0a1",
    "sendgrid": "abb246deec6d0bd53200094a5fde823a4e828b4b2227d1d0febe4ccac4abf8fd",
    "sonarly": "9f910f24ae5ce0352878a4b9ca7ef3ee74ab24fbb5e6c50569198d51a260dce3",
}


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


WHOLE = [
    pytest.param(_whole(connector.Input, number), id=f"{provider}-{number}")
    for provider, connector in sorted(CONNECTORS.items())
    for number in range(4)
]


def test_example_is_equal_after_it_was_recorded_and_loaded(copy_input: Any) -> None:
    _assert_survives(copy_input)


@pytest.mark.parametrize("copy_input", WHOLE)
def test_input_with_every_option_is_equal_after_it_was_recorded_and_loaded(copy_input: Any) -> None:
    _assert_survives(copy_input)


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


@dataclass(frozen=True)
class _Assets:
    ids: list[str]


class _Kind(StrEnum):
    EMAIL = "EMAIL"


@dataclass(frozen=True)
class _Input:
    account: str | None
    campaign_id: str
    kind: _Kind
    assets: list[_Assets] | None
    name: str | None = "a default"


def test_option_that_is_newer_than_the_record_is_loaded_as_omitted() -> None:
    recorded = (
        '{"account": "main", "campaign_id": "c", "kind": "EMAIL", "assets": [{"ids": ["1"]}]}'
    )
    assert load_input(_Input, recorded) == _Input("main", "c", _Kind.EMAIL, [_Assets(["1"])], None)


@pytest.mark.parametrize(
    "recorded",
    [
        "",
        "[]",
        '{"account": null, "kind": "EMAIL"}',
        '{"account": null, "campaign_id": "c", "kind": "SMS"}',
        '{"account": null, "campaign_id": "c", "kind": "EMAIL", "invented": true}',
        '{"account": null, "campaign_id": "c", "kind": "EMAIL", "assets": [{"invented": true}]}',
        '{"account": null, "campaign_id": "c", "kind": "EMAIL", "assets": ["1"]}',
    ],
)
def test_input_of_another_version_is_unreadable(recorded: str) -> None:
    with pytest.raises(UnreadableInput, match="the recorded input is not a _Input"):
        load_input(_Input, recorded)


@pytest.mark.parametrize("provider", sorted(CONNECTORS))
def test_fingerprint_of_the_example_is_the_one_of_older_versions(provider: str) -> None:
    assert fingerprint(provider, "main", example_of(provider)) == FINGERPRINTS[provider]


def test_fingerprint_differs_for_another_provider_account_or_option() -> None:
    sparse = _Input(None, "c", _Kind.EMAIL, None, None)
    hashes = {
        fingerprint("stub", "main", sparse),
        fingerprint("other", "main", sparse),
        fingerprint("stub", "other", sparse),
        fingerprint("stub", "main", replace(sparse, name="")),
        fingerprint("stub", "main", replace(sparse, assets=[])),
    }
    assert len(hashes) == 5


def test_fingerprint_is_equal_with_an_option_that_is_new_and_null() -> None:
    @dataclass(frozen=True)
    class Newer(_Input):
        language: str | None = None

    older = _Input(None, "c", _Kind.EMAIL, None, None)
    newer = Newer(None, "c", _Kind.EMAIL, None, None)
    assert fingerprint("stub", "main", newer) == fingerprint("stub", "main", older)
