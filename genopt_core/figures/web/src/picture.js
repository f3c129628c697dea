// The picture of an explorer: its panels with their tooltips, or the reason why there is none.
import { drawPanel, lefts } from "./draw.js";
import { arrange } from "./layout.js";
import { Tips } from "./tips.js";

let warm = false;

export class Picture {
  /** ``still`` is the picture that came with the page, if one did. */
  constructor({ h, id, still }) {
    this.h = h;
    this.id = id;
    this.figure = null; // what is shown
    this.drawn = [];
    this.page = 0; // of the arrangement, where not all panels fit
    this.scale = this.fitted = 1; // how much larger than drawn it is shown, and was when it was last fitted
    this.room = Infinity; // pixels from top to bottom
    this.node = h("div", { class: "gx-picture" });
    this.tips = new Tips(this.node, h, `${id}-tip`);
    this.panels = h("div", { class: "gx-panels", id: `${id}-panels` });
    this.tabs = h("div", { class: "gx-tabs", role: "group", "aria-label": "Parts of the picture", hidden: true });
    this.caption = h("p", { class: "gx-title", id: `${id}-title` });
    this.problem = h("div", { class: "gx-problem", role: "status" });
    this.node.append(this.problem, this.tabs, this.panels, this.tips.ring, this.tips.tip);
    this.still = still;
    if (still) this.node.prepend(still); // until ours is drawn
    // Watch the container, not the window: sidebars open and notebooks are resized too.
    // And remember its width: asking for it at every move would make the browser lay out twice.
    this.width = 0;
    this.slack = 0; // by how much labels were estimated too low
    this.observer = new ResizeObserver(([entry]) => this.fit({ width: Math.floor(entry.contentRect.width) }));
    this.observer.observe(this.node);
  }

  /** Draw again if the room changed. */
  fit({ width = this.width, room = this.room }) {
    if (!width || (width === this.width && room === this.room && this.scale === this.fitted)) return;
    Object.assign(this, { width, room, slack: 0, fitted: this.scale });
    if (this.figure) this.draw(this.figure);
  }

  /** It came out ``over`` pixels too high: what stands around panels is more than was estimated. */
  tighten(over) {
    if (!this.figure || this.slack + over > 80 * this.scale) return;
    this.slack += over;
    this.draw(this.figure);
  }

  /** The first answer is shown: what stood for it goes. */
  arrived() {
    this.still?.remove();
    this.still = null;
    if (!warm && this.figure) this.warmUp();
  }

  /** A picture of other settings would be wrong where there is a problem, so none is shown. */
  refuse(words, ...more) {
    this.figure = null;
    this.drawn = [];
    this.tips.hide();
    this.tabs.hidden = true;
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

  /** Redraw the panels whose data, or whose size, changed. */
  draw(figure) {
    const { id, scale } = this;
    const width = (this.width ||= this.node.clientWidth) || 640;
    this.tips.hide();
    this.arranged = arrange(figure, { width: width / scale, height: (this.room - this.slack) / scale, before: this.arranged, grow: scale > 1 ? 1.6 : 1 });
    const { heights, each, pages } = this.arranged;
    const left = pages.map((page) => lefts(figure, { columns: page.columns, each: page.each, heights })).reduce((a, b) => a.map((v, i) => v || b[i]));
    const before = this.drawn;
    this.drawn = figure.panels.map((spec, i) => {
      const text = JSON.stringify(spec);
      const old = before[i];
      const size = `${each[i]} ${heights[i]} ${left[i]} ${scale}`;
      if (old?.text === text && old.size === size) {
        old.svg.querySelector("desc").textContent = [figure.alt, figure.readout].filter(Boolean).join(" ");
        old.svg.setAttribute("aria-label", [spec.title, figure.title].filter(Boolean).join(": "));
        return old;
      }
      const made = drawPanel(spec, { document, width: each[i], height: heights[i], id: `${id}-p${i}`, figure, left: left[i] });
      if (scale !== 1) made.svg.setAttribute("style", `width:${each[i] * scale}px`);
      this.tips.attach(made);
      const focused = old && document.activeElement === old.frame;
      old?.node.replaceWith(made.node);
      if (focused) made.frame.focus({ preventScroll: true });
      return Object.assign(made, { text, size });
    });
    this.place();
    this.figure = figure;
  }

  /** Put the panels into their columns, those of the page that is open; paper shows the others too. */
  place() {
    const { h, panels, drawn, arranged } = this;
    const { pages } = arranged;
    this.page = Math.min(this.page, pages.length - 1);
    const plan = JSON.stringify([pages.map((page) => page.columns), this.page]);
    const home = (i) => drawn[i].node.parentElement?.parentElement === panels;
    if (plan === this.plan && drawn.every((_, i) => home(i))) return;
    this.plan = plan;
    const columns = pages.flatMap((page, p) =>
      page.columns.map((column) =>
        h("div", { class: `gx-column${p === this.page ? "" : " gx-folded"}` }, ...column.map((i) => drawn[i].node)),
      ),
    );
    const open = pages[this.page].columns;
    panels.classList.toggle("gx-row", open.length > 1 && open.every((column) => column.length === 1));
    panels.replaceChildren(...columns);
    this.tabs.hidden = pages.length < 2;
    if (this.tabs.hidden) return;
    const focused = [...this.tabs.children].indexOf(document.activeElement);
    this.tabs.replaceChildren(
      ...pages.map((page, p) => {
        const words = page.columns.flat().map((i) => drawn[i].panel.spec.title || `part ${i + 1}`).join(" · ");
        const button = h("button", { type: "button", "aria-pressed": String(p === this.page), "aria-controls": panels.id }, words);
        button.addEventListener("click", () => {
          this.page = p;
          this.tips.hide();
          this.place();
        });
        return button;
      }),
    );
    if (focused >= 0) this.tabs.children[Math.min(focused, pages.length - 1)].focus({ preventScroll: true });
  }

  /** Draw once more for nobody, while the page is idle: a first drag then meets compiled code. */
  warmUp() {
    warm = true;
    const idle = globalThis.requestIdleCallback ?? ((act) => setTimeout(act, 200));
    let left = 12;
    const draw = () => {
      const figure = this.figure;
      if (!figure || !left--) return;
      const { each, heights } = this.arranged;
      figure.panels.forEach((spec, i) => drawPanel(spec, { document, width: each[i] ?? 640, height: heights[i], id: `${this.id}-w`, figure }));
      idle(draw);
    };
    idle(draw);
  }

  close() {
    this.observer.disconnect();
  }
}
