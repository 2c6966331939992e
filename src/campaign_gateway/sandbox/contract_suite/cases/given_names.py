"""The names that providers themselves give to copies."""

from campaign_gateway.sandbox.contract_suite.subject import Subject, first_connector


def test_name_that_the_provider_gives_to_a_copy_is_recognised(
    subject: Subject, given_name: tuple[str, str]
) -> None:
    # Not every version of an API gives names that are documented.
    connector, _ = first_connector(subject)
    name, source = given_name
    assert connector.is_name_of_copy(name, source)
    for other in (source, f"{name} 2", f"x{name}", "Copy", "", "Copy of", f"Copy of {source}s"):
        assert not connector.is_name_of_copy(other, source)
