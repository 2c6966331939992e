"""The commands `sandbox`, `serve` and `schema`, run as a user runs them."""

import fcntl
import http.server
import json
import re
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from campaign_gateway.api.schema import client_sdl, federation_sdl
from support.commands import run as gateway
from support.plain import NO_CAS

SECRET = "sk_live_e2e_0123456789"
# What a script adds, because it cannot be asked.
SURE = ("--yes", "--why", "looked at the provider")
GROUP = 'accountGroupId: "g1", audienceId: "a1"'


def duplicate(url: str, fields: str, key: str) -> dict[str, Any]:
    query = (
        f"mutation {{ duplicateCampaign(input: {{ {fields} }}, idempotencyKey: {json.dumps(key)})"
        " { status replayed campaign { id name } duplication { id status evidence }"
        " userErrors { code message retry providerMessage } } }"
    )
    response = httpx.post(
        f"{url}/graphql", json={"query": query}, timeout=30, trust_env=False, verify=NO_CAS
    )
    payload: dict[str, Any] = response.json()["data"]["duplicateCampaign"]
    return payload


Respond = Callable[[http.server.BaseHTTPRequestHandler], None]


class Provider:
    """Sonarly's API, independent of our emulator: the requests, and how it responds to the next."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.copy: Respond = self.created
        self.list: Respond = self.listed
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                provider.requests.append(("POST", self.path, dict(self.headers), body))
                provider.copy(self)

            def do_GET(self) -> None:
                provider.requests.append(("GET", self.path, dict(self.headers), b""))
                provider.list(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.items: list[dict[str, Any]] = []

    def created(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        self.send(handler, 201, {"success": True, "data": self.make_copy(), "error": None})

    def make_copy(self) -> dict[str, Any]:
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        name = json.loads(self.bodies()[-1])["name"]
        item = {
            "id": f"copy{self.posts()}",
            "name": name,
            "status": "draft",
            "createdAt": now,
        }
        self.items.append(item)
        return item

    def listed(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        self.send(handler, 200, {"success": True, "data": {"items": self.items}, "error": None})

    def send(
        self, handler: http.server.BaseHTTPRequestHandler, status: int, body: dict[str, Any]
    ) -> None:
        content = json.dumps(body).encode()
        handler.send_response(status)
        handler.send_header("content-length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def bodies(self) -> list[bytes]:
        return [body for method, _, _, body in self.requests if method == "POST"]

    def posts(self) -> int:
        return len(self.bodies())


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()
    thread = threading.Thread(target=provider.server.serve_forever)
    thread.start()
    yield provider
    provider.server.shutdown()
    thread.join()
    provider.server.server_close()


@pytest.fixture
def config(tmp_path: Path, provider: Provider) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(
        f"""
        [server]
        port = 0
        [ledger]
        url = "sqlite:///{tmp_path}/ledger.db"
        [accounts.outreach]
        provider = "sonarly"
        base_url = "{provider.url}"
        api_key = {{ env = "E2E_KEY" }}
        timeout_seconds = 3
        """
    )
    return path


def serve(running: Any, config: Path) -> Any:
    return running("serve", "--config", str(config), environment={"E2E_KEY": SECRET})


def address(command: Any) -> str:
    port = command.wait_for(r"listening on \S+ port (\d+)")[1]
    return f"http://127.0.0.1:{port}"


def test_sandbox_copies_with_every_account(running: Any) -> None:
    with running("sandbox", "--port", "0") as command:
        command.wait_for("Ctrl-C stops the sandbox")
        table = command.output
        for account in ("altcraft", "altcraft-xml", "sonarly"):
            assert re.search(rf"^{account} +\w+ +CREATED +\w+ +\w", table, re.MULTILINE), table
        assert re.search(r"^braze +braze +ACCEPTED +no id yet$", table, re.MULTILINE), table
        assert re.search(
            r"^braze: duplication \S+ is now CREATED as campaign \S+", table, re.MULTILINE
        )
        counted = command.wait_for(r"copies at altcraft +(\S+)")[1]
        assert httpx.get(counted, trust_env=False, verify=NO_CAS).json()["count"] == 2
        assert command.stop(signal.SIGINT) == 0
        assert "Traceback" not in command.output


def test_curl_line_of_the_sandbox_works_when_pasted(running: Any, shell: Any) -> None:
    with running("sandbox", "--port", "0") as command:
        response = json.loads(shell(command.wait_for(r"(?m)^curl .*$")[0]))
    payload = response["data"]["duplicateCampaign"]
    assert (payload["status"], payload["replayed"]) == ("CREATED", False)


def test_sandbox_leaves_no_files_and_deletes_those_of_killed_ones(
    running: Any, tmp_path: Path
) -> None:
    killed, used, another = (
        tmp_path / f"campaign-gateway-{name}" for name in ("sandbox-1", "sandbox-2", "of-a-user")
    )
    for folder in (killed, used, another):
        folder.mkdir()
        (folder / "ledger.db").touch()
        (folder / "ledger.db-lock").touch()
    with (used / "ledger.db-lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with running("sandbox", "--port", "0", environment={"TMPDIR": str(tmp_path)}) as command:
            command.wait_for("GraphiQL")
            assert len(list(tmp_path.iterdir())) == 3
            assert command.stop(signal.SIGTERM) == 0
    assert sorted(tmp_path.iterdir()) == [another, used]


def test_sandbox_takes_the_next_port_if_one_is_in_use(running: Any, provider: Provider) -> None:
    port = int(provider.server.server_address[1])
    with running("sandbox", "--port", str(port)) as command:
        said = command.wait_for(rf"Port {port} is in use, so the sandbox uses port (\d+)\.")
        assert port < int(said[1]) <= port + 20
        command.wait_for(rf"GraphiQL +http://127.0.0.1:{said[1]}/graphiql")


def test_address_that_cannot_be_used_is_an_error_that_names_the_option() -> None:
    done = gateway("sandbox", "--host", "192.0.2.1", "--port", "8000")
    assert done.returncode == 1
    assert "cannot listen on 192.0.2.1 port 8000" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_schema_command_prints_the_client_and_the_federation_schema() -> None:
    assert gateway("schema").stdout == client_sdl()
    assert gateway("schema", "--federation").stdout == federation_sdl()


def test_errors_of_the_configuration_are_printed_without_secrets(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(
        f'[server]\nprot = 1\n[accounts.a]\nprovider = "sonarly"\napi_key = "{SECRET} "\n'
    )
    done = gateway("serve", "--config", str(path))
    assert done.returncode == 1
    assert "server.prot: unknown setting; did you mean port?" in done.stderr
    assert "accounts.a.api_key: " in done.stderr
    assert SECRET not in done.stderr
    assert "Traceback" not in done.stderr
    assert "--config" in gateway("serve").stderr


def test_request_to_the_provider_is_as_documented(
    running: Any, config: Path, provider: Provider
) -> None:
    fields = f'sonarly: {{ {GROUP}, campaignId: "c1", name: "Copy", leadIds: ["l1", "l2"] }}'
    with serve(running, config) as command:
        url = address(command)
        payload = duplicate(url, fields, "k1")
        assert payload["status"] == "CREATED"
        assert payload["campaign"] == {"id": "copy1", "name": "Copy"}
        assert duplicate(url, fields, "k1")["replayed"] is True
        # The gateway checks the account meanwhile.
        copies = [request for request in provider.requests if request[0] == "POST"]
        ((_, path, headers, body),) = copies
        assert path == "/v1/accounts/g1/campaigns/c1/duplicate"
        assert headers["authorization"] == f"Bearer {SECRET}"
        assert json.loads(body) == {"name": "Copy", "audienceId": "a1", "leadIds": ["l1", "l2"]}
        assert command.stop() == 0
        assert SECRET not in command.output


def test_second_gateway_on_the_same_ledger_does_not_start(running: Any, config: Path) -> None:
    with serve(running, config) as first:
        address(first)
        with serve(running, config) as second:
            second.wait_for("in use by another gateway")
            assert second.process.wait(10) == 1


def test_stopping_gateway_waits_for_the_running_call(
    running: Any, config: Path, provider: Provider
) -> None:
    def slowly(handler: http.server.BaseHTTPRequestHandler) -> None:
        time.sleep(1.5)
        provider.created(handler)

    provider.copy = slowly
    fields = f'sonarly: {{ {GROUP}, campaignId: "c1", name: "Copy" }}'
    payloads: list[dict[str, Any]] = []
    with serve(running, config) as command:
        url = address(command)
        asking = threading.Thread(target=lambda: payloads.append(duplicate(url, fields, "k1")))
        asking.start()
        while not provider.posts():
            time.sleep(0.02)
        assert command.stop() == 0
        asking.join()
    assert payloads[0]["status"] == "CREATED"
    with serve(running, config) as command:
        again = duplicate(address(command), fields, "k1")
    assert (again["status"], again["replayed"]) == ("CREATED", True)
    assert provider.posts() == 1


def test_copy_is_found_by_search_after_a_kill_before_the_response(
    running: Any, config: Path, provider: Provider
) -> None:
    copied = threading.Event()
    killed = threading.Event()

    def copy_and_hang(_handler: http.server.BaseHTTPRequestHandler) -> None:
        provider.make_copy()
        copied.set()
        killed.wait(20)

    provider.copy = copy_and_hang
    fields = f'sonarly: {{ {GROUP}, campaignId: "c1", name: "Copy" }}'

    def ask(url: str) -> None:
        with pytest.raises(httpx.HTTPError):
            duplicate(url, fields, "k1")

    with serve(running, config) as command:
        asking = threading.Thread(target=ask, args=(address(command),))
        asking.start()
        assert copied.wait(20)
        command.process.kill()
        killed.set()
        asking.join()
    with serve(running, config) as command:
        url = address(command)
        payload = duplicate(url, fields, "k1")
        while payload["status"] == "UNKNOWN":
            time.sleep(0.2)
            payload = duplicate(url, fields, "k1")
    assert (payload["status"], payload["replayed"]) == ("CREATED", True)
    assert payload["duplication"]["evidence"] == "INFERRED"
    assert provider.posts() == 1


def test_operator_settles_unknown_duplications_while_the_gateway_runs(
    running: Any, config: Path, provider: Provider, shell: Any
) -> None:
    provider.copy = lambda _handler: None
    provider.list = lambda handler: provider.send(handler, 500, {})

    def output_of(*arguments: str) -> str:
        done = gateway("duplications", *arguments, "--config", str(config))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def error_of(*arguments: str) -> str:
        done = gateway("duplications", *arguments, "--config", str(config))
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        return done.stderr

    with serve(running, config) as command:
        url = address(command)
        lost = {
            name: duplicate(url, f'sonarly: {{ {GROUP}, campaignId: "c1", name: "{name}" }}', name)
            for name in ("Made", "Absent")
        }
        made, absent = (payload["duplication"]["id"] for payload in lost.values())
        listed = output_of("list").splitlines()
        assert listed[0].startswith("ID ")
        assert [line.split()[0] for line in listed[1:]] == [absent, made]
        assert "UNKNOWN" in output_of("list", "--status", "UNKNOWN")
        assert made not in output_of("list", "--status", "CREATED")
        assert f"{made} --created CAMPAIGN_ID" in output_of("show", made)
        (absent_command,) = re.findall(
            r"^ +(.* --absent)$", output_of("show", absent), re.MULTILINE
        )

        for source in ("c1", "C1"):
            assert "is the source campaign, so it cannot be the copy" in error_of(
                "resolve", made, "--created", source, *SURE
            )
        assert "letters, digits" in error_of("resolve", made, "--created", "../c7", *SURE)
        shown = output_of("resolve", made, "--created", "c7", "--unchecked", *SURE)
        assert re.search(r"^status +CREATED$", shown, re.MULTILINE)
        assert re.search(r"^evidence +OPERATOR$", shown, re.MULTILINE)
        assert f"is the copy of another duplication, {made}" in error_of(
            "resolve", absent, "--created", "c7", *SURE
        )
        # The operator pastes the command that `show` prints, and adds what a script needs.
        line = shlex.join(["--unchecked", *SURE])
        shown = shell(f"{absent_command} {line}")
        assert re.search(r"^status +REJECTED$", shown, re.MULTILINE)
        assert "is already REJECTED" in error_of("resolve", absent, "--created", "c8", *SURE)
        assert "there is no duplication 123" in error_of("show", "123")
        assert len(output_of("list").splitlines()) == 1
        assert len(output_of("list", "--all").splitlines()) == 3

        for name, status in (("Made", "CREATED"), ("Absent", "REJECTED")):
            fields = f'sonarly: {{ {GROUP}, campaignId: "c1", name: "{name}" }}'
            again = duplicate(url, fields, name)
            assert (again["status"], again["replayed"]) == (status, True)
            assert again["duplication"]["evidence"] == "OPERATOR"
        assert provider.posts() == 2
        assert command.stop() == 0
    assert "CREATED" in output_of("list", "--all")


def test_list_command_does_not_create_a_missing_ledger(config: Path, tmp_path: Path) -> None:
    done = gateway("duplications", "list", "--config", str(config))
    assert done.returncode == 1
    assert "does not exist" in done.stderr
    assert not (tmp_path / "ledger.db").exists()


def test_settled_duplications_expire_as_configured(
    running: Any, config: Path, provider: Provider
) -> None:
    config.write_text(config.read_text().replace("[ledger]", "[ledger]\nkeep_days = 0.00001"))
    fields = f'sonarly: {{ {GROUP}, campaignId: "c1", name: "Copy" }}'
    with serve(running, config) as command:
        assert duplicate(address(command), fields, "k1")["status"] == "CREATED"
        time.sleep(1)
        assert command.stop() == 0
    with serve(running, config) as command:
        command.wait_for("1 duplication expired, 0 deleted")
        again = duplicate(address(command), fields, "k1")
    assert again["userErrors"][0]["code"] == "IDEMPOTENCY_KEY_EXPIRED"
    assert provider.posts() == 1


def test_unreachable_provider_leaves_the_key_unused(
    running: Any, config: Path, provider: Provider
) -> None:
    port = provider.server.server_address[1]
    config.write_text(config.read_text().replace(f":{port}", ":9"))
    fields = f'sonarly: {{ {GROUP}, campaignId: "c1", name: "Copy" }}'
    with serve(running, config) as command:
        payload = duplicate(address(command), fields, "k1")
        assert payload["status"] == "NOT_SENT"
        assert payload["duplication"] is None
        (error,) = payload["userErrors"]
        assert (error["code"], error["retry"]) == ("PROVIDER_UNAVAILABLE", "SAME_KEY")
        command.stop()
    config.write_text(config.read_text().replace(":9", f":{port}"))
    with serve(running, config) as command:
        assert duplicate(address(command), fields, "k1")["status"] == "CREATED"
