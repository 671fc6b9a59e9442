// A real desktop's picture: noVNC over the socket that the broker opened.
//
// The desktop is a stranger: what it says of itself is not shown, and nothing of its clipboard is
// taken or given. noVNC is given a channel that looks like a socket, so that what flows is counted.
import RFB from "./vendor/novnc/core/rfb.js";
import { initLogging } from "./vendor/novnc/core/util/logging.js";

const KEY_EVENT = 4;
const POINTER_EVENT = 5;
const QEMU_EVENT = 255;
const NO_PICTURE = "the desktop sent something that is not a picture";
const NO_PASSWORD = "the desktop wants a password of its own";

initLogging("none"); // what a person should know the page says

class Channel {
  constructor(socket, to) {
    this.binaryType = "arraybuffer";
    this.onopen = null;
    this.onmessage = null;
    this.onclose = null;
    this.onerror = null;
    this.socket = socket;
    this.to = to;
  }

  get protocol() {
    return this.socket.protocol;
  }

  get readyState() {
    return this.socket.readyState;
  }

  send(data) {
    const kind = data[0];
    const clicked = kind === POINTER_EVENT && data[1] !== 0;
    this.to.send(data, kind === KEY_EVENT || kind === QEMU_EVENT || clicked);
  }

  // noVNC gives up on what it reads; all other ends begin at the socket.
  close() {
    if (this.socket.readyState === WebSocket.OPEN) this.to.failed(NO_PICTURE);
    this.socket.close(1000);
  }
}

// The keyboard belongs to the desktop while it has the focus, Tab included; this gives it back.
const leaves = (event) => event.ctrlKey && event.altKey && event.code === "Escape";

// The picture has the desktop's shape, so that nothing of the window is wasted.
const shape = (place, canvas) => {
  if (canvas.width && canvas.height) place.style.aspectRatio = `${canvas.width} / ${canvas.height}`;
};

// A viewer in `place`, an empty element. `to.send(data, input)` sends, `to.failed(words)` says
// that what came was no picture. With `ready.viewOnly` neither keys nor pointer are sent.
export const view = (place, ready, to, socket) => {
  const channel = new Channel(socket, to);
  place.replaceChildren();
  const rfb = new RFB(place, channel, { shared: true });
  rfb.viewOnly = Boolean(ready.viewOnly);
  rfb.scaleViewport = true;
  rfb.background = "transparent";
  const canvas = place.querySelector("canvas");
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", "Desktop. Keys and clicks go to it; Ctrl, Alt and Escape together leave it.");
  const shaped = new MutationObserver(() => shape(place, canvas));
  shaped.observe(canvas, { attributeFilter: ["width", "height"] });
  const leave = (event) => {
    if (!leaves(event)) return;
    event.stopPropagation();
    event.preventDefault();
    place.closest("section").querySelector("button:not([hidden])").focus();
  };
  place.addEventListener("keydown", leave, true);
  rfb.addEventListener("connect", () => to.shown());
  rfb.addEventListener("securityfailure", () => to.failed(NO_PASSWORD));
  rfb.addEventListener("credentialsrequired", () => {
    to.failed(NO_PASSWORD);
    rfb.disconnect();
  });
  return {
    name: "Desktop",
    framed: (data) => channel.onmessage?.({ data }),
    closed: () => {
      shaped.disconnect();
      place.removeEventListener("keydown", leave, true);
      channel.onclose?.({});
    },
    focus: () => rfb.focus({ preventScroll: true }),
    full: () => place.closest("section").requestFullscreen?.(),
    ctrlAltDel: () => {
      rfb.sendCtrlAltDel();
      rfb.focus({ preventScroll: true });
    },
  };
};
