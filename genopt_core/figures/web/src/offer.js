// What an explorer says about Python: the button that starts the one of the page, how far the start is,
// and what takes the picture's place when a setting needs it.
import { QUIET } from "./controls.js";

const bar = (h) => h("progress", { class: "gx-progress", max: 1, hidden: true, "aria-label": "Python is loading" });

/** Why a text of the reader's own cannot be shown on this page, or "" where it can. */
export function closed(python) {
  if (!python || python.possible) return "";
  const where = python.served ? "in the notebook" : "after “make serve” or in the notebook";
  return `These samples work here; your own text works ${where}.`;
}

export class Offer {
  /** ``python`` is that of the page, for explorers to which it adds something. */
  constructor(python, h) {
    this.python = python;
    this.h = h;
    this.live = false;
    this.bar = bar(h);
    this.button = python?.possible ? this.#button("gx-run") : null;
  }

  #button(name) {
    const made = this.h("button", { type: "button", class: name, ...QUIET }, "Run Python here");
    made.addEventListener("click", () => this.python.start().catch(() => {})); // its phase says it
    return made;
  }

  /** For the foot of the explorer. */
  get nodes() {
    return [this.bar, this.button];
  }

  /** What to show for a text of which there is no frame: words, and nodes below them. */
  ask() {
    const { python, h } = this;
    if (!python?.possible) return [closed(python ?? {})];
    if (!this.asking) {
      this.asking = { button: this.#button(""), bar: bar(h), words: h("span") };
      this.asking.node = h("div", { class: "gx-asks" }, this.asking.button, this.asking.bar, this.asking.words);
      this.update();
    }
    const size = `about ${Math.round(python.bytes / 1e6)} MB, once a visit`;
    return [`The samples are here already; for a text of your own this page starts Python (${size}).`, this.asking.node];
  }

  /** Follow the phase of the page's Python; words for the status line, "" for none. */
  update() {
    const { python, live, asking } = this;
    if (!python) return "";
    const starting = python.phase === "starting";
    const failed = python.phase === "failed" ? `Python stopped (${python.words}); the figures stay precomputed` : "";
    const words = starting ? python.words : failed;
    if (this.button) this.button.hidden = live || starting;
    if (asking) asking.button.hidden = starting;
    if (asking) asking.words.textContent = words;
    for (const one of [this.bar, ...(asking ? [asking.bar] : [])]) {
      one.hidden = !starting;
      if (python.part > 0 && python.part < 1) one.value = python.part;
      else one.removeAttribute("value"); // how long the rest takes nobody knows
    }
    return words;
  }
}
