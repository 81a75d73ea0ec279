// Every two seconds: ask for the part that changes, and change only what differs, so that what a person has selected
// or opened stays. It stands still while a confirmation is open: nothing may move under the pointer then.
const PERIOD_MS = 2000;
const live = document.getElementById('live');
const offline = document.getElementById('offline');
const url = new URL(live.dataset.url, location.href);
url.username = url.password = '';
url.hash = '';

function isSame(have, want) {
  if (have.nodeName !== want.nodeName) return false;
  return have.nodeType !== Node.ELEMENT_NODE || have.getAttribute('data-key') === want.getAttribute('data-key');
}

function morph(have, want) {
  if (have.nodeType !== Node.ELEMENT_NODE) {
    if (have.nodeValue !== want.nodeValue) have.nodeValue = want.nodeValue;
    return;
  }
  for (const { name, value } of [...want.attributes]) {
    if (have.getAttribute(name) !== value) have.setAttribute(name, value);
  }
  for (const { name } of [...have.attributes]) {
    if (!want.hasAttribute(name) && name !== 'open') have.removeAttribute(name);
  }
  const wanted = [...want.childNodes];
  wanted.forEach((node, index) => {
    const child = have.childNodes[index];
    if (!child) have.append(node);
    else if (isSame(child, node)) morph(child, node);
    else child.replaceWith(node);
  });
  while (have.childNodes.length > wanted.length) have.lastChild.remove();
}

const isBeingConfirmed = () => live.querySelector('details[open]:not(.said)') !== null;

// What a button did is said once, not again when the page is loaded anew.
const here = new URL(location.href);
for (const name of ['did', 'project', 'num', 'token']) here.searchParams.delete(name);
if (here.href !== location.href) history.replaceState(null, '', here);

async function refresh() {
  if (!document.hidden && !isBeingConfirmed()) {
    try {
      const reply = await fetch(url, { cache: 'no-store', signal: AbortSignal.timeout(8000) });
      if (!reply.ok) throw new Error(reply.status);
      const fresh = new DOMParser().parseFromString(await reply.text(), 'text/html').getElementById('live');
      if (!fresh) throw new Error('another page');
      if (!isBeingConfirmed()) {
        morph(live, fresh);
        document.title = fresh.dataset.title;
      }
      offline.hidden = true;
    } catch {
      offline.hidden = false;
    }
  }
  setTimeout(refresh, PERIOD_MS);
}
setTimeout(refresh, PERIOD_MS);
