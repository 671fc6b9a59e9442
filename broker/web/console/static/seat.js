// Finds the computer where somebody sits while its name is typed: the list comes from the broker.
const PAUSE_MS = 250;
let timer = 0;

const look = async (field) => {
  const address = `${field.dataset.seats}&text=${encodeURIComponent(field.value)}`;
  const answer = await fetch(address);
  const list = document.getElementById(field.getAttribute("list"));
  if (!answer.ok || !list) return;
  const { seats } = await answer.json();
  list.replaceChildren(
    ...seats.map(({ name, words }) => {
      const option = document.createElement("option");
      option.value = name;
      option.label = words ? `${name} · ${words}` : name;
      return option;
    }),
  );
};

const soon = (event) => {
  if (!event.target.dataset?.seats) return;
  clearTimeout(timer);
  timer = setTimeout(look, event.type === "focusin" ? 0 : PAUSE_MS, event.target);
};

document.addEventListener("input", soon);
document.addEventListener("focusin", soon);
