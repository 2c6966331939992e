// Forwards the credential of a client to the subgraphs, which Hive Gateway does not do by itself.
export const gatewayConfig = {
  // As the README of the API says.
  upstreamTimeout: 60_000,
  upstreamRetry: { maxRetries: 2, retryDelay: 100 },
  propagateHeaders: {
    fromClientToSubgraphs({ request }) {
      const authorization = request.headers.get('authorization');
      return authorization ? { authorization } : {};
    },
  },
};
