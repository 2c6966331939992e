// Applies all rules of the linter to one schema: `lint.mjs FILE`.

import { readFileSync } from 'node:fs';
import linter from 'graphql-schema-linter';

const { configuration, validator } = linter;

const [file] = process.argv.slice(2);
const schema = { definition: readFileSync(file, 'utf8'), sourceMap: null };
const settings = new configuration.Configuration(schema);
const errors = validator.validateSchemaDefinition(schema, settings.getRules(), settings);
console.log(JSON.stringify(errors.map(({ ruleName, message }) => ({ rule: ruleName, message }))));
