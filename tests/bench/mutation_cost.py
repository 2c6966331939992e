"""Measures what callers add to a whole mutation: `python tests/bench/mutation_cost.py`.

One gateway has no callers, and two have a caller that sends a key or a token. They get equal
mutations in turns, so that what slows the machine slows all of them, and only the CPU of their
processes counts. On a busy machine, more rounds are needed: `--rounds N`. Linux only.
"""

import argparse
import http.client
import json
import random
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from anyio.from_thread import start_blocking_portal

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from campaign_gateway.sandbox.emulation import serving
from campaign_gateway.sandbox.emulators import sonarly
from campaign_gateway.web.callers.keys import create_key
from support.calling import sonarly_input
from support.commands import running
from support.issuer import AUDIENCE, NAME, RSA, claims_of, token
from support.memory import memory_folder

ROUNDS = 400

# Mutations of each gateway in a round. A short round is less likely to be interrupted.
MUTATIONS = 5

# Without `requestedBy`, which is null without callers and has fields of its own with them.
COPY = """
mutation Copy($input: DuplicateCampaignInput!, $key: String!) {
  duplicateCampaign(input: $input, idempotencyKey: $key) {
    status replayed campaign { id name } duplication { id status }
    userErrors { code message retry }
  }
}
"""

CALLER = '[callers.web-team]\naccounts = "*"\nmay = ["copy"]\nrequests_per_minute = 1_000_000\n'


@dataclass(frozen=True)
class Cost:
    """Microseconds of CPU for a mutation without callers, and what a key and a token add."""

    alone: float
    key: float
    token: float

    def __str__(self) -> str:
        return (
            f"{self.alone:.0f} us CPU, {self.key:+.0f} with a key, {self.token:+.0f} with a token"
        )


def measure(rounds: int = ROUNDS) -> Mapping[str, Cost]:
    """Return the cost of a new copy, and of a repetition, which gets the same duplication."""
    key, stored = create_key()
    signed = token(claims_of(exp=int(time.time()) + 24 * 3600))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(dir=memory_folder(2**28))))
        portal = stack.enter_context(start_blocking_portal())
        emulator = portal.wrap_async_context_manager(serving(sonarly.create_emulator()))
        url = stack.enter_context(emulator)
        keys = folder / "keys.json"
        keys.write_text(json.dumps({"keys": [RSA.as_dict(private=False)]}))
        jwt = f'[jwt]\nissuer = "{NAME}"\naudience = "{AUDIENCE}"\njwks = {{ file = "{keys}" }}\n'
        kinds = [
            ("alone", "", None),
            ("key", f'{CALLER}key = "{stored}"\n', key),
            ("token", f"{CALLER}{jwt}", signed),
        ]
        gateways = [
            stack.enter_context(_gateway(folder / name, url, sections, credential))
            for name, sections, credential in kinds
        ]
        same = _mutation()
        for gateway in gateways:
            gateway.spend([_mutation() for _ in range(100)])
            gateway.spend([same])
        return {
            "new copy": _compare(gateways, rounds, _mutation),
            "repetition": _compare(gateways, rounds, lambda: same),
        }


def _mutation() -> bytes:
    name = str(uuid.uuid4())
    variables = {"input": sonarly_input(name), "key": name}
    return json.dumps({"query": COPY, "variables": variables}).encode()


def _compare(gateways: Sequence["_Gateway"], rounds: int, mutation: Callable[[], bytes]) -> Cost:
    spent: list[list[float]] = [[] for _ in gateways]
    for _ in range(rounds):
        for place in random.sample(range(len(gateways)), len(gateways)):
            mutations = [mutation() for _ in range(MUTATIONS)]
            spent[place].append(gateways[place].spend(mutations))
    alone, *others = spent
    key, token = (
        median(cost - base for cost, base in zip(costs, alone, strict=True)) for costs in others
    )
    return Cost(median(alone), key, token)


class _Gateway:
    """A client of a running gateway, which knows its CPU time."""

    def __init__(self, process: int, port: int, credential: str | None) -> None:
        # The clock of another process: see clock_getcpuclockid in Linux.
        self._cpu_clock = (~process << 3) | 2
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._headers = {"content-type": "application/json"}
        if credential is not None:
            self._headers["authorization"] = f"Bearer {credential}"

    def spend(self, mutations: Sequence[bytes]) -> float:
        """Send one after the other, and return the microseconds of CPU for each."""
        before = time.clock_gettime_ns(self._cpu_clock)
        for mutation in mutations:
            self._connection.request("POST", "/graphql", mutation, self._headers)
            answer = self._connection.getresponse().read()
            assert b'"status":"CREATED"' in answer, answer
        return (time.clock_gettime_ns(self._cpu_clock) - before) / len(mutations) / 1000


@contextmanager
def _gateway(
    folder: Path, emulator: str, sections: str, credential: str | None
) -> Iterator[_Gateway]:
    folder.mkdir()
    api_key = sonarly.ACCOUNTS["sonarly"]["api_key"]
    config = folder / "gateway.toml"
    config.write_text(
        f'[ledger]\nurl = "sqlite:///{folder}/ledger.db"\n{sections}'
        f'[accounts.sonarly]\nprovider = "sonarly"\nbase_url = "{emulator}"\n'
        f'api_key = "{api_key}"\n'
    )
    with running("serve", "--config", str(config), "--port", "0") as command:
        port = command.wait_for(r"listening on \S+ port (\d+)")[1]
        yield _Gateway(command.process.pid, int(port), credential)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    for name, cost in measure(parser.parse_args().rounds).items():
        print(f"{name:<10} {cost}")
