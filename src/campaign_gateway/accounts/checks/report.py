"""Shows checks: a table for people, JSON for scripts, a line for `/readyz`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from campaign_gateway.accounts.checks.account_check import AccountCheck
from campaign_gateway.accounts.checks.problems import INCOMPLETE
from campaign_gateway.connectors.contract import Grant, Permission
from campaign_gateway.observe.health import counted

STATES: Mapping[Grant, str] = {
    Grant.GRANTED: "granted",
    Grant.MISSING: "MISSING",
    Grant.NOT_CHECKED: "not checked",
    Grant.NEEDS_COPY: "cannot be checked without a copy",
}

HEAD = ("ACCOUNT", "PROVIDER", "RESULT", "SECRET", "TLS UNTIL", "CLOCK", "LATENCY", "API")
PERMISSION_HEAD = ("ACCOUNT", "PERMISSION", "STATE")


def table(checks: Sequence[AccountCheck]) -> list[str]:
    """Return the lines: a row for each account, one for each permission, and what is wrong."""
    lines = _aligned([HEAD, *map(_row, checks)])
    permissions = [
        (check.account, permission.name, _state(permission))
        for check in checks
        for permission in check.permissions
    ]
    if permissions:
        lines += ["", *_aligned([PERMISSION_HEAD, *permissions])]
    problems = [f"{check.account}: {each.text}" for check in checks for each in check.problems]
    return [*lines, "", *problems] if problems else lines


def _row(check: AccountCheck) -> tuple[str, ...]:
    return (
        check.account,
        check.provider,
        _result(check),
        check.secret,
        _tls(check),
        "-" if check.clock_skew is None else f"{check.clock_skew:+} s",
        "-" if check.seconds is None else f"{check.seconds * 1000:.0f} ms",
        check.api_version or "-",
    )


def _result(check: AccountCheck) -> str:
    if check.is_reachable is False:
        return "UNREACHABLE"
    if not check.is_ok:
        codes = {problem.code for problem in check.problems}
        return "INCOMPLETE" if codes <= INCOMPLETE else "WRONG"
    return "not checked" if check.is_reachable is None else "ok"


def _tls(check: AccountCheck) -> str:
    if check.has_tls is False:
        return "no TLS"
    ends_at = check.certificate_ends_at
    return "-" if ends_at is None else ends_at.date().isoformat()


def _state(permission: Permission) -> str:
    state = STATES[permission.grant]
    return f"{state}, for {permission.only_for}" if permission.only_for else state


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def as_json(check: AccountCheck) -> dict[str, Any]:
    """Return the check with names in camel case; null stands for what is not known."""
    return {
        "account": check.account,
        "provider": check.provider,
        "ok": check.is_ok,
        "checkedAt": _time(check.checked_at),
        "reachable": check.is_reachable,
        "tls": check.has_tls,
        "certificateEndsAt": check.certificate_ends_at and _time(check.certificate_ends_at),
        "secret": check.secret,
        "permissions": [
            {
                "name": permission.name,
                "state": permission.grant,
                "onlyFor": permission.only_for,
            }
            for permission in check.permissions
        ],
        "clockSkewSeconds": check.clock_skew,
        "latencyMilliseconds": check.seconds and round(check.seconds * 1000, 1),
        "apiVersion": check.api_version,
        "problems": [{"code": each.code, "message": each.text} for each in check.problems],
    }


def status_line(account: str, check: AccountCheck | None) -> str:
    """Return the line of `/readyz?accounts`."""
    if check is None:
        return f"account {account}: not checked yet"
    ok = (
        "not checked, because no read of the provider is known"
        if check.is_reachable is None
        else "ok"
    )
    state = " ".join(problem.text for problem in check.problems) or ok
    return f"account {account}: {state} (checked at {_time(check.checked_at)})"


def problem_line(account: str, problem: str, since: str, failures: int) -> str:
    """Return the line of `/readyz?accounts` for a problem that calls of callers have shown.

    Without the reason, because it may be about a copy of another caller.
    """
    number = counted(failures, "failure")
    # A search or an operator may have settled it, and the problem lasts until a later copy.
    more = ", and `duplications list` what is UNKNOWN now" if problem == "OUTCOME_UNKNOWN" else ""
    return f"account {account}: {problem} since {since}, {number}; the log has the reason{more}"


def _time(instant: datetime) -> str:
    return instant.isoformat(timespec="seconds").replace("+00:00", "Z")
