"""The sandbox's page at /: the accounts, what happened to each copy, and every outcome to try."""

from collections.abc import Iterable, Mapping
from html import escape
from urllib.parse import urlencode

from starlette.responses import HTMLResponse, Response

from campaign_gateway.accounts.account import Account
from campaign_gateway.app import Gateway
from campaign_gateway.connectors.registry import find_connector
from campaign_gateway.model import Duplication, Selection
from campaign_gateway.web.callers.caller import EVERYONE

SHOWN = 50

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sandbox - Campaign Gateway</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 24px auto; max-width: 1100px; padding: 0 16px; }}
body {{ font: 15px/1.5 system-ui, sans-serif; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ padding: 4px 12px 4px 0; border-bottom: 1px solid #8886; text-align: left; }}
td {{ vertical-align: top; white-space: pre-line; }}
.copies td:nth-child(3), .copies td:nth-child(5) {{ min-width: 12em; overflow-wrap: anywhere; }}
.copies td:last-child {{ min-width: 16em; }}
</style>
<h1>Sandbox</h1>
<p>This is the gateway with an emulator of each provider. Nothing reaches a real provider.
Copy a campaign in <a href="/graphiql">GraphiQL</a>. The endpoint is <code>/graphql</code>.
Reload this page to see what happened to each copy.</p>
<p>On this page: <a href="#copies">copies</a>, <a href="#accounts">accounts</a>,
<a href="#outcomes">outcomes to try</a>, such as each error.</p>
<h2 id="copies">Copies</h2>
<div class="copies">
{copies}
</div>
<h2 id="accounts">Accounts</h2>
{accounts}
<h2 id="outcomes">Outcomes to try</h2>
<p>The id of the campaign to copy decides what happens. Each link opens GraphiQL with that id.</p>
{outcomes}
</html>
"""


async def home_page(
    gateway: Gateway, emulators: Mapping[str, str], outcomes: Mapping[str, Mapping[str, str]]
) -> Response:
    """Raises `LedgerUnavailable`."""
    newest, _ = await gateway.ledger.page(EVERYONE.scope, Selection(), SHOWN, None)
    accounts = [_account(account, emulators) for account in gateway.accounts.values()]
    details = (
        f"<details><summary>{escape(find_connector(provider).title)}</summary>"
        + _table(
            ("Source", "What happens"),
            (
                (f'<a href="{_example(provider, source)}">{escape(source)}</a>', escape(text))
                for source, text in sources.items()
            ),
        )
        + "</details>"
        for provider, sources in outcomes.items()
    )
    page = PAGE.format(
        copies=_table(
            ("Requested", "Account", "Source", "Status", "Copy", "Remark"), map(_row, newest)
        )
        if newest
        else "<p>There are no copies yet.</p>",
        accounts=_table(("Account", "Provider", "Copies"), accounts),
        outcomes="\n".join(details),
    )
    return HTMLResponse(page, headers={"content-security-policy": POLICY})


def _account(account: Account, emulators: Mapping[str, str]) -> tuple[str, ...]:
    provider, title = account.connector.provider, account.connector.title
    copies = escape(f"{emulators[provider]}/_emulator/copies")
    return (
        escape(account.name),
        f'<a href="{_example(provider)}">{escape(title)}</a>',
        f'<a href="{copies}">the copies that its emulator has made</a>',
    )


def _row(duplication: Duplication) -> tuple[str, ...]:
    intent, campaign = duplication.intent, duplication.campaign
    remarks = [
        *([duplication.error.message] if duplication.error else []),
        *(warning.message for warning in duplication.warnings),
    ]
    cells = (
        f"{duplication.requested_at:%H:%M:%S}",
        intent.account,
        intent.source_campaign_id,
        duplication.status,
        f"{campaign.id}\n{campaign.name or ''}" if campaign else "",
        " ".join(remarks),
    )
    return tuple(map(escape, cells))


def _example(provider: str, source: str | None = None) -> str:
    query = {"provider": provider} | ({"source": source} if source else {})
    return escape(f"/graphiql?{urlencode(query)}")


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{cell}</th>" for cell in header)
    body = "\n".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>\n<tr>{head}</tr>\n{body}\n</table>"
