"""Variables of the mutation for each account of the sandbox."""

import uuid
from typing import Any

GROUP = {
    "accountGroupId": "507f1f77bcf86cd799439001",
    "audienceId": "507f1f77bcf86cd799439021",
}

# By account. Only Braze makes the copy after its response.
INPUTS: dict[str, dict[str, dict[str, Any]]] = {
    "braze": {"braze": {"campaignId": "0b7f2a64-5f0e-4a5e-9d43-6a1f3e2c7b10"}},
    "sonarly": {"sonarly": {**GROUP, "campaignId": "507f1f77bcf86cd799439011"}},
    "altcraft": {"altcraft": {"account": "altcraft", "campaignId": 96, "kind": "TRIGGER"}},
    "altcraft-xml": {"altcraft": {"account": "altcraft-xml", "campaignId": 96}},
}
STATUSES = dict.fromkeys(INPUTS, "CREATED") | {"braze": "ACCEPTED"}


def intent(account: str, **fields: object) -> dict[str, Any]:
    """Return variables with a new key, and a name that no other copy has."""
    ((provider, campaign),) = INPUTS[account].items()
    named = {**campaign, "name": f"Copy {uuid.uuid4()}", **fields}
    return {"input": {provider: named}, "key": str(uuid.uuid4())}


def with_two_members(other: object) -> dict[str, Any]:
    """Return variables with two members of a @oneOf input, which no schema allows."""
    copy = intent("braze")
    copy["input"]["sonarly"] = other
    return copy
