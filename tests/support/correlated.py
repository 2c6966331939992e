"""The correlation id in responses, which differs from one to the next."""

import re
from typing import Any, Protocol


class Response(Protocol):
    def json(self) -> Any: ...


def without_id(response: Response) -> dict[str, Any]:
    """Return the GraphQL response without its correlation id, which it must have."""
    content: dict[str, Any] = response.json()
    extensions = content.pop("extensions")
    assert extensions.keys() == {"correlationId"}
    assert re.fullmatch(r"[0-9a-f]{32}", extensions["correlationId"])
    return content
