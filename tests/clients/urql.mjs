// Runs the steps with @urql/core.

import { Client, cacheExchange, fetchExchange } from '@urql/core';
import { isMutation, outcome, runSteps } from './steps.mjs';

function createRun(url) {
  const client = new Client({
    url,
    exchanges: [cacheExchange, fetchExchange],
    requestPolicy: 'network-only',
  });
  return async (document, variables) => {
    const ask = isMutation(document) ? client.mutation : client.query;
    const { data, error } = await ask.call(client, document, variables);
    return outcome({
      data,
      graphQLErrors: error?.graphQLErrors,
      networkError: error?.networkError,
    });
  };
}

await runSteps(createRun);
