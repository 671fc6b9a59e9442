// What people do on a page: requests to the API as JSON, questions before it, and what came of it.
//
// A form or button with hx-ext="api" sends its fields as JSON; data-json on a field says its type
// (number, minutes, boolean, maybe, list, empty). A name like settings.schedule[0].window.start is a
// path into the body. data-done is shown when it worked, data-to is the page to go to, with
// {id} taken from the answer.
const BAD_REQUEST = 400;
const NOT_SIGNED_IN = 401;

const typed = (field, value) => {
  switch (field?.dataset?.json) {
    case "number": return value === "" ? null : Number(value);
    case "minutes": return value === "" ? null : Math.round(Number(value) * 60);
    case "maybe": return value === "" ? null : value === "true";
    case "boolean": return value === "true";
    case "empty": return [];
    case "list": return String(value).split(/[;,\n]/).map((one) => one.trim()).filter(Boolean);
    default: return value;
  }
};

// Puts a value where its path says. Rows that were taken away leave no holes.
const put = (body, path, value) => {
  const steps = path.replaceAll(/\[(\d+)\]/g, ".#$1").split(".");
  let here = body;
  steps.forEach((step, at) => {
    const key = step.startsWith("#") ? Number(step.slice(1)) : step;
    if (Object.hasOwn(Object.prototype, key)) return;
    if (at === steps.length - 1) here[key] = value;
    else here = here[key] ??= steps[at + 1].startsWith("#") ? [] : {};
  });
};

const closed = (value) => {
  if (Array.isArray(value)) return value.filter((one) => one !== undefined).map(closed);
  if (!value || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, closed(one)]));
};

htmx.defineExtension("api", {
  onEvent(name, event) {
    if (name === "htmx:configRequest") event.detail.headers["Content-Type"] = "application/json";
  },
  encodeParameters(_xhr, parameters, element) {
    const body = {};
    for (const [name, value] of parameters.entries()) {
      const field = element.elements?.namedItem(name);
      if (value === "" && field?.dataset?.optional !== undefined) continue;
      put(body, name, typed(field, value));
    }
    return JSON.stringify(closed(body));
  },
});

// An empty filter is no filter: it does not belong in the address.
document.addEventListener("htmx:configRequest", (event) => {
  const { verb, parameters } = event.detail;
  if (verb !== "get") return;
  for (const name of Object.keys(parameters)) {
    if (parameters[name] === "") delete parameters[name];
  }
});

// ------------------------------------------------------------------------------ notices

const line = (tag, text) => {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
};

const notice = (tone, title, lines = []) => {
  const place = document.getElementById("notices");
  if (!place) return;
  const box = document.createElement("div");
  box.className = "notice";
  box.dataset.tone = tone;
  const row = document.createElement("div");
  row.className = "row";
  const words = document.createElement("div");
  words.append(line("b", title), ...lines.map((text) => line("div", text)));
  const close = line("button", "Dismiss");
  close.type = "button";
  close.className = "quiet";
  close.addEventListener("click", () => box.remove());
  row.append(words, close);
  box.append(row);
  place.replaceChildren(box);
  place.scrollIntoView({ block: "nearest" });
};

const problemOf = (xhr) => {
  try {
    const problem = JSON.parse(xhr.responseText);
    return problem && typeof problem === "object" ? problem : null;
  } catch {
    return null;
  }
};

const explain = (xhr) => {
  const problem = problemOf(xhr);
  if (!problem) {
    notice("bad", `The broker answered ${xhr.status}`, ["Load the page again."]);
    return;
  }
  const lines = [];
  if (problem.detail && problem.detail !== problem.title) lines.push(String(problem.detail));
  if (problem.advice) lines.push(String(problem.advice));
  lines.push(`${problem.code ?? xhr.status} · request ${problem.request_id ?? "unknown"}`);
  notice("bad", String(problem.title ?? `The broker answered ${xhr.status}`), lines);
};

const signInAgain = () => {
  const here = location.pathname + location.search;
  location.assign(`/sign-in?next=${encodeURIComponent(here)}`);
};

document.addEventListener("htmx:beforeSwap", (event) => {
  const { xhr } = event.detail;
  const html = (xhr.getResponseHeader("Content-Type") ?? "").startsWith("text/html");
  if (xhr.status >= BAD_REQUEST || !html) event.detail.shouldSwap = false;
});

document.addEventListener("htmx:responseError", (event) => {
  const { xhr, elt } = event.detail;
  if (xhr.status === NOT_SIGNED_IN) signInAgain();
  // a live part that fails says so by the sign in the corner; only what a person did is explained
  else if (!elt.dataset.live) explain(xhr);
});

document.addEventListener("htmx:sendError", (event) => {
  if (event.detail.elt.dataset.live) return;
  notice("bad", "The broker does not answer", ["Check the network, then try again."]);
});

document.addEventListener("htmx:afterRequest", (event) => {
  const { elt, xhr, successful } = event.detail;
  const { done, to } = elt.dataset;
  if (!successful || (done === undefined && to === undefined)) return;
  if (to !== undefined) {
    const answer = problemOf(xhr);
    const id = answer?.session?.id ?? answer?.id ?? "";
    location.assign(to.replace("{id}", encodeURIComponent(id)));
    return;
  }
  notice("good", done);
  document.dispatchEvent(new CustomEvent("changed"));
});

// ---------------------------------------------------------------------------- questions

document.addEventListener("htmx:confirm", (event) => {
  if (!event.detail.question) return;
  event.preventDefault();
  const ask = document.getElementById("ask");
  const element = event.detail.elt;
  ask.querySelector("h2").textContent = event.detail.question;
  ask.querySelector("p").textContent = element.dataset.after ?? "";
  ask.querySelector("[value=yes]").textContent = element.dataset.yes ?? "Yes";
  ask.returnValue = "";
  ask.addEventListener("close", () => {
    if (ask.returnValue === "yes") event.detail.issueRequest(true);
    else if (element instanceof HTMLFormElement) element.reset(); // what was chosen is taken back
  }, { once: true });
  ask.showModal();
});

// --------------------------------------------------------------------------------- rows

// A list of alike rows in a form: data-adds names the <template>, whose names hold [#].
let rowsMade = 1000;
document.addEventListener("click", (event) => {
  const adds = event.target.closest?.("[data-adds]");
  if (adds) {
    const model = document.getElementById(adds.dataset.adds);
    const fresh = model.content.cloneNode(true);
    rowsMade += 1;
    for (const field of fresh.querySelectorAll("[name]")) field.name = field.name.replace("[#]", `[${rowsMade}]`);
    const first = fresh.querySelector("input, select");
    model.before(fresh);
    first?.focus();
  }
  event.target.closest?.("[data-drops]")?.closest(".form-row")?.remove();
});

// --------------------------------------------------------------------------------- menu

document.addEventListener("click", (event) => {
  const button = event.target.closest?.(".menu-button");
  if (!button) return;
  const side = document.getElementById("side");
  const open = side.toggleAttribute("data-open");
  button.setAttribute("aria-expanded", String(open));
});
