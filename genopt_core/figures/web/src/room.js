// The room of an explorer: how wide and how high it may be, and what of that is left for its picture.
// The height is the window's (or the notebook's) less what covers it, which scroll-margin-top says.

const WIDE = 700; // from here on the controls stand beside the panels
const LOW = 420; // a window lower than this scrolls

export class Room {
  constructor({ root, body, readout, controls, numbers, picture }) {
    Object.assign(this, { root, body, readout, numbers, picture });
    this.known = ""; // the size for which the height around the picture was found
    this.chrome = 0;
    this.tallest = 0; // of the readout, whose place is kept: a longer sentence must not move the picture
    this.look = this.look.bind(this);
    this.observer = new ResizeObserver(this.look);
    for (const node of [root, body, readout]) this.observer.observe(node);
    globalThis.addEventListener?.("resize", this.look);
    // While a reader moves something, the sentence that answers stays in sight.
    const moving = (on) => () => root.classList.toggle("gx-moving", on || controls.contains(document.activeElement));
    controls.addEventListener("pointerdown", moving(true));
    controls.addEventListener("focusin", moving(true));
    controls.addEventListener("focusout", moving(false));
    this.released = moving(false);
    globalThis.addEventListener?.("pointerup", this.released);
  }

  /** Height of the window, or of the notebook that scrolls in it, that an explorer may fill. */
  height() {
    let high = globalThis.innerHeight;
    if (this.root.classList.contains("gx-present")) return high;
    for (let node = this.root.parentElement; node && node !== document.body; node = node.parentElement) {
      const { clientHeight, scrollHeight } = node;
      if (clientHeight < high && scrollHeight > clientHeight + 1 && /auto|scroll/.test(getComputedStyle(node).overflowY)) high = clientHeight;
    }
    const { scrollMarginTop, marginBottom } = getComputedStyle(this.root);
    return high - (parseFloat(scrollMarginTop) || 0) - Math.min(8, parseFloat(marginBottom) || 0);
  }

  /** Measure, and tell the picture if its room changed. */
  look() {
    const { root, body, readout, numbers, picture } = this;
    const width = root.clientWidth;
    if (!width) return;
    const wide = width / picture.scale >= WIDE;
    const known = `${width} ${globalThis.innerHeight} ${picture.scale}`;
    if (known !== this.known) {
      this.known = known;
      this.chrome = this.tallest = 0;
      readout.style.minHeight = "";
      root.classList.toggle("gx-wide", wide);
      this.limit = this.height();
    }
    if (readout.offsetHeight > this.tallest) {
      this.tallest = readout.offsetHeight;
      readout.style.minHeight = `${this.tallest}px`;
    }
    if (!wide || this.limit / picture.scale < LOW) return picture.fit({ room: Infinity });
    if (numbers.open) return; // tables that the reader opened stand below all that must fit
    const high = this.ends();
    this.chrome = Math.max(this.chrome, Math.round(high - body.getBoundingClientRect().height));
    const room = Math.max(0, Math.floor(this.limit - this.chrome));
    if (room !== picture.room || picture.scale !== picture.fitted) picture.fit({ room });
    else if (high > this.limit && picture.node.offsetHeight === body.offsetHeight) picture.tighten(Math.ceil(high - this.limit));
  }

  /** How high all of the explorer is, wherever its own lower edge may be. */
  ends() {
    const { root } = this;
    const { paddingBottom, borderBottomWidth } = getComputedStyle(root);
    const foot = root.querySelector(":scope > .gx-foot").getBoundingClientRect().bottom;
    return foot - root.getBoundingClientRect().top + root.scrollTop + parseFloat(paddingBottom) + parseFloat(borderBottomWidth);
  }

  /** Everything is to be so much larger. */
  zoom(scale) {
    this.known = "";
    this.picture.scale = scale;
    this.look();
  }

  close() {
    this.observer.disconnect();
    globalThis.removeEventListener?.("resize", this.look);
    globalThis.removeEventListener?.("pointerup", this.released);
  }
}
