"""No secret of an account is in a log, a repr or an outcome."""

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from campaign_gateway.accounts.account import open_account
from campaign_gateway.accounts.transport.token_auth import TokenTransport
from campaign_gateway.connectors.contract import (
    CHECK_READS,
    ListsCampaigns,
    ProviderRequest,
    ProviderResponse,
    ReadsCampaigns,
    RenamesCopies,
    ReportsProgress,
    ShowsAccess,
    Token,
    UsesAccessTokens,
)
from campaign_gateway.sandbox.contract_suite.calling import duplicate, read_recording
from campaign_gateway.sandbox.contract_suite.fixtures import Echo, OpenAt
from campaign_gateway.sandbox.contract_suite.responses import RENAMABLE_COPY
from campaign_gateway.sandbox.contract_suite.subject import (
    Subject,
    first_connector,
    secrets_of,
    texts_in,
)
from campaign_gateway.settings import parse_settings

# Every format must escape a part of this secret.
SECRET = "k\"e&y<1>'2/%3+\\4=;tail"


def test_secrets_are_in_no_repr(subject: Subject, account: str, copy_input: Any) -> None:
    # No format escapes a part of this secret, and here no part of it may appear.
    secret = "plain-secret-0123456789"
    settings = {"provider": subject.provider, "base_url": "https://provider.example"}
    table = {**settings, **secrets_of(subject, secret)}
    configured = parse_settings({"accounts": {account: table}}, {})
    opened = open_account(account, configured.accounts[account])
    connector = opened.connector
    assert set(configured.accounts[account].secrets()) == {secret}
    requests = [connector.build_request(copy_input)]
    if isinstance(connector, ListsCampaigns):
        requests.append(connector.build_search(copy_input, None))
    if isinstance(connector, ReadsCampaigns):
        requests.append(connector.build_lookup("97", copy_input))
    if isinstance(connector, RenamesCopies):
        requests.append(connector.build_rename(copy_input, "97", RENAMABLE_COPY))
    if isinstance(connector, ReportsProgress):
        requests.append(connector.build_progress(copy_input, "97"))
    if isinstance(connector, ShowsAccess):
        requests += reads_of(connector)
    if isinstance(connector, UsesAccessTokens):
        requests = [connector.authorize(request, secret) for request in requests]
        requests.append(connector.build_token_request())
    for value in [configured, opened, connector, opened.transport, *requests]:
        assert not any(secret in text for text in (repr(value), str(value), f"{value}"))
    # Logs of servers and proxies keep URLs. A token request may have no other place for a secret.
    token_request = (
        connector.build_token_request() if isinstance(connector, UsesAccessTokens) else None
    )
    assert not any(secret in request.url for request in requests if request != token_request)
    assert all(secret in revealed(str(asdict(request))) for request in requests)


def reads_of(connector: ShowsAccess) -> list[ProviderRequest]:
    """Return the reads of a check that need no earlier response."""
    unclear = ProviderResponse(200, {}, b"{}")
    reads = [connector.build_check([unclear] * number) for number in range(CHECK_READS)]
    return [read for read in reads if read is not None]


async def test_secret_that_the_provider_echoes_is_in_no_outcome(
    subject: Subject,
    copy_recording: Path,
    open_at: OpenAt,
    echo: Echo,
) -> None:
    connector, copy_input = first_connector(subject)
    uses_tokens = isinstance(connector, UsesAccessTokens)
    # A token must be redacted too, and not only because it equals the secret.
    secret = "another-secret-0123456789" if uses_tokens else SECRET
    account = open_at(echo.url, **secrets_of(subject, secret))
    recorded = read_recording(copy_recording)
    if isinstance(connector, UsesAccessTokens):
        token_response = read_recording(subject.recording("signin.token"))
        token = connector.parse_token(token_response)
        assert isinstance(token, Token)
        body = token_response.body.replace(token.value.encode(), json.dumps(SECRET)[1:-1].encode())
        assert isinstance(account.transport, TokenTransport)
        account.transport._cached_token = None
        echo.responses.append(replace(token_response, body=body))
    headers = {
        name: SECRET if name.startswith("x-") else value
        for name, value in recorded.headers.items()
        if name != "content-length"
    }
    in_texts, anywhere = with_text_at_leaves(recorded, "@@")
    bodies = [(in_texts, spelling) for spelling in spellings(SECRET)]
    for body, spelling in [*bodies, (anywhere, SECRET), (b"@@", SECRET)]:
        content = body.replace(b"@@", spelling.encode())
        echo.responses.append(ProviderResponse(recorded.status, headers, content))
        outcome = await duplicate(account, copy_input)
        assert not any(map(leaks, texts_in(outcome))), spelling
        # Without the secret in the request the test would prove nothing.
        assert any(leaks(revealed(request)) for request in echo.received)
        echo.received.clear()


@cache
def spellings(secret: str) -> Sequence[str]:
    """Return the secret as JSON, XML and URLs escape it, once or repeatedly, and in base64."""
    in_json = json.dumps(secret)[1:-1]
    in_xml = escape(secret, {'"': "&quot;", "'": "&apos;"})
    in_url = quote(secret, safe="")
    return [
        secret,
        in_json,
        json.dumps(in_json)[1:-1],
        json.dumps(json.dumps(in_json)[1:-1])[1:-1],
        secret.replace("/", "\\/").replace('"', '\\"'),
        "".join(f"\\u{ord(char):04x}" for char in secret),
        "".join(f"\\u{ord(char):04X}" for char in secret),
        in_xml,
        escape(in_xml),
        "".join(f"&#{ord(char)};" for char in secret),
        "".join(f"&#x{ord(char):X};" for char in secret),
        in_url,
        quote(in_url, safe=""),
        re.sub("%..", lambda match: match[0].lower(), in_url),
        base64.b64encode(secret.encode()).decode(),
    ]


def revealed(text: str) -> str:
    """Return the text together with the decoded content of Basic authentication (RFC 7617)."""
    encoded = re.findall(r"Basic ([A-Za-z0-9+/]+=*)", text)
    return " ".join([text, *(base64.b64decode(part).decode() for part in encoded)])


def leaks(text: str) -> bool:
    return any(spelling in text for spelling in spellings(SECRET))


def with_text_at_leaves(response: ProviderResponse, text: str) -> tuple[bytes, bytes]:
    """Return the body with the text in place of every string, and in place of every value."""
    if b"<" in response.body[:1]:
        root = ET.fromstring(response.body)
        leaves = [element for element in root.iter() if not len(element)]
        for leaf in leaves:
            leaf.text = leaf.text if (leaf.text or "").strip('"').isdigit() else text
        in_texts = ET.tostring(root)
        for leaf in leaves:
            leaf.text = text
        return in_texts, ET.tostring(root)
    if not response.body.startswith(b"{"):
        return text.encode(), text.encode()

    def put(value: Any, kinds: type | tuple[type, ...]) -> Any:
        if isinstance(value, dict):
            return {key: put(item, kinds) for key, item in value.items()}
        if isinstance(value, list):
            return [put(item, kinds) for item in value]
        return text if isinstance(value, kinds) else value

    whole = json.loads(response.body)
    return json.dumps(put(whole, str)).encode(), json.dumps(put(whole, object)).encode()
