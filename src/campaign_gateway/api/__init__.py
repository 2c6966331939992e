"""The GraphQL schema: types, inputs, queries and the mutation."""
