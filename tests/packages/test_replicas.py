"""Gateways at one PostgreSQL that have different packages with connectors."""

import json
from pathlib import Path

import httpx
import psycopg

from support.gateways import Gateway, calling, configuration, serving
from support.packages import add_acme
from support.waiting import until

CHANGES = {"timing": {"heartbeat_interval": 0.2}}
ACME = {"provider": "acme", "base_url": "http://127.0.0.1:9", "api_key": "key-of-acme"}

BEGINS = "other gateways at this database have different connector packages: "
REMEDY = "Install the same for all of them"
ENDS = "the gateways at this database have the same connector packages again"


async def ready(http: httpx.AsyncClient, gateway: Gateway) -> list[str]:
    """Return what /readyz says about connectors. It is always ready."""
    response = await http.get(f"{gateway.url}/readyz")
    assert response.status_code == 200
    first, *lines = response.text.splitlines()
    assert first == "ready"
    return [line for line in lines if "connector" in line]


def logged(gateway: Gateway, message: str) -> list[str]:
    """Return the levels of the lines in the log that begin with the message."""
    lines = map(json.loads, gateway.output().rpartition("\n")[0].splitlines())
    return [line["level"] for line in lines if line["message"].startswith(message)]


async def test_gateways_with_different_packages_are_told_apart(
    tmp_path: Path, postgres_url: str
) -> None:
    add_acme(site := tmp_path / "site")
    main = {"main": "http://127.0.0.1:9"}
    plain = configuration(tmp_path, postgres_url, main)
    with_acme = configuration(tmp_path, postgres_url, {**main, "acme": ""}, more_of={"acme": ACME})
    environment = {"PYTHONPATH": str(site)}
    async with calling() as http, serving(plain, CHANGES) as one:
        with psycopg.connect(postgres_url, autocommit=True) as database:
            # A gateway of an earlier version, whose packages are not known.
            database.execute("INSERT INTO replica VALUES ('earlier', clock_timestamp())")
        async with serving(with_acme, CHANGES, environment) as other:
            assert await ready(http, other) == [
                f"warning: {BEGINS}1 with none; this one has acme-gateway 1.0.0. {REMEDY}",
                "connector: acme of acme-gateway 1.0.0",
            ]
            assert await ready(http, one) == [
                f"warning: {BEGINS}1 with acme-gateway 1.0.0; this one has none. {REMEDY}"
            ]
            assert logged(other, BEGINS) == ["WARNING"]
            await until(lambda: bool(logged(one, BEGINS)))
            assert await other.stop() == 0
        await until(lambda: bool(logged(one, ENDS)))
        assert await ready(http, one) == []
        assert logged(one, BEGINS) == logged(one, ENDS) == ["WARNING"]
