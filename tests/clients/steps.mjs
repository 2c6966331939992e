// Runs operations one after the other, as a client's own: `CLIENT.mjs URL STEPS`, both of them text.
// A step is `{ operation, variables }`, by a name in operations.graphql. What came of the steps is
// printed as a JSON list of `{ data, graphQLErrors, networkError }`.

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
