"""The DateTime scalar."""

import re
from datetime import UTC, datetime

import strawberry
from graphql import GraphQLError
from strawberry.types.scalar import ScalarDefinition

# RFC 3339, section 5.6. Python's own parser accepts other formats too, but no lower-case letters.
RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE
)


def _parse(value: object) -> datetime:
    try:
        if isinstance(value, str) and RFC_3339.fullmatch(value):
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise GraphQLError("A DateTime must look like 2026-01-31T12:00:00Z and include the time zone.")


DATE_TIME: ScalarDefinition = strawberry.scalar(
    name="DateTime",
    description="A point in time in the format of RFC 3339, such as 2026-01-31T12:00:00Z.",
    specified_by_url="https://www.rfc-editor.org/rfc/rfc3339",
    serialize=datetime.isoformat,
    parse_value=_parse,
)
