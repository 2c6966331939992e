// Runs every audit of GraphQL over HTTP against a server: `audit.mjs URL`.

import { serverAudits } from 'graphql-http';

const [url] = process.argv.slice(2);

// An audit throws if it cannot assess the response.
const judge = (audit) => audit.fn().catch((error) => ({ status: 'error', reason: String(error) }));

const results = [];
for (const audit of serverAudits({ url })) {
  const { status, reason = null } = await judge(audit);
  results.push({ id: audit.id, name: audit.name, status, reason });
}
console.log(JSON.stringify(results));
