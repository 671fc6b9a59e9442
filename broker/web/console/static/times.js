// Times in the browser's own zone. The exact time in UTC stays in the title, from the server.
const clock = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});
const day = new Intl.DateTimeFormat(undefined, {
  day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23",
});
const full = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23",
});
const STEPS = [[60, 1, "s"], [3600, 60, "min"], [172800, 3600, "h"], [Infinity, 86400, "days"]];
const AGO_MS = 5000;

const span = (ms) => {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const [, unit, name] = STEPS.find(([top]) => seconds < top);
  return `${Math.floor(seconds / unit)} ${name}`;
};

const say = (element, now = new Date()) => {
  const time = new Date(element.dateTime);
  if (Number.isNaN(time.getTime())) return;
  const kind = element.dataset.as;
  if (kind === "span") element.textContent = span(now - time);
  else if (kind === "ago") element.textContent = `${span(now - time)} ago`;
  else if (kind === "left") element.textContent = time > now ? `in ${span(time - now)}` : "now";
  else if (time.toDateString() === now.toDateString()) element.textContent = clock.format(time);
  else if (time.getFullYear() === now.getFullYear()) element.textContent = day.format(time);
  else element.textContent = full.format(time);
};

const sayAll = (root) => {
  const now = new Date();
  for (const element of root.querySelectorAll("time[datetime]")) say(element, now);
};

sayAll(document);
document.addEventListener("htmx:load", (event) => sayAll(event.detail.elt));
setInterval(() => {
  for (const element of document.querySelectorAll("time[data-as=ago], time[data-as=span], time[data-as=left]")) {
    say(element);
  }
}, AGO_MS);
