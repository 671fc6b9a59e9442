// The simulated desktop's display: frames from the socket onto a canvas, keys and pointer back.
//
// The format is written down in broker/engines/simulated/frames.py. A ticket opens the display
// once, so every opening asks the broker for one first; asking for a session that is ours gives
// back the same session.
const SCREEN = 0;
const FILL = 1;
const TEXT = 2;
const HEADER_BYTES = 16;
const EVENT_BYTES = 9;
const MOVED = 1;
const PRESSED = 2;
const RELEASED = 3;
const KEY = 4;
const NAMED_KEYS = { Backspace: 8, Enter: 13 };
const ENDS = {
  "display.taken_over": "opened somewhere else",
  "display.killed": "the session has ended",
  "display.signed_out": "you signed out",
  "display.desktop_closed": "the desktop closed the display",
  "display.client_stalled": "this browser took no picture for too long",
  "display.time_limit": "open for as long as one display may be",
};
const TRIES_MAX = 3;
const WAKE_MS = 2000;
const WAKES_MAX = 90; // three minutes: a suspended desktop takes two at most
const PAUSE_MS = 1500;

const box = document.getElementById("screen");
const canvas = box.querySelector("canvas");
const paint = canvas.getContext("2d", { alpha: false });
const words = document.getElementById("screen-words");
const again = document.getElementById("screen-again");
const utf8 = new TextDecoder();

let socket = null;
let opening = false;
let wanted = true; // until it closed for a reason that opening again would not mend
let refused = false; // the broker said why, before it closed
let first = true; // whoever opens the page wants the desktop here, wherever it is
let asking = 0; // the session's revision since when the person where it is open is asked
let tries = 0;
let waking = false; // the desktop was suspended and comes back
let wakes = 0;
let received = 0;
let sent = 0;
let asked = 0; // when the input was sent that no frame has answered yet, ms

const size = (bytes) => {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(1)} kB`;
  return `${(bytes / 1e6).toFixed(1)} MB`;
};

const say = (text) => {
  if (words.textContent !== text) words.textContent = text;
};

// ------------------------------------------------------------------------------- frames

const drawRecord = (view, at, kind, payload) => {
  const [x, y, w, h] = [1, 3, 5, 7].map((offset) => view.getUint16(at + offset));
  paint.fillStyle = `rgb(${view.getUint8(at + 9)} ${view.getUint8(at + 10)} ${view.getUint8(at + 11)})`;
  if (kind === SCREEN) {
    canvas.width = w;
    canvas.height = h;
    paint.fillStyle = `rgb(${view.getUint8(at + 9)} ${view.getUint8(at + 10)} ${view.getUint8(at + 11)})`;
    paint.fillRect(0, 0, w, h);
  } else if (kind === FILL) {
    paint.fillRect(x, y, w, h);
  } else if (kind === TEXT) {
    paint.font = `${h}px system-ui, "Noto Sans CJK SC", sans-serif`;
    paint.textBaseline = "top";
    paint.fillText(utf8.decode(payload), x, y, w);
  }
};

const draw = (buffer) => {
  const view = new DataView(buffer);
  let at = 0;
  while (at + HEADER_BYTES <= buffer.byteLength) {
    const length = view.getUint32(at + 12);
    const end = at + HEADER_BYTES + length;
    if (end > buffer.byteLength) break; // cut short: what follows cannot be read
    drawRecord(view, at, view.getUint8(at), new Uint8Array(buffer, at + HEADER_BYTES, length));
    at = end;
  }
};

const framed = (buffer) => {
  received += buffer.byteLength;
  draw(buffer);
  if (asked) {
    document.getElementById("screen-trip").textContent = `${Math.round(performance.now() - asked)} ms`;
    asked = 0;
  }
  document.getElementById("screen-down").textContent = size(received);
  box.dataset.frames = String(Number(box.dataset.frames ?? 0) + 1);
};

// -------------------------------------------------------------------------------- input

const send = (kind, x, y, code) => {
  if (socket?.readyState !== WebSocket.OPEN || box.dataset.open !== "yes") return;
  const view = new DataView(new ArrayBuffer(EVENT_BYTES));
  view.setUint8(0, kind);
  view.setUint16(1, x);
  view.setUint16(3, y);
  view.setUint32(5, code);
  socket.send(view.buffer);
  sent += EVENT_BYTES;
  if (kind !== MOVED) asked ||= performance.now();
  document.getElementById("screen-up").textContent = size(sent);
};

const point = (event) => {
  const area = canvas.getBoundingClientRect();
  const along = (value, from, length, full) =>
    Math.min(full - 1, Math.max(0, Math.round(((value - from) / length) * full)));
  return [
    along(event.clientX, area.left, area.width, canvas.width),
    along(event.clientY, area.top, area.height, canvas.height),
  ];
};

let moved = null;
canvas.addEventListener("pointermove", (event) => {
  if (moved === null) {
    requestAnimationFrame(() => {
      send(MOVED, ...point(moved), 0);
      moved = null;
    });
  }
  moved = event;
});
canvas.addEventListener("pointerdown", (event) => {
  canvas.focus();
  send(PRESSED, ...point(event), event.button);
});
canvas.addEventListener("pointerup", (event) => send(RELEASED, ...point(event), event.button));
canvas.addEventListener("contextmenu", (event) => event.preventDefault());
canvas.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return; // the browser's own shortcuts
  const code = NAMED_KEYS[event.key] ?? ([...event.key].length === 1 ? event.key.codePointAt(0) : null);
  if (code === null) return;
  event.preventDefault();
  send(KEY, 0, 0, code);
});

// ------------------------------------------------------------------------------- socket

const refresh = () => document.getElementById("status")?.dispatchEvent(new Event("refresh"));

const ticketFor = async () => {
  const answer = await fetch("/api/v1/sessions", {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Trivium": "1" },
    body: JSON.stringify({ pool: box.dataset.pool }),
  });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.title ?? `the broker answered ${answer.status}`);
  if (body.session.id !== box.dataset.session) {
    location.assign(`/me/sessions/${encodeURIComponent(body.session.id)}`);
    throw new Error("there is a newer session");
  }
  if (!body.ticket && body.session.wish) {
    asking = body.session.revision;
    const left = Date.parse(body.session.wish.until) - Date.now();
    setTimeout(refresh, Math.max(PAUSE_MS, left + PAUSE_MS)); // no answer in time is a no
    throw new Error("waiting for an answer from where it is open");
  }
  if (!body.ticket) throw new Error("the desktop is not ready yet");
  return body.ticket;
};

const closed = (event) => {
  const mine = event.target === socket;
  if (!mine) return;
  socket = null;
  delete box.dataset.open;
  again.hidden = false;
  const cut = event.code === 1006;
  wanted = cut && tries < TRIES_MAX;
  if (cut) say("the connection broke");
  else if (!refused) say(ENDS[event.reason] ?? "closed");
  refused = false;
  if (waking) {
    waking = false;
    wakes += 1;
    setTimeout(open, WAKE_MS);
    return;
  }
  if (wanted) setTimeout(open, PAUSE_MS * (1 + Math.random()) * ++tries);
};

const told = (text) => {
  const message = JSON.parse(text);
  if (message.type === "display_ready") {
    canvas.width = message.width;
    canvas.height = message.height;
    box.dataset.open = "yes";
    tries = 0;
    wakes = 0;
    say("connected");
    canvas.focus({ preventScroll: true });
  } else if (message.type === "display_refused") {
    refused = true;
    waking = message.code === "desktop.resuming" && wakes < WAKES_MAX;
    say(waking ? "your desktop wakes up" : message.detail || message.code);
  }
};

const open = async () => {
  if (socket || opening) return;
  opening = true;
  wanted = false;
  again.hidden = true;
  box.hidden = false;
  say("connecting");
  try {
    const ticket = await ticketFor();
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
  } catch (error) {
    say(error.message);
    again.hidden = false;
  } finally {
    opening = false;
  }
};

// The session's state and place decide: what is delivered or active in this browser opens by
// itself, once. What is open elsewhere comes here when somebody opens this page or asks for it.
const look = () => {
  const { state, here, asks, revision } = document.getElementById("status")?.dataset ?? {};
  const live = state === "delivering" || state === "active";
  if (asking && live && Number(revision) >= asking && asks === undefined) {
    asking = 0;
    wanted = here === "yes";
    if (!wanted) say("it stays where it is open");
  }
  if (live && wanted && (first || here === "yes")) open();
  else if (live && !socket && !opening && here === "no" && box.hidden) {
    box.hidden = false;
    again.hidden = false;
    say("open in another browser");
  }
  if (state) first = false;
  if (state === "queued") wanted = true;
  if (["ending", "ended", "failed", "cancelled"].includes(state)) {
    wanted = false;
    box.hidden = true;
    socket?.close(1000);
  }
};

again.addEventListener("click", open);
document.getElementById("screen-full").addEventListener("click", () => canvas.requestFullscreen?.());
document.addEventListener("htmx:afterSettle", look);
addEventListener("pagehide", () => socket?.close(1000));
look();
