// The settings of an explorer as plain values: defaults, what is on the grid, link and code.

export const defaults = (description) =>
  Object.fromEntries(description.controls.map((control) => [control.name, control.default]));

export const sameParams = (a, b) => Object.keys({ ...a, ...b }).every((name) => a[name] === b[name]);

/** Index of the value nearest to ``value``; between two, the one that is nearer by ratio on log scales. */
export function nearest(values, value, log = false) {
  const f = log ? Math.log : (v) => v;
  let best = 0;
  for (let i = 1; i < values.length; i++) {
    if (Math.abs(f(values[i]) - f(value)) < Math.abs(f(values[best]) - f(value))) best = i;
  }
  return best;
}

/** Where ``value`` stands among the values of which frames exist, or -1 if it has no near neighbor. */
export function gridIndex(control, value, values = control.values) {
  const exact = values.indexOf(value);
  if (exact >= 0 || typeof value !== "number" || control.kind === "choice") return exact;
  return nearest(values, value, control.scale === "log");
}

/** Settings for which frames exist: numbers go to the nearest one, the reader's own text stays. */
export function snapped(description, params) {
  const out = { ...params };
  for (const control of description.controls) {
    const at = gridIndex(control, out[control.name]);
    if (at >= 0) out[control.name] = control.values[at];
  }
  return out;
}

/** The value of a control written as text, as in a link; ``undefined`` if it is none. */
export function parseValue(control, text) {
  switch (control.kind) {
    case "toggle":
      return { 1: true, true: true, 0: false, false: false }[text.toLowerCase()];
    case "choice":
      return control.values.find((value) => String(value) === text);
    case "text":
      return text.trim() && [...text].length <= control.max_length ? text : undefined;
    default: {
      const value = text.trim() === "" ? NaN : Number(text);
      const { low = 0, high = Infinity } = control;
      if (!Number.isFinite(value) || value < low || value > high) return undefined;
      if ((control.kind !== "slider" || control.whole) && !Number.isInteger(value)) return undefined;
      return value;
    }
  }
}

/** ``#explorer=name&k=3``.  Of several explorers with one name on a page, the second is ``name~2``. */
export function toHash(description, params, which = 1) {
  const query = new URLSearchParams();
  query.set("explorer", description.name + (which > 1 ? `~${which}` : ""));
  for (const control of description.controls) {
    const value = params[control.name];
    if (value !== control.default) query.set(control.name, control.kind === "toggle" ? Number(value) : value);
  }
  return "#" + query;
}

/** Which explorer a hash means: ``{name, which, query}``, or null if none. */
export function hashTarget(hash) {
  const query = new URLSearchParams(hash.replace(/^#/, ""));
  const [, name, which] = (query.get("explorer") ?? "").match(/^(.+?)(?:~(\d+))?$/) ?? [];
  return name ? { name, which: Number(which ?? 1), query } : null;
}

/** The settings in a hash over the defaults, and the names of what was not understood. */
export function fromHash(description, query) {
  const params = defaults(description);
  const ignored = [];
  for (const [name, text] of query) {
    if (name === "explorer") continue;
    const control = description.controls.find((c) => c.name === name);
    const value = control && parseValue(control, text);
    if (value === undefined) ignored.push(control ? `${name}=${text}` : name);
    else params[name] = value;
  }
  return { params, ignored };
}

/** The name of a file that shows this setting: what stands at its default is left out. */
export function fileName(description, params, ending) {
  const given = description.controls.filter((control) => params[control.name] !== control.default).map((control) => `${control.name} ${params[control.name]}`);
  const words = [description.name, ...given].join(" ").normalize("NFC").replace(/[^\p{L}\p{N}.]+/gu, "-").replace(/^-+|[-.]+$/g, "");
  return `${[...words].slice(0, 100).join("")}.${ending}`;
}

/** A value as Python writes it. */
export function python(value) {
  if (value === true) return "True";
  if (value === false) return "False";
  if (value == null) return "None";
  return JSON.stringify(value); // JSON's numbers and escapes are Python's too
}

/** The call that shows this setting in a notebook, and that of the core behind it; what stands at its default is left out. */
export function asCode(description, params) {
  const given = description.controls
    .filter((control) => params[control.name] !== control.default)
    .map((control) => `${control.name}=${python(params[control.name])}`);
  const shown = `from genopt_core import explore\nexplore(${[python(description.name), ...given].join(", ")})`;
  if (!description.code) return shown;
  const call = description.code.replace(/\{(\w+)\}/g, (_, name) => python(params[name]));
  return `${shown}\n\n# what it computes\n${call}`;
}
