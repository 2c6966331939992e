// Runs the steps with @apollo/client.

import { ApolloClient, CombinedGraphQLErrors, HttpLink, InMemoryCache } from '@apollo/client';
import { isMutation, outcome, runSteps } from './steps.mjs';

// A campaign's id comes from its provider, so two accounts may have the same id.
const typePolicies = { Campaign: { keyFields: ['account', 'id'] } };

function createRun(url) {
  const client = new ApolloClient({
    link: new HttpLink({ uri: url }),
    cache: new InMemoryCache({ typePolicies }),
  });
  return async (document, variables) => {
    try {
      const { data } = await ask(client, document, variables);
      return outcome({ data });
    } catch (error) {
      return CombinedGraphQLErrors.is(error)
        ? outcome({ graphQLErrors: error.errors })
        : outcome({ networkError: error });
    }
  };
}

function ask(client, document, variables) {
  return isMutation(document)
    ? client.mutate({ mutation: document, variables })
    : client.query({ query: document, variables, fetchPolicy: 'network-only' });
}

await runSteps(createRun);
