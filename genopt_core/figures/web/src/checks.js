// Settings as Python checks them: the words of genopt_core.figures.controls and genopt_core.checks.

const ESCAPES = { "\t": "\\t", "\n": "\\n", "\r": "\\r", "\\": "\\\\" };

function escaped(character) {
  const code = character.codePointAt(0);
  const [sign, digits] = code < 256 ? ["x", 2] : code < 65536 ? ["u", 4] : ["U", 8];
  return `\\${sign}${code.toString(16).padStart(digits, "0")}`;
}

/** A value of JSON as Python's ``repr`` writes it. */
export function repr(value) {
  if (value === true) return "True";
  if (value === false) return "False";
  if (value == null) return "None";
  if (Array.isArray(value)) return `[${value.map(repr).join(", ")}]`;
  if (typeof value !== "string") return String(value);
  const quote = value.includes("'") && !value.includes('"') ? '"' : "'";
  const shown = value.replace(/[\p{C}\p{Z}\\'"]/gu, (c) => {
    if (c === "'" || c === '"') return c === quote ? `\\${c}` : c;
    return c === " " ? c : (ESCAPES[c] ?? escaped(c));
  });
  return quote + shown + quote;
}

/** What Python takes for blanks between words; JavaScript's ``\s`` differs in six characters. */
export const BLANKS = /[\t-\r\x1c- \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/u;

const CHECKS = {
  text({ name, max_length }, value) {
    if (typeof value !== "string") return `${name} must be text, got ${repr(value)}`;
    if (value.split(BLANKS).every((part) => !part)) return `${name} must have at least one character, got ${repr(value)}`;
    const { length } = [...value];
    if (length > max_length) return `${name} must have at most ${max_length} characters, got ${length}`;
  },
  choice({ name, values }, value) {
    if (!values.includes(value)) return `${name} must be one of ${repr(values)}, got ${repr(value)}`;
  },
  slider({ name, low, high, whole }, value) {
    if (typeof value !== "number") return `${name} must be a number, got ${repr(value)}`;
    if (whole && !Number.isInteger(value)) return `${name} must be a whole number, got ${repr(value)}`;
    if (value < low || value > high) return `${name} must be between ${low} and ${high}, got ${repr(value)}`;
  },
};

/** Why ``value`` cannot be set, in Python's words, or undefined. */
export const refusal = (control, value) => CHECKS[control.kind]?.(control, value);

/** Why an explorer cannot be set so, or undefined. */
export function refusals({ name, controls }, params) {
  const known = controls.map((control) => control.name);
  const [unknown] = Object.keys(params).filter((key) => !known.includes(key)).sort();
  if (unknown !== undefined) return `${name} has no control ${repr(unknown)}; there are ${known.join(", ")}`;
  for (const control of controls) {
    const problem = refusal(control, params[control.name] === undefined ? control.default : params[control.name]);
    if (problem) return problem;
  }
}
