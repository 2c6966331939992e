"""GraphQL over HTTP. This room knows no campaign."""
