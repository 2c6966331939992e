// A second subgraph, with more fields of our campaigns and duplications.

import { readFileSync } from 'node:fs';
import { parse } from 'graphql';

export const sdl = readFileSync(new URL('reviews.graphql', import.meta.url), 'utf8');

// Every result contains its key, so that a test sees whether the right key arrived.
const resolvers = {
  Query: {
    reviewed: (_, { account, ids }) => ids.map((id) => ({ account, id })),
    approved: (_, { ids }) => ids.map((id) => ({ id })),
  },
  Campaign: {
    score: ({ id }) => id.length,
    reviews: ({ account, id }) => [{ text: `about ${id} at ${account}` }],
    headline: ({ name }) => `Much praised: ${name}`,
  },
  Duplication: {
    approvals: ({ id }) => [{ of: id }],
  },
};

export async function serveReviews() {
  // The composition needs only the SDL, and to load a server takes CPU.
  const { ApolloServer } = await import('@apollo/server');
  const { ApolloServerPluginInlineTraceDisabled } = await import('@apollo/server/plugin/disabled');
  const { startStandaloneServer } = await import('@apollo/server/standalone');
  const { buildSubgraphSchema } = await import('@apollo/subgraph');
  const schema = buildSubgraphSchema({ typeDefs: parse(sdl), resolvers });
  // With tracing, it would print a message about it to stdout.
  const plugins = [ApolloServerPluginInlineTraceDisabled()];
  const server = new ApolloServer({ schema, plugins });
  const { url } = await startStandaloneServer(server, { listen: { host: '127.0.0.1', port: 0 } });
  return { url, stop: () => server.stop() };
}
