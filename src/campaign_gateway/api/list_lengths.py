"""The lengths of the schema's lists. The limits use them to compute a document's cost."""

from campaign_gateway.api.context import ENTITY_LIMIT
from campaign_gateway.api.queries import PAGE_LIMIT, PAGE_SIZE
from campaign_gateway.web.graphql_http.limits import ListLengths, Page

LIST_LENGTHS: ListLengths = {
    "_entities": Page(ENTITY_LIMIT, ENTITY_LIMIT, "representations"),
    "accounts": 50,
    # A row of the ledger takes about as long as 30 values.
    "duplications": Page(PAGE_SIZE, PAGE_LIMIT, item_cost=30),
}
