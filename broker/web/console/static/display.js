// The desktop's display: asks for a ticket, opens the socket, and gives it to who draws.
//
// A ticket opens the display once, so every opening asks the broker for one first; asking for a
// session that is ours gives back the same session. The broker says what flows, and that decides
// whose picture it is: the simulated desktop's (simulated.js) or a real one's (vnc.js).
import { view as simulated } from "./simulated.js";

const ENDS = {
  "display.taken_over": "opened somewhere else",
  "display.killed": "the session has ended",
  "display.signed_out": "you signed out",
  "display.desktop_closed": "the desktop closed the display",
  "display.broker_stops": "the broker restarts",
  "display.client_stalled": "this browser took no picture for too long",
  "display.time_limit": "open for as long as one display may be",
};
// What may pass by itself: the desktop restarts, wakes up or moves, a broker is changed.
const PASSING = new Set([
  "display.desktop_closed",
  "display.broker_stops",
  "desktop.resuming",
  "engine.console_proxy",
  "engine.failed",
  "server.busy",
  "server.unavailable",
]);
const PAUSE_MS = 1000; // before it is opened again by itself, doubled each time, by chance half as long
const PAUSE_MS_MAX = 15000;
const TRIES_MAX = 18; // about three minutes: a desktop that starts or wakes up takes two at most
const STEADY_MS = 10000; // open for so long it counts as opened
const ASK_AGAIN_MS = 1500;

const box = document.getElementById("screen");
const places = { simulated: box.querySelector("[data-simulated]"), vnc: box.querySelector("[data-vnc]") };
const words = document.getElementById("screen-words");
const again = document.getElementById("screen-again");
const full = document.getElementById("screen-full");
const keys = document.getElementById("screen-keys");

let socket = null;
let viewer = null;
let early = []; // what came before the viewer was there
let opening = false;
let wanted = true; // until it closed for a reason that opening again would not mend
let refused = ""; // the broker's code, said before it closed
let failure = ""; // why the viewer gave up, in words
let first = true; // whoever opens the page wants the desktop here, wherever it is
let asking = 0; // the session's revision since when the person where it is open is asked
let tries = 0;
let coming = 0; // timer of the next opening by itself
let shownAt = Infinity;
let received = 0;
let sent = 0;
let asked = 0; // when the input was sent that no picture has answered yet, ms

const size = (bytes) => {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(1)} kB`;
  return `${(bytes / 1e6).toFixed(1)} MB`;
};

const say = (text) => {
  if (words.textContent !== text) words.textContent = text;
};

const isLive = (state) => state === "delivering" || state === "active";

// ------------------------------------------------------------------------ what flows

const framed = (buffer) => {
  received += buffer.byteLength;
  if (asked) {
    document.getElementById("screen-trip").textContent = `${Math.round(performance.now() - asked)} ms`;
    asked = 0;
  }
  if (viewer) viewer.framed(buffer);
  else early.push(buffer); // a handful of bytes: a real desktop waits for its first answer
  document.getElementById("screen-down").textContent = size(received);
  box.dataset.frames = String(Number(box.dataset.frames ?? 0) + 1);
};

const wayTo = (mine) => ({
  send: (data, input) => {
    if (mine.readyState !== WebSocket.OPEN) return;
    mine.send(data);
    sent += data.byteLength;
    if (input) asked ||= performance.now();
    document.getElementById("screen-up").textContent = size(sent);
  },
  shown: () => shown(mine),
  failed: (text) => {
    if (mine === socket) failure ||= text;
  },
});

const shown = (mine) => {
  if (mine !== socket) return;
  box.dataset.open = "yes";
  shownAt = performance.now();
  asked = 0;
  say("connected");
  viewer?.focus();
};

const draw = async (ready) => {
  const mine = socket;
  if (!(ready.protocol in places)) {
    failure = `no browser shows a display of the kind ${ready.protocol}`;
    mine.close(1000);
    return;
  }
  const real = ready.protocol === "vnc";
  places.vnc.hidden = !real;
  places.simulated.hidden = real;
  const view = real ? (await import("./vnc.js")).view : simulated;
  if (mine !== socket) return; // it closed meanwhile
  viewer = view(real ? places.vnc : places.simulated, ready, wayTo(mine), mine);
  box.dataset.protocol = ready.protocol;
  document.getElementById("screen-name").textContent = viewer.name;
  keys.hidden = !viewer.ctrlAltDel;
  for (const buffer of early.splice(0)) viewer.framed(buffer);
  if (!real) shown(mine);
};

const told = (text) => {
  const message = JSON.parse(text);
  if (message.type === "display_ready") {
    draw(message).catch(() => {
      failure ||= "the viewer could not be loaded";
      socket?.close(1000);
    });
  } else if (message.type === "display_refused") {
    refused = message.code;
    say(message.code === "desktop.resuming" ? "your desktop starts" : message.detail || message.code);
  }
};

// ------------------------------------------------------------------------------- socket

const refresh = () => document.getElementById("status")?.dispatchEvent(new Event("refresh"));

const ask = async (path, options) => {
  const answer = await fetch(path, options);
  const body = await answer.json();
  if (answer.ok) return body;
  const error = new Error(body.title ?? `the broker answered ${answer.status}`);
  error.passes = PASSING.has(body.code);
  throw error;
};

const ticketFor = async (byItself) => {
  const body = await ask("/api/v1/sessions", {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Trivium": "1" },
    body: JSON.stringify({ pool: box.dataset.pool, move: !byItself }),
  });
  if (body.session.id !== box.dataset.session) {
    location.assign(`/me/sessions/${encodeURIComponent(body.session.id)}`);
    throw new Error("there is a newer session");
  }
  if (!body.ticket && body.session.wish) {
    asking = body.session.revision;
    const left = Date.parse(body.session.wish.until) - Date.now();
    setTimeout(refresh, Math.max(ASK_AGAIN_MS, left + ASK_AGAIN_MS)); // no answer in time is a no
    throw new Error("waiting for an answer from where it is open");
  }
  if (!body.ticket) throw new Error("the desktop is not ready yet");
  return body.ticket;
};

// Nobody is given a new desktop without having asked for it. That nobody takes his own from elsewhere
// is the broker's to see to: a page that was hidden does not know where the session is by now.
const stillMine = async () => {
  const { state } = await ask(`/api/v1/sessions/${encodeURIComponent(box.dataset.session)}`);
  refresh();
  return isLive(state) || state === "disconnected";
};

const comeBack = () => {
  if (tries >= TRIES_MAX) return false;
  const pause = Math.min(PAUSE_MS_MAX, PAUSE_MS * 2 ** tries) * (0.5 + Math.random() / 2);
  tries += 1;
  clearTimeout(coming);
  coming = setTimeout(() => {
    coming = 0;
    open(true);
  }, pause);
  return true;
};

const closed = (event) => {
  if (event.target !== socket) return;
  const cut = event.code === 1006 && !refused;
  const passes = !failure && (cut || PASSING.has(refused || event.reason));
  if (performance.now() - shownAt > STEADY_MS) tries = 0;
  socket = null;
  viewer?.closed();
  viewer = null;
  early = [];
  shownAt = Infinity;
  delete box.dataset.open;
  again.hidden = false;
  if (document.fullscreenElement && !passes) document.exitFullscreen();
  if (failure) say(failure);
  else if (cut) say("the connection broke");
  else if (!refused) say(ENDS[event.reason] ?? "closed");
  if (passes) comeBack();
};

const open = async (byItself = false) => {
  if (socket || opening) return;
  opening = true;
  wanted = false;
  if (!byItself) tries = 0;
  clearTimeout(coming);
  coming = 0;
  refused = failure = "";
  again.hidden = !byItself;
  box.hidden = false;
  if (!byItself) say("connecting");
  try {
    if (byItself && !(await stillMine())) return;
    const ticket = await ticketFor(byItself);
    const address = new URL(`/api/v1/sessions/${encodeURIComponent(box.dataset.session)}/display`, location);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    socket.addEventListener("open", (event) =>
      event.target.send(JSON.stringify({ type: "display_open", ticket })),
    );
    socket.addEventListener("message", ({ data }) =>
      typeof data === "string" ? told(data) : framed(data),
    );
    socket.addEventListener("close", closed);
    again.hidden = true;
  } catch (error) {
    // a broker that is not there at all (TypeError) may be back soon
    const passes = byItself && (error.passes || error instanceof TypeError);
    if (!passes || !comeBack()) say(error.message);
    again.hidden = false;
  } finally {
    opening = false;
  }
};

// The session's state and place decide: what is delivered or active in this browser opens by
// itself, once. What is open elsewhere, or nowhere any more, comes here when somebody opens this
// page or asks for it.
const look = () => {
  const { state, here, asks, revision, shown } = document.getElementById("status")?.dataset ?? {};
  if (shown && shown !== "page") {
    // its host has no display for browsers: the page says what has
    clearTimeout(coming);
    coming = 0;
    box.hidden = true;
    return;
  }
  const live = isLive(state);
  if (asking && live && Number(revision) >= asking && asks === undefined) {
    asking = 0;
    wanted = here === "yes";
    if (!wanted) say("it stays where it is open");
  }
  const kept = state === "disconnected";
  if (wanted && (first ? live || kept : live && here === "yes")) open();
  else if (((live && here === "no") || kept) && !socket && !opening && !coming && box.hidden) {
    box.hidden = false;
    again.hidden = false;
    say(kept ? "kept for you" : "open in another browser");
  }
  if (state) first = false;
  if (state === "queued") wanted = true;
  if (["ending", "ended", "failed", "cancelled"].includes(state)) {
    wanted = false;
    clearTimeout(coming);
    coming = 0;
    box.hidden = true;
    socket?.close(1000);
  }
};

again.addEventListener("click", () => open());
full.addEventListener("click", () => viewer?.full());
keys.addEventListener("click", () => viewer?.ctrlAltDel());
document.addEventListener("htmx:afterSettle", look);
addEventListener("pagehide", () => {
  clearTimeout(coming);
  socket?.close(1000);
});
look();
