"""What must hold before a copy: the caller's rights, and an input that the provider can express."""

from dataclasses import replace

from campaign_gateway.accounts.account import Account
from campaign_gateway.connectors.building import check_lengths
from campaign_gateway.connectors.contract import ActivatesCopies, CopyInput, ProviderRequest
from campaign_gateway.duplication.errors import (
    INPUT_LENGTH,
    INPUT_TOO_LONG,
    MAY_NOT_ACTIVATE,
    MAY_NOT_COPY,
)
from campaign_gateway.duplication.intents import CopyCall
from campaign_gateway.model import Refused
from campaign_gateway.web.callers.caller import Caller, Right


def require_right_to_copy(caller: Caller) -> None:
    """Raises `Refused`."""
    if Right.COPY not in caller.rights:
        raise Refused(MAY_NOT_COPY)


def require_right_to_activate(caller: Caller, account: Account, copy_input: CopyInput) -> None:
    """Raises `Refused` if the copy may start active and the caller may not request that."""
    if Right.ACTIVATE not in caller.rights and may_start_active(account, copy_input):
        raise Refused(MAY_NOT_ACTIVATE)


def may_start_active(account: Account, copy_input: CopyInput) -> bool:
    connector = account.connector
    return isinstance(connector, ActivatesCopies) and connector.activates(copy_input)


def build_request(call: CopyCall) -> ProviderRequest:
    """Raises `Refused`. Its error has a field's whole path among the mutation's arguments."""
    connector = call.account.connector
    if len(call.intent.input) > INPUT_LENGTH:
        raise Refused(INPUT_TOO_LONG)
    try:
        check_lengths(call.copy_input)
        return connector.build_request(call.copy_input)
    except Refused as refusal:
        if refusal.error.field is None:
            raise
        path = ("input", connector.provider, *refusal.error.field)
        raise Refused(replace(refusal.error, field=path)) from refusal
