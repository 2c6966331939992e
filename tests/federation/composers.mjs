// The three public composers. Each makes a supergraph, or throws its errors. Each is loaded only when it
// is used, because that takes more CPU than its work.

import { parse, print, printSchema, valueFromASTUntyped } from 'graphql';

export const composers = { apollo: byApollo, guild: byGuild, cosmo: byCosmo };

async function byApollo(subgraphs) {
  const apollo = await import('@apollo/composition');
  const { errors, hints, schema, supergraphSdl } = apollo.composeServices(subgraphs.map(parsed));
  refuse(errors);
  return {
    supergraph: supergraphSdl,
    client: printSchema(schema.toAPISchema().toGraphQLJSSchema()),
    keys: joinedKeys(supergraphSdl),
    remarks: hints.map((hint) => hint.message),
  };
}

async function byGuild(subgraphs) {
  const guild = await import('@theguild/federation-composition');
  const { errors, supergraphSdl, publicSdl } = guild.composeServices(subgraphs.map(parsed));
  refuse(errors);
  return {
    supergraph: supergraphSdl,
    client: publicSdl,
    keys: joinedKeys(supergraphSdl),
    remarks: [],
  };
}

async function byCosmo(subgraphs) {
  const cosmo = await import('@wundergraph/composition');
  const result = cosmo.federateSubgraphs({
    subgraphs: subgraphs.map(({ name, url, sdl }) => ({ name, url, definitions: parse(sdl) })),
    version: cosmo.ROUTER_COMPATIBILITY_VERSION_ONE,
  });
  refuse(result.errors);
  return {
    supergraph: print(result.federatedGraphAST),
    client: printSchema(result.federatedGraphClientSchema),
    keys: configuredKeys(result.subgraphConfigBySubgraphName),
    remarks: result.warnings.map((warning) => warning.message),
  };
}

const parsed = ({ name, url, sdl }) => ({ name, url, typeDefs: parse(sdl) });

function refuse(errors = []) {
  if (errors.length > 0) {
    throw new Error(errors.map((error) => error.message).join('\n'));
  }
}

function joinedKeys(supergraph) {
  return parse(supergraph).definitions.flatMap(({ name, directives = [] }) =>
    directives
      .filter((directive) => directive.name.value === 'join__type')
      .map(argumentsOf)
      .filter(({ key }) => key)
      .map(({ graph, key }) => `${graph.toLowerCase()}: ${name.value} by ${key}`),
  );
}

function argumentsOf(directive) {
  return Object.fromEntries(
    directive.arguments.map(({ name, value }) => [name.value, valueFromASTUntyped(value)]),
  );
}

// Cosmo's router gets the keys separately from the supergraph.
function configuredKeys(configurations) {
  return [...configurations].flatMap(([subgraph, { configurationDataByTypeName }]) =>
    [...configurationDataByTypeName.values()].flatMap(({ typeName, keys = [] }) =>
      keys.map(({ selectionSet }) => `${subgraph}: ${typeName} by ${selectionSet}`),
    ),
  );
}
