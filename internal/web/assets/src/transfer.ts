import type { Message } from "./connection";

// Files to and from a device, one at a time each way.

export const maxFile = 10 << 20; // bytes, as the server has it
const piece = 16 << 10;
const ahead = 64 << 10; // bytes that may be on the way

export function sizeText(n: number): string {
  if (n >= 1 << 20) return `${(n / (1 << 20)).toFixed(1)} MiB`;
  if (n >= 1 << 10) return `${(n / (1 << 10)).toFixed(1)} KiB`;
  return `${n} B`;
}

export class Upload {
  private file: File | undefined;
  private given = 0;
  private taken = 0;
  private reading = false;

  constructor(
    private readonly bar: HTMLProgressElement,
    private readonly box: HTMLElement,
    private readonly note: HTMLElement,
    private readonly send: (m: Message) => void,
    private readonly sendBytes: (b: ArrayBuffer) => void,
  ) {}

  start(file: File): void {
    if (this.file) {
      this.note.textContent = `${this.file.name} is still on its way.`;
      return;
    }
    this.file = file;
    this.given = this.taken = 0;
    this.box.hidden = this.bar.hidden = false;
    this.bar.value = 0;
    this.note.textContent = `Sending ${file.name}, ${sizeText(file.size)}`;
    this.send({ op: "file_start", name: file.name, size: file.size });
    void this.more();
  }

  // more gives pieces while the server has taken what came before.
  private async more(): Promise<void> {
    const file = this.file;
    if (!file || this.reading) return;
    this.reading = true;
    try {
      while (this.file === file && this.given < file.size && this.given - this.taken < ahead) {
        const end = Math.min(this.given + piece, file.size);
        const bytes = await file.slice(this.given, end).arrayBuffer();
        if (this.file !== file) return;
        this.given = end;
        this.sendBytes(bytes);
      }
    } catch {
      this.send({ op: "file_cancel" });
      this.end("The file can not be read.");
    } finally {
      this.reading = false;
    }
  }

  told(m: Message): void {
    if (!this.file) return;
    if (m.op === "sent") {
      this.taken = m.size ?? 0;
      const percent = this.file.size > 0 ? Math.floor((100 * this.taken) / this.file.size) : 100;
      this.bar.value = percent;
      this.note.textContent = `Sending ${this.file.name}, ${percent} % of ${sizeText(this.file.size)}`;
      void this.more();
    } else if (m.op === "sent_all") {
      this.end(`Sent ${this.file.name}.`);
    } else {
      this.end(`${this.file.name} was not sent: ${m.message ?? "the device did not take it"}.`);
    }
  }

  cancel(): void {
    if (!this.file) return;
    this.send({ op: "file_cancel" });
    this.end(`${this.file.name} was not sent to its end.`);
  }

  broken(): void {
    if (this.file) this.end(`${this.file.name} was not sent to its end: the connection broke.`);
  }

  private end(text: string): void {
    this.file = undefined;
    this.bar.hidden = true;
    this.note.textContent = text;
  }
}

const kept = 5; // files that can be saved

export class Downloads {
  private name: string | undefined;
  private parts: BlobPart[] = [];
  private size = 0;

  constructor(
    private readonly list: HTMLElement,
    private readonly box: HTMLElement,
    private readonly note: HTMLElement,
  ) {}

  told(m: Message): void {
    if (m.op === "file_start") {
      this.name = m.name;
      this.parts = [];
      this.size = 0;
      return;
    }
    if (this.name === undefined || m.name !== this.name) return;
    if (m.op === "file_data") {
      const bytes = Uint8Array.from(atob(m.data ?? ""), (c) => c.charCodeAt(0));
      this.size += bytes.length;
      if (this.size > maxFile) {
        this.box.hidden = false;
        this.note.textContent = `${this.name} is larger than ${sizeText(maxFile)} and was dropped.`;
        this.name = undefined;
        this.parts = [];
        return;
      }
      this.parts.push(bytes);
      return;
    }
    this.offer(this.name, new Blob(this.parts, { type: "application/octet-stream" }));
    this.name = undefined;
    this.parts = [];
  }

  private offer(name: string, content: Blob): void {
    const link = document.createElement("a");
    link.className = "button";
    link.href = URL.createObjectURL(content);
    link.download = name;
    link.textContent = `Save ${name} (${sizeText(content.size)})`;
    const item = document.createElement("li");
    item.append(link);
    this.list.append(item);
    if (this.list.children.length > kept) {
      const old = this.list.firstElementChild;
      URL.revokeObjectURL(old?.querySelector("a")?.href ?? "");
      old?.remove();
    }
    this.box.hidden = false;
    this.note.textContent = "The device offers a file.";
  }
}
