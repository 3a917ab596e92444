interface Answer {
  message?: string;
  hint?: string;
}

function parse(text: string): Answer {
  try {
    return JSON.parse(text) as Answer;
  } catch {
    return {};
  }
}

// upload sends a form with a file and shows how far it is.
export function upload(form: HTMLFormElement): void {
  const bar = form.querySelector<HTMLProgressElement>("progress");
  const note = form.querySelector<HTMLElement>("[data-note]");
  const button = form.querySelector<HTMLButtonElement>("button[type=submit]");
  if (!bar || !note || !button) return;
  const request = new XMLHttpRequest();
  const done = (text: string, failed: boolean): void => {
    note.textContent = text;
    note.classList.toggle("bad", failed);
    note.classList.toggle("good", !failed);
    bar.hidden = true;
    button.disabled = false;
  };
  request.open("POST", form.action);
  request.setRequestHeader("Accept", "application/json");
  request.upload.onprogress = (e) => {
    if (!e.lengthComputable) return;
    const percent = Math.floor((100 * e.loaded) / e.total);
    if (e.loaded < e.total) {
      bar.value = percent;
      note.textContent = `Uploading, ${percent} %`;
    } else {
      bar.removeAttribute("value"); // a bar that says "working"
      note.textContent = "Checking the signature and every hash…";
    }
  };
  request.onerror = () => done("The upload broke off. Check the connection and try again.", true);
  request.onload = () => {
    const { message = `The server answered with status ${request.status}.`, hint } = parse(request.responseText);
    if (request.status !== 201) {
      done(hint ? `${message} ${hint.charAt(0).toUpperCase()}${hint.slice(1)}.` : message, true);
      return;
    }
    form.reset();
    done(message, false);
  };
  button.disabled = true;
  bar.value = 0;
  bar.hidden = false;
  note.classList.remove("bad", "good");
  note.textContent = "Uploading…";
  request.send(new FormData(form));
}
