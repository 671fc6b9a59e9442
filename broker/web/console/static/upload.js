// An image's file on its way to the broker, which examines it when the last byte is there.
const NOT_SIGNED_IN = 401;
const CREATED = 201;
const MIB = 1024 ** 2;
const form = document.getElementById("upload");
const { file, name, format, boot_mib: boot } = form.elements;
const send = form.querySelector("[type=submit]");
const stop = document.getElementById("stop");
const bar = form.querySelector("progress");
const state = document.getElementById("state");

const say = (text, tone = "") => {
  state.textContent = text;
  state.dataset.tone = tone;
};

// The file's own name says most: school-3.qcow2 is a qcow2 called school-3.
file.addEventListener("change", () => {
  const [chosen] = file.files;
  if (!chosen) return;
  const [, stem, ending] = /^(.*?)(?:\.([^.]*))?$/.exec(chosen.name);
  if (!name.value) name.value = stem.replaceAll(/[^A-Za-z0-9._-]+/g, "-").slice(0, name.maxLength);
  if ([...format.options].some((one) => one.value === ending?.toLowerCase())) format.value = ending.toLowerCase();
  else if (["img", "iso"].includes(ending?.toLowerCase())) format.value = "raw";
});

const answered = (xhr) => {
  const answer = (() => {
    try { return JSON.parse(xhr.responseText); } catch { return {}; }
  })();
  if (xhr.status === NOT_SIGNED_IN) {
    location.assign(`/sign-in?next=${encodeURIComponent(location.pathname)}`);
  } else if (xhr.status === CREATED) {
    say(`${answer.name}@${answer.version} is there; its file has the SHA-256 ${answer.sha256}`, "good");
    form.reset();
    document.dispatchEvent(new CustomEvent("changed"));
  } else {
    const says = [answer.title, answer.detail, answer.advice].filter(Boolean).join(" – ");
    say(says || `the broker answered ${xhr.status}`, "bad");
  }
};

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const [chosen] = file.files;
  const most = Number(form.dataset.bytesMax);
  if (chosen.size > most) {
    say(`the file is larger than the ${(most / MIB).toLocaleString("en")} MiB that an image may have`, "bad");
    return;
  }
  const query = new URLSearchParams({ name: name.value, format: format.value });
  if (boot.value) query.set("boot_mib", boot.value);
  const xhr = new XMLHttpRequest();
  const over = () => {
    send.disabled = false;
    stop.hidden = true;
    bar.hidden = true;
  };
  xhr.upload.addEventListener("progress", ({ loaded, total }) => {
    bar.value = total ? loaded / total : 1;
    const done = Math.floor(100 * bar.value);
    say(loaded < total ? `${done} %` : "all of it is there and is examined now");
  });
  xhr.addEventListener("load", () => answered(xhr));
  // a refusal may come before the file is there, and the connection is closed with it
  xhr.addEventListener("error", () => say("the connection was cut; the broker's log says why", "bad"));
  xhr.addEventListener("abort", () => say("stopped; nothing was kept"));
  xhr.addEventListener("loadend", over);
  stop.addEventListener("click", () => xhr.abort(), { once: true });
  xhr.open("POST", `/api/v1/images?${query}`);
  xhr.setRequestHeader("Content-Type", "application/octet-stream");
  xhr.setRequestHeader("X-Trivium", "1");
  send.disabled = true;
  stop.hidden = false;
  bar.hidden = false;
  bar.value = 0;
  say("");
  xhr.send(chosen);
});
