// How a series looks.  The role of a series ("c1" … "warn") names a color, which the style sheet sets
// for light and dark pages, and also a dash, a symbol and a hatch, so that nobody needs the color.
import style from "../../style.json" with { type: "json" };

const LOOKS = Object.values(style.roles);
const ROLES = Object.keys(style.roles);

export const color = (role) => `var(--gx-${role})`;

/** Name -> {name, role, color, dash, symbol, hatch, weight} for the series of a panel, in their order. */
export function seriesStyles(series = {}) {
  const taken = new Set();
  const styles = new Map();
  for (const [name, role] of Object.entries(series)) {
    // Two series of one role share the color: the second takes the next free dash and symbol.
    let look = Math.max(0, ROLES.indexOf(role));
    while (taken.has(look) && taken.size < ROLES.length) look = (look + 1) % ROLES.length;
    taken.add(look);
    const { dash, symbol, hatch } = LOOKS[look];
    styles.set(name, { name, role, color: color(role), dash, symbol, hatch, weight: style.roles[role]?.weight ?? 1 });
  }
  return styles;
}

/** The look of a mark that belongs to no series. */
export function plainStyle(role) {
  return { name: "", role, color: color(role), dash: "", symbol: "circle", hatch: "none", weight: 1 };
}

/** The dash and the symbol of a mark: its own option's, else those of its series. */
export const dashOf = (mark, otherwise) => style.dashes[mark.dash] ?? otherwise;
export const symbolOf = (mark, look) => style.symbols[mark.symbol] ?? look.symbol;

// These symbols have no inside: they are drawn by their stroke.
export const STROKED = new Set(["times", "plus", "asterisk"]);

/** Shade of a cell.  The ramp runs from the page's own lightness to its opposite, see style.json. */
export function shade(value, { domain, scheme }) {
  const [low, high] = domain;
  let t = high > low ? (value - low) / (high - low) : 0.5;
  t = Math.min(1, Math.max(0, t));
  // 100 steps: as fine as eyes see, and equal cells share the text of their color
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
