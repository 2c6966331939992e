"""Many clients of a gateway that take little CPU: one plain connection for each request."""

import asyncio
import json
import re
from contextlib import closing

from support.faulty_provider import AUDIENCE
from support.gateways import MUTATION, GatewayResponse, Intent, parse_payload

LENGTH = re.compile(rb"(?i)content-length: (\d+)")


async def ask_plainly(url: str, wanted: Intent) -> GatewayResponse:
    """Send the intent's mutation like `gateways.ask`. Raises if the connection fails."""
    campaign = {
        "account": wanted.account,
        "accountGroupId": wanted.group,
        "campaignId": f"{wanted.fault}--{wanted.name}",
        "audienceId": AUDIENCE,
        "name": wanted.called,
    }
    variables = {"campaign": campaign, "key": wanted.key}
    body = json.dumps({"query": MUTATION, "variables": variables}).encode()
    head = f"content-type: application/json\r\ncontent-length: {len(body)}"
    sent_at = asyncio.get_running_loop().time()
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    with closing(writer):
        writer.write(f"POST /graphql HTTP/1.1\r\nhost: {host}\r\n{head}\r\n\r\n".encode() + body)
        length = LENGTH.search(await reader.readuntil(b"\r\n\r\n"))
        assert length is not None
        answer = json.loads(await reader.readexactly(int(length[1])))
    assert "errors" not in answer, answer
    return parse_payload(sent_at, answer["data"]["duplicateCampaign"])
