"""GraphQL over HTTP byte by byte: each request has its own connection."""

import json
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest

from support.correlated import without_id
from support.edge import GRAPHQL_RESPONSE, JSON, PYTHON_WORDS

REQUEST_LIMIT = 64 * 1024

QUERY = b'{"query":"{ __typename }"}'
EXPECTED = {"data": {"__typename": "Query"}}

MUTATION = """mutation { duplicateCampaign(
  input: { sonarly: { accountGroupId: "g", campaignId: "c", audienceId: "a" } }, idempotencyKey: "k"
) { status } }"""

Headers = Sequence[tuple[str, str]]
AS_JSON: Headers = [("content-type", JSON)]


@dataclass(frozen=True)
class HttpResponse:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0]

    def json(self) -> Any:
        return json.loads(self.body)

    def messages(self) -> list[str]:
        """Return the messages, after checking the parts that every error response must have."""
        assert self.status < 500, self.body
        assert self.media_type in {JSON, GRAPHQL_RESPONSE}, self.headers
        assert "charset=utf-8" in self.headers["content-type"]
        assert int(self.headers["content-length"]) == len(self.body)
        assert not PYTHON_WORDS.search(self.body.decode("utf-8")), self.body
        content = without_id(self)
        assert content.keys() == {"errors"}, content
        assert {error["extensions"]["code"] for error in content["errors"]} == {"INVALID_REQUEST"}
        messages = [error["message"] for error in content["errors"]]
        assert all(isinstance(message, str) and message for message in messages)
        return messages


Send = Callable[..., HttpResponse]


@pytest.fixture
def send(sandbox_url: str) -> Send:
    """Sends one request, complete or in pieces, and reads the response."""
    address = urlsplit(sandbox_url)

    def exchange(
        headers: Headers = AS_JSON,
        body: bytes | Iterable[bytes] = QUERY,
        *,
        method: str = "POST",
        path: str = "/graphql",
    ) -> HttpResponse:
        lines = [f"{method} {path} HTTP/1.1", f"host: {address.netloc}"]
        lines += [f"{name}: {value}" for name, value in headers]
        if isinstance(body, bytes):
            lines += [f"content-length: {len(body)}"] if body else []
            pieces: Iterable[bytes] = [body]
        else:
            lines += ["transfer-encoding: chunked"]
            pieces = (b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*body, b""])
        with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
            for piece in pieces:
                connection.sendall(piece)
            response = HTTPResponse(connection, method=method)
            response.begin()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return HttpResponse(response.status, fields, response.read())

    return exchange


@pytest.fixture
def get(send: Send) -> Callable[..., HttpResponse]:
    def ask(headers: Headers = (), **parameters: str) -> HttpResponse:
        return send(headers, b"", method="GET", path=f"/graphql?{urlencode(parameters)}")

    return ask


def accepting(*accepts: str) -> Headers:
    return [*AS_JSON, *(("accept", accept) for accept in accepts)]


@pytest.mark.parametrize(
    ("accepts", "expected"),
    [
        ([], JSON),
        ([""], JSON),
        (["*/*"], JSON),
        (["application/*"], JSON),
        ([JSON], JSON),
        ([f"{JSON}; charset=utf-8"], JSON),
        ([f'{JSON}; charset="UTF-8"'], JSON),
        ([GRAPHQL_RESPONSE], GRAPHQL_RESPONSE),
        ([f"{GRAPHQL_RESPONSE}; charset=utf-8"], GRAPHQL_RESPONSE),
        ([f"{GRAPHQL_RESPONSE};q=0.001"], GRAPHQL_RESPONSE),
        ([f"{GRAPHQL_RESPONSE}, {JSON}"], GRAPHQL_RESPONSE),
        ([f"{JSON}, {GRAPHQL_RESPONSE}"], GRAPHQL_RESPONSE),
        ([f"{GRAPHQL_RESPONSE}, {JSON};q=0.9"], GRAPHQL_RESPONSE),
        ([f"{GRAPHQL_RESPONSE};q=0.9, {JSON}"], JSON),
        ([f"{GRAPHQL_RESPONSE};q=0.9, {JSON};q=0.90"], GRAPHQL_RESPONSE),
        ([f"{GRAPHQL_RESPONSE} ; q=0.4 ,\t{JSON} ; q=0.5"], JSON),
        ([f"{JSON};q=0, {GRAPHQL_RESPONSE};q=0.1"], GRAPHQL_RESPONSE),
        # A wildcard matches types that are not named. "application/*" has priority over "*/*".
        ([f"{GRAPHQL_RESPONSE}, */*"], GRAPHQL_RESPONSE),
        ([f"*/*;q=0.1, {GRAPHQL_RESPONSE};q=0.5"], GRAPHQL_RESPONSE),
        ([f"*/*;q=0.8, {GRAPHQL_RESPONSE};q=0.5"], JSON),
        ([f"application/*;q=0.8, {GRAPHQL_RESPONSE};q=0.5"], JSON),
        ([f"*/*, {GRAPHQL_RESPONSE};q=0"], JSON),
        ([f"*/*, {JSON};q=0"], GRAPHQL_RESPONSE),
        (["*/*;q=0, application/*;q=0.2"], JSON),
        (["text/html, */*;q=0.1"], JSON),
        # A browser's header.
        (["text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8"], JSON),
        (["Application/GraphQL-Response+JSON;Q=0.5, APPLICATION/JSON;q=0.4"], GRAPHQL_RESPONSE),
        ([f"{JSON};q=0.5", GRAPHQL_RESPONSE], GRAPHQL_RESPONSE),
        ([f"{GRAPHQL_RESPONSE};q=0.5", "text/html", JSON], JSON),
        # An invalid quality must not win over a valid one.
        ([f"{GRAPHQL_RESPONSE};q=high, {JSON};q=0.1"], JSON),
        ([f"{GRAPHQL_RESPONSE};q=1.5, {JSON};q=0.1"], JSON),
        ([f"{GRAPHQL_RESPONSE};q=nan, {JSON};q=0.1"], JSON),
        ([f"{GRAPHQL_RESPONSE};q=-1, {JSON};q=0.1"], JSON),
        ([f"{GRAPHQL_RESPONSE};q=, {JSON};q=0.1"], JSON),
        ([f",,{GRAPHQL_RESPONSE},,;q=1,"], GRAPHQL_RESPONSE),
        # An unsupported charset does not exclude the same type with a supported charset.
        ([f"{JSON}, {JSON}; charset=iso-8859-1"], JSON),
        ([f"{JSON}; charset=iso-8859-1, {JSON}"], JSON),
        (["text/html"], None),
        (["text/*"], None),
        (["application/xml, text/html;q=0.5"], None),
        ([f"{JSON};q=0"], None),
        ([f"{GRAPHQL_RESPONSE};q=0.0"], None),
        ([f"*/*, {JSON};q=0, {GRAPHQL_RESPONSE};q=0"], None),
        (["*/*;q=0"], None),
        (["*/*, application/*;q=0"], None),
        ([f"{JSON};charset=iso-8859-1"], None),
        ([f"{GRAPHQL_RESPONSE}; charset=utf-16"], None),
        (["application/jsonp"], None),
        (["application"], None),
    ],
)
def test_accept_header_selects_the_media_type_of_the_response(
    send: Send, accepts: list[str], expected: str | None
) -> None:
    response = send(accepting(*accepts))
    if expected:
        assert (response.status, response.media_type) == (200, expected)
        assert without_id(response) == EXPECTED
    else:
        (message,) = response.messages()
        assert response.status == 406
        assert JSON in message
        assert GRAPHQL_RESPONSE in message


WATCH = "query Q($id: ID!) { duplication(id: $id) { id } }"
TWO = "query A { __typename } query B { __typename }"


@pytest.mark.parametrize(
    "request_",
    [
        {"query": "{"},
        {"query": "nonsense"},
        {"query": "# nothing"},
        {"query": "{ nonsense }"},
        {"query": "{ duplication { id } }"},
        {"query": "{ __typename @skip }"},
        {"query": TWO},
        {"query": TWO, "operationName": ""},
        {"query": "query A { __typename } { __typename }"},
        {"query": "query A { __typename }", "operationName": "B"},
        {"query": "{ __typename }", "operationName": "B"},
        {"query": "fragment A on Query { __typename }"},
        {"query": "type A { a: Int }"},
        {"query": "subscription { __typename }"},
        {"query": "subscription { duplication(id: 1) { id } }"},
        {"query": WATCH},
        {"query": WATCH, "variables": {}},
        {"query": WATCH, "variables": {"id": None}},
        {"query": WATCH, "variables": {"id": []}},
        {"query": WATCH, "variables": {"id": True}},
        {"query": WATCH.replace("ID!", "ID"), "variables": {"id": "x"}},
        {"query": WATCH.replace("ID!", "Duplication"), "variables": {"id": "x"}},
    ],
)
def test_request_that_cannot_be_executed_is_400_or_200_by_media_type(
    send: Send, request_: Any
) -> None:
    body = json.dumps(request_).encode()
    # Older clients and routers treat any other status as a broken connection.
    modern = send(accepting(GRAPHQL_RESPONSE), body)
    legacy = send(accepting(JSON), body)
    assert modern.messages() == legacy.messages()
    assert (modern.status, modern.media_type) == (400, GRAPHQL_RESPONSE)
    assert (legacy.status, legacy.media_type) == (200, JSON)


@pytest.mark.parametrize("accept", [JSON, GRAPHQL_RESPONSE])
def test_executed_request_has_data_and_status_200(send: Send, accept: str) -> None:
    for query, expected in [
        ('{ campaign(account: "no-such-account", id: "x") { id } }', {"campaign": None}),
        ("{ __typename duplications(first: 0) { edges { cursor } } }", None),
        (
            '{ __typename campaign(account: "no-such-account", id: "x") { id } }',
            {"__typename": "Query", "campaign": None},
        ),
    ]:
        response = send(accepting(accept), json.dumps({"query": query}).encode())
        assert (response.status, response.media_type) == (200, accept), query
        content = without_id(response)
        assert content.keys() == {"errors", "data"}, query
        assert content["data"] == expected, query
        assert content["errors"][0]["path"], query


def test_response_must_not_be_cached(get: Callable[..., HttpResponse]) -> None:
    assert get(query="{ __typename }").headers["cache-control"] == "no-store"


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "QUERY"])
def test_unsupported_method_is_405_with_the_allowed_methods(send: Send, method: str) -> None:
    response = send(AS_JSON, QUERY, method=method)
    assert response.status == 405
    assert {allowed.strip() for allowed in response.headers["allow"].split(",")} == {"GET", "POST"}
    if method != "HEAD":
        assert response.messages()


@pytest.mark.parametrize(
    "query",
    [
        MUTATION,
        "mutation { nonsense }",
        "mutation { duplicateCampaign }",
        "mutation ($x: No) { __typename }",
        "query A { __typename } mutation B { nonsense }",
    ],
)
@pytest.mark.parametrize("accept", [JSON, GRAPHQL_RESPONSE])
def test_mutation_with_get_is_refused(
    get: Callable[..., HttpResponse], query: str, accept: str
) -> None:
    operation = {"operationName": "B"} if "mutation B" in query else {}
    response = get([("accept", accept)], query=query, **operation)
    (message,) = response.messages()
    assert response.status == 405
    assert response.headers["allow"] == "POST"
    assert "POST" in message


def test_query_next_to_a_mutation_may_be_sent_with_get(get: Callable[..., HttpResponse]) -> None:
    response = get(
        query=f"query A {{ __typename }} {MUTATION[:8]} B {MUTATION[8:]}", operationName="A"
    )
    assert without_id(response) == EXPECTED


@pytest.mark.parametrize(
    ("parameters", "status", "named"),
    [
        ({"query": "{ __typename }"}, 200, None),
        ({"query": "{ __typename }", "variables": "", "operationName": ""}, 200, None),
        ({"query": "{ __typename }", "variables": "null", "extensions": "{}"}, 200, None),
        ({"query": "query A { __typename }", "variables": "{}", "operationName": "A"}, 200, None),
        ({"query": "query A { __typename }", "nonsense": "1", "extensions": ""}, 200, None),
        ({"query": "{ __typename }", "variables": "{"}, 400, "variables"),
        ({"query": "{ __typename }", "variables": "[1]"}, 400, "variables"),
        ({"query": "{ __typename }", "variables": "7"}, 400, "variables"),
        ({"query": "{ __typename }", "variables": '"text"'}, 400, "variables"),
        ({"query": "{ __typename }", "variables": "NaN"}, 400, "variables"),
        ({"query": "{ __typename }", "variables": "9" * 5000}, 400, "variables"),
        ({"query": "{ __typename }", "variables": "[" * 5000}, 400, "variables"),
        ({"query": "{ __typename }", "extensions": "[1]"}, 400, "extensions"),
        ({"query": "{ __typename }", "extensions": "{"}, 400, "extensions"),
        ({"query": ""}, 400, "query"),
        ({}, 400, "query"),
        ({"variables": "{}"}, 400, "query"),
    ],
)
def test_get_parameters_are_checked(
    get: Callable[..., HttpResponse], parameters: dict[str, str], status: int, named: str | None
) -> None:
    response = get(**parameters)
    assert response.status == status
    if named:
        (message,) = response.messages()
        assert f"'{named}'" in message
    else:
        assert without_id(response) == EXPECTED


def test_get_request_may_have_variables(get: Callable[..., HttpResponse]) -> None:
    assert without_id(get(query=WATCH, variables='{"id": "x"}')) == {"data": {"duplication": None}}
    modern = get([("accept", GRAPHQL_RESPONSE)], query=WATCH, variables='{"id": {}}')
    assert modern.status == 400
    assert "$id" in modern.messages()[0]
    assert get(query=WATCH, variables="{}").status == 200


def test_get_parameters_with_invalid_bytes_are_refused(send: Send) -> None:
    for query in ("%FF%FE", "{__typename}%00", "%ED%A0%80", "%", "{__typename}%ZZ"):
        response = send([], b"", method="GET", path=f"/graphql?query={query}")
        assert response.messages(), query
    whole = quote("{ __typename }")
    assert without_id(send([], b"", method="GET", path=f"/graphql?query={whole}&x=%FF")) == EXPECTED


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        # A page of another site may send these without a preflight request.
        "text/plain; application/json",
        "text/application/json",
        "application/jsonp",
        "application/graphql",
        GRAPHQL_RESPONSE,
        "json",
        "*/*",
        f"{JSON}, text/plain",
        f"{JSON}; charset=iso-8859-1",
        f"{JSON}; charset=utf-16",
        f'{JSON}; charset="UTF-32"',
        f"{JSON}; Charset=latin1",
        f"{JSON}; charset=",
        f"{JSON}; charset=utf-8; charset=utf-16",
    ],
)
def test_content_type_other_than_json_in_utf_8_is_415(send: Send, content_type: str | None) -> None:
    response = send([] if content_type is None else [("content-type", content_type)])
    (message,) = response.messages()
    assert response.status == 415
    assert JSON in message
    assert "UTF-8" in message


@pytest.mark.parametrize(
    "content_type",
    [
        JSON,
        "Application/JSON",
        f"{JSON};charset=utf-8",
        f'{JSON} ; Charset="UTF-8"',
        f"{JSON}; charset=utf8",
        f"{JSON};",
        f"{JSON}; profile=x",
    ],
)
def test_every_spelling_of_json_in_utf_8_is_accepted(send: Send, content_type: str) -> None:
    assert without_id(send([("content-type", content_type)])) == EXPECTED


def test_body_with_a_content_encoding_is_415(send: Send) -> None:
    for encoding in ("gzip", "deflate", "br", "GZIP", "identity, gzip", "nonsense"):
        response = send([*AS_JSON, ("content-encoding", encoding)])
        assert response.status == 415, encoding
        assert "content-encoding" in response.messages()[0]
    assert without_id(send([*AS_JSON, ("content-encoding", "Identity")])) == EXPECTED


def padded(length: int) -> bytes:
    return QUERY[:-1] + b" " * (length - len(QUERY)) + QUERY[-1:]


def test_body_of_exactly_the_limit_is_accepted(send: Send) -> None:
    body = padded(REQUEST_LIMIT)
    assert without_id(send(AS_JSON, body)) == EXPECTED
    assert without_id(send(AS_JSON, [body[:1], body[1:5000], body[5000:]])) == EXPECTED


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(padded(REQUEST_LIMIT + 1), id="one too many"),
        pytest.param(padded(5_000_000), id="5 MB"),
        pytest.param([padded(REQUEST_LIMIT), b" "], id="one too many in chunks"),
        pytest.param([b" " * 8192] * 600, id="5 MB in chunks"),
        pytest.param(b"[" * 100_000, id="deep"),
    ],
)
def test_body_above_the_limit_is_413(send: Send, body: Any) -> None:
    # Like most clients, this one sends the whole body before it reads.
    response = send(AS_JSON, body)
    (message,) = response.messages()
    assert response.status == 413
    assert str(REQUEST_LIMIT) in message


def test_batch_is_refused(send: Send) -> None:
    for body in (b"[]", b"[%b]" % QUERY, b"[%b,%b]" % (QUERY, QUERY), b"[1]"):
        response = send(AS_JSON, body)
        (message,) = response.messages()
        assert response.status == 400, body
        assert message.startswith("Batches are not supported"), body


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b" \n", id="blank"),
        pytest.param(b"null", id="null"),
        pytest.param(b"true", id="true"),
        pytest.param(b"7", id="number"),
        pytest.param(b'"text"', id="string"),
        pytest.param(b"{}", id="nothing"),
        pytest.param(b"{", id="cut"),
        pytest.param(QUERY[:-1], id="cut at the end"),
        pytest.param(QUERY + b"}", id="too long"),
        pytest.param(QUERY + QUERY, id="two"),
        pytest.param(b"{'query': '{ __typename }'}", id="no JSON"),
        pytest.param(b"query=%7B__typename%7D", id="form"),
        pytest.param(b'{"query": "{ __typename }\n"}', id="bare newline"),
        pytest.param(b"\xff\xfe", id="no UTF-8"),
        pytest.param(b'{"query": "{ __typename } #\xff"}', id="bad UTF-8 in a string"),
        pytest.param(b'{"query": "{ __typename } #\xed\xa0\x80"}', id="surrogate as bytes"),
        pytest.param(QUERY.decode().encode("utf-16"), id="UTF-16"),
        pytest.param(QUERY.decode().encode("utf-16-le"), id="UTF-16 without a mark"),
        pytest.param(QUERY.decode().encode("utf-32"), id="UTF-32"),
        pytest.param(b"\xef\xbb\xbf" + QUERY, id="byte order mark"),
        pytest.param(QUERY[:-1] + b',"variables":{"x":NaN}}', id="NaN"),
        pytest.param(QUERY[:-1] + b',"variables":{"x":Infinity}}', id="Infinity"),
        pytest.param(QUERY[:-1] + b',"variables":{"x":-Infinity}}', id="-Infinity"),
        # Python converts no longer numbers by default.
        pytest.param(b"9" * 5000, id="5,000 digits"),
        pytest.param(QUERY[:-1] + b',"variables":{"x":%b}}' % (b"9" * 5000), id="many digits"),
        pytest.param(b"[" * 60_000, id="deep lists"),
        pytest.param(b'{"a":' * 12_000, id="deep objects"),
        pytest.param(b'{"a":' * 10_000 + b"1" + b"}" * 10_000, id="deep objects, closed"),
    ],
)
@pytest.mark.parametrize("accept", [JSON, GRAPHQL_RESPONSE])
def test_body_that_is_no_graphql_request_is_400(send: Send, body: bytes, accept: str) -> None:
    response = send(accepting(accept), body)
    assert len(response.messages()) == 1
    assert (response.status, response.media_type) == (400, accept)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("query", [None, "", 7, True, ["{ __typename }"], {"a": 1}]),
        ("operationName", [7, 0, False, ["A"], {}]),
        ("variables", [[], [{}], "{}", "", 0, 7, False, True]),
        ("extensions", [[], "x", "", 0, 1.5, False]),
    ],
)
def test_parameter_of_the_wrong_type_is_400_and_named(
    send: Send, name: str, wrong: list[object]
) -> None:
    for value in wrong:
        response = send(AS_JSON, json.dumps({"query": "{ __typename }", name: value}).encode())
        (message,) = response.messages()
        assert response.status == 400, value
        assert f"'{name}'" in message, value
    misspelled = send(AS_JSON, QUERY.replace(b"query", b"Query"))
    assert "'query'" in misspelled.messages()[0]


def test_optional_and_unknown_parameters_are_accepted(send: Send) -> None:
    for more in (
        b'"variables":null,"operationName":null,"extensions":null',
        b'"variables":{},"extensions":{"persistedQuery":{"version":1}}',
        b'"variables":{"unused":[1,{"a":null}]}',
        b'"nonsense":[1]',
        # This is a valid number in JSON, even if no float can hold it.
        b'"variables":{"x":1e400}',
        b'"variables":{"":"\\ud800"}',
    ):
        assert without_id(send(AS_JSON, QUERY[:-1] + b"," + more + b"}")) == EXPECTED, more


SURROGATE = "\ud800"


@pytest.mark.parametrize(
    "request_",
    [
        {"query": SURROGATE},
        {"query": f'{{ duplication(id: "{SURROGATE}") {{ id }} }}'},
        {"query": f"{{ __typename }} # {SURROGATE}"},
        {"query": f"{{ {SURROGATE} }}"},
        {"query": "{ __typename }", "operationName": SURROGATE},
        {"query": "{ __typename \0 }"},
        {"query": WATCH, "variables": {SURROGATE: 1}},
        {
            "query": "query Q($n: Int!) { duplications(first: $n) { edges { cursor } } }",
            "variables": {"n": SURROGATE},
        },
        {
            "query": "query Q($f: DuplicationFilter) { duplications(filter: $f) { __typename } }",
            "variables": {"f": {SURROGATE: SURROGATE}},
        },
        {
            "query": "query Q($n: Int!) { duplications(first: $n) { edges { cursor } } }",
            "variables": {"n": 10**1000},
        },
        {
            "query": "query Q($n: Int!) { duplications(first: $n) { edges { cursor } } }",
            "variables": {"n": 1e300},
        },
        {"query": WATCH, "variables": {"id": 10**4000}},
    ],
)
def test_surrogates_and_huge_numbers_get_a_valid_response(send: Send, request_: Any) -> None:
    response = send(accepting(GRAPHQL_RESPONSE), json.dumps(request_).encode())
    assert response.status in {200, 400}
    assert response.media_type == GRAPHQL_RESPONSE
    assert not PYTHON_WORDS.search(response.body.decode("utf-8")), response.body
    # Not every JSON parser accepts the escape of a lone surrogate.
    assert json.loads(response.body)
    assert len(response.body) < 5000


def nested(depth: int, opening: str, closing: str, core: str = "1") -> str:
    return opening * depth + core + closing * depth


@pytest.mark.parametrize("depth", [50, 200, 300, 450, 900])
def test_deeply_nested_request_never_causes_an_internal_error(send: Send, depth: int) -> None:
    # Each depth overflows another stack: that of the decoder, the parser or the printer.
    deep_list, deep_object = nested(depth, "[", "]"), nested(depth, '{"a":', "}")
    page = "query Q($f: DuplicationFilter) { duplications(filter: $f) { __typename } }"
    copy = """mutation Q($i: DuplicateCampaignInput!) {
      duplicateCampaign(input: $i, idempotencyKey: "k") { status } }"""
    hop = "query Q($r: [_Any!]!) { _entities(representations: $r) { __typename } }"
    requests = [
        f'{{"query": {json.dumps(query)}, "variables": {{"{name}": {value}}}}}'
        for query, name in ((WATCH, "id"), (page, "f"), (copy, "i"), (hop, "r"))
        for value in (deep_list, deep_object, f'{{"sonarly": {deep_object}}}', f"[{deep_object}]")
    ]
    documents = [
        f"{{ duplication(id: {deep_list}) {{ id }} }}",
        f"{{ duplications(filter: {nested(depth, '{a:', '}')}) {{ __typename }} }}",
        f"{{ _entities(representations: {deep_list}) {{ __typename }} }}",
        f"{{ _entities(representations: [{nested(depth, '{a:', '}')}]) {{ __typename }} }}",
        nested(depth, "{ accounts ", "}", "{ name }"),
        f"{{ __typename {nested(depth, '... {', '}', '__typename')} }}",
        f"query ($v: {nested(depth, '[', ']', 'Int')}) {{ __typename }}",
        f"query ($v: ID = {deep_list}) {{ __typename }}",
    ]
    requests += [json.dumps({"query": document}) for document in documents]
    for request in requests:
        response = send(accepting(GRAPHQL_RESPONSE), request.encode())
        shown = f"{request[:100]}: {response.status} {response.body[:500]!r}"
        assert response.status in {200, 400}, shown
        assert response.media_type == GRAPHQL_RESPONSE, shown
        assert b"Internal error" not in response.body, shown
        assert not PYTHON_WORDS.search(response.body.decode("utf-8")), shown


@pytest.mark.parametrize(
    ("request_", "parts"),
    [
        ({"query": TWO}, ["'operationName'", "A or B"]),
        ({"query": "query A { __typename }", "operationName": "a"}, ["'operationName'", "A"]),
        (
            {"query": TWO, "operationName": "C"},
            ["'operationName'", "A or B"],
        ),
        ({"query": "{ __typename }", "operationName": "A"}, ["'operationName'", "Omit"]),
    ],
)
def test_ambiguous_operation_name_is_refused_with_the_choices(
    send: Send, request_: Any, parts: list[str]
) -> None:
    response = send(accepting(GRAPHQL_RESPONSE), json.dumps(request_).encode())
    (message,) = response.messages()
    assert response.status == 400
    assert all(part in message for part in parts), message


def test_named_operation_is_executed(send: Send) -> None:
    query = "query A { a: __typename } query B { b: __typename }"
    body = json.dumps({"query": query, "operationName": "B"}).encode()
    assert without_id(send(AS_JSON, body)) == {"data": {"b": "Query"}}


def test_subscription_is_refused(send: Send, get: Callable[..., HttpResponse]) -> None:
    for query in ("subscription { __typename }", "subscription A { accounts { name } }"):
        response = send(accepting(GRAPHQL_RESPONSE), json.dumps({"query": query}).encode())
        assert response.status == 400, query
        assert any("subscription" in message for message in response.messages()), query
        linked = get([("accept", GRAPHQL_RESPONSE)], query=query)
        assert linked.status in {400, 405}, query
        assert not any("mutation" in message.lower() for message in linked.messages()), query


def test_client_that_disconnects_does_not_affect_others(sandbox_url: str, send: Send) -> None:
    address = urlsplit(sandbox_url)
    head = f"POST /graphql HTTP/1.1\r\nhost: localhost\r\ncontent-type: {JSON}\r\n"
    for sent in (
        f"{head}content-length: 1000\r\n\r\n",
        f'{head}content-length: 1000\r\n\r\n{{"query": "{{ __ty',
        f"{head}transfer-encoding: chunked\r\n\r\n5\r\n{{",
        head,
    ):
        for _ in range(3):
            with socket.create_connection((address.hostname, address.port), 20) as connection:
                connection.sendall(sent.encode())
    assert without_id(send()) == EXPECTED
    assert send([], b"", method="GET", path="/healthz").status == 200


def test_connection_stays_usable_after_a_refused_request(sandbox_url: str) -> None:
    address = urlsplit(sandbox_url)
    refusals = [
        # The unread rest of the body must not be parsed as the next request.
        (padded(REQUEST_LIMIT + 1), 413),
        (b"[" * 50_000, 400),
        (b"null", 400),
        (QUERY, 200),
    ]
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        for body, status in refusals:
            head = f"POST /graphql HTTP/1.1\r\nhost: localhost\r\ncontent-type: {JSON}\r\n"
            connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            response = HTTPResponse(connection)
            response.begin()
            response.read()
            assert response.status == status, body[:20]


def test_expect_100_continue_is_honoured(sandbox_url: str) -> None:
    address = urlsplit(sandbox_url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        head = (
            f"POST /graphql HTTP/1.1\r\nhost: localhost\r\ncontent-type: {JSON}\r\n"
            f"content-length: {len(QUERY)}\r\nexpect: 100-continue\r\n\r\n"
        )
        connection.sendall(head.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(QUERY)
        response = HTTPResponse(connection)
        response.begin()
        assert response.status == 200
