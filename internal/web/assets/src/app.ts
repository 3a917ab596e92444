import "./htmx";
import "htmx.org/dist/ext/hx-sse.js";

// Forms with a file show how far the upload is.
function upload(form: HTMLFormElement): void {
  const bar = form.querySelector<HTMLProgressElement>("progress");
  const note = form.querySelector<HTMLElement>("[data-note]");
  const button = form.querySelector<HTMLButtonElement>("button[type=submit]");
  if (!bar || !note || !button) return;
  const request = new XMLHttpRequest();
  request.open("POST", form.action);
  request.setRequestHeader("Accept", "application/json");
  request.upload.onprogress = (e) => {
    if (!e.lengthComputable) return;
    bar.hidden = false;
    bar.max = e.total;
    bar.value = e.loaded;
    note.textContent = e.loaded < e.total ? `${Math.floor((100 * e.loaded) / e.total)} %` : "verifying…";
  };
  const done = (text: string, failed: boolean) => {
    note.textContent = text;
    note.classList.toggle("bad", failed);
    bar.hidden = true;
    button.disabled = false;
  };
  request.onerror = () => done("The upload broke off. Check the connection and try again.", true);
  request.onload = () => {
    let message = "";
    try {
      message = (JSON.parse(request.responseText) as { message?: string }).message ?? "";
    } catch {
      message = "";
    }
    if (request.status === 201) {
      form.reset();
      done(message, false);
    } else {
      done(message || `The server answered with status ${request.status}.`, true);
    }
  };
  button.disabled = true;
  note.classList.remove("bad");
  note.textContent = "uploading…";
  request.send(new FormData(form));
}

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
  void navigator.clipboard.writeText(source.textContent ?? "").then(() => {
    button.textContent = "Copied";
  });
});

// The dot in the header tells whether the page is live.
const live = document.getElementById("live");
for (const [event, on] of [
  ["htmx:sse:after:connection", true],
  ["htmx:sse:error", false],
  ["htmx:sse:close", false],
] as const) {
  document.addEventListener(event, () => live?.classList.toggle("on", on));
}
