"""Intents: made from a caller's input, and turned back into that input from the record."""

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from campaign_gateway.accounts.account import Account
from campaign_gateway.connectors.contract import CopyInput, HasIdNamespaces
from campaign_gateway.ledger.ids import new_id
from campaign_gateway.model import Duplication, Intent
from campaign_gateway.web.callers.caller import Caller

# `json.dumps` would make an encoder for each call.
_encode = json.JSONEncoder(default=vars).encode
_encode_sorted = json.JSONEncoder(default=vars, sort_keys=True).encode

Input = TypeVar("Input", bound=CopyInput)


class UnreadableInput(Exception):
    """Another version of the gateway recorded an input that this version does not know."""


@dataclass(frozen=True, slots=True)
class CopyCall:
    """One request for a copy, on its way from the API to the provider and back.

    `copy_input` is the provider's own input. `intent` is what the ledger records of it.
    """

    account: Account
    intent: Intent
    copy_input: CopyInput


def new_call(
    caller: Caller,
    key: str,
    account: Account,
    copy_input: CopyInput,
    override_of: str | None = None,
) -> CopyCall:
    intent = make_intent(caller, key, account, copy_input, override_of)
    return CopyCall(account, intent, copy_input)


def recorded_call(account: Account, duplication: Duplication) -> CopyCall:
    """Return the call that a record was made for. Raises `UnreadableInput`."""
    copy_input = load_input(account.connector.Input, duplication.intent.input)
    return CopyCall(account, duplication.intent, copy_input)


def make_intent(
    caller: Caller,
    key: str,
    account: Account,
    copy_input: CopyInput,
    override_of: str | None = None,
) -> Intent:
    provider = account.connector.provider
    return Intent(
        id=new_id(),
        attempt_id=secrets.token_hex(16),
        scope=caller.scope,
        key=key,
        fingerprint=fingerprint(provider, account.name, copy_input),
        provider=provider,
        account=account.name,
        source_campaign_id=str(copy_input.campaign_id),
        requested_name=copy_input.name,
        input=dump_input(account.name, copy_input),
        id_namespace=_id_namespace(account, copy_input),
        override_of=override_of,
        caller=caller.name,
        person=caller.person,
    )


def _id_namespace(account: Account, copy_input: CopyInput) -> str:
    if not isinstance(account.connector, HasIdNamespaces):
        return account.place
    return f"{account.place}#{account.connector.id_namespace(copy_input)}"


def fingerprint(provider: str, account_name: str, copy_input: CopyInput) -> str:
    """Return a hash that is equal for equal intents.

    An omitted option and a null option are the same intent.
    """
    options = {k: v for k, v in _fields(account_name, copy_input).items() if v is not None}
    canonical = _encode_sorted([provider, options])
    return hashlib.sha256(canonical.encode()).hexdigest()


def dump_input(account_name: str, copy_input: CopyInput) -> str:
    """Return the input as JSON, with the name of the account that is used."""
    return _encode(_fields(account_name, copy_input))


def _fields(account_name: str, copy_input: CopyInput) -> dict[str, Any]:
    return vars(copy_input) | {"account": account_name}


def load_input(input_type: type[Input], recorded: str) -> Input:
    """Rebuild an input that `dump_input` wrote. Raises `UnreadableInput`."""
    try:
        return cast("Input", _typed(input_type, json.loads(recorded)))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableInput(f"the recorded input is not a {input_type.__name__}") from error


def _typed(annotation: Any, value: Any) -> Any:
    """Convert a JSON value: enums are strings in JSON, and nested inputs are objects."""
    if value is None:
        return None
    if get_origin(annotation) in {Union, UnionType}:
        (annotation,) = (option for option in get_args(annotation) if option is not NoneType)
        return _typed(annotation, value)
    if get_origin(annotation) is list:
        (item_type,) = get_args(annotation)
        return [_typed(item_type, item) for item in value]
    if is_dataclass(annotation):
        return _built(cast("type[Any]", annotation), value)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return annotation(value)
    return value


def _built(input_type: type[Any], values: Mapping[str, Any]) -> Any:
    hints = get_type_hints(input_type)
    # An option that is newer than the record was not set.
    unset = {name: None for name, hint in hints.items() if NoneType in get_args(hint)}
    typed = {name: _typed(hints[name], value) for name, value in values.items()}
    return input_type(**unset | typed)
