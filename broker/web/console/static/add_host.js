// A host is looked at step by step, each shown as soon as it is done, and then added; or one that
// there is gets another profile.
const FORBIDDEN_STATUS = 401;
const TONES = { ok: "good", missing: "bad", unknown: "wait" };
const form = document.getElementById("add-host");
const look = document.getElementById("look");
const add = document.getElementById("add");
const steps = document.getElementById("steps");
const model = document.getElementById("step");

// What is not shown is not sent: its fields are off.
const choose = () => {
  const engine = form.elements.engine.value;
  const way = form.elements.way.value;
  for (const part of form.querySelectorAll("[data-engine], [data-way]")) {
    const { engine: ofEngine, way: ofWay } = part.dataset;
    part.hidden = (ofEngine && ofEngine !== engine) || (ofWay && !ofWay.split(" ").includes(way));
    for (const field of part.querySelectorAll("input, select")) {
      field.disabled = Boolean(field.closest("[hidden]"));
    }
  }
};

const uri = (given, kind) => {
  const far = given.way !== "unix";
  if (!far && !given.socket) return "";
  const user = given.user ? `${given.user}@` : "";
  const name = given.address?.includes(":") ? `[${given.address}]` : given.address ?? "";
  const where = far ? `${user}${name}${given.port ? `:${given.port}` : ""}` : "";
  return `${kind}+${given.way}://${where}/system${given.socket ? `?socket=${given.socket}` : ""}`;
};

const CHOSEN = ["accel", "clone", "storage"]; // knobs that are selects

// The profile as an administrator would write it: knobs after a question mark, as in an address.
const profile = () => {
  const given = Object.fromEntries(new FormData(form));
  const knobs = new URLSearchParams();
  if (given.engine === "libvirt") {
    for (const [name, value] of [
      ["uri", uri(given, given.kind)], ["host_key", given.host_key], ["pool", given.pool],
      ["network", given.network], ...CHOSEN.map((name) => [name, given[name]]),
    ]) if (value) knobs.set(name, value);
  }
  for (const [name, value] of new URLSearchParams(given.more)) knobs.set(name, value);
  const text = knobs.toString();
  return text ? `${given.kind}?${text}` : given.kind;
};

// What the fields can say of an address; the rest of a profile stands among the other knobs.
const ADDRESS =
  /^[a-z]+\+(?<way>unix|ssh|tls):\/\/(?:(?<user>[^@/]+)@)?(?<address>\[[^\]]+\]|[^:/?]*)(?::(?<port>\d+))?\/system(?:\?socket=(?<socket>.+))?$/;

const partsOf = (text, kind) => {
  const found = { ...ADDRESS.exec(text)?.groups };
  if (found.address) found.address = found.address.replace(/^\[|\]$/g, "");
  return uri(found, kind) === text ? found : {};
};

// The fields as they were when this profile was written.
const fill = (text) => {
  const [kind, ...rest] = text.split("?");
  const knobs = new URLSearchParams(rest.join("?"));
  const known = {};
  if (form.elements.engine.value === "libvirt") {
    Object.assign(known, partsOf(knobs.get("uri") ?? "", kind));
    if (known.way) knobs.delete("uri");
    for (const name of ["host_key", "pool", "network", ...CHOSEN]) {
      const value = knobs.get(name);
      const field = form.elements[name];
      // what a select does not offer stays among the other knobs
      if (value && field.options && ![...field.options].some((one) => one.value === value)) continue;
      known[name] = value;
      knobs.delete(name);
    }
  }
  const fields = { ...known, kind, more: knobs.toString() };
  for (const [name, value] of Object.entries(fields)) if (value) form.elements[name].value = value;
};

const ask = (path, body, headers = {}, method = "POST") =>
  fetch(`/api/v1/${path}`, {
    method,
    headers: { "Content-Type": "application/json", "X-Trivium": "1", ...headers },
    body: JSON.stringify(body),
  });

const show = (step) => {
  const row = model.content.cloneNode(true);
  row.querySelector("th").textContent = step.name.replaceAll("_", " ");
  const state = row.querySelector(".state");
  state.textContent = step.verdict;
  state.dataset.tone = TONES[step.verdict] ?? "wait";
  row.querySelector(".says").textContent = step.says;
  row.querySelector(".advice").textContent = step.advice;
  const key = step.found?.host_key;
  const confirm = row.querySelector(".confirm");
  if (key) {
    confirm.hidden = false;
    confirm.addEventListener("click", () => {
      form.elements.host_key.value = key;
      form.requestSubmit();
    });
  }
  for (const name of ["cpus", "memory_mib"]) {
    if (step.found?.[name] && !form.elements[name].value) form.elements[name].value = step.found[name];
  }
  steps.querySelector("tbody").append(row);
};

const refused = async (answer) => {
  if (answer.status === FORBIDDEN_STATUS) {
    location.assign(`/sign-in?next=${encodeURIComponent(location.pathname)}`);
    return;
  }
  const problem = await answer.json().catch(() => ({}));
  const says = [problem.title, problem.detail].filter(Boolean).join(": ");
  const advice = problem.advice ?? "";
  show({ name: "the broker", verdict: "missing", says: says || `it answered ${answer.status}`, advice });
};

// Every line is a step; the last one says whether the host fits.
const read = async (body) => {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let fits = false;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return fits;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const told = JSON.parse(line);
      if ("fits" in told) ({ fits } = told);
      else show(told);
    }
  }
};

const within = async (work) => {
  look.disabled = true;
  add.disabled = true;
  try {
    add.disabled = !(await work());
  } catch {
    show({ name: "the broker", verdict: "missing", says: "it does not answer", advice: "Check the network, then try again." });
  } finally {
    look.disabled = false;
  }
};

form.addEventListener("submit", (event) => {
  event.preventDefault();
  within(async () => {
    steps.hidden = false;
    steps.querySelector("tbody").replaceChildren();
    const { name, engine } = form.elements;
    const body = { name: name.value, engine: engine.value, profile: profile() };
    document.getElementById("profile").textContent = body.profile;
    const answer = await ask("hosts/check", body, { Accept: "application/x-ndjson" });
    if (answer.ok) return read(answer.body);
    await refused(answer);
    return false;
  });
});

const added = () => {
  const { name, engine, cpus, memory_mib: memory } = form.elements;
  return ask("hosts", {
    name: name.value,
    engine: engine.value,
    profile: profile(),
    cpus: Number(cpus.value),
    memory_mib: Number(memory.value),
  });
};

// With the revision: what somebody else saved since this page was opened is not written over.
const saved = ({ id, revision }) => {
  const body = { profile: profile(), revision: Number(revision) };
  for (const name of ["cpus", "memory_mib"]) {
    const field = form.elements[name];
    if (field.value !== field.defaultValue) body[name] = Number(field.value);
  }
  return ask(`hosts/${id}`, body, {}, "PATCH");
};

add.addEventListener("click", () => {
  within(async () => {
    const { id } = form.dataset;
    const answer = await (id ? saved(form.dataset) : added());
    if (answer.ok) location.assign(id ? `/hosts/${id}` : "/hosts");
    else await refused(answer);
    return !answer.ok;
  });
});

// What was looked at is not what would be added any more.
form.addEventListener("input", () => {
  add.disabled = true;
  choose();
});
if (form.dataset.profile) fill(form.dataset.profile);
choose();
