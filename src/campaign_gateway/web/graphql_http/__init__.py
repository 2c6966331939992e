"""GraphQL over HTTP, for any schema: nothing here depends on campaigns."""
