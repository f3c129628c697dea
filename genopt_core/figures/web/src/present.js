// One figure alone in the window, larger, for a projector: full screen where the browser allows it, else
// on top of the page.  Escape closes it, the focus stays inside and goes back where it was.
const LARGER = 1.4; // at least
const MOST = 2.6;
const DESK = [1180, 660]; // pixels across and down that a figure wants for itself
const REACHED = "button:not([disabled]), input, select, summary, [tabindex='0'], a[href]";

export class Present {
  /** ``changed(scale)`` is called when the figure is to be drawn so much larger, or 1 for as before. */
  constructor({ root, button, changed }) {
    Object.assign(this, { root, button, changed, open: false });
    this.close = this.close.bind(this);
    this.key = this.key.bind(this);
    this.size = this.size.bind(this);
    this.screen = () => this.full && !document.fullscreenElement && this.close();
    button.addEventListener("click", () => (this.open ? this.close() : this.show()));
  }

  async show() {
    const { root, button } = this;
    this.open = true;
    this.before = document.activeElement;
    // its place in the page stays, so that nothing has moved afterwards
    this.hold = document.createElement("div");
    this.hold.style.height = `${root.offsetHeight}px`;
    root.before(this.hold);
    root.classList.add("gx-present");
    button.textContent = "Close";
    this.quiet();
    root.addEventListener("keydown", this.key);
    document.addEventListener("fullscreenchange", this.screen);
    globalThis.addEventListener("resize", this.size);
    try {
      await root.requestFullscreen();
      this.full = true;
      if (!this.open) document.exitFullscreen?.();
    } catch {
      this.full = false; // not allowed here: the top layer of the page is as good
      if (this.open && root.showPopover) {
        root.setAttribute("popover", "manual");
        root.showPopover();
      }
    }
    if (!this.open) return;
    this.size();
    button.focus({ preventScroll: true });
  }

  size() {
    const scale = Math.min(MOST, Math.max(LARGER, Math.min(globalThis.innerWidth / DESK[0], globalThis.innerHeight / DESK[1])));
    this.root.style.setProperty("--gx-rem", `${scale.toFixed(3)}rem`);
    this.changed(scale);
  }

  /** All that is not the figure takes no focus and is silent. */
  quiet() {
    this.silenced = [];
    for (let node = this.root; node.parentElement && node !== document.body; node = node.parentElement) {
      for (const other of node.parentElement.children) {
        if (other === node || other.inert || other.tagName === "SCRIPT" || other.tagName === "STYLE") continue;
        other.inert = true;
        this.silenced.push(other);
      }
    }
  }

  key(event) {
    if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      this.close();
    } else if (event.key === "Tab") {
      const reached = [...this.root.querySelectorAll(REACHED)].filter((node) => node.getClientRects().length);
      const [from, to] = event.shiftKey ? [reached[0], reached.at(-1)] : [reached.at(-1), reached[0]];
      if (document.activeElement !== from) return;
      event.preventDefault();
      to.focus();
    }
  }

  close() {
    if (!this.open) return;
    const { root, button } = this;
    this.open = false;
    root.removeEventListener("keydown", this.key);
    document.removeEventListener("fullscreenchange", this.screen);
    globalThis.removeEventListener("resize", this.size);
    if (document.fullscreenElement === root) document.exitFullscreen().catch(() => {});
    if (root.hasAttribute("popover")) {
      root.hidePopover();
      root.removeAttribute("popover");
    }
    for (const other of this.silenced) other.inert = false;
    root.classList.remove("gx-present");
    root.style.removeProperty("--gx-rem");
    this.hold.remove();
    button.textContent = "Present";
    this.changed(1);
    (this.before?.isConnected && this.before !== document.body ? this.before : button).focus({ preventScroll: true });
  }
}
