// A log follows its end while that is in sight. Who scrolled up to read stays
// where he is: the browser anchors what he looks at.

const near = 24; // pixels from the end that still count as the end

export function followTail(): void {
  const section = document.getElementById("log");
  if (!section) return;
  let atEnd = true;
  let box: HTMLElement | null = null;
  const look = (): void => {
    const found = section.querySelector<HTMLElement>("[data-tail]");
    if (found !== box) {
      box = found;
      box?.addEventListener("scroll", () => {
        if (box) atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < near;
      });
    }
    if (box && atEnd) box.scrollTop = box.scrollHeight;
  };
  look();
  new MutationObserver(look).observe(section, { childList: true, subtree: true });
}
