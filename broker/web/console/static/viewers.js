// A request whose answer is a file: the element that asks has data-saves. A plain form would do,
// but the console's cookie opens nothing without the header that scripts send.
const KEPT_MS = 60_000;

const nameOf = (xhr) => /filename="([^"]+)"/.exec(xhr.getResponseHeader("Content-Disposition") ?? "")?.[1];

document.addEventListener("htmx:afterRequest", (event) => {
  const { elt, xhr, successful } = event.detail;
  if (!successful || elt.dataset.saves === undefined) return;
  const type = xhr.getResponseHeader("Content-Type") ?? "application/octet-stream";
  const address = URL.createObjectURL(new Blob([xhr.responseText], { type }));
  const link = document.createElement("a");
  link.href = address;
  link.download = nameOf(xhr) ?? "desktop";
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), KEPT_MS);
});
