"""A gateway process with an account that works and one whose key is refused."""

import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from campaign_gateway.sandbox.emulators import sonarly
from support.commands import Command, running
from support.plain import NO_CAS
from support.prometheus import parse

CONFIGURATION = """
[server]
port = 0
[metrics]
port = 0
[ledger]
url = "sqlite:///{folder}/ledger.db"
[accounts.good]
provider = "sonarly"
base_url = "{provider}"
api_key = "{key}"
calls_per_minute = 100
[accounts.wrong-key]
provider = "sonarly"
base_url = "{provider}"
api_key = "sk_live_withdrawn"
"""

MUTATION = """
mutation Copy($campaign: SonarlyCampaignInput!, $key: String!) {
  duplicateCampaign(input: { sonarly: $campaign }, idempotencyKey: $key) {
    status userErrors { code }
  }
}
"""


@dataclass(frozen=True)
class Gateway:
    """A gateway process, and clients of its two addresses."""

    command: Command
    public: httpx.Client
    metrics: httpx.Client
    folder: Path

    def copy(self, account: str, source: str = "507f1f77bcf86cd799439011") -> dict[str, Any]:
        campaign = {
            "account": account,
            "accountGroupId": sonarly.GROUP,
            "campaignId": source,
            "audienceId": next(iter(sonarly.AUDIENCES)),
            "name": f"Copy {uuid.uuid4()}",
        }
        variables = {"campaign": campaign, "key": str(uuid.uuid4())}
        body = {"query": MUTATION, "variables": variables}
        payload: dict[str, Any] = self.public.post("/graphql", json=body).json()["data"]
        return payload["duplicateCampaign"]  # type: ignore[no-any-return] # It is JSON.

    def text(self) -> str:
        return self.metrics.get("/metrics").text

    def read(self) -> Mapping[str, float]:
        return parse(self.text())

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of the series that have these labels."""
        wanted = {f'{label}="{value}"' for label, value in labels.items()}
        return sum(
            value
            for series, value in self.read().items()
            if re.split(r"[{ ]", series)[0] == name
            and wanted <= set(re.findall(r'\w+="[^"]*"', series))
        )


@contextmanager
def metered_gateway(folder: Path, provider: str) -> Iterator[Gateway]:
    """Run a gateway. `provider` is the URL of Sonarly's emulator."""
    config = folder / "gateway.toml"
    config.write_text(CONFIGURATION.format(folder=folder, provider=provider, key=sonarly.API_KEY))
    with running("serve", "--config", str(config)) as command:
        port = command.wait_for(r"listening on 127\.0\.0\.1 port (\d+)")[1]
        metrics_port = command.wait_for(r"serving metrics on 127\.0\.0\.1 port (\d+)")[1]
        with (
            _client(port) as public,
            _client(metrics_port) as scraper,
        ):
            yield Gateway(command, public, scraper, folder)
        if command.process.poll() is None:
            assert command.stop() == 0


def _client(port: str) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=NO_CAS)
