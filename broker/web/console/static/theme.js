// Runs before the page is painted: the theme that the person chose, else the system's.
(() => {
  const KEY = "trivium.theme";
  const root = document.documentElement;
  const kept = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage may be switched off; the system's theme is good enough
    }
  };
  const apply = (theme) => {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
  };
  const system = matchMedia("(prefers-color-scheme: dark)");
  const current = () => root.dataset.theme ?? (system.matches ? "dark" : "light");
  const label = () => {
    for (const button of document.querySelectorAll("[data-theme-button]")) {
      const next = current() === "dark" ? "light" : "dark";
      button.setAttribute("aria-label", `Use the ${next} theme`);
      button.title = `Use the ${next} theme`;
    }
  };
  const tell = () => {
    label();
    document.dispatchEvent(new CustomEvent("theme"));
  };

  apply(kept());
  system.addEventListener("change", tell);
  addEventListener("storage", (event) => {
    if (event.key !== KEY) return;
    apply(event.newValue);
    tell();
  });
  document.addEventListener("DOMContentLoaded", label);
  document.addEventListener("click", (event) => {
    if (!event.target.closest?.("[data-theme-button]")) return;
    const next = current() === "dark" ? "light" : "dark";
    apply(next);
    try {
      localStorage.setItem(KEY, next);
    } catch {
      // kept for this page only
    }
    tell();
  });
})();
