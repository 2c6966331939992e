// Runs operations with a client: `CLIENT.mjs URL`. Each line of stdin is a JSON list of steps
// `{ operation, variables }`, with names of operations.graphql. For each line it prints the results as
// a JSON list of `{ data, graphQLErrors, networkError }`.

import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { parse, separateOperations } from 'graphql';

const source = readFileSync(new URL('operations.graphql', import.meta.url), 'utf8');
const operations = separateOperations(parse(source));

export async function runSteps(createRun) {
  const [url] = process.argv.slice(2);
  for await (const steps of createInterface({ input: process.stdin })) {
    // A client of its own for each line, so that no cache has what another test has read.
    const run = createRun(url);
    const outcomes = [];
    for (const { operation, variables } of JSON.parse(steps)) {
      outcomes.push(await run(operations[operation], variables));
    }
    console.log(JSON.stringify(outcomes));
  }
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
