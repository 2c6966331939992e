"""What can be wrong with an account, in words for its operator."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from campaign_gateway.accounts.account import Account
from campaign_gateway.connectors.contract import Grant, Permission
from campaign_gateway.model import ErrorCode, UserError


class ProblemCode(StrEnum):
    UNREACHABLE = "UNREACHABLE"
    SECRET_REFUSED = "SECRET_REFUSED"  # noqa: S105 - no secret
    PERMISSION_MISSING = "PERMISSION_MISSING"
    READING_REFUSED = "READING_REFUSED"
    RATE_LIMITED = "RATE_LIMITED"
    LIMIT_USED_UP = "LIMIT_USED_UP"
    NOT_OFFERED = "NOT_OFFERED"
    UNCLEAR_RESPONSE = "UNCLEAR_RESPONSE"
    CLOCKS_DIFFER = "CLOCKS_DIFFER"


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and what to do. The text does not name the account."""

    code: ProblemCode
    text: str


TEXTS: Mapping[ProblemCode, str] = {
    ProblemCode.UNREACHABLE: "No response from {title} at {address}: {reason}. Check the address "
    "in [accounts.{name}], the network and the firewall. A private CA needs ca_file.",
    ProblemCode.SECRET_REFUSED: "{title} refuses the secret. Set a valid one in [accounts.{name}], "
    "and check that {address} is the address that the secret belongs to.",
    ProblemCode.PERMISSION_MISSING: "The secret does not have {missing}. Grant it at {title}, "
    "or set a secret that has it in [accounts.{name}].",
    ProblemCode.READING_REFUSED: "{title} does not allow the secret to read campaigns. Grant that "
    "permission at {title}, or set another secret in [accounts.{name}].",
    ProblemCode.RATE_LIMITED: "The check is not complete: {title} accepts no more calls for now. "
    "Check again later. If that happens often, other programs may use the account too: give this "
    "gateway fewer calls with calls_per_minute in [accounts.{name}].",
    ProblemCode.LIMIT_USED_UP: "The check is not complete. {reason} Check again later.",
    ProblemCode.NOT_OFFERED: "{title} is unavailable, or does not offer its API at {address}. "
    "Check the address and the version in [accounts.{name}].",
    ProblemCode.UNCLEAR_RESPONSE: "The response is not what {title} documents. Check that "
    "{address} is the address of its API. If it is, check again later.",
    ProblemCode.CLOCKS_DIFFER: "The clocks of {title} and of this machine differ by {seconds} "
    "seconds. Synchronise this machine's clock.",
}

# With these problems alone, nothing is known to be wrong with the account.
INCOMPLETE = {ProblemCode.RATE_LIMITED, ProblemCode.LIMIT_USED_UP}

# Every other code of a refused read means that the read is not as documented at this address.
BY_ERROR: Mapping[ErrorCode, ProblemCode] = {
    ErrorCode.AUTHENTICATION_FAILED: ProblemCode.SECRET_REFUSED,
    ErrorCode.PERMISSION_DENIED: ProblemCode.READING_REFUSED,
    ErrorCode.RATE_LIMITED: ProblemCode.RATE_LIMITED,
    ErrorCode.QUOTA_EXCEEDED: ProblemCode.RATE_LIMITED,
    ErrorCode.OUTCOME_UNKNOWN: ProblemCode.UNCLEAR_RESPONSE,
}


def problem(account: Account, code: ProblemCode, **words: str) -> Problem:
    title = account.connector.title
    text = TEXTS[code].format(title=title, name=account.name, address=account.address, **words)
    return Problem(code, text)


def read_refused(account: Account, error: UserError) -> Problem:
    """Return what the provider's response to a read means, with the provider's own words."""
    found = problem(account, BY_ERROR.get(error.code, ProblemCode.NOT_OFFERED))
    reported = ", ".join(filter(None, (error.provider_code, error.provider_message)))
    # Line breaks and escape sequences could fake lines of the log, of `/readyz` and of a terminal.
    printable = "".join(char if char.isprintable() else " " for char in reported)
    return Problem(found.code, f"{found.text} {account.connector.title} reports: {printable}")


def permissions_missing(account: Account, missing: Iterable[Permission]) -> Problem:
    names = ", ".join(permission.name for permission in missing)
    return problem(account, ProblemCode.PERMISSION_MISSING, missing=names)


def needed(permissions: Sequence[Permission]) -> list[Permission]:
    """Return the missing permissions without which nothing can be copied.

    A permission for one kind of campaigns does not matter as long as another kind can be copied.
    """
    missing = [permission for permission in permissions if permission.grant is Grant.MISSING]
    kinds = {permission.only_for for permission in permissions} - {None}
    if kinds - {permission.only_for for permission in missing}:
        return [permission for permission in missing if permission.only_for is None]
    return missing
