// Shows enrolment tokens that were just made, once.
document.addEventListener("htmx:afterRequest", (event) => {
  const { elt, xhr, successful } = event.detail;
  if (!successful || !elt.dataset.tokens) return;
  const answer = JSON.parse(xhr.responseText);
  const place = document.querySelector(elt.dataset.tokens);
  const until = place.querySelector(".until");
  until.dateTime = answer.expires_at;
  until.title = answer.expires_at;
  until.textContent = new Date(answer.expires_at).toLocaleTimeString();
  place.querySelector("pre").textContent = answer.tokens.join("\n");
  place.hidden = false;
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("#tokens .copy");
  if (!button) return;
  const pre = button.parentElement.querySelector("pre");
  try {
    await navigator.clipboard.writeText(pre.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(pre); // no clipboard without https: it is at least selected
  }
});
