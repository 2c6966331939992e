// What an outcome of the sandbox needs in an example: the id of the source, and at some of them other fields.
import { parse, parseValue, visit } from 'graphql';

const SOURCE = /(\bcampaignId\s*:\s*)("[^"]*"|\d+)/;

// The words of such an outcome end with the fields, as in "copied, with kind: PROGRAM".
const NEEDED = /, with (\w+: .*)$/s;

/** The id, or undefined if the operation has none. */
export function sourceIn(operation) {
  const written = SOURCE.exec(operation)?.[2];
  return written?.startsWith('"') ? JSON.parse(written) : written;
}

/** Writes the id and what its outcome needs. What only other outcomes need becomes as in the example. */
export function withOutcome(operation, { query, outcomes }, id) {
  const written = withSource(operation, id);
  try {
    const needed = neededBy(outcomes[id]);
    const usual = valuesOf(query, inputIn(query));
    const names = new Set(Object.values(outcomes).flatMap((words) => [...neededBy(words).keys()]));
    return [...names].reduce((text, name) => withField(text, name, needed.get(name) ?? usual.get(name)), written);
  } catch {
    // The operation is half-written. The person sees in the words of the menu what is missing.
    return written;
  }
}

/**
 * Writes the id as the operation writes its own: at some providers it is a number. Anything else in its place, which a
 * link can have, changes nothing.
 */
function withSource(operation, id) {
  return operation.replace(SOURCE, (whole, field, own) => {
    if (own.startsWith('"')) {
      return field + JSON.stringify(id);
    }
    return /^\d+$/.test(id) ? field + id : whole;
  });
}

function neededBy(words) {
  const fields = NEEDED.exec(words ?? '')?.[1] ?? '';
  return valuesOf(`{${fields}}`, parseValue(`{${fields}}`));
}

/** The fields of an object in the text, each with its value as it is written. */
function valuesOf(text, { fields }) {
  return new Map(fields.map(({ name, value }) => [name.value, text.slice(value.loc.start, value.loc.end)]));
}

function inputIn(text) {
  let found;
  visit(parse(text), {
    ObjectValue(node) {
      found ??= fieldOf(node, 'campaignId') && node;
    },
  });
  return found;
}

function fieldOf({ fields }, name) {
  return fields.find((field) => field.name.value === name);
}

/** Without a value, the field is removed. */
function withField(text, name, value) {
  const input = inputIn(text);
  const field = fieldOf(input, name);
  if (field && value) {
    return text.slice(0, field.value.loc.start) + value + text.slice(field.value.loc.end);
  }
  if (field) {
    return text.slice(0, field.loc.start).replace(/[\s,]*$/, '') + text.slice(field.loc.end);
  }
  if (!value) {
    return text;
  }
  const { start, end } = fieldOf(input, 'campaignId').loc;
  // In a line of its own, if the id is.
  const gap = /\n[ \t]*$/.exec(text.slice(0, start))?.[0] ?? ', ';
  return `${text.slice(0, end)}${gap}${name}: ${value}${text.slice(end)}`;
}
