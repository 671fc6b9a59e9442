// Three small plots over one time axis: what each architecture did in the last ten minutes.
const HEIGHT = 165;
const KEPT_S = 600;
const SHOWN_S_MIN = 120; // a broker that has just begun does not stretch seconds over the plot
const ARCHITECTURES = ["vdi", "idv", "voi"];
const DASHES = { vdi: [], idv: [7, 3], voi: [2, 3] }; // told apart without colour too

const minute = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const second = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});

const box = document.getElementById("plots");
const probe = document.createElement("span");
probe.hidden = true;
box.append(probe);
const colour = (token) => {
  probe.style.color = `var(--${token})`;
  return getComputedStyle(probe).color;
};

const series = { at: [] }; // seconds; then what -> architecture -> numbers
const plots = new Map();

const lines = (what) => [series.at, ...ARCHITECTURES.map((one) => series[what]?.[one] ?? [])];

const axis = (size) => ({
  stroke: () => colour("muted"),
  grid: { stroke: () => colour("line"), width: 1 },
  ticks: { show: false },
  font: "11px system-ui, sans-serif",
  size,
});

const options = (width) => ({
  width,
  height: HEIGHT,
  cursor: { sync: { key: "overview" }, drag: { x: false, y: false }, points: { size: 6 } },
  legend: { live: true, markers: { fill: (_plot, index) => colour(ARCHITECTURES[index - 1] ?? "muted") } },
  scales: {
    x: { time: true, range: (_plot, low, high) => [Math.min(low, high - SHOWN_S_MIN), high] },
    y: { range: (_plot, _low, high) => [0, Math.max(4, Math.ceil((high ?? 0) * 1.1))] },
  },
  axes: [
    {
      ...axis(26),
      space: 70,
      incrs: [30, 60, 120, 300],
      values: (_plot, ticks, _axis, _space, step) =>
        ticks.map((tick) => (step < 60 ? second : minute).format(tick * 1000)),
    },
    { ...axis(38), incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000] },
  ],
  series: [
    { label: "", value: (_plot, at) => (at ? second.format(at * 1000) : "now") },
    ...ARCHITECTURES.map((one) => ({
      label: one.toUpperCase(),
      stroke: () => colour(one),
      width: 1.75,
      dash: DASHES[one],
      points: { show: false },
      // without a pointer over the plot: the newest sample
      value: (plot, value, index) => (value ?? plot.data[index].at(-1) ?? 0).toLocaleString(),
    })),
  ],
});

const draw = () => {
  for (const figure of box.querySelectorAll("[data-what]")) {
    const { what } = figure.dataset;
    const plot = plots.get(what);
    if (plot) plot.setData(lines(what));
    else {
      plots.set(what, new uPlot(options(figure.clientWidth), lines(what), figure));
      // its numbers are in the legend beneath, as text
      figure.querySelector("canvas").setAttribute("aria-hidden", "true");
    }
  }
};

const merge = (fresh) => {
  series.at.push(...fresh.at.map((ms) => ms / 1000));
  const past = (series.at.at(-1) ?? 0) - KEPT_S;
  const drop = series.at.findIndex((at) => at >= past);
  if (drop > 0) series.at.splice(0, drop);
  for (const [what, byArchitecture] of Object.entries(fresh.counts)) {
    for (const [architecture, numbers] of Object.entries(byArchitecture)) {
      const kept = ((series[what] ??= {})[architecture] ??= []);
      kept.push(...numbers);
      if (drop > 0) kept.splice(0, drop);
    }
  }
};

let under = false;
const fetchMore = async () => {
  if (under) return;
  under = true;
  try {
    const after = Math.round((series.at.at(-1) ?? 0) * 1000);
    const answer = await fetch(`${box.dataset.series}?after=${after}`);
    if (!answer.ok) return;
    merge(await answer.json());
    draw();
    box.dataset.samples = String(series.at.length);
  } catch {
    // the broker is away: the sign in the corner says so, and the next hint tries again
  } finally {
    under = false;
  }
};

box.addEventListener("refresh", fetchMore);
document.addEventListener("theme", () => plots.forEach((plot) => plot.redraw(false)));
new ResizeObserver(() => {
  for (const [what, plot] of plots) {
    const width = box.querySelector(`[data-what=${what}]`).clientWidth;
    if (width !== plot.width) plot.setSize({ width, height: HEIGHT });
  }
}).observe(box);
fetchMore();
