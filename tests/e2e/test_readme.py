"""Checks the READMEs: their examples are run, and their tables are compared with the code."""

import ast
import json
import re
import shlex
import tomllib
import uuid
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import certifi
import graphql
import httpx
import pytest
from pydantic import BaseModel

import campaign_gateway
from campaign_gateway.api.context import CAMPAIGN_LIMIT, ENTITY_LIMIT
from campaign_gateway.api.enums import DuplicateCampaignStatus
from campaign_gateway.api.schema import client_sdl
from campaign_gateway.cli import _parser
from campaign_gateway.connectors.account_settings import AccountSettings
from campaign_gateway.connectors.registry import CONNECTORS
from campaign_gateway.model import DuplicationStatus, ErrorCode, Evidence, Retry, WarningCode
from campaign_gateway.sandbox import emulators
from campaign_gateway.settings import (
    LedgerSettings,
    LogSettings,
    MetricsSettings,
    ServerSettings,
    parse_settings,
)
from campaign_gateway.web.callers.keys import create_key
from campaign_gateway.web.callers.settings import CallerSettings, JwtSettings
from campaign_gateway.web.graphql_http import limits, request
from campaign_gateway.web.graphql_http.variables import VARIABLE_VALUE_LIMIT
from campaign_gateway.web.server import connection
from campaign_gateway.web.server.limits import ConnectionLimits
from support.packages import ACME
from support.plain import NO_CAS
from support.readmes import MAIN, READMES, REPOSITORY, Readme, code_blocks

GRAPHQL = [block for readme in READMES.values() for block in readme.blocks("graphql")]
MUTATIONS = [block for block in GRAPHQL if block.startswith("mutation")]
INPUTS = [
    text.strip()
    for block in GRAPHQL
    for text in re.split(r"^input: ", block, flags=re.MULTILINE)[1:]
]
HOUSE = READMES["src/README.md"]

every_readme = pytest.mark.parametrize("readme", READMES.values(), ids=READMES)


def execute(url: str, document: str, **variables: str) -> Any:
    body = {"query": document, "variables": variables}
    content = httpx.post(
        f"{url}/graphql", json=body, timeout=30, trust_env=False, verify=NO_CAS
    ).json()
    assert "errors" not in content
    return content["data"]


# Examples of GraphQL


def test_every_provider_has_an_example_input() -> None:
    for provider in CONNECTORS:
        assert any(f" {provider}: {{" in text for text in [*MUTATIONS, *INPUTS])


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_each_mutation_succeeds(sandbox_url: str, mutation: str) -> None:
    payload = execute(sandbox_url, mutation, key=str(uuid.uuid4()))["duplicateCampaign"]
    expected = {"NOT_SENT"} if "dryRun: true" in mutation else {"CREATED", "ACCEPTED"}
    assert payload["status"] in expected
    assert payload["userErrors"] == []


@pytest.mark.parametrize("text", INPUTS)
def test_each_input_makes_a_copy(sandbox_url: str, text: str) -> None:
    # Two providers have several accounts in the sandbox.
    text = text.replace("{ altcraft: {", '{ altcraft: { account: "altcraft"')
    text = text.replace("{ klaviyo: {", '{ klaviyo: { account: "klaviyo"')
    document = (
        "mutation Copy($key: String!) {"
        f" duplicateCampaign(input: {text}, idempotencyKey: $key)"
        " { status campaign { name } warnings { code } userErrors { code message field } } }"
    )
    payload = execute(sandbox_url, document, key=str(uuid.uuid4()))["duplicateCampaign"]
    assert payload["userErrors"] == []
    assert payload["warnings"] == []
    assert payload["status"] in {"CREATED", "ACCEPTED"}
    # The input of some providers has no name.
    assert "name:" not in text or payload["campaign"]["name"] in text


@pytest.mark.parametrize("block", code_blocks("graphql"))
def test_each_graphql_block_is_valid(block: str) -> None:
    inputs = re.split(r"^input: ", block, flags=re.MULTILINE)[1:]
    document = block
    if inputs:
        calls = (
            f'c{number}: duplicateCampaign(input: {text}, idempotencyKey: "k") {{ status }}'
            for number, text in enumerate(inputs)
        )
        document = f"mutation {{ {' '.join(calls)} }}"
    assert graphql.validate(graphql.build_schema(client_sdl()), graphql.parse(document)) == []


def test_wait_query_returns_the_accepted_copy(sandbox_url: str) -> None:
    (query,) = (block for block in GRAPHQL if block.startswith("query Wait"))
    (mutation,) = (block for block in MUTATIONS if " braze: {" in block and "dryRun" not in block)
    made = execute(sandbox_url, mutation, key=str(uuid.uuid4()))["duplicateCampaign"]
    assert made["status"] == "ACCEPTED"
    settled = execute(sandbox_url, query, id=made["duplication"]["id"])["duplication"]
    assert settled["status"] == "CREATED"


# Commands


def test_curl_command_makes_a_copy(sandbox_url: str, shell: Callable[[str], str]) -> None:
    (command,) = (
        block
        for readme in READMES.values()
        for block in readme.blocks("sh")
        if block.startswith("curl") and "duplicateCampaign" in block
    )
    content = json.loads(shell(command.replace("http://127.0.0.1:8000", sandbox_url)))
    assert content["data"]["duplicateCampaign"]["status"] == "ACCEPTED"


# Commands of others, whose arguments these tests do not know.
OTHER_COMMANDS = {"apt-get", "curl", "npm", "python3", "sqlite3", "sudo"}


def commands_in(block: str) -> list[list[str]]:
    """Return the words of each command, without what follows `>`."""
    text = block.replace("\\\n", " ")
    # One command may have line breaks in quotes.
    lines = [text] if text.startswith("curl") else text.splitlines()
    return [
        shlex.split(command.partition(" > ")[0], comments=True)
        for line in lines
        if line.strip() and not line.startswith("#")
        for command in line.split(" && ")
    ]


@pytest.mark.parametrize("block", code_blocks("sh"))
def test_each_command_exists_with_its_options_and_paths(block: str) -> None:
    commands = commands_in(block)
    assert commands
    for program, *arguments in commands:
        match program.removeprefix(".venv/bin/"), arguments:
            case "campaign-gateway", _:
                assert _parser().parse_args(arguments).run
            case "python", ["-m", "pytest", *options]:
                paths = [option for option in options if option.startswith("tests/")]
                missing = [path for path in paths if not (REPOSITORY / path).exists()]
                assert [path for path in missing if not path.endswith("/NAME")] == []
            case "python", ["tests/bench", *_]:
                assert (REPOSITORY / "tests/bench/__main__.py").exists()
            case (("pip" | "ruff" | "mypy" | "lint-imports"), _):
                pass
            case other, _:
                assert other in OTHER_COMMANDS


@pytest.mark.parametrize("block", code_blocks("python"))
def test_each_python_block_can_be_parsed(block: str) -> None:
    assert ast.parse(block).body


# Configuration

HASH = create_key()[1]


def test_project_file_of_a_package_is_that_of_the_sample() -> None:
    (block,) = READMES["src/campaign_gateway/connectors/README.md"].blocks("toml")
    sample = tomllib.loads((ACME / "pyproject.toml").read_text("utf-8"))["project"]
    shown = tomllib.loads(block)["project"]
    assert shown == {name: sample[name] for name in shown}


@pytest.mark.parametrize(
    "block", [block for block in code_blocks("toml") if "[project]" not in str(block)]
)
def test_each_configuration_is_accepted(
    block: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    block = block.replace("/etc/ssl/company-ca.pem", certifi.where())
    for name in re.findall(r'env = "(\w+)"', block):
        monkeypatch.setenv(name, HASH if name.endswith("_HASH") else "key-us21")
    secrets = tmp_path / "secrets"
    secrets.write_text(HASH)
    block = re.sub(r'"/run/secrets/[\w-]+"', f'"{secrets}"', block)
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:password@host/database")
    table = tomllib.loads(block)
    table.setdefault("accounts", {"outreach": {"provider": "sonarly", "api_key": "key"}})
    settings = parse_settings(table, {})
    if "DATABASE_URL" in block:
        url = "postgresql://user:password@host/database"
        assert settings.ledger.url.get_secret_value() == url
    else:
        # The settings of the server and the ledger in an example are the defaults.
        assert settings.server == ServerSettings()
        assert settings.ledger == LedgerSettings()
        assert settings.log == LogSettings()


def test_configuration_has_an_account_of_every_provider() -> None:
    (block,) = HOUSE.blocks("toml")
    accounts = tomllib.loads(block)["accounts"].values()
    assert {account["provider"] for account in accounts} == set(CONNECTORS)


def test_table_of_settings_has_every_setting_and_its_default() -> None:
    (rows,) = (rows for header, rows in HOUSE.tables() if header[0] == "Setting")
    shown = {row[0].strip("`"): row[1] for row in rows}
    sections: dict[str, type[BaseModel]] = {
        "server": ServerSettings,
        "ledger": LedgerSettings,
        "log": LogSettings,
        "metrics": MetricsSettings,
        "callers.NAME": CallerSettings,
        "jwt": JwtSettings,
        "accounts.NAME": AccountSettings,
    }
    fields = {
        f"{place}.{name}": field
        for place, model in sections.items()
        for name, field in model.model_fields.items()
    }
    assert shown.keys() == fields.keys()
    for name, field in fields.items():
        default = field.default
        if field.is_required() or default is None or default == ():
            assert not re.match(r"`", shown[name])
            continue
        value = default.get_secret_value() if hasattr(default, "get_secret_value") else default
        written = str(value).lower() if isinstance(value, bool) else str(value)
        assert shown[name].startswith(f"`{written}`")


def test_table_of_permissions_has_every_provider() -> None:
    (rows,) = (rows for header, rows in HOUSE.tables() if header == PERMISSIONS)
    assert [row[0] for row in rows] == [connector.title for connector in CONNECTORS.values()]


PERMISSIONS = ["Provider", "The secret must allow"]


# Tables of the contract

LIMITS = {
    "tokens in the document; comments; lines": [
        limits.TOKEN_LIMIT,
        limits.COMMENT_LIMIT,
        limits.LINE_LIMIT,
    ],
    "operations; fields at the top of one": [limits.OPERATION_LIMIT, limits.ROOT_FIELD_LIMIT],
    "levels of fields": [limits.DEPTH_LIMIT],
    "aliases; directives; fragments; fragment spreads": [
        limits.ALIAS_LIMIT,
        limits.DIRECTIVE_LIMIT,
        limits.FRAGMENT_LIMIT,
        limits.SPREAD_LIMIT,
    ],
    "characters of an alias": [limits.ALIAS_LENGTH],
    "fields of one name": [limits.SAME_FIELD_LIMIT],
    "values in the variables": [VARIABLE_VALUE_LIMIT],
    "values in the response, with lists as long as they may be": [limits.VALUE_LIMIT],
    "entities to resolve; campaigns to read at providers": [ENTITY_LIMIT, CAMPAIGN_LIMIT],
}


def test_table_of_limits_has_the_values_of_the_code() -> None:
    number = r"\d+(?:,\d{3})*"
    text = READMES["src/campaign_gateway/web/graphql_http/README.md"].text
    rows = dict(
        re.findall(rf"^\| ([a-z][a-z ;,]+) \| ({number}(?:; {number})*)", text, re.MULTILINE)
    )
    shown = {name: "; ".join(f"{limit:,}" for limit in LIMITS[name]) for name in LIMITS}
    assert {name: rows.get(name) for name in LIMITS} == shown
    assert request.REQUEST_LIMIT == 64 * 1024


def test_table_of_the_limits_of_connections_has_the_values_of_the_code() -> None:
    header = ["A client", "has up to", "then"]
    (rows,) = (
        rows
        for first, rows in READMES["src/campaign_gateway/web/server/README.md"].tables()
        if first == header
    )
    allowed = ConnectionLimits()
    shown = {row[0]: row[1] for row in rows}
    assert shown["sends the head of a request"] == f"{allowed.head_timeout:.0f} seconds"
    assert shown["sends a body"] == f"{request.BODY_SECONDS} seconds"
    assert allowed.body_timeout == request.BODY_SECONDS + 2
    assert shown["reads a response"] == f"{allowed.write_timeout:.0f} seconds"
    assert shown["sends a request line and fields"] == (
        f"{connection.HEAD_LIMIT // 1024} KiB, {connection.FIELD_LIMIT} fields"
    )
    assert shown["sends a body that was refused"] == f"{connection.DISCARD_LIMIT // 1024**2} MiB"
    assert shown["opens connections"] == (
        f"{allowed.connections:,} in all, {allowed.connections_by_address:,} from one address"
    )


# The first cell of a table's header, and the enum that the first cells of its rows must have.
TABLES: dict[str, type[StrEnum]] = {
    "`code`": ErrorCode,
    "`evidence`": Evidence,
    "`retry`": Retry,
    "`status`": DuplicateCampaignStatus,
    "`warning`": WarningCode,
}


@pytest.mark.parametrize("title", TABLES)
def test_table_of_an_enum_has_every_value(title: str) -> None:
    tables = [
        rows
        for readme in READMES.values()
        for header, rows in readme.tables()
        if header[0] == title
    ]
    assert tables
    for rows in tables:
        assert sorted(row[0].strip("`") for row in rows) == sorted(TABLES[title])


STATE_DIAGRAMS = [
    block
    for readme in READMES.values()
    for block in readme.blocks("mermaid")
    if block.startswith("stateDiagram")
]


@pytest.mark.parametrize("diagram", STATE_DIAGRAMS)
def test_state_diagram_has_every_status_of_a_duplication(diagram: str) -> None:
    arrows = re.findall(r"^ +(\S+) --> (\S+?)(?::.*)?$", diagram, re.MULTILINE)
    assert {state for arrow in arrows for state in arrow} - {"[*]"} == set(DuplicationStatus)


# Providers and rooms


def test_main_readme_has_at_most_250_lines() -> None:
    assert len(MAIN.text.splitlines()) <= 250


def test_table_of_providers_has_a_maturity_for_each() -> None:
    (rows,) = (rows for header, rows in MAIN.tables() if header[-1] == "Maturity")
    assert [row[0] for row in rows] == [connector.title for connector in CONNECTORS.values()]
    for row in rows:
        assert re.findall(r"documented|inferred|beta|live", row[-1])


def test_every_outcome_in_the_sandbox_readme_exists() -> None:
    readme = READMES["src/campaign_gateway/sandbox/README.md"]
    (rows,) = (rows for header, rows in readme.tables() if header[0] == "ids")
    named = {word for row in rows for word in re.findall(r"`([^`]+)`", row[0])}
    places = Path(emulators.__path__[0]).glob("*.py")
    sources = "".join(place.read_text("utf-8") for place in places)
    sources += (Path(emulators.__path__[0]).parent / "emulation.py").read_text("utf-8")
    assert {word for word in named if f'"{word}"' not in sources} == set()


def test_table_of_rooms_has_every_room_and_module() -> None:
    package = Path(campaign_gateway.__file__).parent
    folders = [*package.glob("*/"), *package.glob("accounts/*/"), *package.glob("web/*/")]
    rooms = {
        f"{folder.relative_to(package)}/" for folder in folders if (folder / "__init__.py").exists()
    }
    modules = {file.name for file in package.glob("*.py")} - {"__init__.py"}
    (rows,) = (rows for header, rows in HOUSE.tables() if header == ["Room", "Duty"])
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row[0])}
    assert named == rooms | modules


FILE_TABLES = {
    readme.name: {name for row in rows for name in re.findall(r"`([^`]+)`", row[0])}
    for readme in READMES.values()
    for header, rows in readme.tables()
    if header[0] == "File"
}


@pytest.mark.parametrize("name", FILE_TABLES)
def test_table_of_files_has_every_file_of_the_room(name: str) -> None:
    room = READMES[name].path.parent
    files = {path.name for path in room.glob("*.py")} - {"__init__.py"}
    named = {file for file in FILE_TABLES[name] if "/" not in file}
    assert named == files
    folders = {file.partition("/")[0] for file in FILE_TABLES[name] - named}
    assert [folder for folder in folders if not (room / folder).is_dir()] == []


def test_order_of_imports_is_the_one_of_the_configuration() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    (order,) = re.findall(r"^`__main__` →[^\n]*\n[^\n]*$", HOUSE.text, re.MULTILINE)
    shown = [re.findall(r"`(\w+)`", step) for step in order.split("→")]
    assert shown == [layer.split(" | ") for layer in layers]


def test_table_of_test_rooms_has_every_room() -> None:
    tests = REPOSITORY / "tests"
    rooms = {f"{file.parent.name}/" for file in tests.glob("*/*.py")} | {"connectors/"}
    (rows,) = (
        rows for header, rows in READMES["tests/README.md"].tables() if header[0] == "Folder"
    )
    assert {row[0].partition("](")[0].strip("[`") for row in rows} == rooms


# Links and paths


@every_readme
def test_every_link_resolves(readme: Readme) -> None:
    for target in readme.links():
        name, _, anchor = target.partition("#")
        path = (readme.path.parent / name).resolve() if name else readme.path
        assert path.exists(), target
        if anchor:
            linked = READMES[path.relative_to(REPOSITORY).as_posix()]
            assert anchor in linked.anchors(), target


@every_readme
def test_every_path_in_the_text_exists(readme: Readme) -> None:
    named = re.findall(r"`((?:src|tests|\.ci|\.github)/[\w./-]*)`", readme.prose)
    missing = [path for path in named if not (REPOSITORY / path).exists()]
    assert [path for path in missing if "NAME" not in path] == []


def test_every_room_readme_is_linked_from_another() -> None:
    linked = {
        (readme.path.parent / target.partition("#")[0]).resolve()
        for readme in READMES.values()
        for target in readme.links()
    }
    # The READMEs of recordings need no link.
    rooms = [readme for readme in READMES.values() if "recordings" not in readme.name]
    unlinked = [room.name for room in rooms if room.path.resolve() not in linked]
    assert unlinked in ([], ["README.md"])


# The licence


def test_licence_is_complete_and_declared_by_the_package() -> None:
    text = (REPOSITORY / "src" / "LICENSE").read_text("utf-8")
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert text.rstrip().endswith("limitations under the License.")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["license"] == "Apache-2.0"
    assert project["license-files"] == ["src/LICENSE"]
