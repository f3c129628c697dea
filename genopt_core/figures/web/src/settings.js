// What an explorer is set to: its controls, its presets, and the note of the preset that is on.
import { makeControl, QUIET } from "./controls.js";
import { defaults, sameParams, snapped } from "./state.js";

export class Settings {
  /** ``move(params)`` is called when the reader asks for other settings. */
  constructor(description, params, { h, id, move }) {
    this.description = description;
    this.params = params;
    this.first = params; // where the author set it, and where Reset goes
    this.live = false;
    this.controls = description.controls.map((spec, i) =>
      makeControl(spec, h, `${id}-c${i}`, (name, value) => move({ ...this.params, [name]: value })),
    );
    this.presets = description.presets.map((preset) => {
      const button = h(
        "button",
        { type: "button", class: `gx-preset${preset.fails ? " gx-fails" : ""}`, "aria-pressed": "false", ...QUIET },
        preset.label,
        preset.fails ? h("span", { class: "gx-breaks" }, h("span", { "aria-hidden": "true" }, "⚠\ufe0e "), "breaks") : null,
      );
      button.addEventListener("click", () => move(this.of(preset)));
      return button;
    });
    const reset = h("button", { type: "button", class: "gx-reset", ...QUIET }, "Reset");
    reset.addEventListener("click", () => move(this.adapted(this.first)));
    this.presetRow = h("div", { class: "gx-presets", role: "group", "aria-label": "Presets" }, ...this.presets, reset);
    this.controlGrid = h("div", { class: "gx-controls", role: "group", "aria-label": "Controls" }, ...this.controls.map((control) => control.node));
    this.note = h("p", { class: "gx-note", hidden: true });
    this.adopt(params);
  }

  /** Settings the engine can show: frames know some numbers only. */
  adapted(params) {
    return this.live ? params : snapped(this.description, params);
  }

  /** The settings of a preset. */
  of(preset) {
    return this.adapted({ ...defaults(this.description), ...preset.params });
  }

  /** Show ``params`` in the controls without asking anybody. */
  adopt(params) {
    this.show(params);
    this.markPresets();
  }

  show(params) {
    this.params = params;
    for (const control of this.controls) control.set(params[control.name]);
  }

  /** Any value (``live``), or only those for which there are frames; ``closed`` says why no own text. */
  mode(live, closed = "") {
    this.live = live;
    for (const control of this.controls) control.mode(live, closed);
    this.show(this.adapted(this.params));
  }

  /** Some ranges depend on other settings; the result has values outside moved to the nearest end. */
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
    return params;
  }

  markPresets() {
    const { presets } = this.description;
    const active = presets.findIndex((preset) => sameParams(this.params, this.of(preset)));
    this.presets.forEach((button, i) => button.setAttribute("aria-pressed", String(i === active)));
    const preset = presets[active];
    this.note.hidden = !preset?.note;
    this.note.classList.toggle("gx-fails", Boolean(preset?.fails));
    this.note.textContent = preset?.note ?? "";
  }

  close() {
    for (const control of this.controls) control.close?.();
  }
}
