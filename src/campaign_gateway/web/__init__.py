"""What faces the clients: the server, who may call, GraphQL over HTTP, and the GraphiQL page."""
