"""One GraphQL mutation in front of every platform that can copy a campaign."""
