// Only this tab keeps the key: other tabs cannot read its sessionStorage, and it ends with the tab.
const NAME = 'campaign-gateway:key';

/** Like fetch, with the key. While the gateway does not accept the key, it asks the person for one. */
export async function fetchWithKey(url, options = {}) {
  for (;;) {
    const key = sessionStorage.getItem(NAME);
    const headers = new Headers(options.headers);
    if (key && !headers.has('authorization')) {
      headers.set('authorization', `Bearer ${key}`);
    }
    const response = await fetch(url, { ...options, headers });
    // Nothing of a request with this status was executed, so it can be sent again.
    if (response.status !== 401 || !(await askForKey(key))) {
      return response;
    }
  }
}

let asking = null;

/** Returns whether there is another key now. All requests that wait for one share the question. */
function askForKey(refused) {
  if (sessionStorage.getItem(NAME) !== refused) {
    return true;
  }
  asking ??= openDialog(refused).finally(() => {
    asking = null;
  });
  return asking;
}

function openDialog(refused) {
  const dialog = document.createElement('dialog');
  dialog.id = 'key';
  dialog.innerHTML = `
    <form method="dialog">
      <label for="key-input">Key or token of a caller</label>
      <input id="key-input" type="password" autocomplete="off" required>
      <p></p>
      <button>Continue</button>
    </form>`;
  dialog.querySelector('p').textContent = refused
    ? 'The gateway does not accept this key.'
    : 'This gateway needs a key. Only this tab keeps it, until you close the tab.';
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => {
      const key = dialog.querySelector('input').value.trim();
      dialog.remove();
      if (key) {
        sessionStorage.setItem(NAME, key);
      }
      resolve(key !== '');
    });
  });
}
