// Times stand in the page in UTC. People get them relative to now while they
// are near, and in their own zone and language otherwise.

const steps: [number, Intl.RelativeTimeFormatUnit][] = [
  [60, "second"],
  [3600, "minute"],
  [86400, "hour"],
];
const relative = new Intl.RelativeTimeFormat(undefined, { style: "short" });
const absolute = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

function words(at: number, now: number): string {
  const seconds = Math.round((at - now) / 1000);
  if (Math.abs(seconds) < 5) return "just now";
  let size = 1;
  for (const [end, unit] of steps) {
    if (Math.abs(seconds) < end) return relative.format(Math.trunc(seconds / size), unit);
    size = end;
  }
  return absolute.format(at);
}

const second = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });

// exact is the time to the millisecond, with the day for what is not of today.
function exact(at: number): string {
  const same = new Date(at).toDateString() === new Date().toDateString();
  return same ? second.format(at) : `${day.format(at)} ${second.format(at)}`;
}

function rewrite(): void {
  const now = Date.now();
  for (const e of document.querySelectorAll<HTMLTimeElement>("time[datetime]")) {
    const at = Date.parse(e.dateTime);
    if (Number.isNaN(at)) continue;
    const text = e.dataset.exact === undefined ? words(at, now) : exact(at);
    // Only what differs is written: this runs after every change of the page.
    if (e.textContent !== text) e.textContent = text;
  }
}

export function showTimes(): void {
  rewrite();
  window.setInterval(rewrite, 10_000);
  // Runs before the browser paints, so what the server sent is never seen.
  new MutationObserver(rewrite).observe(document.body, { childList: true, subtree: true, characterData: true });
}
