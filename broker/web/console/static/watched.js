// Who asks to see this desktop, or sees it, stands above everything, a full screen included.
//
// The box comes from the broker with what it says. A popover is above what was there before it was
// shown, and outside of a full screen nothing can be clicked: so the box goes where the person
// looks, and is shown anew whenever either changes. A question can be allowed only once it has been
// there for a moment: a click that was meant for the desktop under it is no yes.
const MOMENT_MS = 1000;
const since = new Map(); // question -> when it appeared, ms

const letAnswer = () => {
  for (const button of document.querySelectorAll("#shadows button[data-allow]:disabled")) {
    const question = button.dataset.allow;
    const appeared = since.get(question) ?? performance.now();
    since.set(question, appeared);
    const left = appeared + MOMENT_MS - performance.now();
    if (left > 0) {
      setTimeout(letAnswer, left);
      continue;
    }
    button.disabled = false;
    button.closest(".watcher").querySelector("[role=status]").textContent = "You can answer now.";
  }
};

const raise = () => {
  const box = document.getElementById("shadows");
  if (!box) return;
  const place = document.fullscreenElement ?? document.getElementById("main");
  const watched = box.dataset.watched !== undefined;
  if (box.parentElement !== place) place.prepend(box); // which hides it
  if (!box.showPopover) {
    letAnswer(); // an older browser shows it at its place in the page
    return;
  }
  const shown = box.matches(":popover-open");
  if (watched && !shown) box.showPopover();
  else if (shown && !watched) box.hidePopover();
  letAnswer();
};

document.addEventListener("htmx:afterSettle", raise);
document.addEventListener("fullscreenchange", raise);
raise();
