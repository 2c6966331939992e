// Runs the code generator in each folder: `generate.mjs FOLDER...`. The configuration is its codegen.json.
// It prints a JSON list with the generator's complaint about each, or null.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { generate } from '@graphql-codegen/cli';

async function complaint(folder) {
  const config = JSON.parse(readFileSync(join(folder, 'codegen.json'), 'utf8'));
  try {
    await generate({ ...config, cwd: folder, silent: true });
    return null;
  } catch (error) {
    return String(error);
  }
}

const complaints = [];
for (const folder of process.argv.slice(2)) {
  complaints.push(await complaint(folder));
}
console.log(JSON.stringify(complaints));
