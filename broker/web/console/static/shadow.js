// Somebody else's desktop, as he allowed it: opened once, with a ticket, by whoever asked.
//
// What flows is shown by the same viewers as one's own desktop (simulated.js, vnc.js). Who only looks
// on sends no keys; the broker would not let them through either. It is not opened again by itself:
// once it is over the person is asked anew.
import { view as simulated } from "./simulated.js";

// What may pass while it still is allowed: then it is opened once more, by itself.
const PASSING = new Set(["server.busy", "server.unavailable"]);
const PAUSE_MS = 2000;
const TRIES_MAX = 30; // a minute: no shadow is allowed for longer without being open

const box = document.getElementById("screen");
const places = { simulated: box.querySelector("[data-simulated]"), vnc: box.querySelector("[data-vnc]") };
const words = document.getElementById("screen-words");
const full = document.getElementById("screen-full");
const keys = document.getElementById("screen-keys");
const viewOnly = box.dataset.mode === "view";
const path = `/api/v1/sessions/${encodeURIComponent(box.dataset.session)}/shadows/${encodeURIComponent(box.dataset.shadow)}`;

let socket = null;
let viewer = null;
let early = []; // what came before the viewer was there
let begun = false;
let refused = ""; // the broker's code, said before it closed
let tries = 0;

const say = (text) => {
  words.textContent = text;
};

const refresh = () => document.getElementById("shadow")?.dispatchEvent(new Event("refresh"));

const ended = (text) => {
  viewer?.closed();
  viewer = null;
  delete box.dataset.open;
  if (document.fullscreenElement) document.exitFullscreen();
  say(text);
  refresh();
};

const framed = (buffer) => {
  if (viewer) viewer.framed(buffer);
  else early.push(buffer); // a handful of bytes: a real desktop waits for its first answer
  box.dataset.frames = String(Number(box.dataset.frames ?? 0) + 1);
};

const shown = () => {
  box.dataset.open = "yes";
  say(viewOnly ? "you see it, and nothing you type or click gets there" : "keyboard and pointer work for both of you");
  if (!viewOnly) viewer?.focus();
  refresh();
};

const way = {
  send: (data) => {
    if (socket?.readyState === WebSocket.OPEN) socket.send(data);
  },
  shown,
  failed: say,
};

const draw = async (ready) => {
  const real = ready.protocol === "vnc";
  places.vnc.hidden = !real;
  places.simulated.hidden = real;
  const view = real ? (await import("./vnc.js")).view : simulated;
  viewer = view(real ? places.vnc : places.simulated, { ...ready, viewOnly }, way, socket);
  box.dataset.protocol = ready.protocol;
  keys.hidden = viewOnly || !viewer.ctrlAltDel;
  for (const buffer of early.splice(0)) viewer.framed(buffer);
  if (!real) shown();
};

const told = (text) => {
  const message = JSON.parse(text);
  if (message.type === "display_refused") {
    refused = message.code;
    say(message.detail || message.code);
  } else if (message.type === "display_ready") {
    draw(message).catch(() => {
      say("the viewer could not be loaded");
      socket?.close(1000);
    });
  }
};

// Whether it still is allowed is asked for by the page itself; look() decides.
const comeBack = () => {
  if (tries >= TRIES_MAX) return;
  tries += 1;
  setTimeout(() => {
    begun = false;
    refresh();
  }, PAUSE_MS);
};

const closed = ({ code, reason }) => {
  const cut = code === 1006 && !refused;
  const opened = box.dataset.open === "yes";
  socket = null;
  early = [];
  if (refused) ended(words.textContent);
  else if (cut) ended("the connection broke");
  else ended(reason ? "it is over" : words.textContent);
  if (!opened && (cut || PASSING.has(refused))) comeBack();
};

const open = async () => {
  begun = true;
  refused = "";
  box.hidden = false;
  try {
    const answer = await fetch(`${path}/ticket`, { method: "POST", headers: { "X-Trivium": "1" } });
    const body = await answer.json();
    if (!answer.ok) {
      const error = new Error(body.detail || body.title);
      error.passes = PASSING.has(body.code);
      throw error;
    }
    const address = new URL(`${path}/display`, location);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    socket.addEventListener("open", ({ target }) =>
      target.send(JSON.stringify({ type: "display_open", ticket: body.ticket })),
    );
    socket.addEventListener("message", ({ data }) => (typeof data === "string" ? told(data) : framed(data)));
    socket.addEventListener("close", closed);
  } catch (error) {
    // a broker that is not there at all (TypeError) may be back soon
    const passes = error.passes || error instanceof TypeError;
    say(error instanceof TypeError ? "the broker does not answer" : error.message);
    if (passes) comeBack();
  }
};

const look = () => {
  const state = document.getElementById("shadow")?.dataset.state;
  if (state === "allowed" && !begun) open();
  if (state === "ended" || state === "refused") {
    socket?.close(1000);
    box.hidden = true;
  }
};

full.addEventListener("click", () => viewer?.full());
keys.addEventListener("click", () => viewer?.ctrlAltDel());
document.addEventListener("htmx:afterSettle", look);
addEventListener("pagehide", () => socket?.close(1000));
look();
