import 'graphiql/setup-workers/vite';
import 'graphiql/style.css';
import './style.css';
import { GraphiQL } from 'graphiql';
import { getIntrospectionQuery } from 'graphql';
import { createElement } from 'react';
import { createRoot } from 'react-dom/client';
import { Bar } from './bar.js';
import { noteResult, variablesOfRun } from './idempotency.js';
import { fetchWithKey } from './key.js';
import { withOutcome } from './source.js';
import { storage } from './storage.js';

const INTROSPECTION = getIntrospectionQuery({
  oneOf: true,
  inputValueDeprecation: true,
  schemaDescription: true,
  specifiedByUrl: true,
});

let showVariables = () => {};

async function post(written, { headers } = {}) {
  const variables = variablesOfRun(written);
  if (variables !== written.variables) {
    showVariables(JSON.stringify(variables, null, 2));
  }
  const operation = { ...written, variables };
  // GraphiQL never asks for isOneOf, and without it the editor accepts two members of a @oneOf input.
  const body =
    operation.operationName === 'IntrospectionQuery' ? { ...operation, query: INTROSPECTION } : operation;
  const response = await fetchWithKey('/graphql', {
    method: 'POST',
    headers: {
      accept: 'application/graphql-response+json, application/json;q=0.9',
      'content-type': 'application/json',
      ...headers,
    },
    body: JSON.stringify(body),
  });
  const content = await response.json();
  noteResult(variables, content.data);
  return content;
}

async function readExamples() {
  try {
    const response = await fetchWithKey('/graphiql/examples.json');
    return await response.json();
  } catch {
    return { tabs: [], isSandbox: false };
  }
}

/** The sandbox's page links to one example with one source: ?provider=braze&source=not-found */
function linkedFirst(examples) {
  const asked = new URLSearchParams(location.search);
  const example = examples.find(({ provider }) => provider && provider === asked.get('provider'));
  if (!example) {
    return examples;
  }
  const query = asked.has('source') ? withOutcome(example.query, example, asked.get('source')) : example.query;
  return [{ ...example, query }, ...examples.filter((other) => other !== example)];
}

const { tabs: written, isSandbox } = await readExamples();
const examples = linkedFirst(written);
const tabs = examples.map(({ query, variables }) => ({ query, variables: JSON.stringify(variables, null, 2) }));
const showsVariables = (show) => {
  showVariables = show;
};

createRoot(document.getElementById('root')).render(
  createElement(
    GraphiQL,
    {
      fetcher: post,
      storage,
      defaultTabs: tabs.length > 0 ? tabs : [{}],
      // GraphiQL fills the variables pane from a tab only when the tab is switched to, so not for the first one.
      initialVariables: tabs[0]?.variables,
      defaultEditorToolsVisibility: 'variables',
      // Headers may carry a credential; the storage would not keep them anyway.
      showPersistHeadersSettings: false,
    },
    createElement(Bar, { examples: written, isSandbox, showsVariables }),
  ),
);
