// Native inputs for the controls of an explorer.  Each control is an object
//   {node, name, set(value), mode(live), limit(low, high)}
// and calls ``change(name, value)`` when the reader moves it.
//
// Every input carries data-lm-suppress-shortcuts itself: JupyterLab otherwise takes the arrow keys.
import { format } from "./scales.js";
import { nearest } from "./state.js";

export const QUIET = { "data-lm-suppress-shortcuts": "true" };
const reduced = () => globalThis.matchMedia?.("(prefers-reduced-motion: reduce)").matches;

export function makeControl(spec, h, id, change) {
  const build = { slider, choice, toggle, text, seed, step }[spec.kind];
  return build(spec, parts(spec, h, id), change);
}

// What all controls share: the row, the label, and a help line that opens below it.
function parts(spec, h, id) {
  const helpId = spec.help ? `${id}-help` : null;
  const help = spec.help ? h("p", { class: "gx-help", id: helpId, hidden: true }, spec.help) : null;
  const button = help
    ? h("button", { type: "button", class: "gx-help-button", "aria-expanded": "false", "aria-controls": helpId, "aria-label": `About “${spec.label}”`, ...QUIET }, "?")
    : null;
  button?.addEventListener("click", () => {
    help.hidden = !help.hidden;
    button.setAttribute("aria-expanded", String(!help.hidden));
  });
  const described = helpId ? { "aria-describedby": helpId } : {};
  const row = (head, ...body) =>
    h("div", { class: `gx-control gx-${spec.kind}`, "data-control": spec.name, "data-role": spec.role ?? null }, h("div", { class: "gx-control-head" }, head, button), h("div", { class: "gx-control-body" }, ...body), help);
  return { h, id, described, row, label: (of) => h("label", { for: of }, spec.label) };
}

/** All positions of a slider whose engine computes anything. */
export function positions({ low, high, step, scale, whole }) {
  if (scale === "log") {
    const count = Math.max(1, Math.round(Math.log10(high / low) * step));
    return Array.from({ length: count + 1 }, (_, i) => {
      const value = Number((low * (high / low) ** (i / count)).toPrecision(3));
      return whole ? Math.round(value) : value;
    }).filter((value, i, all) => value !== all[i - 1]);
  }
  const count = Math.round((high - low) / step);
  return Array.from({ length: count + 1 }, (_, i) => Number((low + i * step).toPrecision(10)));
}

/** The line below a number box that says what a typed number became and why; empty while all is as typed. */
function corrector(h) {
  const node = h("p", { class: "gx-corrected", role: "status" });
  const say = (words) => node.textContent === words || (node.textContent = words);
  const correct = (typed, became, accepted) => say(typed === became ? "" : `${accepted}${Number.isFinite(typed) ? `: ${format(typed)} became ${format(became)}` : ""}`);
  return { node, correct, clear: () => say("") };
}

function slider(spec, { h, id, described, row, label }, change) {
  const log = spec.scale === "log";
  const range = h("input", { type: "range", id, step: 1, ...described, ...QUIET });
  const box = h("input", { type: "number", class: "gx-number", "aria-label": `${spec.label}, as a number`, step: spec.whole ? spec.step : "any", inputmode: spec.whole ? "numeric" : "decimal", ...QUIET });
  const unit = spec.unit ? h("span", { class: "gx-unit" }, spec.unit) : null;
  const corrected = corrector(h);
  let stops = spec.values;
  let bounds = [spec.low, spec.high];
  let live = false;
  let value = spec.default;
  const places = () => {
    const inside = stops.map((v, i) => [v, i]).filter(([v]) => v >= bounds[0] && v <= bounds[1]);
    range.min = inside.length ? inside[0][1] : 0;
    range.max = inside.length ? inside.at(-1)[1] : stops.length - 1;
    box.min = bounds[0];
    box.max = bounds[1];
  };
  const show = () => {
    range.value = nearest(stops, value, log);
    range.setAttribute("aria-valuetext", `${value}${spec.unit ? ` ${spec.unit}` : ""}`);
    range.style.setProperty("--gx-fill", `${(100 * (range.value - range.min)) / (range.max - range.min || 1)}%`);
    if (box.value !== String(value)) box.value = value;
  };
  range.addEventListener("input", () => {
    value = stops[Number(range.value)];
    corrected.clear();
    show();
    change(spec.name, value);
  });
  box.addEventListener("change", () => {
    const typed = box.value === "" ? NaN : Number(box.value);
    const accepted = `${format(bounds[0])} to ${format(bounds[1])}${spec.whole ? ", whole numbers" : ""}`;
    if (Number.isFinite(typed)) {
      const inside = Math.min(bounds[1], Math.max(bounds[0], spec.whole ? Math.round(typed) : typed));
      value = live ? inside : stops[nearest(stops, inside, log)];
      corrected.correct(typed, value, accepted + (value === inside ? "" : ", some of them computed in advance"));
    } else corrected.correct(typed, value, accepted); // not a number: what stood there stays
    box.value = "";
    show();
    if (!Number.isFinite(typed)) return;
    change(spec.name, value);
  });
  places();
  return {
    name: spec.name,
    node: row(label(id), range, h("span", { class: "gx-value" }, box, unit), corrected.node),
    set(next) {
      if (next !== value) corrected.clear();
      value = next;
      show();
    },
    mode(isLive) {
      live = isLive;
      stops = live ? positions(spec) : spec.values;
      places();
      show();
    },
    limit(low = spec.low, high = spec.high) {
      bounds = [Math.max(low, spec.low), Math.min(high, spec.high)];
      places();
      show();
    },
  };
}

function choice(spec, { h, id, described, row, label }, change) {
  const { values, labels } = spec;
  const short = values.length <= 4 && labels.every((text) => text.length <= 18) && labels.join("").length <= 48;
  if (!short) {
    const select = h("select", { id, ...described, ...QUIET }, ...labels.map((text, i) => h("option", { value: i }, text)));
    select.addEventListener("change", () => change(spec.name, values[select.selectedIndex]));
    return { name: spec.name, node: row(label(id), select), set: (value) => (select.selectedIndex = values.indexOf(value)), mode() {}, limit() {} };
  }
  const inputs = values.map((_, i) => h("input", { type: "radio", name: id, id: `${id}-${i}`, value: i, ...QUIET }));
  inputs.forEach((input, i) => input.addEventListener("change", () => input.checked && change(spec.name, values[i])));
  const group = h(
    "div",
    { class: "gx-radios", role: "radiogroup", "aria-label": spec.label, ...described },
    ...inputs.map((input, i) => h("label", { for: input.id }, input, h("span", {}, labels[i]))),
  );
  return {
    name: spec.name,
    node: row(h("span", { class: "gx-label", "aria-hidden": "true" }, spec.label), group),
    set: (value) => inputs.forEach((input, i) => (input.checked = values[i] === value)),
    mode() {},
    limit() {},
  };
}

function toggle(spec, { h, id, described, row, label }, change) {
  const input = h("input", { type: "checkbox", role: "switch", id, ...described, ...QUIET });
  input.addEventListener("change", () => change(spec.name, input.checked));
  return { name: spec.name, node: row(label(id), input), set: (value) => (input.checked = value), mode() {}, limit() {} };
}

function text(spec, { h, id, described, row, label }, change) {
  const noteId = `${id}-note`;
  const note = h("p", { class: "gx-own-text", id: noteId, hidden: true });
  const by = [described["aria-describedby"], noteId].filter(Boolean).join(" ");
  // No maxlength: it counts an emoji twice, and cuts a text without a word.  The engine says what is too long.
  const input = h("input", {
    type: "text", id, inputmode: "text", enterkeyhint: "done", autocomplete: "off", autocapitalize: "off",
    autocorrect: "off", spellcheck: "false", "aria-describedby": by, ...QUIET,
  });
  let value = spec.default;
  // During composition (accents, Chinese, …) the text is not yet the reader's; and an empty box is the
  // beginning of another text: the picture of the last one stays.
  const tell = () => {
    if (!input.value.trim()) return;
    value = input.value;
    change(spec.name, value);
  };
  input.addEventListener("input", (event) => event.isComposing || tell());
  input.addEventListener("compositionend", tell);
  input.addEventListener("change", () => input.value.trim() || (input.value = value));
  input.addEventListener("keydown", (event) => event.key === "Enter" && !event.isComposing && input.blur()); // a phone's keyboard goes
  const samples = spec.values.map((sample) => {
    const button = h("button", { type: "button", class: "gx-sample", ...QUIET }, sample);
    button.addEventListener("click", () => {
      input.value = sample;
      tell();
      mark(sample);
    });
    return button;
  });
  const mark = (shown) => samples.forEach((button, i) => button.setAttribute("aria-pressed", String(spec.values[i] === shown)));
  input.addEventListener("input", () => mark(input.value));
  return {
    name: spec.name,
    node: row(label(id), input, h("span", { class: "gx-samples", role: "group", "aria-label": `Samples for “${spec.label}”` }, ...samples), note),
    set(next) {
      value = next;
      if (input.value !== value) input.value = value;
      mark(value);
    },
    mode(live, closed = "") {
      input.readOnly = Boolean(closed);
      note.textContent = closed;
      note.hidden = !closed;
    },
    limit() {},
  };
}

function seed(spec, { h, id, described, row, label }, change) {
  const input = h("input", { type: "number", class: "gx-number", id, min: 0, step: 1, inputmode: "numeric", ...described, ...QUIET });
  const next = h("button", { type: "button", ...QUIET }, "Next seed");
  const corrected = corrector(h);
  let live = false;
  let value = spec.default;
  const last = () => spec.values.at(-1);
  const move = (to) => {
    value = to;
    input.value = value;
    change(spec.name, value);
  };
  input.addEventListener("change", () => {
    const typed = input.value === "" ? NaN : Number(input.value);
    const near = Math.max(0, Math.round(typed));
    const accepted = live ? "0, 1, 2, …" : `0 to ${last()}`;
    if (Number.isFinite(typed)) move(live ? near : Math.min(near, last()));
    else input.value = value;
    corrected.correct(typed, value, accepted);
  });
  next.addEventListener("click", () => {
    corrected.clear();
    move(!live && value >= last() ? 0 : value + 1);
  });
  return {
    name: spec.name,
    node: row(label(id), input, next, corrected.node),
    set(to) {
      if (to !== value) corrected.clear();
      value = to;
      input.value = to;
    },
    mode(isLive) {
      live = isLive;
      if (live) input.removeAttribute("max");
      else input.max = last();
    },
    limit() {},
  };
}

function step(spec, { h, id, described, row, label }, change) {
  const button = (name, icon) => h("button", { type: "button", class: "gx-icon", "aria-label": `${spec.label}: ${name}`, title: name, ...QUIET }, icon);
  const [back, play, forth] = [button("one step back", icons(h).back), button("play", icons(h).play), button("one step forward", icons(h).forth)];
  const range = h("input", { type: "range", id, step: 1, ...described, ...QUIET });
  const place = h("span", { class: "gx-place", "aria-hidden": "true" });
  let bounds = [spec.low, spec.high];
  let value = spec.default;
  let timer = null;
  const show = () => {
    range.min = bounds[0];
    range.max = bounds[1];
    range.value = value;
    range.style.setProperty("--gx-fill", `${(100 * (value - bounds[0])) / (bounds[1] - bounds[0] || 1)}%`);
    range.setAttribute("aria-valuetext", `${value} of ${bounds[1]}`);
    place.textContent = `${value} / ${bounds[1]}`;
    // aria-disabled, not disabled: the button keeps the focus when the end is reached
    back.setAttribute("aria-disabled", String(value <= bounds[0]));
    forth.setAttribute("aria-disabled", String(value >= bounds[1]));
  };
  const move = (to) => {
    if (to < bounds[0] || to > bounds[1] || to === value) return false;
    value = to;
    show();
    change(spec.name, value);
    return true;
  };
  const pause = () => {
    clearTimeout(timer);
    timer = null;
    play.replaceChildren(icons(h).play);
    play.title = "play";
    play.setAttribute("aria-label", `${spec.label}: play`);
  };
  const tick = () => {
    if (!play.isConnected || !move(value + 1) || value >= bounds[1]) return pause();
    // with reduced motion the picture still steps, but slowly enough to read each one
    timer = setTimeout(tick, reduced() ? Math.max(2500, spec.interval_ms) : spec.interval_ms);
  };
  play.addEventListener("click", () => {
    if (timer != null) return pause();
    play.replaceChildren(icons(h).pause);
    play.title = "pause";
    play.setAttribute("aria-label", `${spec.label}: pause`);
    if (value >= bounds[1]) {
      move(bounds[0]);
      timer = setTimeout(tick, spec.interval_ms);
    } else tick();
  });
  back.addEventListener("click", () => (pause(), move(value - 1)));
  forth.addEventListener("click", () => (pause(), move(value + 1)));
  range.addEventListener("input", () => (pause(), move(Number(range.value))));
  const hidden = () => document.hidden && timer != null && pause();
  document.addEventListener("visibilitychange", hidden);
  return {
    name: spec.name,
    node: row(label(id), back, play, forth, range, place),
    set(to) {
      if (to !== value && timer != null) pause();
      value = to;
      show();
    },
    mode() {},
    limit(low = spec.low, high = spec.high) {
      bounds = [Math.max(low, spec.low), Math.min(high, spec.high)];
      show();
    },
    close() {
      pause();
      document.removeEventListener("visibilitychange", hidden);
    },
  };
}

// Drawn, not letters: fonts show ◀ and ⏸ as colored emoji on some machines.
function icons(h) {
  const draw = (d) => h("svg:svg", { width: 16, height: 16, viewBox: "0 0 16 16", "aria-hidden": "true" }, h("svg:path", { d, fill: "currentColor" }));
  return {
    get back() { return draw("M3,3h2v10h-2zM13,3v10l-7,-5z"); },
    get forth() { return draw("M11,3h2v10h-2zM3,3v10l7,-5z"); },
    get play() { return draw("M4,2.5v11l9,-5.5z"); },
    get pause() { return draw("M4,3h3v10h-3zM9,3h3v10h-3z"); },
  };
}
