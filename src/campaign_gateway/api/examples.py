"""Example operations: GraphiQL opens with them, and the sandbox runs and shows the mutations."""

import json
import re
from collections.abc import Mapping
from typing import Any

from campaign_gateway.connectors.contract import Connector
from campaign_gateway.ledger.ids import new_id

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
    campaignUrl
    copiedObjects {{ type sourceId copyId }}
    warnings {{ code message field providerMessage }}
    duplication {{ id status evidence }}
    userErrors {{ code message field retry retryAfterSeconds providerMessage }}
  }}
}}
"""


ACCOUNTS = """\
query Accounts {
  accounts { name provider capabilities }
}
"""
LIST = """\
query ListCopies {
  duplications(first: 10) {
    edges { node { id status account sourceCampaignId requestedName campaign { id name } } }
    pageInfo { hasNextPage endCursor }
  }
}
"""
WAIT = """\
# The id is `duplication { id }` of a copy.
query WaitForCopy($id: ID!) {
  duplication(id: $id, waitSeconds: 20) {
    status
    evidence
    campaign { id name status }
    error { code message retry }
  }
}
"""


def mutation(connector: type[Connector[Any]], account: str) -> str:
    return MUTATION.format(
        # A title can have any characters, and a name in GraphQL only these.
        title=re.sub(r"[^A-Za-z0-9_]", "", connector.title) or connector.provider,
        provider=connector.provider,
        account=json.dumps(account),
        fields=connector.example.replace("\n", "\n        "),
    )


def new_key_variables() -> dict[str, str]:
    return {"idempotencyKey": new_id()}


def tabs(
    connectors: Mapping[str, type[Connector[Any]]],
    outcomes: Mapping[str, Mapping[str, str]],
) -> list[dict[str, object]]:
    """Return GraphiQL's tabs: one copy per provider, for its first account, and the queries.

    `outcomes` has, for each provider, what happens with which id of a source.
    """
    first: dict[str, tuple[str, type[Connector[Any]]]] = {}
    for account, connector in connectors.items():
        first.setdefault(connector.provider, (account, connector))
    best_known_first = sorted(first.values(), key=lambda each: not each[1].is_well_known)
    tabs: list[dict[str, object]] = [
        {
            "query": mutation(connector, account),
            "variables": new_key_variables(),
            "provider": connector.provider,
            "outcomes": dict(outcomes.get(connector.provider, {})),
        }
        for account, connector in best_known_first
    ]
    queries = {ACCOUNTS: {}, LIST: {}, WAIT: {"id": ""}}
    tabs += ({"query": query, "variables": values} for query, values in queries.items())
    return tabs
