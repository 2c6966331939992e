import { defineConfig } from 'vite';

export default defineConfig({
  base: '/graphiql/',
  build: {
    // The bundle is handed on inside the wheel, and the licenses of what is in it ask for their notices to come along.
    license: { fileName: 'licenses.md' },
  },
});
