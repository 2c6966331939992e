// Composes our subgraph with reviews: `composition.mjs apollo|guild|cosmo OUR_SDL_FILE`.

import { readFileSync } from 'node:fs';
import { composers } from './composers.mjs';
import { sdl as reviews } from './reviews.mjs';

const [composer, file] = process.argv.slice(2);
const subgraphs = [
  { name: 'campaigns', url: 'http://127.0.0.1/campaigns', sdl: readFileSync(file, 'utf8') },
  { name: 'reviews', url: 'http://127.0.0.1/reviews', sdl: reviews },
];
console.log(JSON.stringify(await composers[composer](subgraphs)));
