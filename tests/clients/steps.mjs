// Runs operations one after the other with a client: `CLIENT.mjs URL STEPS`.
// `STEPS` is a JSON list of `{ operation, variables }`, with names of operations.graphql. It prints the
// results as a JSON list of `{ data, graphQLErrors, networkError }`.

import { readFileSync } from 'node:fs';
import { parse, separateOperations } from 'graphql';

const source = readFileSync(new URL('operations.graphql', import.meta.url), 'utf8');
const operations = separateOperations(parse(source));

export async function runSteps(createRun) {
  const [url, steps] = process.argv.slice(2);
  const run = createRun(url);
  const outcomes = [];
  for (const { operation, variables } of JSON.parse(steps)) {
    outcomes.push(await run(operations[operation], variables));
  }
  console.log(JSON.stringify(outcomes));
}

export function isMutation(document) {
  return document.definitions.some((definition) => definition.operation === 'mutation');
}

export function outcome({ data = null, graphQLErrors = [], networkError = null }) {
  return {
    data,
    graphQLErrors: graphQLErrors.map((error) => error.message),
    networkError: networkError && String(networkError),
  };
}
