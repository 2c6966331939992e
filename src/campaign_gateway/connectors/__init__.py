"""The registry of connectors: one line a provider."""

from collections.abc import Mapping
from typing import Any

from campaign_gateway.connector import Connector
from campaign_gateway.connectors.altcraft.connector import AltcraftConnector
from campaign_gateway.connectors.braze.connector import BrazeConnector
from campaign_gateway.connectors.hubspot.connector import HubspotConnector
from campaign_gateway.connectors.klaviyo.connector import KlaviyoConnector
from campaign_gateway.connectors.mailchimp.connector import MailchimpConnector
from campaign_gateway.connectors.marketo.connector import MarketoConnector
from campaign_gateway.connectors.meta.connector import MetaConnector
from campaign_gateway.connectors.omnisend.connector import OmnisendConnector
from campaign_gateway.connectors.sendgrid.connector import SendgridConnector
from campaign_gateway.connectors.sonarly.connector import SonarlyConnector

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

CONNECTORS: Mapping[str, type[Connector[Any]]] = {each.provider: each for each in _ALL}
