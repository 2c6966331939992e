"""What clients ask for at each account of the sandbox, as the variables of an operation."""

import uuid
from typing import Any

GROUP = {
    "accountGroupId": "507f1f77bcf86cd799439001",
    "audienceId": "507f1f77bcf86cd799439021",
}

# By account. Braze says later what it has made; the others at once.
INPUTS: dict[str, dict[str, dict[str, Any]]] = {
    "braze": {"braze": {"campaignId": "0b7f2a64-5f0e-4a5e-9d43-6a1f3e2c7b10"}},
    "sonarly": {"sonarly": {**GROUP, "campaignId": "507f1f77bcf86cd799439011"}},
    "altcraft": {"altcraft": {"account": "altcraft", "campaignId": 96, "kind": "TRIGGER"}},
    "altcraft-xml": {"altcraft": {"account": "altcraft-xml", "campaignId": 96}},
}
STATUSES = dict.fromkeys(INPUTS, "CREATED") | {"braze": "ACCEPTED"}


def intent(account: str, **fields: object) -> dict[str, Any]:
    """A new one, of a name that no other has, so that every copy can be found again."""
    ((provider, campaign),) = INPUTS[account].items()
    named = {**campaign, "name": f"Copy {uuid.uuid4()}", **fields}
    return {"input": {provider: named}, "key": str(uuid.uuid4())}


def with_two_members(other: object) -> dict[str, Any]:
    """What no schema allows: a copy at Braze, and one at Sonarly, which may be null."""
    copy = intent("braze")
    copy["input"]["sonarly"] = other
    return copy
