// One explorer on a page or in a notebook: settings, picture and words around an engine that answers.
import { copy } from "./clipboard.js";
import { QUIET } from "./controls.js";
import { maker } from "./draw.js";
import { closed, Offer } from "./offer.js";
import { Picture } from "./picture.js";
import { Present } from "./present.js";
import { Questions } from "./questions.js";
import { Room } from "./room.js";
import { Settings } from "./settings.js";
import { asCode, defaults, fileName, toHash } from "./state.js";
import { table } from "./table.js";
import { Take } from "./take.js";

const SETTLED_MS = 500; // a readout is announced once the reader has stopped moving
let count = 0;

/** Addresses that mean nothing elsewhere. */
const LOCAL = /^file:|^https?:\/\/(localhost|127\.|\[::1\])/;

export class View {
  /**
   * ``options``: engine, params, which (the how-manieth of its name on the page), link (offer
   * "Copy link"), python (the page's one, where it adds something to this explorer), fallback (the
   * engine that goes on when Python fails).
   */
  constructor(root, description, options) {
    this.root = root;
    this.description = description;
    this.options = options;
    this.h = maker(document);
    this.draws = 0;
    this.questions = new Questions({
      put: () => {
        this.asked = this.engine; // it may be another one when the answer comes
        return this.engine.ask(this.params);
      },
      show: (result, since) => this.show(result, since),
      fail: (problem) => this.failed(this.asked, problem),
    });
    this.build(`gx${++count}`);
    this.use(options.engine, { ask: false });
  }

  get params() {
    return this.settings.params;
  }

  /** Whether an answer is still to come. */
  get busy() {
    return this.questions.open;
  }

  build(id) {
    const { h, description, root, options } = this;
    const still = root.querySelector(":scope > .gx-static");
    const print = root.querySelector(":scope > .gx-print");
    const params = options.params ?? defaults(description);
    this.settings = new Settings(description, params, { h, id, move: (next) => this.move(next) });
    this.picture = new Picture({ h, id, still });
    this.offer = new Offer(options.python, h);
    this.readout = h("output", { class: "gx-readout", "aria-live": "polite" });
    this.cost = h("p", { class: "gx-cost", hidden: true });
    this.notice = h("p", { class: "gx-notice", role: "status" });
    this.numbers = h("details", { class: "gx-numbers" }, h("summary", { ...QUIET }, "Show the numbers"));
    this.numbers.addEventListener("toggle", () => this.fillNumbers());
    const side = h("div", { class: "gx-side" }, this.settings.controlGrid, this.settings.note);
    const body = h("div", { class: "gx-body" }, side, this.picture.node);
    this.readout.textContent = still?.querySelector(".gx-readout")?.textContent ?? "";
    root.replaceChildren(
      h("div", { class: "gx-top" }, h("p", { class: "gx-head", id: `${id}-head` }, description.title), this.picture.caption),
      this.readout,
      this.settings.presetRow,
      this.notice,
      body,
      this.cost,
      this.foot(id),
      ...(print ? [print] : []),
    );
    root.classList.add("genopt-explorer", "gx-live");
    this.room = new Room({ root, body, readout: this.readout, controls: this.settings.controlGrid, numbers: this.numbers, picture: this.picture });
    root.setAttribute("role", "group");
    root.setAttribute("aria-labelledby", `${id}-head`);
  }

  foot(id) {
    const { h, options } = this;
    const button = (words, act) => {
      const made = h("button", { type: "button", ...QUIET }, words);
      made.addEventListener("click", act);
      return made;
    };
    this.status = h("span", { class: "gx-status", role: "status" });
    this.said = h("span", { class: "gx-said", role: "status" });
    const code = button("Copy as code", () => this.copy(asCode(this.description, this.params), "code"));
    const present = h("button", { type: "button", class: "gx-present-button", ...QUIET }, "Present");
    this.present = new Present({ root: this.root, button: present, changed: (scale) => this.room.zoom(scale) });
    const link = options.link ? button("Copy link", () => this.copy(this.link(), LOCAL.test(this.link()) ? "link, which opens on this computer only," : "link")) : null;
    this.take = new Take({
      h, id,
      figure: () => this.picture.figure,
      name: (kind) => fileName(this.description, this.params, kind),
      say: (words) => this.tell(words),
    });
    return h("div", { class: "gx-foot" }, this.numbers, present, code, link, this.take.node, ...this.offer.nodes, this.said, this.status);
  }

  // -------------------------------------------------------------- engines

  use(engine, { ask = true } = {}) {
    this.engine = engine;
    this.root.dataset.engine = engine.kind;
    this.settings.mode(engine.live, engine.live ? "" : closed(this.options.python));
    this.offer.live = engine.live;
    this.follow();
    if (ask) this.ask(performance.now());
  }

  failed(engine, problem) {
    const { fallback } = this.options;
    if (engine.kind === "python" && fallback) {
      this.use(fallback, { ask: false });
      this.questions.waiting = performance.now();
      this.status.textContent = `precomputed (${problem.message})`;
    } else {
      this.status.textContent = `${engine.status}: ${problem.message}`;
    }
  }

  /** Say how far the page's Python is. */
  follow() {
    const words = this.offer.update() || this.engine.status;
    if (this.status.textContent !== words) this.status.textContent = words;
  }

  // -------------------------------------------------------------- moving

  /** Settings the engine can show. */
  adapted(params) {
    return this.settings.adapted(params);
  }

  /** The reader, a preset or a link asks for other settings. */
  move(params) {
    const since = performance.now();
    this.adopt(params);
    this.notice.textContent = "";
    this.ask(since);
  }

  adopt(params) {
    this.settings.adopt(params);
  }

  ask(since) {
    this.questions.ask(since);
  }

  // -------------------------------------------------------------- showing

  show(result, since) {
    if (!result) return;
    if (result.needsPython) this.showProblem(this.offer.ask(), { offers: true });
    else if (result.error != null) this.showProblem([result.error]);
    else if (result.figure) this.showFigure(result.figure);
    this.picture.arrived();
    const { dataset } = this.root;
    if (since != null) dataset.latency = (performance.now() - since).toFixed(2);
    dataset.draws = ++this.draws;
    dataset.ready = "1";
  }

  showProblem([words, ...more], { offers = false } = {}) {
    this.picture.refuse(words, ...more);
    this.readout.textContent = "";
    this.cost.hidden = true;
    this.numbers.hidden = this.take.node.hidden = true;
    this.root.classList.add("gx-has-problem");
    this.picture.problem.classList.toggle("gx-offers", offers);
  }

  showFigure(figure) {
    this.root.classList.remove("gx-has-problem");
    this.numbers.hidden = this.take.node.hidden = false;
    if (!this.draws) this.room.look(); // later its observer does
    this.picture.show(figure, this.description.title);
    this.say(figure.readout);
    this.cost.textContent = figure.cost ?? "";
    this.cost.hidden = !figure.cost;
    if (this.numbers.open) this.fillNumbers();
    this.limit(figure.limits ?? {});
  }

  say(words) {
    if (this.readout.textContent === words) return;
    // aria-busy holds the announcement back while a slider is being dragged
    this.readout.setAttribute("aria-busy", "true");
    this.readout.textContent = words;
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.readout.removeAttribute("aria-busy"), SETTLED_MS);
  }

  limit(limits) {
    const params = this.settings.limit(limits);
    if (params === this.params || this.limiting) return;
    this.limiting = true; // one correction is enough: limits that chase each other must not loop
    this.adopt(this.adapted(params));
    this.ask(null);
    this.limiting = false;
  }

  fillNumbers() {
    const { numbers, picture } = this;
    for (const old of numbers.querySelectorAll(".gx-table")) old.remove();
    if (numbers.open && picture.figure) numbers.append(table(picture.figure, this.h));
  }

  // -------------------------------------------------------------- taking along

  link() {
    return location.href.replace(/#.*$/, "") + toHash(this.description, this.params, this.options.which);
  }

  async copy(words, what) {
    const done = await copy(words, this.root, this.h);
    this.tell(done ? `${what} copied` : `this browser does not let pages copy; the ${what}: ${words}`, done);
  }

  /** Say what was done, for a while. */
  tell(words, passing = true) {
    this.said.textContent = words;
    clearTimeout(this.forget);
    if (passing) this.forget = setTimeout(() => (this.said.textContent = ""), 4000);
  }

  close() {
    this.present.close();
    this.picture.close();
    this.room.close();
    clearTimeout(this.settling);
    clearTimeout(this.forget);
    this.settings.close();
  }
}
