// The picture of an explorer: its panels with their tooltips, or the reason why there is none.
import { drawPanel, panelWidth, sideBySide } from "./draw.js";
import { Tips } from "./tips.js";

let warm = false;

export class Picture {
  /** ``still`` is the picture that came with the page, if one did. */
  constructor({ h, id, still }) {
    this.h = h;
    this.id = id;
    this.figure = null; // what is shown
    this.drawn = [];
    this.node = h("div", { class: "gx-picture" });
    this.tips = new Tips(this.node, h, `${id}-tip`);
    this.panels = h("div", { class: "gx-panels" });
    this.caption = h("p", { class: "gx-title", id: `${id}-title` });
    this.problem = h("div", { class: "gx-problem", role: "status" });
    this.node.append(this.caption, this.problem, this.panels, this.tips.ring, this.tips.tip);
    this.still = still;
    if (still) {
      // It stays until ours is drawn; its height stays reserved.
      this.node.style.minHeight = `${still.offsetHeight}px`;
      this.node.prepend(still);
    }
    // Watch the container, not the window: sidebars open and notebooks are resized too.
    // And remember its width: asking for it at every move would make the browser lay out twice.
    this.width = 0;
    this.observer = new ResizeObserver(([entry]) => {
      const width = Math.floor(entry.contentRect.width);
      if (!width || width === this.width) return;
      this.width = width;
      if (this.figure) this.draw(this.figure);
    });
    this.observer.observe(this.node);
  }

  /** The first answer is shown: what stood for it goes. */
  arrived() {
    this.still?.remove();
    this.still = null;
    this.node.style.minHeight = "";
    if (!warm && this.figure) this.warmUp();
  }

  /** A picture of other settings would be wrong where there is a problem, so none is shown. */
  refuse(words, ...more) {
    this.figure = null;
    this.drawn = [];
    this.tips.hide();
    this.panels.replaceChildren();
    this.caption.hidden = true;
    this.problem.replaceChildren(this.h("p", {}, words), ...more);
  }

  /** Show ``figure``, under its title if that says more than ``heading``. */
  show(figure, heading) {
    if (this.problem.firstChild) this.problem.replaceChildren();
    this.draw(figure);
    this.caption.textContent = figure.title;
    this.caption.hidden = figure.title === heading;
  }

  /** Redraw the panels whose data, or whose width, changed. */
  draw(figure) {
    const { panels, id } = this;
    const width = (this.width ||= this.node.clientWidth) || 640;
    const each = panelWidth(figure, width);
    panels.classList.toggle("gx-row", sideBySide(figure, width));
    this.tips.hide();
    const before = this.drawn;
    this.drawn = figure.panels.map((spec, i) => {
      const text = JSON.stringify(spec);
      const old = before[i];
      if (old?.text === text && old.each === each) {
        old.svg.querySelector("desc").textContent = [figure.alt, figure.readout].filter(Boolean).join(" ");
        old.svg.setAttribute("aria-label", [spec.title, figure.title].filter(Boolean).join(": "));
        return old;
      }
      const made = drawPanel(spec, { document, width: each, id: `${id}-p${i}`, figure });
      this.tips.attach(made);
      const focused = old && document.activeElement === old.frame;
      if (old) old.node.replaceWith(made.node);
      else panels.append(made.node);
      if (focused) made.frame.focus({ preventScroll: true });
      return Object.assign(made, { text, each });
    });
    for (const old of before.slice(figure.panels.length)) old.node.remove();
    this.figure = figure;
  }

  /** Draw once more for nobody, while the page is idle: a first drag then meets compiled code. */
  warmUp() {
    warm = true;
    const idle = globalThis.requestIdleCallback ?? ((act) => setTimeout(act, 200));
    let left = 12;
    const draw = () => {
      const figure = this.figure;
      if (!figure || !left--) return;
      for (const spec of figure.panels) drawPanel(spec, { document, width: panelWidth(figure, this.width || 640), id: `${this.id}-w`, figure });
      idle(draw);
    };
    idle(draw);
  }

  close() {
    this.observer.disconnect();
  }
}
