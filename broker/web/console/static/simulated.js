// The simulated desktop's picture: frames onto a canvas, keys and pointer back.
//
// The format is written down in broker/engines/simulated/frames.py.
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

const utf8 = new TextDecoder();
let channel = null; // to the desktop, while it is open

// -------------------------------------------------------------------------------- frames

const drawRecord = (canvas, paint, view, at, kind, payload) => {
  const [x, y, w, h] = [1, 3, 5, 7].map((offset) => view.getUint16(at + offset));
  const colour = `rgb(${view.getUint8(at + 9)} ${view.getUint8(at + 10)} ${view.getUint8(at + 11)})`;
  if (kind === SCREEN) {
    canvas.width = w; // which takes the colour away, too
    canvas.height = h;
  }
  paint.fillStyle = colour;
  if (kind === SCREEN) {
    paint.fillRect(0, 0, w, h);
  } else if (kind === FILL) {
    paint.fillRect(x, y, w, h);
  } else if (kind === TEXT) {
    paint.font = `${h}px system-ui, "Noto Sans CJK SC", sans-serif`;
    paint.textBaseline = "top";
    paint.fillText(utf8.decode(payload), x, y, w);
  }
};

const draw = (canvas, paint, buffer) => {
  const view = new DataView(buffer);
  let at = 0;
  while (at + HEADER_BYTES <= buffer.byteLength) {
    const length = view.getUint32(at + 12);
    const end = at + HEADER_BYTES + length;
    if (end > buffer.byteLength) break; // cut short: what follows cannot be read
    const payload = new Uint8Array(buffer, at + HEADER_BYTES, length);
    drawRecord(canvas, paint, view, at, view.getUint8(at), payload);
    at = end;
  }
};

// --------------------------------------------------------------------------------- input

const send = (kind, x, y, code) => {
  if (!channel) return;
  const view = new DataView(new ArrayBuffer(EVENT_BYTES));
  view.setUint8(0, kind);
  view.setUint16(1, x);
  view.setUint16(3, y);
  view.setUint32(5, code);
  channel.send(view.buffer, kind !== MOVED);
};

const listen = (canvas) => {
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
};

// A viewer of this desktop in `place`, which has the canvas. `to.send(data, input)` sends; with
// `ready.viewOnly` nothing is.
export const view = (place, ready, to) => {
  const canvas = place.querySelector("canvas");
  const paint = canvas.getContext("2d", { alpha: false });
  if (!canvas.dataset.listens && !ready.viewOnly) {
    listen(canvas);
    canvas.dataset.listens = "yes";
  }
  canvas.width = ready.width;
  canvas.height = ready.height;
  channel = to;
  return {
    name: "Simulated desktop",
    framed: (buffer) => draw(canvas, paint, buffer),
    closed: () => {
      if (channel === to) channel = null;
    },
    focus: () => canvas.focus({ preventScroll: true }),
    full: () => place.closest("section").requestFullscreen?.(),
  };
};
