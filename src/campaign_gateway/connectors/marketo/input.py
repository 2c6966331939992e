"""What a caller says to copy a smart campaign or a program of Marketo."""

from enum import StrEnum

import strawberry

from campaign_gateway.described import account_field, described_enum


class MarketoCampaignKind(StrEnum):
    SMART_CAMPAIGN = "SMART_CAMPAIGN"
    PROGRAM = "PROGRAM"


described_enum(
    MarketoCampaignKind,
    "What is to be copied. Marketo numbers the two kinds apart from each other.",
    {
        MarketoCampaignKind.SMART_CAMPAIGN: "A smart campaign: one smart list and one flow.",
        MarketoCampaignKind.PROGRAM: "A program, with the smart campaigns and assets in it. "
        "Marketo does not copy those that hold reports, push notifications, in-app messages or "
        "social assets.",
    },
)


class MarketoFolderType(StrEnum):
    FOLDER = "FOLDER"
    PROGRAM = "PROGRAM"


described_enum(
    MarketoFolderType,
    "What a copy is put into.",
    {
        MarketoFolderType.FOLDER: "A folder. Programs can be put into nothing else.",
        MarketoFolderType.PROGRAM: "A program.",
    },
)


@strawberry.input(
    description="A smart campaign or a program of Marketo to copy, and where the copy belongs."
)
class MarketoCampaignInput:
    account: str | None = account_field("Marketo")
    campaign_id: int = strawberry.field(
        description="The number of the smart campaign or of the program at Marketo."
    )
    kind: MarketoCampaignKind = strawberry.field(
        default=MarketoCampaignKind.SMART_CAMPAIGN, description="Which of the two it is."
    )
    name: str = strawberry.field(
        description="The name of the copy; that of a program has at most 255 characters, and no "
        "two programs may have the same one. A program whose name has a comma cannot be found "
        "again when an answer is lost."
    )
    folder_id: int = strawberry.field(
        description="The number of the folder, or of the program, that the copy is put into."
    )
    folder_type: MarketoFolderType = strawberry.field(
        default=MarketoFolderType.FOLDER,
        description="Which of the two folderId is of. Only FOLDER for kind PROGRAM.",
    )
    description: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="The description of the copy; that of a smart campaign has at most 2,000 "
        "characters.",
    )
