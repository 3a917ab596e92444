// A connection to the server that comes back by itself.

export interface Message {
  op: string;
  data?: string;
  message?: string;
  hint?: string;
  name?: string;
  rows?: number;
  cols?: number;
  size?: number;
  chunk?: number;
  files?: boolean;
}

export interface Listener {
  told(m: Message): void;
  state(name: "open" | "connecting" | "refused", text: string): void;
}

export interface Connection {
  send(m: Message): void;
  sendBytes(b: ArrayBuffer): void;
}

const first = 500; // ms until the second try
const longest = 15_000;
const ended = 4401; // the session is over: sign in again
const forbidden = 4403; // the role is gone

export function connect(path: string, on: Listener): Connection {
  let socket: WebSocket | undefined;
  let pause = first;
  let timer: number | undefined;

  const again = (): void => {
    const wait = pause * (0.75 + Math.random() / 2);
    pause = Math.min(2 * pause, longest);
    on.state("connecting", `connection lost; trying again in ${Math.max(1, Math.round(wait / 1000))} s`);
    timer = window.setTimeout(open, wait);
  };
  const refused = (text: string): void => on.state("refused", text);

  // A browser does not tell why a socket was refused; a plain request does.
  const why = async (): Promise<void> => {
    try {
      const r = await fetch(path, { headers: { Accept: "application/json" }, redirect: "manual" });
      if (r.type === "opaqueredirect" || r.status === 401) return window.location.reload();
      if (r.status === 403) return refused("you may not use this terminal any more");
      if (r.status === 404) return refused("the device is not there any more");
    } catch {
      // The server is away.
    }
    again();
  };

  const open = (): void => {
    window.clearTimeout(timer);
    let opened = false;
    // Not every browser takes an address without the host.
    const address = new URL(path, window.location.href);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    const s = new WebSocket(address);
    s.binaryType = "arraybuffer";
    socket = s;
    on.state("connecting", "connecting…");
    s.onopen = () => {
      opened = true;
      on.state("open", "connecting to the device…");
    };
    s.onmessage = (e) => {
      if (typeof e.data !== "string") return;
      pause = first;
      on.told(JSON.parse(e.data) as Message);
    };
    s.onclose = (e) => {
      if (socket !== s) return;
      socket = undefined;
      if (e.code === ended) window.location.reload();
      else if (e.code === forbidden) refused(e.reason || "you may not use this terminal any more");
      else if (!opened) void why();
      else again();
    };
  };
  open();
  // A network that is back is not waited for.
  window.addEventListener("online", () => {
    if (!socket) open();
  });
  const ready = (): WebSocket | undefined => (socket?.readyState === WebSocket.OPEN ? socket : undefined);
  return { send: (m) => ready()?.send(JSON.stringify(m)), sendBytes: (b) => ready()?.send(b) };
}
