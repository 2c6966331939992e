import 'graphiql/setup-workers/vite';
import 'graphiql/style.css';
import './style.css';
import { GraphiQL } from 'graphiql';
import { getIntrospectionQuery } from 'graphql';
import { createElement } from 'react';
import { createRoot } from 'react-dom/client';
import { fetchWithKey } from './key.js';
import { storage } from './storage.js';

const INTROSPECTION = getIntrospectionQuery({
  oneOf: true,
  inputValueDeprecation: true,
  schemaDescription: true,
  specifiedByUrl: true,
});

async function post(operation, { headers } = {}) {
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
  return response.json();
}

async function readTabs() {
  try {
    const response = await fetchWithKey('/graphiql/examples.json');
    const { tabs } = await response.json();
    return tabs.map(({ query, variables }) => ({
      query,
      variables: JSON.stringify(variables, null, 2),
    }));
  } catch {
    return [];
  }
}

const tabs = await readTabs();

createRoot(document.getElementById('root')).render(
  createElement(GraphiQL, {
    fetcher: post,
    storage,
    defaultTabs: tabs.length > 0 ? tabs : [{}],
    // GraphiQL fills the variables pane from a tab only when the tab is switched to, so not for the first one.
    initialVariables: tabs[0]?.variables,
    defaultEditorToolsVisibility: 'variables',
    // Headers may carry a credential; the storage would not keep them anyway.
    showPersistHeadersSettings: false,
  }),
);
