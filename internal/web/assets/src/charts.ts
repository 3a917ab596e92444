import "./charts.css";
import uPlot from "uplot";
import type { AlignedData, Options } from "uplot";

// Charts of a device's metrics. The page names where the numbers are; they are
// fetched again when the page shows a newer report.

interface Series {
  name: string;
  label: string;
  step: number; // seconds that one point stands for; 0: points are single values
  at: number[]; // seconds since 1970
  value: number[];
  min: number[];
  max: number[];
}
interface Answer {
  since: number;
  until: number;
  series: Series[];
}

const box = document.getElementById("charts");
const empty = document.getElementById("charts-empty");
const height = 170;
const plots = new Map<string, { plot: uPlot; card: HTMLElement; range: { since: number; until: number } }>();
const dark = window.matchMedia("(prefers-color-scheme: dark)");

// color resolves a colour of the page as the canvas needs it.
function color(name: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

// gaps puts a hole where the device was silent, so that no line is drawn there.
function gaps(s: Series): AlignedData {
  const usual = s.at.slice(1).map((t, i) => t - (s.at[i] ?? t)).sort((a, b) => a - b);
  const limit = Math.max(3 * (usual[Math.floor(usual.length / 2)] ?? 0), 2.5 * s.step, 1);
  const at: number[] = [];
  const rows: (number | null)[][] = [[], [], []];
  s.at.forEach((t, i) => {
    const before = s.at[i - 1];
    if (before !== undefined && t - before > limit) {
      at.push(before + limit / 2);
      for (const row of rows) row.push(null);
    }
    at.push(t);
    [s.value, s.min, s.max].forEach((list, k) => rows[k]?.push(list[i] ?? null));
  });
  return [at, ...rows] as AlignedData;
}

const number = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 5 });

function options(s: Series, width: number, range: { since: number; until: number }): Options {
  const line = color("--accent");
  const axis = { stroke: color("--soft"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line"), width: 1 } };
  const show = (_: uPlot, v: number | null): string => (v === null ? "–" : number.format(v));
  const few = s.at.length < 60;
  return {
    width,
    height,
    scales: {
      x: { range: () => [range.since, range.until] },
      y: { range: (_, low, high) => (low === high ? [low - 1, high + 1] : uPlot.rangeNum(low, high, 0.1, true)) },
    },
    axes: [axis, { ...axis, size: 64, values: (_, list) => list.map((v) => number.format(v)) }],
    series: [
      {},
      { label: "mean", stroke: line, width: 1.6, points: { show: few, size: 5 }, value: show },
      { label: "least", stroke: "transparent", points: { show: false }, value: show },
      { label: "most", stroke: "transparent", points: { show: false }, value: show },
    ],
    bands: [{ series: [3, 2], fill: color("--band") }],
    cursor: { points: { show: false }, y: false },
    legend: { live: true },
  };
}

function draw(answer: Answer): void {
  if (!box || !empty) return;
  empty.hidden = answer.series.length > 0;
  const names = new Set(answer.series.map((s) => s.name));
  for (const [name, { plot, card }] of plots) {
    if (names.has(name)) continue;
    plot.destroy();
    card.remove();
    plots.delete(name);
  }
  for (const s of answer.series) {
    const known = plots.get(s.name);
    if (known) {
      Object.assign(known.range, { since: answer.since, until: answer.until });
      known.plot.setData(gaps(s));
      continue;
    }
    const card = document.createElement("figure");
    card.className = "card chart";
    card.dataset.metric = s.name;
    const title = document.createElement("figcaption");
    const last = s.value[s.value.length - 1];
    title.textContent = s.label;
    card.setAttribute("aria-label", `${s.label}, last ${last === undefined ? "unknown" : number.format(last)}`);
    card.append(title);
    box.append(card);
    const range = { since: answer.since, until: answer.until };
    plots.set(s.name, { plot: new uPlot(options(s, inner(card), range), gaps(s), card), card, range });
  }
}

function inner(card: HTMLElement): number {
  const style = getComputedStyle(card);
  return Math.max(120, card.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight));
}

let wanted = 0;
async function load(): Promise<void> {
  const source = box?.dataset.source;
  if (!box || !source) return;
  const mine = ++wanted;
  try {
    const response = await fetch(source, { headers: { Accept: "application/json" } });
    if (!response.ok || mine !== wanted) return;
    draw((await response.json()) as Answer);
    box.dataset.drawn = String(plots.size);
  } catch {
    // The page says that it is offline; the next report brings the charts on.
  }
}

function forget(): void {
  for (const { plot, card } of plots.values()) {
    plot.destroy();
    card.remove();
  }
  plots.clear();
}

if (box) {
  let width = box.clientWidth;
  new ResizeObserver(() => {
    if (box.clientWidth === width) return;
    width = box.clientWidth;
    for (const { plot, card } of plots.values()) plot.setSize({ width: inner(card), height });
  }).observe(box);
  // Colours are painted; others need another painting.
  dark.addEventListener("change", () => {
    forget();
    void load();
  });
  let seen: string | undefined;
  const look = (): void => {
    const now = document.querySelector<HTMLElement>("[data-report]")?.dataset.report;
    if (now === seen) return;
    seen = now;
    void load();
  };
  const health = document.getElementById("health");
  if (health) new MutationObserver(look).observe(health, { subtree: true, childList: true, attributes: true, attributeFilter: ["data-report"] });
  look();
  if (seen === undefined) void load();
}
