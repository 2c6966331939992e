"""What a caller says to copy a Meta campaign."""

from enum import StrEnum

import strawberry

from campaign_gateway.described import account_field, described_enum


class MetaStatusOption(StrEnum):
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    INHERITED_FROM_SOURCE = "INHERITED_FROM_SOURCE"


class MetaRenameStrategy(StrEnum):
    DEEP_RENAME = "DEEP_RENAME"
    ONLY_TOP_LEVEL_RENAME = "ONLY_TOP_LEVEL_RENAME"
    NO_RENAME = "NO_RENAME"


described_enum(
    MetaStatusOption,
    "The status that a copy begins with.",
    {
        MetaStatusOption.ACTIVE: "Active: the copy may spend money as soon as it exists.",
        MetaStatusOption.PAUSED: "Paused: the copy spends nothing until somebody activates it.",
        MetaStatusOption.INHERITED_FROM_SOURCE: "The source's: the copy of an active campaign may "
        "spend money as soon as it exists.",
    },
)
described_enum(
    MetaRenameStrategy,
    "Whose names get the prefix and the suffix.",
    {
        MetaRenameStrategy.DEEP_RENAME: "The campaign's and those of everything copied below it.",
        MetaRenameStrategy.ONLY_TOP_LEVEL_RENAME: "The campaign's only.",
        MetaRenameStrategy.NO_RENAME: "Nobody's: everything is called as in the source.",
    },
)


@strawberry.input(description="A Meta campaign to copy, and what the copy is to be like.")
class MetaCampaignInput:
    account: str | None = account_field("Meta Ads")
    campaign_id: strawberry.ID = strawberry.field(description="The campaign's id at Meta.")
    name: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="The exact name of the copy. Meta takes it only in a second call, which the "
        "gateway makes when the copy exists. Without it the other fields say what it is called.",
    )
    status_option: MetaStatusOption = strawberry.field(
        default=MetaStatusOption.PAUSED,
        description="The status that the copy begins with. An active copy spends money at once.",
    )
    deep_copy: bool = strawberry.field(
        default=False,
        description="True: the campaign's ad sets and ads are copied with it; Meta does that for "
        "three at most and refuses more. Left out or false: the campaign alone.",
    )
    rename_strategy: MetaRenameStrategy | None = strawberry.field(
        default=strawberry.UNSET,
        description="Whose names get the prefix and the suffix. Without it the campaign's only.",
    )
    rename_prefix: str | None = strawberry.field(
        default=strawberry.UNSET, description="What is put before a copied name."
    )
    rename_suffix: str | None = strawberry.field(
        default=strawberry.UNSET,
        description='What is put after a copied name. Without it Meta adds "- Copy" in the '
        "language of the ad account.",
    )
