// The id of the source in an example: in the sandbox it decides what happens.
const SOURCE = /(\bcampaignId\s*:\s*)("[^"]*"|\d+)/;

/** The id, or undefined if the operation has none. */
export function sourceIn(operation) {
  const written = SOURCE.exec(operation)?.[2];
  return written?.startsWith('"') ? JSON.parse(written) : written;
}

/** Writes the id as the operation writes its own: at some providers it is a number. */
export function withSource(operation, id) {
  return operation.replace(SOURCE, (_, field, own) => field + (own.startsWith('"') ? JSON.stringify(id) : id));
}
