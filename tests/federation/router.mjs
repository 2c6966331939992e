// Serves our subgraph and reviews through a router: `router.mjs apollo|hive OUR_URL SUPERGRAPH_FILE`.
// It prints the router's URL as JSON and stops when its stdin closes, so that it ends with the test.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { composers } from './composers.mjs';
import { sdl as reviewsSdl, serveReviews } from './reviews.mjs';

const HIVE = fileURLToPath(new URL('../node_modules/.bin/hive-gateway', import.meta.url));
const HIVE_CONFIG = fileURLToPath(new URL('hive.config.mjs', import.meta.url));
const START_SECONDS = 60;

const routers = { apollo: startApollo, hive: startHive };

async function startApollo(subgraphs) {
  const { ApolloGateway, RemoteGraphQLDataSource } = await import('@apollo/gateway');
  const { ApolloServer } = await import('@apollo/server');
  const { startStandaloneServer } = await import('@apollo/server/standalone');

  /** Forwards the credential of a client to the subgraphs. */
  class Forwarding extends RemoteGraphQLDataSource {
    willSendRequest({ request, context }) {
      if (context.authorization) {
        request.http.headers.set('authorization', context.authorization);
      }
    }
  }

  const { supergraph } = await composers.apollo(subgraphs);
  const server = new ApolloServer({
    gateway: new ApolloGateway({
      supergraphSdl: supergraph,
      buildService: ({ url }) => new Forwarding({ url }),
    }),
    includeStacktraceInErrorResponses: false,
  });
  const { url } = await startStandaloneServer(server, {
    listen: { host: '127.0.0.1', port: 0 },
    context: async ({ req }) => ({ authorization: req.headers.authorization }),
  });
  return { url, stop: () => server.stop() };
}

async function startHive(subgraphs, file) {
  writeFileSync(file, (await composers.guild(subgraphs)).supergraph);
  const port = String(await freePort());
  const options = ['supergraph', file, '--host', '127.0.0.1', '--port', port, '-c', HIVE_CONFIG];
  const hive = spawn(process.execPath, [HIVE, ...options], {
    env: { ...process.env, DISABLE_OPENTELEMETRY: '1', FORK: '1', NODE_ENV: 'production' },
    // Its log must not mix with the one line that the test reads.
    stdio: ['ignore', 2, 2],
  });
  const ended = once(hive, 'exit');
  await untilReady(`http://127.0.0.1:${port}/readiness`, hive);
  return {
    url: `http://127.0.0.1:${port}/graphql`,
    stop: async () => {
      hive.kill();
      await ended;
    },
  };
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

async function untilReady(url, hive) {
  while (!(await responds(url))) {
    if (hive.exitCode !== null) {
      throw new Error(`the router has ended with ${hive.exitCode}`);
    }
    await sleep(100);
  }
}

const responds = (url) => fetch(url).then(({ ok }) => ok, () => false);

async function sdlOf(url) {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ query: '{ _service { sdl } }' }),
  });
  return (await response.json()).data._service.sdl;
}

const [name, url, file] = process.argv.slice(2);
const stdinCloses = once(process.stdin.resume(), 'end');
const timeout = setTimeout(() => process.exit(1), START_SECONDS * 1000);
const reviews = await serveReviews();
const subgraphs = [
  { name: 'campaigns', url, sdl: await sdlOf(url) },
  { name: 'reviews', url: reviews.url, sdl: reviewsSdl },
];
const router = await routers[name](subgraphs, file);
clearTimeout(timeout);
console.log(JSON.stringify({ url: router.url }));
await stdinCloses;
await router.stop();
await reviews.stop();
