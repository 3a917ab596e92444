import "./htmx";
import "htmx.org/dist/ext/hx-sse.js";
import { followTail } from "./tail";
import { showTimes } from "./times";
import { upload } from "./upload";

document.addEventListener("submit", (e) => {
  const form = e.target;
  if (!(form instanceof HTMLFormElement)) return;
  if (form.dataset.upload !== undefined) {
    e.preventDefault();
    upload(form);
    return;
  }
  const question = (e.submitter as HTMLElement | null)?.dataset.confirm;
  if (question && !window.confirm(question)) e.preventDefault();
});

// "/" goes to the search field, as everywhere.
document.addEventListener("keydown", (e) => {
  const t = e.target;
  const typing = t instanceof HTMLInputElement || t instanceof HTMLTextAreaElement || t instanceof HTMLSelectElement;
  if (e.key !== "/" || typing || e.ctrlKey || e.metaKey || e.altKey) return;
  const search = document.querySelector<HTMLInputElement>("input[type=search]");
  if (search) {
    e.preventDefault();
    search.focus();
    search.select();
  }
});

// Copy buttons copy the text of the element they name.
document.addEventListener("click", (e) => {
  const button = (e.target as Element | null)?.closest<HTMLElement>("[data-copy]");
  const source = button && document.getElementById(button.dataset.copy ?? "");
  if (!button || !source) return;
  // Only pages reached by https or on this machine may use the clipboard;
  // elsewhere the text is selected for the keyboard.
  const select = (): void => window.getSelection()?.selectAllChildren(source);
  if (!navigator.clipboard) {
    select();
    return;
  }
  navigator.clipboard.writeText(source.textContent ?? "").then(() => {
    button.textContent = "Copied";
  }, select);
});

// The header tells whether the page is live.
const live = document.getElementById("live");
function mark(on: boolean): void {
  live?.classList.toggle("on", on);
  if (live) live.textContent = on ? "live" : "offline";
}
document.addEventListener("htmx:sse:after:connection", () => mark(true));
document.addEventListener("htmx:sse:close", () => mark(false));
document.addEventListener("htmx:sse:error", (e) => {
  mark(false);
  // The session ended: the page asks to sign in, and comes back.
  if ((e as CustomEvent<{ status?: number }>).detail.status === 401) window.location.reload();
});

// What was done is said once, not again after a reload.
const here = new URL(window.location.href);
if (here.searchParams.has("done")) {
  here.searchParams.delete("done");
  window.history.replaceState(null, "", here);
}

// A refused form is where the work goes on.
document.querySelector<HTMLElement>("form [role=alert]")?.closest("form")?.querySelector<HTMLElement>("input:not([type=hidden]), select")?.focus();

showTimes();
followTail();
