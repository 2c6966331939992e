// Presses the button of the README's form: `pressing.mjs BUILT_FOLDER SCENARIO NAME_OF_THE_COPY`.
// It prints what the form showed, and which intent it keeps afterwards.

import { join } from 'node:path';

const [folder, scenario, name] = process.argv.slice(2);
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

const { copyAnyway, copyAtBraze, inWords, openIntent } = await import(join(folder, 'copying.js'));

async function press(braze, ask = copyAtBraze) {
  const shown = [];
  const intents = [];
  let failure = null;
  const show = (copy) => {
    shown.push({ ...copy, words: inWords(copy) });
    intents.push(openIntent());
  };
  try {
    await ask(braze, show);
  } catch (error) {
    failure = String(error);
  }
  return { shown, failure, during: intents, after: openIntent() };
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
  async created() {
    return [await press({ campaignId, name })];
  },

  async refused() {
    return [
      await press({ campaignId: 'not-found', name }),
      await press({ campaignId, name }),
    ];
  },

  async lost() {
    loseTheNextResponse();
    const first = await press({ campaignId, name });
    return [first, await press({ campaignId, name: `${name}, edited meanwhile` })];
  },

  async corrected() {
    return [
      await press({ campaignId, name: '' }),
      await press({ campaignId, name }),
    ];
  },

  async anyway() {
    shortenAndCountTheWaits();
    const braze = { campaignId: 'cut-before-copy', name };
    const stuck = await press(braze);
    // As in another tab of the browser, which does not have the first key.
    kept.clear();
    const elsewhere = await press(braze);
    const [refused] = elsewhere.shown;
    return [stuck, elsewhere, await press(braze, (again, show) => copyAnyway(again, refused, show))];
  },

  async earlier() {
    const braze = { campaignId: 'cut-after-copy', name };
    loseTheNextResponse();
    const lost = await press(braze);
    // As in another tab of the browser, which does not have the first key.
    kept.clear();
    return [lost, await press(braze)];
  },

  async unknown() {
    const waits = shortenAndCountTheWaits();
    const pressed = await press({ campaignId: 'cut-before-copy', name });
    return [{ ...pressed, waits }];
  },
};

console.log(JSON.stringify(await scenarios[scenario]()));
