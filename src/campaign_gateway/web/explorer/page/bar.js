// The line above the editor: where a run goes, which key it sends, and what the sandbox should do.
import { useGraphiQL, useGraphiQLActions, useOperationsEditorState, useVariablesEditorState } from '@graphiql/react';
import { createElement as element, useEffect, useSyncExternalStore } from 'react';
import { keepKey, keyIsKept, nextRun, subscribe } from './idempotency.js';
import { useOneOfMarks } from './one-of.js';
import { sourceIn, withOutcome } from './source.js';

const ACCOUNT = /\baccount"?\s*:\s*"([^"]*)"/;

export function Bar({ examples, isSandbox, showsVariables }) {
  const [operation, setOperation] = useOperationsEditorState();
  const [variables, setVariables] = useVariablesEditorState();
  useEffect(() => showsVariables(setVariables), [setVariables, showsVariables]);
  useOneOfMarks(operation, variables);
  useWrappedLines();
  const account = (ACCOUNT.exec(operation) ?? ACCOUNT.exec(variables))?.[1];
  const example = examples.find(({ query }) => nameOf(query) && nameOf(query) === nameOf(operation));
  return element(
    'header',
    { id: 'bar', className: isSandbox ? 'sandbox' : 'live' },
    element('strong', { id: 'mode' }, isSandbox ? 'SANDBOX' : 'LIVE'),
    element('span', { id: 'account' }, whereTo(isSandbox, account)),
    element(Examples, { examples }),
    element(Outcomes, { example, operation, setOperation }),
    element(KeyChoice, { operation, variables }),
    element('small', null, 'A reload forgets queries, variables and keys. It keeps the look of the page.'),
  );
}

/** On a small screen long ids are cut off otherwise, and a tab opens as far to the right as the last one was. */
function useWrappedLines() {
  const editors = [useGraphiQL((state) => state.queryEditor), useGraphiQL((state) => state.variableEditor)];
  const active = useGraphiQL((state) => state.activeTabIndex);
  useEffect(() => {
    editors.forEach((editor) => editor?.updateOptions({ wordWrap: 'on', wrappingIndent: 'indent' }));
  }, editors);
  useEffect(() => {
    editors.forEach((editor) => editor?.setScrollPosition({ scrollLeft: 0, scrollTop: 0 }));
  }, [active]);
}

function whereTo(isSandbox, account) {
  const words = account ? `account ${account}` : 'no account in the operation';
  return isSandbox ? `${words}: nothing reaches a provider` : `${words}: copies are real`;
}

function nameOf(document) {
  return /\b(?:query|mutation)\s+(\w+)/.exec(document)?.[1];
}

function Examples({ examples }) {
  const { addTab, changeTab } = useGraphiQLActions();
  const tabs = useGraphiQL((state) => state.tabs);
  const active = useGraphiQL((state) => state.activeTabIndex);
  if (examples.length === 0) {
    return null;
  }
  // Nine tabs do not fit on a small screen, so each of them is in this menu, too.
  return element(
    'label',
    null,
    'Tab ',
    element(
      'select',
      {
        id: 'tabs',
        value: active,
        onChange: ({ target }) => (target.value === 'new' ? addTab() : changeTab(Number(target.value))),
      },
      ...tabs.map((tab, index) => element('option', { key: tab.id, value: index }, tab.title)),
    ),
  );
}

function Outcomes({ example, operation, setOperation }) {
  const source = sourceIn(operation);
  if (source === undefined || Object.keys(example?.outcomes ?? {}).length === 0) {
    return null;
  }
  const outcomes = Object.entries(example.outcomes);
  return element(
    'label',
    null,
    'Outcome ',
    element(
      'select',
      {
        id: 'outcome',
        value: source in example.outcomes ? source : '',
        onChange: ({ target }) => setOperation(withOutcome(operation, example, target.value)),
      },
      ...outcomes.map(([id, text]) => element('option', { key: id, value: id }, wordsFirst(id, text))),
      element('option', { key: '', value: '', disabled: true }, 'an id of your own'),
    ),
  );
}

/** The closed menu shows the beginning only, and an id that is no word says nothing. */
function wordsFirst(id, text) {
  return /^[a-z]+(-[a-z0-9]+)*$/.test(id) ? `${id}: ${text}` : `${text} (${id})`;
}

function KeyChoice({ operation, variables }) {
  const isKept = useSyncExternalStore(subscribe, keyIsKept);
  const key = /"idempotencyKey"\s*:\s*"([^"]*)"/.exec(variables)?.[1];
  const operationName = useGraphiQL((state) => state.operationName);
  const words = useSyncExternalStore(subscribe, () => nextRun(key, operation, operationName, variables));
  if (key === undefined) {
    return null;
  }
  return element(
    'fieldset',
    { id: 'key-choice' },
    element('span', null, words),
    choice('new', 'New key for each copy', !isKept, () => keepKey(false)),
    choice('keep', 'Keep the key, to retry', isKept, () => keepKey(true)),
  );
}

function choice(id, text, checked, onChange) {
  return element('label', null, element('input', { type: 'radio', name: 'key', id, checked, onChange }), ` ${text}`);
}
