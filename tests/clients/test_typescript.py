"""The types that are generated from the schema: the compiler refuses wrong uses of them."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from support.typescript import STRICT, STRICTEST, Frontend, Mistakes, generate_each

SCHEMA = str(Path(__file__).parents[2] / "schema.graphql")
OPERATIONS = (Path(__file__).parent / "operations.graphql").read_text("utf-8")

# The configuration of scalars that a frontend needs, as in the README.
SCALARS = {"ID": "string", "DateTime": "string"}

START = """\
import type {
  CopyMutation, CopyMutationVariables, DuplicateCampaignErrorCode, RecentQuery, WaitQuery,
} from './gql/graphql';
declare function send(variables: CopyMutationVariables): CopyMutation['duplicateCampaign'];
declare const copy: CopyMutation['duplicateCampaign'];
declare const recent: RecentQuery;
declare const waited: WaitQuery;
const key = 'k';
const braze = { campaignId: 'b', name: 'n' };
const sonarly = { accountGroupId: 'g', campaignId: 'c', audienceId: 'a' };
const altcraft = { campaignId: 96 };
"""

CODES = {
    "AUTHENTICATION_FAILED",
    "CAMPAIGN_NOT_FOUND",
    "CONFLICT",
    "IDEMPOTENCY_KEY_EXPIRED",
    "IDEMPOTENCY_KEY_REUSED",
    "NOT_ALLOWED",
    "INVALID_INPUT",
    "OUTCOME_UNKNOWN",
    "OVERLOADED",
    "PERMISSION_DENIED",
    "PROVIDER_UNAVAILABLE",
    "QUOTA_EXCEEDED",
    "RATE_LIMITED",
    "UNKNOWN_ACCOUNT",
    "UNRESOLVED_DUPLICATION",
}


def switch_over(codes: set[str]) -> str:
    # The compiler accepts `left` only if every code has a case.
    cases = "".join(f"\n    case '{code}': return 1;" for code in sorted(codes))
    return f"""\
export function rank(code: DuplicateCampaignErrorCode): number {{
  switch (code) {{{cases}
    default: {{ const left: never = code; return left; }}
  }}
}}
"""


# Name -> the code, the word that the compiler must point at, and a part of its message. The number
# of the error is not enough, because most errors have the same number.
REFUSED = {
    "two-members": ("send({ input: { braze, sonarly }, key });", "input", "'sonarly'"),
    "no-member": ("send({ input: {}, key });", "input", "'DuplicateCampaignInput'"),
    "null-input": ("send({ input: null, key });", "input", "'null'"),
    # If a member is missing, the compiler points at the opening brace.
    "no-input": ("send({ key });", "", "'input' is missing"),
    "null-member": (
        "send({ input: { braze: null }, key });",
        "braze",
        "'null' is not assignable to type 'BrazeCampaignInput",
    ),
    "another-as-null": (
        "send({ input: { braze, sonarly: null }, key });",
        "sonarly",
        "'null' is not assignable to type 'SonarlyCampaignInput",
    ),
    "unknown-member": (
        "send({ input: { mailer: braze }, key });",
        "mailer",
        "'mailer' does not exist",
    ),
    "another-unknown-member": (
        "send({ input: { braze, mailer: braze }, key });",
        "mailer",
        "'mailer' does not exist",
    ),
    "unknown-field": (
        "send({ input: { braze: { ...braze, colour: 'red' } }, key });",
        "colour",
        "'colour' does not exist in type 'BrazeCampaignInput'",
    ),
    "braze-without-name": (
        "send({ input: { braze: { campaignId: 'b' } }, key });",
        "braze",
        "'name' is missing",
    ),
    "sonarly-without-group": (
        "send({ input: { sonarly: { campaignId: 'c', audienceId: 'a' } }, key });",
        "sonarly",
        "'accountGroupId' is missing",
    ),
    "altcraft-without-id": (
        "send({ input: { altcraft: { name: 'n' } }, key });",
        "altcraft",
        "'campaignId' is missing",
    ),
    "a-number-as-text": (
        "send({ input: { altcraft: { campaignId: '96' } }, key });",
        "campaignId",
        "'string' is not assignable to type 'number'",
    ),
    "unknown-kind": (
        "send({ input: { altcraft: { ...altcraft, kind: 'MAILING' } }, key });",
        "kind",
        "AltcraftCampaignKind",
    ),
    "no-key": ("send({ input: { braze } });", "", "'key' is missing"),
    "null-key": ("send({ input: { braze }, key: null });", "key", "'null'"),
    "unknown-status": (
        "if (copy.status === 'DONE') send({ input: { braze }, key });",
        "copy",
        "have no overlap",
    ),
    # All outcomes have one type, so a status does not show the compiler that there is a campaign.
    "campaign-may-be-null": (
        "if (copy.status === 'CREATED') copy.campaign.id;",
        "copy",
        "'copy.campaign' is possibly 'null'",
    ),
    "a-code-is-forgotten": (
        switch_over(CODES - {"UNRESOLVED_DUPLICATION"}),
        "left",
        "\"UNRESOLVED_DUPLICATION\"' is not assignable to type 'never'",
    ),
}

COMPILES = {
    "braze": "send({ input: { braze: { ...braze, description: 'd', tagNames: ['t'] } }, key });",
    "sonarly": "send({ input: { sonarly: { ...sonarly, name: null, leadIds: ['l'] } }, key });",
    "altcraft": "send({ input: { altcraft }, key });",
    "altcraft-campaign": "send({ input: { altcraft: { campaignId: 1, kind: 'CAMPAIGN' } }, key });",
    "status-narrows": """\
const { status, campaign } = copy;
if (status === 'UNKNOWN' || status === 'IN_PROGRESS' || status === 'NOT_SENT') throw new Error();
const left: 'ACCEPTED' | 'CREATED' | 'REJECTED' = status;
if (left === 'CREATED' && campaign) campaign.id.toUpperCase();
""",
    "every-code": switch_over(CODES),
    "dates-are-text": "new Date(Date.parse(waited.duplication?.settledAt ?? ''));",
    "a-page": """\
const names = recent.duplications.edges.map(({ node }) => node.requestedName ?? node.id);
names.join(recent.duplications.pageInfo.endCursor ?? '');
""",
}

# A form with a member for each provider makes this. JSON omits it, so it is harmless.
UNDEFINED = "send({ input: { braze, sonarly: undefined }, key });"


BRAZE = 'braze: { campaignId: "b", name: "n" }'

# Name -> the arguments of the mutation, and a part of the generator's complaint.
WRONG_OPERATIONS = {
    "no-key": (f"input: {{ {BRAZE} }}", "'idempotencyKey' of type 'String!' is required"),
    "no-input": (
        'idempotencyKey: "k"',
        "'input' of type 'DuplicateCampaignInput!' is required",
    ),
    "two-members": (
        f'input: {{ {BRAZE}, altcraft: {{ campaignId: 1 }} }}, idempotencyKey: "k"',
        "'DuplicateCampaignInput' must specify exactly one key",
    ),
    "null-member": (
        'input: { braze: null }, idempotencyKey: "k"',
        "'DuplicateCampaignInput.braze' must be non-null",
    ),
}


@pytest.fixture(scope="module")
def frontends(
    tmp_path_factory: pytest.TempPathFactory, sandbox_url: str
) -> Mapping[str, tuple[Frontend, str]]:
    """Frontends whose code is generated, by name. Each has what the generator complained about."""
    endpoint = f"{sandbox_url}/graphql"
    # The served schema has the scalars of federation too, which no frontend uses.
    configurations: dict[str, tuple[object, bool]] = {
        "published": (SCHEMA, True),
        "served": ([{endpoint: {"oneOf": True}}], False),
        "served-without-one-of": (endpoint, False),
        **dict.fromkeys(WRONG_OPERATIONS, (SCHEMA, True)),
    }
    folder = tmp_path_factory.mktemp("typescript")
    made = {name: Frontend(folder / name) for name in configurations}
    for name, (schema, strict) in configurations.items():
        configure(made[name], schema, strict=strict)
    for name, (arguments, _) in WRONG_OPERATIONS.items():
        wrong = f"mutation Wrong {{ duplicateCampaign({arguments}) {{ status }} }}"
        made[name].write("src/wrong.graphql", wrong)
    complaints = generate_each(list(made.values()))
    return {
        name: (each, complaint or "")
        for (name, each), complaint in zip(made.items(), complaints, strict=True)
    }


def generated_in(frontends: Mapping[str, tuple[Frontend, str]], name: str) -> str:
    made, complaint = frontends[name]
    assert complaint == ""
    return made.generated()


def configure(frontend: Frontend, schema: object, *, strict: bool = True) -> None:
    """With `strict`, a scalar without a configured type is an error."""
    options = {"scalars": SCALARS, "strictScalars": strict, "useTypeImports": True}
    config = {
        "schema": schema,
        "documents": "src/*.graphql",
        "generates": {"src/gql/": {"preset": "client", "config": options}},
    }
    frontend.write("src/operations.graphql", OPERATIONS)
    frontend.write("codegen.json", json.dumps(config))


@pytest.fixture(scope="module")
def compiled(frontends: Mapping[str, tuple[Frontend, str]]) -> Mapping[str, Mistakes]:
    made, complaint = frontends["published"]
    assert complaint == ""
    # Each is its own module, so that no error hides another.
    snippets = {name: text for name, (text, _, _) in REFUSED.items()} | COMPILES
    for name, text in (snippets | {"undefined": UNDEFINED}).items():
        made.write(f"src/{name}.ts", START + text)
    mistakes, _ = made.compile(STRICT, STRICTEST)
    return dict(zip(("strict", "strictest"), mistakes, strict=True))


@pytest.fixture(params=["strict", "strictest"])
def mistakes(request: pytest.FixtureRequest, compiled: Mapping[str, Mistakes]) -> Mistakes:
    return compiled[request.param]


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_use_does_not_compile(mistakes: Mistakes, name: str) -> None:
    _, place, words = REFUSED[name]
    (mistake,) = mistakes[f"src/{name}.ts"]
    assert mistake.place == place
    assert words in mistake.message


@pytest.mark.parametrize("name", COMPILES)
def test_correct_use_compiles(mistakes: Mistakes, name: str) -> None:
    assert mistakes.get(f"src/{name}.ts") is None


def test_errors_are_only_in_the_wrong_uses(mistakes: Mistakes) -> None:
    assert set(mistakes) - {"src/undefined.ts"} == {f"src/{name}.ts" for name in REFUSED}


def test_undefined_is_refused_only_with_exact_optional_properties(
    compiled: Mapping[str, Mistakes],
) -> None:
    assert "src/undefined.ts" not in compiled["strict"]
    (mistake,) = compiled["strictest"]["src/undefined.ts"]
    assert "exactOptionalPropertyTypes" in mistake.message


@pytest.mark.parametrize("name", WRONG_OPERATIONS)
def test_generator_refuses_a_wrong_operation(
    frontends: Mapping[str, tuple[Frontend, str]], name: str
) -> None:
    _, complaint = WRONG_OPERATIONS[name]
    assert complaint in frontends[name][1].replace('"', "'")


def test_types_from_a_running_gateway_are_the_same(
    frontends: Mapping[str, tuple[Frontend, str]],
) -> None:
    assert generated_in(frontends, "served") == generated_in(frontends, "published")


def test_members_are_optional_without_the_option_one_of(
    frontends: Mapping[str, tuple[Frontend, str]],
) -> None:
    """This is the generator's default. The README warns of it."""
    types = generated_in(frontends, "served-without-one-of")
    assert "braze?: BrazeCampaignInput | null" in types
