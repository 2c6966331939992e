"""The contract suite for a connector in any package. It needs the extra `testing`.

    TestContract = connector_suite(
        AcmeConnector,
        emulator=emulator,
        folder=Path(__file__).parent,
        permissions={"campaigns.read": (Grant.GRANTED, Grant.MISSING)},
    )

pytest loads this file in each run of an environment that has the package, so it imports the suite
only when it is called.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from campaign_gateway.connectors.contract import Connector, Grant
    from campaign_gateway.model import ErrorCode
    from campaign_gateway.sandbox.contract_suite.subject import LateOptions

# A failed assertion of the suite then shows its values.
pytest.register_assert_rewrite("campaign_gateway.sandbox.contract_suite")


def connector_suite(
    connector: "type[Connector[Any]]",
    *,
    emulator: ModuleType,
    folder: Path,
    permissions: "Mapping[str, tuple[Grant, Grant]]",
    documented_success: int | None = None,
    success_changes: str = "",
    documented_refusals: "Mapping[int, ErrorCode] | None" = None,
    reading_posts: Collection[str] = (),
    access_read: int = 0,
    fingerprint: str | None = None,
    given_names: "Mapping[str, str] | None" = None,
    late_options: "Mapping[str, LateOptions] | None" = None,
    wrong_options: "Sequence[Mapping[str, Any]]" = (),
) -> type:
    """Return a class of tests. Assign it to a name that begins with `Test`.

    `folder` has the folder `recordings` and the file `requests.toml`. `permissions` is what the
    check of an account shows: with an account of the emulator, and with its `LIMITED_ACCOUNT`.
    `documented_success` is the status that alone proves a copy, and `success_changes` the GraphQL
    fields of the input for which it does. `documented_refusals` are the statuses, other than those
    of `connectors.errors.REFUSALS`, that prove that nothing was made. `reading_posts` are the ends
    of the paths of reads whose documents require POST. `access_read` is the number of the read
    whose responses were recorded as `access`. `fingerprint` is the hash of the example, which must
    not change. `given_names` are names that the provider itself gives to copies, with the names of
    their sources. `late_options` are options that each account sets after the copy, and
    `wrong_options` some that must be refused before it.
    """
    from campaign_gateway.sandbox.contract_suite.subject import Subject
    from campaign_gateway.sandbox.contract_suite.suite import suite_for

    return suite_for(
        Subject(
            connector,
            emulator,
            folder,
            permissions,
            documented_success,
            success_changes,
            documented_refusals or {},
            reading_posts,
            access_read,
            fingerprint,
            given_names or {},
            late_options or {},
            wrong_options,
        )
    )
