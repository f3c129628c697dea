// How a series looks.  The role of a series ("c1" … "warn") names a colour, which explore.css defines
// for light and dark pages, and also a dash, a symbol and a hatch, so that nobody needs the colour.

export const ROLES = ["c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "muted", "accent", "warn"];

const DASHES = ["", "7 3", "2 3", "9 3 2 3", "13 4", "4 2 1 2", "1 4", "10 2 4 2", "4 4", "", "6 2 2 2"];
const SYMBOLS = [
  "circle", "square", "triangle", "diamond", "plus", "times", "star", "wye", "asterisk", "hexagon", "triangle",
];
export const HATCHES = ["none", "slash", "back", "dots", "cross", "level", "upright", "wide"];

export const color = (role) => `var(--gx-${role})`;

/** Name -> {name, role, color, dash, symbol, hatch, weight} for the series of a panel, in their order. */
export function seriesStyles(series = {}) {
  const taken = new Set();
  const styles = new Map();
  for (const [name, role] of Object.entries(series)) {
    // Two series of one role share the colour: the second takes the next free dash and symbol.
    let look = Math.max(0, ROLES.indexOf(role));
    while (taken.has(look) && taken.size < ROLES.length) look = (look + 1) % ROLES.length;
    taken.add(look);
    styles.set(name, {
      name,
      role,
      color: color(role),
      dash: DASHES[look],
      symbol: SYMBOLS[look],
      hatch: HATCHES[look % HATCHES.length],
      weight: role === "accent" ? 1.5 : role === "muted" ? 0.75 : 1,
    });
  }
  return styles;
}

/** The look of a mark that belongs to no series. */
export function plainStyle(role) {
  return { name: "", role, color: color(role), dash: "", symbol: "circle", hatch: "none", weight: 1 };
}

export const OPTION_DASH = { solid: "", dashed: "7 4", dotted: "2 3" };
export const OPTION_SYMBOL = {
  circle: "circle", square: "square", triangle: "triangle", diamond: "diamond", cross: "times", plus: "plus",
};
// These symbols have no inside: they are drawn by their stroke.
export const STROKED = new Set(["times", "plus", "asterisk"]);

/** Shade of a cell.  The ramp runs from the page's own lightness to its opposite, see explore.css. */
export function shade(value, { domain, scheme }) {
  const [low, high] = domain;
  let t = high > low ? (value - low) / (high - low) : 0.5;
  t = Math.min(1, Math.max(0, t));
  // 100 steps: as fine as eyes see, and equal cells share the text of their colour
  const [from, middle, to] =
    scheme === "diverging" ? ["neg", "zero", "pos"] : ["low", "mid", "high"];
  const upper = t >= 0.5;
  const share = Math.round((upper ? t - 0.5 : t) * 200);
  const [a, b] = upper ? [middle, to] : [from, middle];
  // Words on a cell keep 4.5:1: the page's ink where the ramp is near the page, its opposite far from
  // it, and black in between, where the ramps of light and dark pages meet.
  const far = scheme === "diverging" ? Math.abs(t - 0.5) : t;
  const [near, end] = scheme === "diverging" ? [0.29, 0.39] : [0.45, 0.58];
  return {
    fill: share === 0 ? `var(--gx-ramp-${a})` : `color-mix(in oklab, var(--gx-ramp-${b}) ${share}%, var(--gx-ramp-${a}))`,
    ink: `var(--gx-on-${far < near ? "weak" : far < end ? "middle" : "strong"})`,
  };
}
