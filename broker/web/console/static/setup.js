// The one-time secret comes after the "#", which browsers do not send: it moves into the form,
// and out of the address bar and the history.
const secret = new URLSearchParams(location.hash.slice(1)).get("secret");
const field = document.getElementById("secret");
if (secret && field) {
  field.value = secret;
  history.replaceState(null, "", location.pathname);
}
const missing = document.getElementById("no-secret");
if (missing && field) missing.hidden = field.value !== "";
