"""Responses that no provider documents, and a copy that every provider can rename."""

import gzip
import json

from campaign_gateway.connectors.contract import ProviderResponse

# Bodies that no provider documents.
CHEAP = [
    b"", b"{", b"{}", b"[]", b"null", b'"text"', b"0", b"\xff\xfe{}", b"\x00\x01\x02",
    b"<html><body>It works!</body></html>", b"<xml/>", b"<xml>", b"not found",
    '{"success": true}'.encode("utf-16"), gzip.compress(b"{}"),
    b'\xef\xbb\xbf{"error": "' + b"9" * 400 + b'"}', b'{"error": NaN, "success": 1e999}',
    b'{"error": {}, "data": {}, "success": [], "message": {}}',
    b"<xml><error><error/></error><data>1</data></xml>",
    b'{"id": 5}', b'{"id": "a/b"}', b'{"id": ""}', b'{"result": {"id": "a"}}',
    b'{"data": {"id": "a"}}', b'{"data": null}', b'{"errors": null}',
    b'{"title": "Not found", "status": 404}',
]  # fmt: skip
COSTLY = [
    b"[" * 200_000,
    b'{"data":' * 30_000,
    b"<xml>" * 50_000,
    b"<xml>" * 20_000 + b"</xml>" * 20_000,
    b'{"error": ' + b"9" * 5_000 + b"}",
    b'{"message": "' + b"x" * 250_000 + b'"}',
    b"x" * 250_000,
]

UNREADABLE = [
    ProviderResponse(status, {}, body, is_complete)
    for status in [*range(200, 206), 301, 400, 401, 403, 404, 408, 429, *range(500, 505)]
    for body in (CHEAP + COSTLY if status == 200 else CHEAP)
    for is_complete in (True, False)
]

# A copy that every provider describes so that it can be renamed.
RENAMABLE_COPY = ProviderResponse(
    200,
    {},
    json.dumps(
        {
            "id": "97",
            "settings": {},
            "subject": "Now",
            "fromName": "Acme",
            "htmlContent": "<p>Now</p>",
            "plainTextContent": "Now",
            "isSplitTest": False,
        }
    ).encode(),
)
