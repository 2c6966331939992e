// A tab or a history entry restored from an earlier visit would send an old idempotency key again,
// so only the look of the page outlives it; the rest lives as long as the page.
const KEPT = new Set(
  ['theme', 'visiblePlugin', 'docExplorerFlex', 'editorFlex', 'secondaryEditorFlex'].map(
    (name) => `graphiql:${name}`,
  ),
);
const forgotten = new Map();

export const storage = {
  getItem(key) {
    return KEPT.has(key) ? localStorage.getItem(key) : (forgotten.get(key) ?? null);
  },
  setItem(key, value) {
    if (KEPT.has(key)) {
      localStorage.setItem(key, value);
    } else {
      forgotten.set(key, value);
    }
  },
  removeItem(key) {
    localStorage.removeItem(key);
    forgotten.delete(key);
  },
  clear() {
    KEPT.forEach((key) => localStorage.removeItem(key));
    forgotten.clear();
  },
  get length() {
    return forgotten.size;
  },
};
