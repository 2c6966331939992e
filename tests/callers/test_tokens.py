"""Tokens: only a valid one of the configured issuer is accepted, through HTTP."""

import hashlib
import hmac
import json
import logging
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, Key, OctKey, RSAKey

from campaign_gateway.web.callers import tokens as tokens_module
from campaign_gateway.web.callers.keys import create_key
from campaign_gateway.web.callers.tokens import LEEWAY, LENGTH_LIMIT
from support.calling import CalledGateway, called_gateway, sonarly_input
from support.issuer import (
    EC,
    ED,
    NAME,
    OTHER_RSA,
    RSA,
    Issuer,
    claims_of,
    encoded,
    issuing,
    jwt_section,
    token,
)

ENDED = create_key(datetime.now(UTC).date())

CALLERS: dict[str, dict[str, object]] = {
    "web-team": {"accounts": ["sonarly"], "may": ["copy", "read"]},
    "only-tokens": {"key": [], "accounts": ["sonarly"], "may": ["read"]},
    "ended": {"key": ENDED[1], "accounts": ["sonarly"], "may": ["read"]},
}


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with issuing() as running:
        yield running


@pytest.fixture(scope="module")
def called(issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CalledGateway]:
    folder = tmp_path_factory.mktemp("tokens")
    with called_gateway(folder, CALLERS, ["sonarly"], jwt=jwt_section(issuer)) as running:
        yield running


def status(called: CalledGateway, credential: str) -> int:
    return called.client_with(credential).post("{ __typename }").status_code


@pytest.mark.parametrize(
    ("key", "alg"),
    [(RSA, "RS256"), (RSA, "RS512"), (RSA, "PS384"), (EC, "ES256"), (ED, "Ed25519")],
)
def test_token_of_the_issuer_is_accepted(called: CalledGateway, key: Key, alg: str) -> None:
    assert status(called, token(key=key, alg=alg)) == 200


def test_caller_and_person_come_from_the_claims(called: CalledGateway) -> None:
    made = called.client_with(token()).copy(sonarly_input("By token"))
    assert made["duplication"]["requestedBy"] == {
        "caller": "web-team",
        "person": "ann@example.com",
    }
    # A key of the same caller sees it, because keys and duplications belong to the caller.
    found = called.client("web-team").data(
        "query D($id: ID!) { duplication(id: $id) { id } }", id=made["duplication"]["id"]
    )
    assert found == {"duplication": {"id": made["duplication"]["id"]}}
    refused = called.client_with(token(claims_of("only-tokens"))).copy(sonarly_input("x"))
    assert refused["userErrors"][0]["code"] == "NOT_ALLOWED"


def test_machine_has_no_person(called: CalledGateway) -> None:
    made = called.client_with(token(claims_of(email=None))).copy(sonarly_input("By a machine"))
    assert made["duplication"]["requestedBy"] == {"caller": "web-team", "person": None}


def test_audience_may_be_one_of_several(called: CalledGateway) -> None:
    assert status(called, token(claims_of(aud=["other", "campaign-gateway"]))) == 200


NOW = int(time.time())
HOUR = 3600

WRONG_CLAIMS: dict[str, dict[str, Any]] = {
    "expired": {"exp": NOW - HOUR},
    "expired beyond the leeway": {"exp": NOW - LEEWAY - 1},
    "no exp": {"exp": None},
    "exp as text": {"exp": str(NOW + HOUR)},
    "exp true": {"exp": True},
    "exp infinite": {"exp": float("inf")},
    "exp nan": {"exp": float("nan")},
    "not yet valid": {"nbf": NOW + HOUR},
    "nbf as text": {"nbf": "now"},
    "issued in the future": {"iat": NOW + HOUR},
    "wrong audience": {"aud": "another"},
    "wrong audiences": {"aud": ["another", "campaign-gateway2"]},
    "no audience": {"aud": None},
    "empty audience": {"aud": []},
    "audience as object": {"aud": {"campaign-gateway": True}},
    "wrong issuer": {"iss": "https://login.example.org/"},
    "issuer without its slash": {"iss": NAME.rstrip("/")},
    "issuers": {"iss": [NAME]},
    "no issuer": {"iss": None},
    "unknown caller": {"azp": "nobody"},
    "callers": {"azp": ["web-team"]},
    "caller as object": {"azp": {"web-team": 1}},
    "no caller": {"azp": None},
    "person as number": {"email": 1},
    "person of two lines": {"email": "ann\nadmin"},
    "long person": {"email": "x" * 201},
    "lone surrogate": {"email": "\ud800"},
}


@pytest.mark.parametrize("name", WRONG_CLAIMS)
def test_token_with_wrong_claims_is_refused(called: CalledGateway, name: str) -> None:
    credential = signed({"alg": "RS256", "kid": "rsa"}, claims_of(**WRONG_CLAIMS[name]))
    assert status(called, credential) == 401


def signed(header: dict[str, Any], claims: object, key: Key = RSA, alg: str = "RS256") -> str:
    """Sign any header and content, also what no library would sign."""
    text = f"{encoded(header)}.{encoded(json.dumps(claims).encode())}"
    model = jws.JWSRegistry.algorithms[alg]
    return f"{text}.{encoded(model.sign(text.encode(), key))}"


def hmac_signed(alg: str, secret: bytes, **header: Any) -> str:
    text = f"{encoded({'alg': alg, 'kid': 'rsa', **header})}.{encoded(claims_of())}"
    digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}[alg]
    return f"{text}.{encoded(hmac.new(secret, text.encode(), digest).digest())}"


RIGHT = {"alg": "RS256", "kid": "rsa"}
assert isinstance(RSA, RSAKey)
PUBLIC_PEM = RSA.as_pem(private=False)


def wrong_headers() -> dict[str, str]:
    right = token()
    head, content, signature = right.split(".")
    other = encoded(claims_of("only-tokens"))
    return {
        "alg none": f"{encoded({'alg': 'none'})}.{content}.",
        "alg None": f"{encoded({'alg': 'None', 'kid': 'rsa'})}.{content}.",
        "alg none, signed": f"{encoded({**RIGHT, 'alg': 'none'})}.{content}.{signature}",
        "no alg": f"{encoded({'kid': 'rsa'})}.{content}.{signature}",
        "alg as list": f"{encoded({'alg': ['RS256'], 'kid': 'rsa'})}.{content}.{signature}",
        "other content": f"{head}.{other}.{signature}",
        "other header": f"{encoded({**RIGHT, 'typ': 'x'})}.{content}.{signature}",
        "no signature": f"{head}.{content}.",
        "two parts": f"{head}.{content}",
        "four parts": f"{right}.{signature}",
        "five parts": f"{right}.{signature}.{signature}",
        "cut signature": right[:-8],
        "HS256 with the public key": hmac_signed("HS256", PUBLIC_PEM),
        "HS512 with the public key": hmac_signed("HS512", PUBLIC_PEM.strip()),
        "HS256 with the key set": hmac_signed(
            "HS256", json.dumps(RSA.as_dict(private=False)).encode()
        ),
        "HS256 with nothing": hmac_signed("HS256", b""),
        "another alg than signed": signed({**RIGHT, "alg": "RS512"}, claims_of()),
        "EC key for RSA": signed({**RIGHT, "kid": "ec"}, claims_of()),
        "crit": signed({**RIGHT, "crit": ["exp"], "exp": 1}, claims_of()),
        "empty crit": signed({**RIGHT, "crit": []}, claims_of()),
        "b64 false": signed({**RIGHT, "b64": False, "crit": ["b64"]}, claims_of()),
        "b64 false alone": signed({**RIGHT, "b64": False}, claims_of()),
        "b64 true": signed({**RIGHT, "b64": True}, claims_of()),
        "key in the header": signed(
            {"alg": "RS256", "jwk": OTHER_RSA.as_dict(private=False)}, claims_of(), OTHER_RSA
        ),
        "unknown kid": token(key=OTHER_RSA),
        "known kid of another key": token(key=OTHER_RSA, kid="rsa"),
        "kid as list": signed({"alg": "RS256", "kid": ["rsa"]}, claims_of()),
        "no kid": signed({"alg": "RS256"}, claims_of()),
        "content that is no object": signed(RIGHT, [claims_of()]),
        "content that is no JSON": signed(RIGHT, "x")[:-1],
        "nested content": signed(RIGHT, json.loads("[" * 500 + "]" * 500)),
        "huge": signed({**RIGHT, "x": "y" * 100}, claims_of(pad="p" * LENGTH_LIMIT)),
        "huge header": signed({**RIGHT, "x": "y" * 5000}, claims_of()),
        "empty parts": "..",
        "garbage": "\x7f.a.b",
    }


@pytest.mark.parametrize("name", wrong_headers())
def test_wrong_token_is_refused(called: CalledGateway, name: str) -> None:
    assert status(called, wrong_headers()[name]) == 401


def test_every_changed_character_of_a_token_makes_it_invalid(called: CalledGateway) -> None:
    right = token()
    assert status(called, right) == 200
    # The last character of each part may have bits that belong to no byte.
    ends = {place - 1 for place, char in enumerate(right) if char == "."} | {len(right) - 1}
    for place in range(0, len(right), 17):
        if place in ends or right[place] == ".":
            continue
        changed = right[:place] + ("A" if right[place] != "A" else "B") + right[place + 1 :]
        assert status(called, changed) == 401


def test_header_that_nobody_knows_is_ignored(called: CalledGateway) -> None:
    header = {
        **RIGHT,
        "x5t": "a",
        "typ": "at+jwt",
        "custom": {"a": 1},
        "jku": "https://evil.example",
    }
    assert status(called, signed(header, claims_of())) == 200


def test_verified_token_is_remembered_until_it_expires(
    called: CalledGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []
    validate = jws.validate_compact

    def counted(*arguments: Any, **more: Any) -> bool:
        checked.append("")
        return validate(*arguments, **more)

    # The first token makes the gateway fetch the keys, and with new keys it remembers no token.
    assert status(called, token()) == 200
    monkeypatch.setattr(tokens_module, "validate_compact", counted)
    credential = token(claims_of(jti="remembered"))
    assert [status(called, credential) for _ in range(5)] == [200] * 5
    assert len(checked) == 1
    engine = called.gateway.ledger.engine
    later = timedelta(seconds=300 + LEEWAY + 1)
    monkeypatch.setattr(engine, "now", lambda: datetime.now(UTC) + later)
    assert status(called, credential) == 401


def test_only_the_clock_of_the_ledger_counts(
    called: CalledGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gateways share it, and the clock of one of their machines may be wrong."""
    key, _ = ENDED
    expired = token(claims_of(exp=NOW - HOUR, iat=NOW - 3 * HOUR))
    valid = token(claims_of(jti="not remembered"))
    assert (status(called, key), status(called, expired)) == (401, 401)
    engine = called.gateway.ledger.engine
    monkeypatch.setattr(engine, "now", lambda: datetime.now(UTC) - timedelta(hours=25))
    assert (status(called, key), status(called, valid)) == (200, 401)
    monkeypatch.setattr(engine, "now", lambda: datetime.now(UTC) - timedelta(hours=2))
    assert (status(called, expired), status(called, valid)) == (200, 401)
    monkeypatch.setattr(engine, "now", lambda: datetime.now(UTC) + timedelta(hours=1))
    assert (status(called, expired), status(called, valid)) == (401, 401)


def test_remembered_token_is_checked_again_after_the_clock_was_set_back(
    called: CalledGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    credential = token(claims_of(nbf=NOW + HOUR, exp=NOW + 3 * HOUR, iat=None))
    engine = called.gateway.ledger.engine
    # The first token of all loads the key set, and is not remembered.
    for hours, expected in ((2, 200), (2, 200), (0, 401), (2, 200)):
        monkeypatch.setattr(
            engine, "now", lambda ahead=hours: datetime.now(UTC) + timedelta(hours=ahead)
        )
        assert status(called, credential) == expected


def test_remembered_tokens_are_bounded(
    called: CalledGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack: Any = called.app.middleware_stack
    remembered = stack.app._app._callers._tokens._verified
    for number in range(5):
        assert status(called, token(claims_of(jti=f"{number}"), EC, "ES256")) == 200
    monkeypatch.setattr(tokens_module, "TOKENS_KEPT", len(remembered))
    before = set(remembered)
    for number in range(5, 10):
        assert status(called, token(claims_of(jti=f"{number}"), EC, "ES256")) == 200
    assert len(remembered) == len(before)
    assert len(before & set(remembered)) == len(before) - 5


def test_symmetric_and_short_keys_of_a_key_set_are_not_used(
    tmp_path: Path,
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        short = RSAKey.generate_key(1024, {"kid": "short"})
        shared = OctKey.generate_key(256, {"kid": "shared"})
        encrypting = ECKey.generate_key("P-256", {"kid": "enc", "use": "enc"})
        file = tmp_path / "keys.json"
        public: list[Any] = [key.as_dict(private=False) for key in (short, encrypting, RSA)]
        entries = [*public, shared.as_dict(), {"kty": "unknown"}, {}, "x", None]
        file.write_text(json.dumps({"keys": entries}))
        section = {"issuer": NAME, "audience": "campaign-gateway", "jwks": {"file": str(file)}}
        with called_gateway(tmp_path, CALLERS, ["sonarly"], jwt=section) as called:
            assert status(called, token()) == 200
            assert (
                status(called, signed({"alg": "RS256", "kid": "short"}, claims_of(), short)) == 401
            )
            secret = shared.raw_value
            assert status(called, hmac_signed("HS256", secret, kid="shared")) == 401
            enc = signed({"alg": "ES256", "kid": "enc"}, claims_of(), encrypting, "ES256")
            assert status(called, enc) == 401


def test_no_token_is_in_the_log(called: CalledGateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "campaign_gateway")
    wrong = wrong_headers()
    for credential in (token(), *wrong.values()):
        status(called, credential)
        parts = [part for part in credential.split(".") if len(part) > 16]
        assert not any(part[:64] in caplog.text for part in parts)
