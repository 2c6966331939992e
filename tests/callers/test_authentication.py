"""Every path but /healthz needs a valid credential, and no response says what was wrong."""

import json
import logging
import re
import uuid
from pathlib import Path

import httpx
import pytest

from campaign_gateway.observe.registry import REGISTRY
from campaign_gateway.web.callers.caller import PERSON_LENGTH
from campaign_gateway.web.callers.keys import create_key
from support.calling import CalledGateway, called_gateway, sonarly_input
from support.correlated import without_id

REFUSAL = {
    "errors": [
        {
            "message": "Send a valid key or token of a caller in the header "
            "`Authorization: Bearer ...`.",
            "extensions": {"code": "UNAUTHENTICATED"},
        }
    ]
}

PATHS = [
    ("GET", "/readyz"),
    ("GET", "/graphql?query={__typename}"),
    ("POST", "/graphql"),
    ("OPTIONS", "/graphql"),
    ("DELETE", "/graphql"),
    ("GET", "/graphiql/examples.json"),
    ("GET", "/graphiql/examples.json%0A"),
    ("GET", "/graphiql/no-such-file"),
    ("GET", "/graphiql/..%2fgraphql"),
    ("GET", "/no-such-path"),
    ("GET", "/healthz/"),
]


def assert_refused(response: httpx.Response) -> None:
    assert response.status_code == 401, response.text
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["cache-control"] == "no-store"
    if response.request.method != "HEAD":
        assert without_id(response) == REFUSAL


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_every_path_but_one_needs_a_credential(
    called: CalledGateway, method: str, path: str
) -> None:
    assert_refused(called.http.request(method, path))


def test_health_needs_no_credential(called: CalledGateway) -> None:
    assert called.http.get("/healthz").text == "ok\n"
    assert called.client("reader").get("/readyz").text == "ready\n"


@pytest.mark.parametrize("path", ["/", "/graphiql", "/graphiql/", "/graphiql/favicon.svg"])
def test_without_graphiql_its_page_is_not_there(tmp_path: Path, path: str) -> None:
    callers = {"admin": {"accounts": "*", "may": ["read"]}}
    with called_gateway(tmp_path, callers, ["braze"], server={"graphiql": False}) as called:
        assert_refused(called.http.get(path))
        assert called.client("admin").get(path).status_code == 404


def test_page_and_its_assets_need_no_credential(called: CalledGateway) -> None:
    for path in ("/", "/graphiql", "/graphiql/", "/graphiql/favicon.svg"):
        assert called.http.get(path).status_code in {200, 307}
    scripts = re.findall(r'src="(/graphiql/assets/[^"]+)"', called.http.get("/graphiql").text)
    assert scripts
    for path in scripts:
        assert called.http.get(path).status_code == 200


def test_examples_are_those_of_the_caller_s_accounts(called: CalledGateway) -> None:
    tabs = called.client("store").get("/graphiql/examples.json").json()["tabs"]
    copies = [tab for tab in tabs if "provider" in tab]
    assert [tab["query"].split("(")[0] for tab in copies] == [
        "mutation CopyAtBraze",
        "mutation CopyAtSonarly",
    ]


def test_graphql_errors_have_the_media_type_that_the_client_accepts(called: CalledGateway) -> None:
    for accept, expected in {
        "application/graphql-response+json": "application/graphql-response+json",
        "application/json": "application/json",
        "text/plain": "application/json",
    }.items():
        response = called.http.post("/graphql", headers={"accept": accept})
        assert_refused(response)
        assert response.headers["content-type"] == f"{expected}; charset=utf-8"


def test_every_wrong_credential_gets_the_same_answer(called: CalledGateway) -> None:
    key = called.keys["web-team"]
    prefix, key_id, secret = key.split("_")
    wrong = [
        "",
        "Bearer",
        f"Basic {key}",
        f"Token {key}",
        key,
        f"Bearer{key}",
        f"Bearer\t{key}",
        f"Bearer {key} {key}",
        f"Bearer {key},{key}",
        f"Bearer {key}0",
        f"Bearer {prefix}_{key_id}_{'0' * 64}",
        f"Bearer {prefix}_{'0' * 12}_{secret}",
        f"Bearer {create_key()[0]}",
        f"Bearer {prefix}_" + "x" * 8000,
        "Bearer eyJhbGciOiJub25lIn0.e30.",
        "Bearer \xe9",
    ]
    answers = set()
    for value in wrong:
        headers = {b"authorization": value.encode("latin-1")}
        response = called.http.post("/graphql", json={"query": "{ __typename }"}, headers=headers)
        assert_refused(response)
        answers.add((str(without_id(response)), tuple(sorted(set(response.headers) - {"date"}))))
    assert len(answers) == 1


def test_repeated_credential_is_refused(called: CalledGateway) -> None:
    value = f"Bearer {called.keys['web-team']}"
    for values in ([value, value], [value, "Bearer x"]):
        headers = [("authorization", each) for each in values]
        assert_refused(called.http.post("/graphql", json={"query": "{ a }"}, headers=headers))


def test_scheme_is_case_insensitive(called: CalledGateway) -> None:
    for scheme in ("Bearer", "bearer", "BEARER", "Bearer "):
        headers = {"authorization": f"{scheme} {called.keys['reader']}"}
        response = called.http.post("/graphql", json={"query": "{ __typename }"}, headers=headers)
        assert without_id(response) == {"data": {"__typename": "Query"}}


def test_refused_mutation_does_nothing(called: CalledGateway) -> None:
    key = str(uuid.uuid4())
    refused = called.client().post(
        "mutation Copy($input: DuplicateCampaignInput!, $key: String!) "
        "{ duplicateCampaign(input: $input, idempotencyKey: $key) { status } }",
        input=sonarly_input("Refused"),
        key=key,
    )
    assert_refused(refused)
    for caller in called.keys:
        if caller != "writer":
            found = called.client(caller).data(
                "query Find($key: String!) { duplicationByKey(idempotencyKey: $key) { id } }",
                key=key,
            )
            assert found == {"duplicationByKey": None}


def test_without_callers_no_request_needs_a_credential(tmp_path: Path) -> None:
    with called_gateway(tmp_path, {}, ["sonarly"]) as called:
        client = called.client()
        made = client.copy(sonarly_input("Open"))
        assert made["status"] == "CREATED"
        assert made["duplication"]["requestedBy"] is None
        assert client.data("{ __schema { queryType { name } } }")
        for path in ("/readyz", "/graphiql/examples.json"):
            assert client.get(path).status_code == 200
        # A credential that nothing asks for changes nothing.
        with_key = called.client_with("cgw_unused")
        found = with_key.data(
            "query D($id: ID!) { duplication(id: $id) { id } }", id=made["duplication"]["id"]
        )
        assert found["duplication"] is not None


# The person


def test_caller_with_the_right_names_the_person(called: CalledGateway) -> None:
    client = called.client("router", **{"Campaign-Gateway-Person": "ann@example.com"})
    made = client.copy(sonarly_input("For Ann"))
    assert made["duplication"]["requestedBy"] == {"caller": "router", "person": "ann@example.com"}
    without = called.client("router").copy(sonarly_input("For no person"))
    assert without["duplication"]["requestedBy"] == {"caller": "router", "person": None}


def test_caller_without_the_right_may_not_name_a_person(called: CalledGateway) -> None:
    client = called.client("web-team", **{"Campaign-Gateway-Person": "ann@example.com"})
    response = client.post("{ __typename }")
    assert response.status_code == 403
    assert response.json()["errors"][0]["extensions"] == {"code": "FORBIDDEN"}


@pytest.mark.parametrize("name", ["", "x" * (PERSON_LENGTH + 1), "Ann\tB", "Ann\xe9"])
def test_person_is_short_and_printable(called: CalledGateway, name: str) -> None:
    client = called.client("router")
    headers = [
        (b"authorization", client.headers["authorization"].encode()),
        (b"campaign-gateway-person", name.encode("latin-1")),
    ]
    response = called.http.post("/graphql", json={"query": "{ __typename }"}, headers=headers)
    assert response.status_code == 400
    assert response.json()["errors"][0]["extensions"] == {"code": "INVALID_REQUEST"}
    twice = [*client.headers.items(), *[("campaign-gateway-person", "Ann")] * 2]
    response = called.http.post("/graphql", json={"query": "{ __typename }"}, headers=twice)
    assert response.status_code == 400


# The log


def test_log_has_each_reason_once_a_minute_and_no_credential(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "campaign_gateway")
    callers = {"web-team": {"accounts": "*", "may": ["copy", "read"]}}
    with called_gateway(tmp_path, callers, ["sonarly"]) as called:
        key = called.keys["web-team"]
        wrong = key[:-4] + ("0000" if key[-4:] != "0000" else "1111")
        for _ in range(50):
            assert_refused(called.client_with(wrong).post("{ __typename }"))
            assert_refused(called.client_with("canary.in.token").post("{ __typename }"))
        called.client("web-team").copy(sonarly_input("Logged"))
    refusals = [each.getMessage() for each in caplog.records if "refused" in each.getMessage()]
    assert len(refusals) == 2
    assert "of web-team and a wrong secret" in refusals[0]
    assert "is CREATED as" in caplog.text
    secret = key.split("_")[2]
    for text in (caplog.text, json.dumps(refusals)):
        assert secret[:20] not in text
        assert wrong[-20:] not in text
        assert "canary" not in text
    assert secret[:20] not in repr(called.gateway)


def test_refused_requests_are_counted_by_code(called: CalledGateway) -> None:
    def counted() -> float:
        return REGISTRY.get_sample_value(name, {"code": "UNAUTHENTICATED"}) or 0

    name = "campaign_gateway_caller_refusals_total"
    before = counted()
    called.http.post("/graphql")
    called.http.post("/graphql", headers={"authorization": "Bearer hostile-code"})
    assert counted() == before + 2
