"""JSON Web Tokens: verifies each once, and remembers its caller until it expires."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from joserfc.errors import ClaimError, JoseError
from joserfc.jws import JWSRegistry, extract_compact, validate_compact
from joserfc.jwt import JWTClaimsRegistry

from campaign_gateway.web.callers.caller import Caller, is_person
from campaign_gateway.web.callers.key_set import KeySet
from campaign_gateway.web.callers.refusals import Unauthenticated
from campaign_gateway.web.callers.settings import JwtSettings

# Only algorithms with a public key: with a shared secret, who can verify can also sign.
ALGORITHMS = [
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "Ed25519"),
]

# Characters of a token.
LENGTH_LIMIT = 8 * 1024

# By how many seconds the clocks of the issuer and of the gateway may differ.
LEEWAY = 30

# How many verified tokens are remembered.
TOKENS_KEPT = 1000


class _Registry(JWSRegistry):
    max_header_length = 4 * 1024


class Tokens:
    """Finds the caller of a token. `callers` has the configured callers by their names.

    `clock` returns seconds since 1970.
    """

    def __init__(
        self,
        settings: JwtSettings,
        keys: KeySet,
        callers: Mapping[str, Caller],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._callers = callers
        self._clock = clock
        # An issuer may add header fields that have no meaning here.
        self._registry = _Registry(algorithms=ALGORITHMS, strict_check_header=False)
        self._claims = JWTClaimsRegistry(
            now=lambda: int(clock()),
            leeway=LEEWAY,
            iss={"essential": True, "value": settings.issuer},
            aud={"essential": True, "value": settings.audience},
            exp={"essential": True},
        )
        # By the digest of a token: its caller, and from when until when it is known to be valid.
        self._verified: dict[bytes, tuple[Caller, float, float]] = {}
        self._verified_by = keys.version

    async def owner_of(self, token: str) -> Caller:
        """Return the token's caller, with the person. Raises `Unauthenticated`."""
        if len(token) > LENGTH_LIMIT:
            raise Unauthenticated("a token that is too long")
        if self._verified_by != self._keys.version:
            # A key that was removed from the set must not stay valid for its tokens.
            self._verified.clear()
            self._verified_by = self._keys.version
        digest = hashlib.sha256(token.encode()).digest()
        now = self._clock()
        caller, verified_at, ends_at = self._verified.get(digest, (None, 0.0, 0.0))
        # After the clock was set back, the token may be one that is not valid yet.
        if caller is not None and verified_at <= now < ends_at:
            return caller
        version = self._keys.version
        claims = await self._verify(token)
        caller = self._caller_of(claims)
        if self._keys.version == version:
            self._remember(digest, caller, now, claims["exp"] + LEEWAY)
        return caller

    def _remember(self, digest: bytes, caller: Caller, verified_at: float, ends_at: float) -> None:
        self._verified.pop(digest, None)
        if len(self._verified) >= TOKENS_KEPT:
            del self._verified[next(iter(self._verified))]
        self._verified[digest] = caller, verified_at, ends_at

    async def _verify(self, token: str) -> dict[str, Any]:
        """Return the claims of a valid token. Raises `Unauthenticated`."""
        try:
            signed = extract_compact(token.encode(), registry=self._registry)
            header = signed.headers()
            if "crit" in header or "b64" in header:
                raise Unauthenticated("a token with the header crit or b64")
            key_id = header.get("kid")
            if not isinstance(key_id, str | None):
                raise Unauthenticated("a token with a malformed key id")
            self._registry.get_alg(header["alg"])
            key = await self._keys.find(key_id)
            if not validate_compact(signed, key, registry=self._registry):
                raise Unauthenticated("a token with a wrong signature")
            claims = json.loads(signed.payload)
            if not isinstance(claims, dict):
                raise Unauthenticated("a token whose content is no object")
            self._claims.validate(claims)
        except Unauthenticated:
            raise
        except ClaimError as error:
            raise Unauthenticated(f"a token with an invalid claim {error.claim}") from None
        except JoseError as error:
            raise Unauthenticated(f"an invalid token ({type(error).__name__})") from None
        except Exception as error:  # noqa: BLE001 - any failure means that the token is not valid
            # A stranger's bytes may make these libraries fail in any way.
            raise Unauthenticated(f"a malformed token ({type(error).__name__})") from None
        return claims

    def _caller_of(self, claims: Mapping[str, Any]) -> Caller:
        settings = self._settings
        name = claims.get(settings.caller_claim)
        caller = self._callers.get(name) if isinstance(name, str) else None
        if caller is None:
            raise Unauthenticated(f"a token whose claim {settings.caller_claim} names no caller")
        person = claims.get(settings.person_claim) if settings.person_claim else None
        if person is None:
            return caller
        if not is_person(person):
            raise Unauthenticated(f"a token whose claim {settings.person_claim} is no short text")
        return replace(caller, person=person)
