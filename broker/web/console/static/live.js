// The page's live parts fetch themselves again when the broker hints that something changed.
//
// A part is an element with an id, data-live="topic topic" and hx-trigger="refresh". Its hx-sync is its
// own (hx-disinherit): what is pressed within would wait behind the part's fetch, and be gone with what
// that replaces. Hints come in bursts, so a part waits PACE_MS between two fetches and the last hint is
// never dropped. Hints may be lost, so each part also fetches every SLOW_MS. A hidden tab fetches
// nothing and gives its connection back: a browser opens only six to one server. A page on which
// somebody waits in a queue (data-waits) keeps it, for that is how the broker knows that he is still
// there.
const PACE_MS = 1000;
const SLOW_MS = 15000;
const HIDDEN_MS = 10000;
const BUSY_MS = 250; // before it is looked again whether somebody still is at work

const fetched = new Map(); // part's id -> when it last fetched, ms
const waiting = new Map(); // part's id -> timer
const heard = new WeakSet(); // event sources that are listened to already
const plan = document.getElementById("stream");
let stream = null;

const parts = () => document.querySelectorAll("[data-live][id]");
const topics = new Set([...parts()].flatMap((part) => part.dataset.live.split(" ")));

const show = (state, words) => {
  const sign = document.getElementById("live-sign");
  if (!sign) return;
  sign.dataset.state = state;
  sign.textContent = words;
};

// Somebody is at work in it: a choice is open, a button is pressed, a request is on its way.
const busy = (part) =>
  document.hidden ||
  document.querySelector("dialog[open]") !== null ||
  part.matches(":has(select:focus, input:focus, :active, .htmx-request)");

const fetchAgain = (id) => {
  waiting.delete(id);
  const part = document.getElementById(id);
  if (!part) return;
  if (busy(part)) {
    schedule(part, undefined, BUSY_MS);
    return;
  }
  fetched.set(id, performance.now());
  part.dispatchEvent(new CustomEvent("refresh"));
};

const schedule = (part, pace = Number(part.dataset.pace ?? PACE_MS), least = 0) => {
  if (waiting.has(part.id)) return;
  const due = (fetched.get(part.id) ?? -Infinity) + pace - performance.now();
  const pause = document.hidden ? HIDDEN_MS : Math.max(least, due);
  waiting.set(part.id, setTimeout(fetchAgain, pause, part.id));
};

const all = () => parts().forEach((part) => schedule(part));

const listen = () => {
  if (!plan || stream) return;
  stream = plan.content.firstElementChild.cloneNode(true);
  document.body.append(stream);
  htmx.process(stream);
};

const hangUp = () => {
  if (!stream) return;
  htmx.remove(stream);
  stream = null;
  show("off", "paused");
};

document.addEventListener("htmx:beforeSwap", (event) => {
  const part = event.detail.elt;
  if (part.dataset.live === undefined || !busy(part)) return;
  event.detail.shouldSwap = false;
  schedule(part);
});

document.addEventListener("htmx:sseOpen", (event) => {
  const source = event.detail.source;
  show("open", "live");
  parts().forEach((part) => schedule(part, 0)); // what was hinted before it opened is lost
  if (heard.has(source)) return;
  heard.add(source);
  for (const topic of topics) {
    source.addEventListener(topic, () => {
      document.querySelectorAll(`[data-live~="${topic}"][id]`).forEach((part) => schedule(part));
    });
  }
  source.addEventListener("missed", all);
});
document.addEventListener("htmx:sseError", () => show("lost", "reconnecting"));
document.addEventListener("changed", all);

let leaving = 0;
document.addEventListener("visibilitychange", () => {
  clearTimeout(leaving);
  if (document.hidden && document.querySelector("[data-waits]")) return;
  if (document.hidden) {
    leaving = setTimeout(hangUp, HIDDEN_MS);
  } else {
    listen();
    all();
  }
});
addEventListener("pagehide", hangUp);
addEventListener("pageshow", (event) => {
  if (event.persisted) listen();
});

setInterval(() => {
  if (document.hidden) return;
  for (const part of parts()) {
    if (performance.now() - (fetched.get(part.id) ?? 0) > SLOW_MS) schedule(part);
  }
}, SLOW_MS / 5);

for (const part of parts()) fetched.set(part.id, performance.now());
document.addEventListener("DOMContentLoaded", listen);
