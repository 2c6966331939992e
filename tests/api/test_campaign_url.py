"""`campaignUrl`: where people see the copy at the provider, the same in every replay."""

import json
import sqlite3
import uuid

import pytest

from campaign_gateway.api.examples import mutation
from campaign_gateway.connectors.registry import CONNECTORS
from support.edge import Edge

pytestmark = pytest.mark.asyncio(loop_scope="module")

# The providers whose documents say where people see a campaign.
ADDRESSES = {
    "mailchimp": "https://us21.admin.mailchimp.com/campaigns/show/?id=",
    "marketo": "https://app-sandbox.marketo.invalid/#SC",
}
FIND = "query Find($key: String!) { duplicationByKey(idempotencyKey: $key) { campaign { url } } }"


def account_of(gateway: Edge, provider: str) -> str:
    accounts = gateway.sandbox.settings.accounts.items()
    return next(name for name, account in accounts if account.provider == provider)


@pytest.mark.parametrize("provider", ADDRESSES)
async def test_replay_has_the_address_of_the_first_answer(gateway: Edge, provider: str) -> None:
    example = mutation(CONNECTORS[provider], account_of(gateway, provider))
    variables = {"idempotencyKey": str(uuid.uuid4())}
    first = (await gateway.data(example, variables))["duplicateCampaign"]
    assert first["campaignUrl"].startswith(ADDRESSES[provider])
    again = (await gateway.data(example, variables))["duplicateCampaign"]
    assert again == {**first, "replayed": True}
    found = await gateway.data(FIND, {"key": variables["idempotencyKey"]})
    assert found["duplicationByKey"]["campaign"]["url"] == first["campaignUrl"]


async def test_copy_of_a_provider_without_addresses_has_none(gateway: Edge) -> None:
    example = mutation(CONNECTORS["klaviyo"], account_of(gateway, "klaviyo"))
    made = await gateway.data(example, {"idempotencyKey": str(uuid.uuid4())})
    assert made["duplicateCampaign"]["status"] == "CREATED"
    assert made["duplicateCampaign"]["campaignUrl"] is None


async def test_record_of_an_earlier_version_has_no_address(gateway: Edge) -> None:
    example = mutation(CONNECTORS["mailchimp"], account_of(gateway, "mailchimp"))
    variables = {"idempotencyKey": str(uuid.uuid4())}
    made = (await gateway.data(example, variables))["duplicateCampaign"]
    path = gateway.sandbox.settings.ledger.url.get_secret_value().removeprefix("sqlite:///")
    with sqlite3.connect(path) as ledger:
        where = "WHERE id = ?", (made["duplication"]["id"],)
        (recorded,) = ledger.execute(f"SELECT campaign FROM duplication {where[0]}", where[1])
        campaign = json.loads(recorded[0])
        del campaign["url"]
        ledger.execute(
            f"UPDATE duplication SET campaign = ? {where[0]}", (json.dumps(campaign), *where[1])
        )
    ledger.close()
    replayed = (await gateway.data(example, variables))["duplicateCampaign"]
    assert replayed == {**made, "replayed": True, "campaignUrl": None}
