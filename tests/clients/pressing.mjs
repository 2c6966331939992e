// Presses the button of the README's form: `pressing.mjs BUILT_FOLDER NAMES_OF_THE_COPIES`. The names are
// a JSON object by scenario. It prints, for each, what the form showed, and which intent it keeps afterwards.

import { createRequire } from 'node:module';
import { join } from 'node:path';

const [folder, names] = process.argv.slice(2);
const require = createRequire(import.meta.url);
const campaignId = '0b7f2a64-5f0e-4a5e-9d43-6a1f3e2c7b10';

const realFetch = globalThis.fetch;
const kept = new Map();
// Node.js has none, or one that needs a file.
Object.defineProperty(globalThis, 'sessionStorage', {
  value: {
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => kept.set(key, value),
    removeItem: (key) => { kept.delete(key); },
  },
});

/** A new tab of the browser, with the page loaded again. */
function openTab() {
  kept.clear();
  globalThis.fetch = realFetch;
  for (const path of Object.keys(require.cache).filter((each) => each.startsWith(folder))) {
    delete require.cache[path];
  }
  return require(join(folder, 'copying.js'));
}

let page;

async function press(braze, ask = page.copyAtBraze) {
  const shown = [];
  const intents = [];
  let failure = null;
  const show = (copy) => {
    shown.push({ ...copy, words: page.inWords(copy) });
    intents.push(page.openIntent());
  };
  try {
    await ask(braze, show);
  } catch (error) {
    failure = String(error);
  }
  return { shown, failure, during: intents, after: page.openIntent() };
}

/** The next request reaches the gateway, and its response is lost. */
function loseTheNextResponse() {
  globalThis.fetch = async (...request) => {
    globalThis.fetch = realFetch;
    await (await realFetch(...request)).text();
    throw new TypeError('the connection was lost');
  };
}

/** urql sends queries with GET, so the query is in the URL. */
function shortenAndCountTheWaits() {
  const waits = [];
  globalThis.fetch = (url, options) => {
    const address = new URL(url);
    const query = address.searchParams.get('query') ?? '';
    if (query.includes('waitSeconds: 20')) {
      waits.push(query);
      address.searchParams.set('query', query.replace('waitSeconds: 20', 'waitSeconds: 1'));
    }
    return realFetch(address, options);
  };
  return waits;
}

const scenarios = {
  async created(name) {
    return [await press({ campaignId, name })];
  },

  async refused(name) {
    return [
      await press({ campaignId: 'not-found', name }),
      await press({ campaignId, name }),
    ];
  },

  async lost(name) {
    loseTheNextResponse();
    const first = await press({ campaignId, name });
    return [first, await press({ campaignId, name: `${name}, edited meanwhile` })];
  },

  async corrected(name) {
    return [
      await press({ campaignId, name: '' }),
      await press({ campaignId, name }),
    ];
  },

  async anyway(name) {
    shortenAndCountTheWaits();
    const braze = { campaignId: 'cut-before-copy', name };
    const stuck = await press(braze);
    // As in another tab of the browser, which does not have the first key.
    kept.clear();
    const elsewhere = await press(braze);
    const [refused] = elsewhere.shown;
    return [stuck, elsewhere, await press(braze, (again, show) => page.copyAnyway(again, refused, show))];
  },

  async earlier(name) {
    const braze = { campaignId: 'cut-after-copy', name };
    loseTheNextResponse();
    const lost = await press(braze);
    // As in another tab of the browser, which does not have the first key.
    kept.clear();
    return [lost, await press(braze)];
  },

  async unknown(name) {
    const waits = shortenAndCountTheWaits();
    const pressed = await press({ campaignId: 'cut-before-copy', name });
    return [{ ...pressed, waits }];
  },
};

const pressed = {};
for (const [scenario, name] of Object.entries(JSON.parse(names))) {
  page = openTab();
  pressed[scenario] = await scenarios[scenario](name);
}
console.log(JSON.stringify(pressed));
