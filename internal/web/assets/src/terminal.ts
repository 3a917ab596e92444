import "./terminal.css";
import { FitAddon } from "@xterm/addon-fit";
import { Terminal } from "@xterm/xterm";
import { connect, type Message } from "./connection";
import { Downloads, Upload, maxFile, sizeText } from "./transfer";

// The terminal of a device. What is typed goes to the server as it is; what
// the device prints comes to every viewer alike.

const maxInput = 16 << 10; // characters of one message; a paste becomes several

// allowStyles lets the terminal's own style elements pass the page's policy,
// which takes styles of this site and those with the nonce.
function allowStyles(): void {
  const nonce = document.querySelector<HTMLLinkElement>("link[nonce]")?.nonce ?? "";
  const create = document.createElement.bind(document);
  document.createElement = ((name: string, options?: ElementCreationOptions) => {
    const e = create(name, options);
    if (name === "style") e.nonce = nonce;
    return e;
  }) as typeof document.createElement;
}

const themes = {
  light: {
    background: "#fdfdfd", foreground: "#1b2028", cursor: "#0b63ce", cursorAccent: "#ffffff", selectionBackground: "#b9d4f5",
    black: "#1b2028", red: "#b3261e", green: "#17793b", yellow: "#8f5a00", blue: "#0b63ce", magenta: "#8e3b9e", cyan: "#0b7285", white: "#5c6672",
    brightBlack: "#5c6672", brightRed: "#c4352c", brightGreen: "#1c8a45", brightYellow: "#a36800", brightBlue: "#2474dc", brightMagenta: "#a14cb0", brightCyan: "#13839a", brightWhite: "#12151a",
  },
  dark: {
    background: "#10141a", foreground: "#e6e9ee", cursor: "#6aa9ff", cursorAccent: "#10141a", selectionBackground: "#2d4a70",
    black: "#343c48", red: "#ff8a80", green: "#5fd38a", yellow: "#f0b44c", blue: "#6aa9ff", magenta: "#d79bea", cyan: "#6fd3e0", white: "#d5dae1",
    brightBlack: "#97a2b0", brightRed: "#ffa8a0", brightGreen: "#83e3a6", brightYellow: "#f7ca7d", brightBlue: "#94c1ff", brightMagenta: "#e5bbf2", brightCyan: "#98e4ee", brightWhite: "#ffffff",
  },
};

function run(screen: HTMLElement): void {
  allowStyles();
  const $ = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;
  const card = screen.closest<HTMLElement>(".terminal-card") ?? screen;
  const state = $("state");
  const files = $<HTMLInputElement>("file");
  const restart = $<HTMLButtonElement>("restart");
  const send = $<HTMLButtonElement>("send-file");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  const term = new Terminal({
    cursorBlink: !window.matchMedia("(prefers-reduced-motion: reduce)").matches,
    fontFamily: 'ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace',
    fontSize: 14,
    scrollback: 5000,
    screenReaderMode: false,
    minimumContrastRatio: 4.5,
    theme: dark.matches ? themes.dark : themes.light,
  });
  const fit = new FitAddon();
  term.loadAddon(fit);
  term.open(screen);
  // Titles and the like come from the device; links it prints are text only.
  term.textarea?.setAttribute("aria-label", screen.getAttribute("aria-label") ?? "Terminal");
  dark.addEventListener("change", () => (term.options.theme = dark.matches ? themes.dark : themes.light));
  // The tabulator belongs to the shell; this leads the keyboard out again.
  term.attachCustomKeyEventHandler((e) => {
    if (e.ctrlKey && e.shiftKey && e.key === "Escape") {
      if (e.type === "keydown") restart.focus();
      return false;
    }
    return true;
  });

  let ready = false;
  let takesFiles = false;
  const say = (name: string, text: string): void => {
    state.dataset.state = name;
    if (state.textContent !== text) state.textContent = text;
    ready = name === "ready";
    restart.disabled = !ready && name !== "exited" && name !== "failed";
    send.disabled = files.disabled = !takesFiles || !ready;
  };

  const words: Record<string, (m: Message) => string> = {
    ready: () => "connected",
    absent: () => screen.dataset.absent ?? "the device does not offer it",
    offline: () => "the device is offline; the terminal comes alive when it connects",
    waiting: (m) => (m.hint ? `${m.message}: ${m.hint}` : (m.message ?? "waiting")),
    failed: (m) => `it could not be started${m.name ? `: ${m.name}` : ""}`,
    exited: (m) => `the program ended${m.name ? ` with ${m.name}` : ""}; type or press Restart to start it again`,
    busy: () => "somebody else is sending a file",
    overrun: () => "the device takes input too slowly; some of it was dropped",
  };

  const note = $("transfer-note");
  const upload = new Upload(
    $<HTMLProgressElement>("transfer-bar"),
    $("transfer"),
    note,
    (m) => link.send(m),
    (piece) => link.sendBytes(piece),
  );
  const downloads = new Downloads($("downloads"), $("transfer"), note);

  const told = (m: Message): void => {
    switch (m.op) {
      case "data":
        term.write(m.data ?? "");
        break;
      case "replay":
        // What was printed before takes the place of what is on the screen.
        term.reset();
        term.write(m.data ?? "");
        break;
      case "status": {
        const name = m.data ?? "";
        if (name === "ready") takesFiles = m.files === true;
        if (name === "busy" || name === "overrun") {
          $("transfer").hidden = false;
          note.textContent = words[name]?.(m) ?? name;
          break;
        }
        say(name, words[name]?.(m) ?? name);
        if (name === "ready") size();
        break;
      }
      case "sent":
      case "sent_all":
      case "file_problem":
        upload.told(m);
        break;
      case "file_start":
      case "file_data":
      case "file_stop":
        downloads.told(m);
        break;
      case "problem":
        $("transfer").hidden = false;
        note.textContent = m.message ?? "";
        break;
    }
  };

  const link = connect(screen.dataset.socket ?? "", {
    told,
    state: (name, text) => {
      takesFiles = takesFiles && name === "ready";
      if (name !== "open") upload.broken();
      say(name === "open" ? "connecting" : name, text);
    },
  });

  const size = (): void => {
    fit.fit();
    if (ready) link.send({ op: "resize", rows: term.rows, cols: term.cols });
  };
  let resting: number | undefined;
  new ResizeObserver(() => {
    window.clearTimeout(resting);
    resting = window.setTimeout(size, 100);
  }).observe(screen);
  size();

  term.onData((data) => {
    if (!ready && state.dataset.state !== "exited") return;
    for (let i = 0; i < data.length; ) {
      // A pair of code units that is one character stays together.
      let end = Math.min(i + maxInput, data.length);
      const last = data.charCodeAt(end - 1);
      if (end < data.length && last >= 0xd800 && last < 0xdc00) end--;
      link.send({ op: "data", data: data.slice(i, end) });
      i = end;
    }
  });

  restart.addEventListener("click", () => {
    if (!window.confirm("Start the program anew, for all who look at it?")) return;
    link.send({ op: "restart" });
    term.focus();
  });
  $("fullscreen").addEventListener("click", () => {
    if (document.fullscreenElement) void document.exitFullscreen();
    else void card.requestFullscreen().then(() => term.focus());
  });
  $("clear").addEventListener("click", () => {
    term.clear();
    term.focus();
  });
  send.addEventListener("click", () => files.click());
  $("transfer-close").addEventListener("click", () => {
    upload.cancel();
    $("transfer").hidden = true;
    term.focus();
  });

  const give = (file: File | undefined): void => {
    if (!file) return;
    if (send.disabled || file.size > maxFile) {
      $("transfer").hidden = false;
      note.textContent = send.disabled ? "The device takes no files now." : `A file may have ${sizeText(maxFile)}; this one has ${sizeText(file.size)}.`;
      return;
    }
    upload.start(file);
  };
  files.addEventListener("change", () => {
    give(files.files?.[0]);
    files.value = "";
  });
  if (!files.dataset.none) {
    card.addEventListener("dragover", (e) => {
      e.preventDefault();
      card.classList.add("dropping");
    });
    card.addEventListener("dragleave", (e) => {
      if (!card.contains(e.relatedTarget as Node | null)) card.classList.remove("dropping");
    });
    card.addEventListener("drop", (e) => {
      e.preventDefault();
      card.classList.remove("dropping");
      give(e.dataTransfer?.files[0]);
    });
  }
  term.focus();
  // For who looks from outside: what the screen shows, as text.
  Object.assign(window, {
    terminalText: (): string => {
      const b = term.buffer.active;
      return Array.from({ length: b.length }, (_, i) => b.getLine(i)?.translateToString(true) ?? "").join("\n");
    },
  });
}

const screen = document.getElementById("terminal");
if (screen) run(screen);
