"""One caller can use only a limited part of the gateway and its ledger."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from campaign_gateway.duplication import quotas as quotas_module
from campaign_gateway.duplication.quotas import RECORD_OVERHEAD, Quotas
from campaign_gateway.ledger import open_ledger
from campaign_gateway.ledger.ids import new_id
from campaign_gateway.model import ErrorCode, Intent, Refused
from campaign_gateway.web.callers.caller import Quota
from campaign_gateway.web.callers.request_rate import RequestRate
from support.calling import called_gateway, sonarly_input

EVERYTHING: Mapping[str, object] = {"accounts": "*", "may": ["copy", "read"]}


def test_bucket_holds_a_minute_and_is_refilled_evenly() -> None:
    rate = RequestRate(per_minute=6)
    assert [rate.take(100.0) for _ in range(8)] == [0.0] * 6 + [10.0] * 2
    assert rate.take(105.0) == 5.0
    assert rate.take(110.0) == 0.0
    assert rate.take(110.0) == 10.0
    # A refused request takes nothing, and the bucket never holds more than a minute.
    assert [rate.take(10_000.0) for _ in range(7)] == [0.0] * 6 + [10.0]


def test_caller_that_sends_too_much_is_refused_before_the_ledger_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers = {"busy": {**EVERYTHING, "requests_per_minute": 3}, "other": EVERYTHING}
    with called_gateway(tmp_path, callers, ["sonarly"]) as called:
        client = called.client("busy")
        query = "{ duplications { edges { cursor } } }"
        assert [client.post(query).status_code for _ in range(3)] == [200] * 3
        touched: list[str] = []
        engine: Any = called.gateway.ledger.engine
        monkeypatch.setattr(engine, "read", lambda *_: touched.append("read"))
        monkeypatch.setattr(engine, "write", lambda *_: touched.append("write"))
        response = client.post(query)
        assert client.get("/readyz").status_code == 429
        assert touched == []
        monkeypatch.undo()
        assert response.status_code == 429
        assert 1 <= int(response.headers["retry-after"]) <= 20
        assert response.json()["errors"][0]["extensions"] == {"code": "RATE_LIMITED"}
        assert called.client("other").post(query).status_code == 200


def codes(payload: Any) -> list[str]:
    return [error["code"] for error in payload["userErrors"]]


def test_caller_with_too_many_unknown_duplications_starts_no_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotas_module, "UNKNOWN_SECONDS", 0.0)
    callers = {"unlucky": {**EVERYTHING, "unknown_limit": 2}, "other": EVERYTHING}
    with called_gateway(tmp_path, callers, ["sonarly"]) as called:
        client = called.client("unlucky")
        for number in range(2):
            lost = client.copy(sonarly_input(f"Lost {number}", "cut-after-copy"), f"lost-{number}")
            assert lost["status"] == "UNKNOWN"
        refused = client.copy(sonarly_input("Refused"), "refused")
        assert (refused["status"], codes(refused)) == ("NOT_SENT", ["QUOTA_EXCEEDED"])
        (error,) = refused["userErrors"]
        assert (error["retry"], error["retryAfterSeconds"]) == ("SAME_KEY", 60)
        found = "query F($key: String!) { duplicationByKey(idempotencyKey: $key) { id } }"
        assert client.data(found, key="refused") == {"duplicationByKey": None}
        # A key that is recorded needs no more room.
        again = client.copy(sonarly_input("Lost 0", "cut-after-copy"), "lost-0")
        assert (again["status"], again["replayed"]) == ("UNKNOWN", True)
        assert called.client("other").copy(sonarly_input("Other"))["status"] == "CREATED"


def test_caller_with_too_many_records_starts_no_new_ones(tmp_path: Path) -> None:
    callers = {"keen": {**EVERYTHING, "records_limit": 2}, "other": EVERYTHING}
    with called_gateway(tmp_path, callers, ["sonarly"]) as called:
        client = called.client("keen")
        made = [client.copy(sonarly_input(f"Copy {number}"), f"k{number}") for number in range(4)]
        assert [payload["status"] for payload in made] == ["CREATED"] * 2 + ["NOT_SENT"] * 2
        assert codes(made[2]) == ["QUOTA_EXCEEDED"]
        # A refused request is not counted, and a repeated one neither.
        assert client.copy(sonarly_input("Copy 0"), "k0")["replayed"] is True
        assert called.client("other").copy(sonarly_input("Other"))["status"] == "CREATED"


def intent(key: str, scope: str = "caller:a") -> Intent:
    name = f"Copy {key}"
    return Intent(new_id(), new_id(), scope, key, "f", "braze", "braze", "c1", name, "x" * 1000)


async def test_records_are_measured_in_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotas_module, "MEASURED_AT_ONCE", 3)
    ledger = await open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    size = 1000 + RECORD_OVERHEAD
    quotas = Quotas(ledger, {"caller:a": Quota(1000, 1000, 10 * size)})
    for number in range(10):
        mine = intent(f"k{number:02}")
        await quotas.check(mine)
        await ledger.begin(mine, ledger.now(), None)
        quotas.count(mine)
    await ledger.begin(intent("other", "caller:b"), ledger.now(), None)
    with pytest.raises(Refused) as raised:
        await quotas.check(intent("more"))
    assert raised.value.error.code is ErrorCode.QUOTA_EXCEEDED
    # After a restart, nothing is counted until it is measured.
    restarted = Quotas(ledger, {"caller:a": Quota(1000, 1000, 10 * size)})
    await restarted.check(intent("more"))
    for _ in range(2):
        await restarted.measure("caller:a")
        usage = restarted._usage["caller:a"]
        assert (usage.records, usage.size) == (10, 10 * size)
    with pytest.raises(Refused):
        await restarted.check(intent("more"))
    await ledger.close()
