"""The registry of connectors: one line per provider."""

from collections.abc import Mapping
from typing import Any

from campaign_gateway.connectors.contract import Connector
from campaign_gateway.connectors.providers.altcraft import AltcraftConnector
from campaign_gateway.connectors.providers.braze import BrazeConnector
from campaign_gateway.connectors.providers.hubspot import HubspotConnector
from campaign_gateway.connectors.providers.klaviyo import KlaviyoConnector
from campaign_gateway.connectors.providers.mailchimp import MailchimpConnector
from campaign_gateway.connectors.providers.marketo import MarketoConnector
from campaign_gateway.connectors.providers.meta import MetaConnector
from campaign_gateway.connectors.providers.omnisend import OmnisendConnector
from campaign_gateway.connectors.providers.sendgrid import SendgridConnector
from campaign_gateway.connectors.providers.sonarly import SonarlyConnector

_ALL: tuple[type[Connector[Any]], ...] = (
    AltcraftConnector,
    BrazeConnector,
    HubspotConnector,
    KlaviyoConnector,
    MailchimpConnector,
    MarketoConnector,
    MetaConnector,
    OmnisendConnector,
    SendgridConnector,
    SonarlyConnector,
)

CONNECTORS: Mapping[str, type[Connector[Any]]] = {
    connector.provider: connector for connector in _ALL
}
