"""Example mutations: GraphiQL opens with them, and the sandbox runs and shows them."""

import json
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from campaign_gateway.connectors.contract import Connector

MUTATION = """\
mutation CopyAt{title}($idempotencyKey: String!) {{
  duplicateCampaign(
    input: {{
      {provider}: {{
        account: {account}
        {fields}
      }}
    }}
    idempotencyKey: $idempotencyKey
  ) {{
    status
    replayed
    campaign {{ id name status }}
    warnings {{ code message providerMessage }}
    duplication {{ id status evidence }}
    userErrors {{ code message field retry retryAfterSeconds providerMessage }}
  }}
}}
"""


def mutation(connector: type[Connector[Any]], account: str) -> str:
    return MUTATION.format(
        title=connector.title.replace(" ", ""),
        provider=connector.provider,
        account=json.dumps(account),
        fields=connector.example.replace("\n", "\n        "),
    )


def new_key_variables() -> dict[str, str]:
    return {"idempotencyKey": str(uuid.uuid4())}


def tabs(
    connectors: Mapping[str, type[Connector[Any]]], notes: Mapping[str, Iterable[str]]
) -> list[dict[str, object]]:
    """Return one GraphiQL tab per provider, for its first account. Notes become comments in it."""
    first: dict[str, tuple[str, type[Connector[Any]]]] = {}
    for account, connector in connectors.items():
        first.setdefault(connector.provider, (account, connector))
    return [
        {
            "query": mutation(connector, account)
            + "".join(f"# {note}\n" for note in notes.get(provider, ())),
            "variables": new_key_variables(),
        }
        for provider, (account, connector) in first.items()
    ]
