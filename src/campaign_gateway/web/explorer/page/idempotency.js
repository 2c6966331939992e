// Decides which idempotency key a run sends: a new one after a known result or for another input, the same one for a retry.
import { parse, print, separateOperations, visit } from 'graphql';

const NAME = 'idempotencyKey';
const FINAL = new Set(['CREATED', 'ACCEPTED', 'REJECTED']);
// With these the gateway itself says that this key makes no copy any more.
const NEXT_KEY = new Set(['NEW_KEY', 'NO']);

// The keys that were sent, each with the input it was sent with.
const sent = new Map();
const finished = new Set();
const listeners = new Set();
let isKept = false;

function changed() {
  listeners.forEach((listener) => listener());
}

export function subscribe(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export const keyIsKept = () => isKept;

export function keepKey(kept) {
  isKept = kept;
  changed();
}

/** What the next run with this key does, for the person. */
export function nextRun(key, document, operationName, variables) {
  const operation = operationIn(document, operationName);
  const values = parsed(variables);
  if (isDryRun(operation, values)) {
    return 'The next run is a dry run, which uses no key';
  }
  if (finished.has(key) || isOfAnother(key, inputOf(operation, values))) {
    return isKept ? 'The next run repeats this key' : 'The next run gets a new key';
  }
  return sent.has(key)
    ? 'This key has no known result: the next run sends it again'
    : 'The next run sends this key';
}

/** Returns the variables that the next run sends: the same object if their key stays. */
export function variablesOfRun({ query, operationName, variables }) {
  const operation = operationIn(query, operationName);
  const key = variables?.[NAME];
  if (key === undefined || isDryRun(operation, variables)) {
    return variables;
  }
  const input = inputOf(operation, variables);
  const isUsed = finished.has(key) || isOfAnother(key, input);
  const next = isUsed && !isKept ? { ...variables, [NAME]: newKey() } : variables;
  sent.set(next[NAME], input);
  return next;
}

/** Another input is another intent, and the gateway refuses it with this key. */
function isOfAnother(key, input) {
  return sent.has(key) && sent.get(key) !== input;
}

/** The operation that is run, with its fragments: the document can have others. Null if it is half-written. */
function operationIn(document, operationName) {
  try {
    const operations = separateOperations(parse(document));
    return operations[operationName ?? ''] ?? Object.values(operations)[0];
  } catch {
    // The gateway refuses it.
    return null;
  }
}

/** A dry run uses no key. */
function isDryRun(operation, variables) {
  return argumentsOf(operation, 'dryRun').some((value) => value.value === true || variables[value.name?.value] === true);
}

/** The input in a text that is the same however the rest of the operation is written. */
function inputOf(operation, variables) {
  const others = { ...variables, [NAME]: undefined };
  return JSON.stringify([argumentsOf(operation, 'input').map(print), others]);
}

function argumentsOf(operation, argument) {
  const values = [];
  if (operation) {
    visit(operation, {
      Argument({ name, value }) {
        if (name.value === argument) {
          values.push(value);
        }
      },
    });
  }
  return values;
}

function parsed(variables) {
  try {
    return JSON.parse(variables);
  } catch {
    return {};
  }
}

/** Without a response, or without a known result, the key stays: a new one could make a second copy. */
export function noteResult(variables, data) {
  const key = variables?.[NAME];
  const payloads = Object.values(data ?? {}).filter((value) => value?.status);
  if (key && payloads.some((payload) => isFinal(payload))) {
    finished.add(key);
  }
  changed();
}

function isFinal({ status, userErrors }) {
  return FINAL.has(status) || (userErrors ?? []).some(({ retry }) => NEXT_KEY.has(retry));
}

/** A UUID of version 7: with its time, a gateway knows the key as new after its ledger was restored. */
function newKey() {
  const time = Date.now().toString(16).padStart(12, '0');
  const random = Array.from(crypto.getRandomValues(new Uint8Array(10)), (byte) => byte.toString(16).padStart(2, '0')).join('');
  const variant = '89ab'[Number.parseInt(random[3], 16) % 4];
  const hex = `${time}7${random.slice(0, 3)}${variant}${random.slice(4, 19)}`;
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
