// Who asks to see this desktop, or sees it, stands above everything, a full screen included.
//
// The box comes from the broker with what it says. A popover is above what was there before it was
// shown, and outside of a full screen nothing can be clicked: so the box goes where the person
// looks, and is shown anew whenever either changes.
const raise = () => {
  const box = document.getElementById("shadows");
  if (!box) return;
  const place = document.fullscreenElement ?? document.getElementById("main");
  const watched = box.dataset.watched !== undefined;
  if (box.parentElement !== place) place.prepend(box); // which hides it
  if (!box.showPopover) return; // an older browser shows it at its place in the page
  const shown = box.matches(":popover-open");
  if (watched && !shown) box.showPopover();
  else if (shown && !watched) box.hidePopover();
};

document.addEventListener("htmx:afterSettle", raise);
document.addEventListener("fullscreenchange", raise);
raise();
