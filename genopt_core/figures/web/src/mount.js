// One explorer on a page or in a notebook: builds its controls once, asks its engine at every move and
// redraws the panels that changed.
import { makeControl } from "./controls.js";
import { drawPanel, maker, panelWidth, sideBySide } from "./draw.js";
import { asCode, defaults, sameParams, snapped, toHash } from "./state.js";
import { tables } from "./table.js";
import { Tips } from "./tips.js";

const QUIET = { "data-lm-suppress-shortcuts": "true" };
const SETTLED_MS = 500; // a readout is announced once the reader has stopped moving
let count = 0;
let warm = false;

export class View {
  /**
   * ``options``: engine, params, which (the how-manieth of its name on the page), link (offer
   * "Copy link"), startPython (a function that gives a Python engine, where there can be one).
   */
  constructor(root, description, options) {
    this.root = root;
    this.description = description;
    this.options = options;
    this.id = `gx${++count}`;
    this.h = maker(document);
    this.drawn = [];
    this.draws = 0;
    this.params = options.params ?? defaults(description);
    this.first = this.params; // where the author set it, and where Reset goes
    this.build();
    this.use(options.engine, { ask: false });
  }

  // -------------------------------------------------------------- building

  build() {
    const { h, id, description, root, options } = this;
    const still = root.querySelector(":scope > .gx-static");
    const print = root.querySelector(":scope > .gx-print");
    this.controls = description.controls.map((spec, i) =>
      makeControl(spec, h, `${id}-c${i}`, (name, value) => this.move({ ...this.params, [name]: value })),
    );
    this.presets = description.presets.map((preset) => {
      const button = h(
        "button",
        { type: "button", class: `gx-preset${preset.fails ? " gx-fails" : ""}`, "aria-pressed": "false", ...QUIET },
        preset.label,
        preset.fails ? h("span", { class: "gx-breaks" }, h("span", { "aria-hidden": "true" }, "⚠\ufe0e "), "breaks") : null,
      );
      button.addEventListener("click", () => this.move(this.adapted({ ...defaults(description), ...preset.params })));
      return button;
    });
    const button = (words, act, name = "") => {
      const made = h("button", { type: "button", class: name, ...QUIET }, words);
      made.addEventListener("click", act);
      return made;
    };
    this.reset = button("Reset", () => this.move(this.adapted(this.first)), "gx-reset");
    this.pythonButton = options.startPython ? button("Run Python here", () => this.runPython(), "gx-run") : null;
    this.status = h("span", { class: "gx-status", role: "status" });
    this.said = h("span", { class: "gx-said", role: "status" });
    this.tipBox = h("div", { class: "gx-picture" });
    this.tips = new Tips(this.tipBox, h, `${id}-tip`);
    this.panels = h("div", { class: "gx-panels" });
    this.caption = h("p", { class: "gx-title", id: `${id}-title` });
    this.problem = h("div", { class: "gx-problem", role: "status" });
    this.readout = h("output", { class: "gx-readout", "aria-live": "polite" });
    this.cost = h("p", { class: "gx-cost", hidden: true });
    this.note = h("p", { class: "gx-note", hidden: true });
    this.notice = h("p", { class: "gx-notice", role: "status" });
    this.numbers = h("details", { class: "gx-numbers" }, h("summary", { ...QUIET }, "Show the numbers"));
    this.numbers.addEventListener("toggle", () => this.fillNumbers());
    this.tipBox.append(this.caption, this.problem, this.panels, this.tips.ring, this.tips.tip);
    const parts = [
      h("p", { class: "gx-head", id: `${id}-head` }, description.title),
      h("div", { class: "gx-presets", role: "group", "aria-label": "Presets" }, ...this.presets, this.reset),
      this.notice,
      h("div", { class: "gx-controls", role: "group", "aria-label": "Controls" }, ...this.controls.map((control) => control.node)),
      this.tipBox,
      this.readout,
      this.cost,
      this.note,
      this.numbers,
      h(
        "div",
        { class: "gx-foot" },
        this.status,
        this.pythonButton,
        button("Copy as code", () => this.copy(asCode(description, this.params), "code")),
        options.link ? button("Copy link", () => this.copy(this.link(), "link")) : null,
        this.said,
      ),
    ];
    if (still) {
      // The picture that came with the page stays until ours is drawn; its height stays reserved.
      this.tipBox.style.minHeight = `${still.offsetHeight}px`;
      this.still = still;
      this.tipBox.prepend(still);
    }
    root.replaceChildren(...parts, ...(print ? [print] : []));
    root.classList.add("genopt-explorer", "gx-live");
    root.setAttribute("role", "group");
    root.setAttribute("aria-labelledby", `${id}-head`);
    for (const control of this.controls) control.set(this.params[control.name]);
    this.markPresets();
    // Watch the container, not the window: sidebars open and notebooks are resized too.
    // And remember its width: asking for it at every move would make the browser lay out twice.
    this.width = 0;
    this.observer = new ResizeObserver(([entry]) => {
      const width = Math.floor(entry.contentRect.width);
      if (!width || width === this.width) return;
      this.width = width;
      if (this.figure) this.draw(this.figure);
    });
    this.observer.observe(this.tipBox);
  }

  /** Settings the engine can show: frames know some numbers only. */
  adapted(params) {
    return this.engine?.live ? params : snapped(this.description, params);
  }

  use(engine, { ask = true } = {}) {
    this.engine = engine;
    this.root.dataset.engine = engine.kind;
    this.status.textContent = engine.status;
    for (const control of this.controls) control.mode(engine.live);
    if (!engine.live) this.params = this.adapted(this.params);
    for (const control of this.controls) control.set(this.params[control.name]);
    if (this.pythonButton) this.pythonButton.hidden = engine.live;
    if (ask) this.ask(performance.now());
  }

  // -------------------------------------------------------------- moving

  /** The reader, a preset or a link asks for other settings. */
  move(params) {
    const since = performance.now();
    this.adopt(params);
    this.notice.textContent = "";
    this.ask(since);
  }

  /** Show ``params`` in the controls without asking anybody. */
  adopt(params) {
    this.params = params;
    for (const control of this.controls) control.set(params[control.name]);
    this.markPresets();
  }

  /** Ask the engine.  At most one question is open; of those that wait only the newest counts. */
  ask(since) {
    if (this.busy) {
      this.waiting = since;
      return;
    }
    const answer = this.engine.ask(this.params);
    if (typeof answer?.then !== "function") return this.show(answer, since);
    this.busy = true;
    const engine = this.engine;
    answer
      .then((result) => this.show(result, since))
      .catch((problem) => this.failed(engine, problem))
      .finally(() => {
        this.busy = false;
        const next = this.waiting;
        this.waiting = null;
        if (next != null) this.ask(next);
      });
  }

  failed(engine, problem) {
    const { fallback } = this.options;
    if (engine.kind === "python" && fallback) {
      this.use(fallback, { ask: false });
      this.waiting = performance.now();
      this.status.textContent = `precomputed (${problem.message})`;
      if (this.pythonButton) this.pythonButton.disabled = false;
    } else {
      this.status.textContent = `${engine.status}: ${problem.message}`;
    }
  }

  async runPython() {
    const { pythonButton, status, options } = this;
    pythonButton.disabled = true;
    for (const again of this.problem.querySelectorAll("button")) again.disabled = true;
    status.textContent = "starting Python…";
    try {
      this.use(await options.startPython((progress) => (status.textContent = progress)));
    } catch (problem) {
      status.textContent = `Python could not start (${problem.message}). The figures stay precomputed.`;
      pythonButton.disabled = false;
      for (const again of this.problem.querySelectorAll("button")) again.disabled = false;
    }
  }

  // -------------------------------------------------------------- showing

  show(result, since) {
    if (!result) return;
    if (result.needsPython) this.showProblem(...this.needsPython(result.control));
    else if (result.error != null) this.showProblem(result.error);
    else if (result.figure) this.showFigure(result.figure);
    this.still?.remove();
    this.still = null;
    this.tipBox.style.minHeight = "";
    const { dataset } = this.root;
    if (since != null) dataset.latency = (performance.now() - since).toFixed(2);
    dataset.draws = ++this.draws;
    dataset.ready = "1";
    if (!warm && this.figure) this.warmUp();
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

  needsPython(control) {
    const begin = `No picture of this text was computed in advance (${control.label}). `;
    if (!this.pythonButton) return [`${begin}This text needs Python: open the chapter as a notebook, or pick one of the samples.`];
    const go = this.h("button", { type: "button", ...QUIET }, "Run Python here");
    go.disabled = this.pythonButton.disabled;
    go.addEventListener("click", () => this.runPython());
    return [`${begin}This text needs Python: press “Run Python here”, or pick one of the samples.`, go];
  }

  showProblem(words, ...more) {
    // A picture of other settings would be wrong here, so none is shown.
    this.figure = null;
    this.drawn = [];
    this.tips.hide();
    this.panels.replaceChildren();
    this.caption.hidden = true;
    this.problem.replaceChildren(this.h("p", {}, words), ...more);
    this.readout.textContent = "";
    this.cost.hidden = true;
    this.numbers.hidden = true;
    this.root.classList.add("gx-has-problem");
  }

  showFigure(figure) {
    this.root.classList.remove("gx-has-problem");
    if (this.problem.firstChild) this.problem.replaceChildren();
    this.numbers.hidden = false;
    this.draw(figure);
    this.say(figure.readout);
    this.caption.textContent = figure.title;
    this.caption.hidden = figure.title === this.description.title;
    this.cost.textContent = figure.cost ?? "";
    this.cost.hidden = !figure.cost;
    if (this.numbers.open) this.fillNumbers();
    this.limit(figure.limits ?? {});
  }

  /** Redraw the panels whose data, or whose width, changed. */
  draw(figure) {
    const { panels, id } = this;
    const width = (this.width ||= this.tipBox.clientWidth) || 640;
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

  say(words) {
    if (this.readout.textContent === words) return;
    // aria-busy holds the announcement back while a slider is being dragged
    this.readout.setAttribute("aria-busy", "true");
    this.readout.textContent = words;
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.readout.removeAttribute("aria-busy"), SETTLED_MS);
  }

  /** Some ranges depend on other settings; a value outside goes to the nearest end. */
  limit(limits) {
    let params = this.params;
    for (const control of this.controls) {
      const bounds = limits[control.name];
      if (!bounds && !control.limited) continue;
      control.limited = Boolean(bounds);
      control.limit(...(bounds ?? []));
      if (!bounds) continue;
      const inside = Math.min(bounds[1], Math.max(bounds[0], params[control.name]));
      if (inside !== params[control.name]) params = { ...params, [control.name]: inside };
    }
    if (params === this.params || this.limiting) return;
    this.limiting = true; // one correction is enough: limits that chase each other must not loop
    this.adopt(this.adapted(params));
    this.ask(null);
    this.limiting = false;
  }

  markPresets() {
    const { presets } = this.description;
    const active = presets.findIndex((preset) => sameParams(this.params, this.adapted({ ...defaults(this.description), ...preset.params })));
    this.presets.forEach((button, i) => button.setAttribute("aria-pressed", String(i === active)));
    const preset = presets[active];
    this.note.hidden = !preset?.note;
    this.note.classList.toggle("gx-fails", Boolean(preset?.fails));
    this.note.textContent = preset?.note ?? "";
  }

  fillNumbers() {
    for (const old of this.numbers.querySelectorAll(".gx-table")) old.remove();
    if (this.numbers.open && this.figure) this.numbers.append(...tables(this.figure, this.h));
  }

  // -------------------------------------------------------------- taking along

  link() {
    return location.href.replace(/#.*$/, "") + toHash(this.description, this.params, this.options.which);
  }

  async copy(words, what) {
    let done = false;
    try {
      await navigator.clipboard.writeText(words);
      done = true;
    } catch {
      done = this.copyByHand(words); // file:// and old browsers have no clipboard for scripts
    }
    this.said.textContent = done ? `${what} copied` : `this browser does not let pages copy; the ${what}: ${words}`;
    clearTimeout(this.forget);
    if (done) this.forget = setTimeout(() => (this.said.textContent = ""), 4000);
  }

  copyByHand(words) {
    const focus = document.activeElement;
    const area = this.h("textarea", { class: "gx-sr", "aria-hidden": "true", tabindex: -1, readonly: true });
    area.value = words;
    this.root.append(area);
    area.select();
    let done = false;
    try {
      done = document.execCommand("copy");
    } catch {
      done = false;
    }
    area.remove();
    focus?.focus?.({ preventScroll: true });
    return done;
  }

  close() {
    this.observer.disconnect();
    clearTimeout(this.settling);
    clearTimeout(this.forget);
    for (const control of this.controls) control.close?.();
  }
}
