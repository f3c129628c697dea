// Axes: what is their domain, where do ticks stand, what is printed there, and which pixel is a value.
// We compute all of it ourselves and hand Plot explicit scales: labels then never collide, margins fit
// the labels, and tooltips find points without asking the drawing.

const SUPER = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
const raised = (whole) => [...String(whole)].map((c) => SUPER[c]).join("");

/** A number as a reader wants it: 4 digits, a real minus, commas, powers of ten where needed. */
export function format(value) {
  if (typeof value !== "number") return String(value);
  if (value === 0) return "0";
  const size = Math.abs(value);
  const sign = value < 0 ? "−" : "";
  if (size >= 1e6 || size < 1e-3) {
    let power = Math.floor(Math.log10(size) + 1e-12);
    const digits = Number((size / 10 ** power).toPrecision(4));
    return sign + (digits === 1 ? `10${raised(power)}` : `${digits}×10${raised(power)}`);
  }
  const text = String(Number(size.toPrecision(Math.max(4, Math.ceil(Math.log10(size + 1))))));
  const [whole, rest] = text.split(".");
  return sign + whole.replace(/\B(?=(\d{3})+$)/g, ",") + (rest ? `.${rest}` : "");
}

// Widths of a sans serif in em.  Estimated, not measured: the build has no fonts, and it must agree.
const NARROW = new Set("iIjlftr.,:;'|!()[]{} -·\u2009");
const WIDE = new Set("mwMW@%—→←");
export function textWidth(text, size = 12) {
  let em = 0;
  for (const c of String(text)) {
    if (NARROW.has(c)) em += 0.36;
    else if (WIDE.has(c)) em += 0.92;
    else if (c >= "\u2e80" && c <= "\uffef") em += 1.02;
    else if (c >= "A" && c <= "Z") em += 0.69;
    else em += 0.59;
  }
  return em * size;
}

export function shorten(text, width, size = 12) {
  if (textWidth(text, size) <= width) return text;
  const letters = [...text];
  while (letters.length > 1 && textWidth(letters.join("") + "…", size) > width) letters.pop();
  return letters.join("") + "…";
}

// The three shapes of a scale; a band axis is linear over the places 0, 1, … of its categories.
const SHAPES = {
  linear: [(v) => v, (u) => u],
  log: [Math.log10, (u) => 10 ** u],
  symlog: [(v) => Math.sign(v) * Math.log1p(Math.abs(v)), (u) => Math.sign(u) * Math.expm1(Math.abs(u))],
};

function niceTicks(low, high, count) {
  if (!(high > low)) return [low];
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const share = rough / power;
  const step = (share < 1.42 ? 1 : share < 3.17 ? 2 : share < 7.08 ? 5 : 10) * power;
  const out = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) {
    out.push(Number((i * step).toPrecision(12)));
  }
  return out;
}

function logTicks(low, high, count) {
  const [from, to] = [Math.ceil(Math.log10(low) - 1e-9), Math.floor(Math.log10(high) + 1e-9)];
  const decades = Math.log10(high / low);
  if (decades < 1) return niceTicks(low, high, Math.min(count, 5)).filter((v) => v > 0);
  if (decades <= 2.2 && count >= 4) {
    const out = [];
    for (let p = from - 1; p <= to; p++) {
      for (const m of decades <= 1.4 ? [1, 2, 5] : [1, 3]) {
        const v = Number(`${m}e${p}`);
        if (v >= low * 0.999 && v <= high * 1.001) out.push(v);
      }
    }
    return out;
  }
  const stride = Math.max(1, Math.ceil((to - from + 1) / Math.max(1, count)));
  const out = [];
  for (let p = from; p <= to; p += stride) out.push(Number(`1e${p}`));
  return out;
}

function symlogTicks(low, high) {
  const out = low <= 0 && high >= 0 ? [0] : [];
  for (let p = 0; 10 ** p <= Math.max(Math.abs(low), Math.abs(high)); p++) {
    if (-(10 ** p) >= low) out.unshift(-(10 ** p));
    if (10 ** p <= high && 10 ** p >= low) out.push(10 ** p);
  }
  return out.length > 1 ? out : niceTicks(low, high, 4);
}

/** Smallest distance between neighbours on an axis, in the axis's own shape; the width of a cell. */
export function spacing(values, axis) {
  if (axis.band) return 1;
  const sorted = [...new Set(values.filter((v) => v != null))].map(axis.shape).sort((a, b) => a - b);
  let step = Infinity;
  for (let i = 1; i < sorted.length; i++) step = Math.min(step, sorted[i] - sorted[i - 1]);
  return Number.isFinite(step) && step > 0 ? step : 1;
}

/** An axis without pixels yet: its shape, its categories and its domain. */
export function axisOf(spec, marks, which) {
  const band = spec.type === "band" ? new Map((spec.domain ?? []).map((v, i) => [v, i])) : null;
  const type = band ? "linear" : (spec.type ?? "linear");
  const [shape, unshape] = SHAPES[type];
  const axis = {
    spec, type, band, shape, unshape, which,
    place: band ? (v) => (v == null ? NaN : (band.get(v) ?? NaN)) : (v) => (v == null ? NaN : v),
  };
  if (band) axis.domain = [-0.5, Math.max(1, band.size) - 0.5];
  else if (spec.domain) axis.domain = [...spec.domain];
  else axis.domain = inferred(axis, marks, which);
  return axis;
}

function inferred(axis, marks, which) {
  const { shape, unshape, type } = axis;
  let low = Infinity;
  let high = -Infinity;
  let zero = false; // bars stand on zero, and so does what is nowhere negative but touches zero
  let pad = which === "y" ? 0.05 : 0;
  const see = (u) => {
    if (u < low) low = u;
    if (u > high) high = u;
  };
  for (const mark of marks) {
    const { kind, columns } = mark;
    const valueAxis = mark.horizontal ? "x" : "y";
    const wide = kind === "cell" || (kind === "bar" && valueAxis !== which);
    for (const name of [which, `${which}1`, `${which}2`, ...(kind === "bar" && valueAxis === which ? ["base"] : [])]) {
      const values = columns[name];
      if (!values) continue;
      const half = wide ? spacing(values, axis) / 2 : 0;
      for (const v of values) {
        if (typeof v !== "number") continue;
        see(shape(v) - half);
        see(shape(v) + half);
      }
    }
    if (kind === "bar" && valueAxis === which && type !== "log") zero = true;
    if (kind === "dot" || kind === "text" || kind === "link") pad = 0.05;
    if (wide || kind === "rect") pad = 0;
  }
  if (zero) see(0);
  if (low > high) return type === "log" ? [1, 10] : [0, 1];
  if (low === high) return type === "log" ? [unshape(low - 0.5), unshape(low + 0.5)] : [unshape(low - 0.5), unshape(low + 0.5)];
  const room = (high - low) * pad;
  const grounded = type !== "log" && low === 0;
  const capped = type !== "log" && high === 0;
  return [unshape(grounded ? low : low - room), unshape(capped ? high : high + room)];
}

/** Give the axis its pixels, from the pixel of its low end to that of its high end. */
export function withPixels(axis, from, to) {
  const { shape, unshape } = axis;
  const [a, b] = axis.spec.reverse ? [to, from] : [from, to];
  const low = shape(axis.domain[0]);
  const k = (b - a) / (shape(axis.domain[1]) - low || 1);
  axis.range = [a, b];
  axis.px = (v) => a + (shape(v) - low) * k;
  axis.value = (px) => unshape(low + (px - a) / k);
  axis.unit = Math.abs(k);
  return axis;
}

/** Ticks of an axis over ``span`` pixels: positions (numbers) and the words there. */
export function ticksOf(axis, span, size = 12) {
  const { spec, type, band, domain } = axis;
  if (spec.hidden) return [];
  if (Array.isArray(spec.ticks) || band) {
    const places = Array.isArray(spec.ticks) ? spec.ticks : [...band.keys()];
    return places
      .map((v, i) => ({ at: axis.place(v), text: spec.tick_labels?.[i] ?? format(v) }))
      .filter(({ at }) => at >= domain[0] - 1e-12 && at <= domain[1] + 1e-12);
  }
  const [low, high] = domain;
  const horizontal = axis.which === "x";
  const wanted = typeof spec.ticks === "number" ? spec.ticks : Math.round(span / (!horizontal ? 42 : type === "log" ? 48 : 68));
  let ticks = [];
  for (let count = Math.min(12, Math.max(2, wanted)); count >= 1; count--) {
    const values =
      type === "log" ? logTicks(low, high, count) : type === "symlog" ? symlogTicks(low, high) : niceTicks(low, high, count);
    ticks = values.map((at) => ({ at, text: format(at) }));
    if (type === "linear") evenDecimals(ticks);
    if (type === "log") evenPowers(ticks);
    if (!horizontal || type !== "linear") break;
    const widest = Math.max(0, ...ticks.map((t) => textWidth(t.text, size)));
    if (widest * ticks.length * 1.25 <= span) break;
  }
  return ticks;
}

// 0, 0.5, 1 -> 0.0, 0.5, 1.0: labels of one axis have equally many decimals
function evenDecimals(ticks) {
  if (!ticks.every((t) => /^−?\d{1,3}(\.\d+)?$/.test(t.text))) return;
  const places = Math.max(...ticks.map((t) => (t.text.split(".")[1] ?? "").length));
  for (const t of ticks) if (places) t.text = Math.abs(t.at).toFixed(places).replace(/^/, t.at < 0 ? "−" : "");
}

// 10⁻⁴, 0.01, 1 -> 10⁻⁴, 10⁻², 10⁰: if one label is a power of ten, all of them are
function evenPowers(ticks) {
  const powers = ticks.map((t) => Math.log10(t.at));
  if (ticks.some((t) => t.text.startsWith("10") && /[⁰-⁹⁻¹²³]/.test(t.text)) && powers.every((p) => Math.abs(p - Math.round(p)) < 1e-9)) {
    ticks.forEach((t, i) => (t.text = `10${raised(Math.round(powers[i]))}`));
  }
}

/** Leave out labels until none touches another: the smallest stride that works, from the first. */
export function thin(ticks, axis, room) {
  const placed = ticks.map((t) => ({ ...t, px: axis.px(t.at) }));
  for (let stride = 1; stride <= placed.length; stride++) {
    const kept = placed.filter((_, i) => i % stride === 0);
    if (kept.every((t, i) => i === 0 || Math.abs(t.px - kept[i - 1].px) >= (room(t) + room(kept[i - 1])) / 2)) {
      return kept;
    }
  }
  return placed.slice(0, 1);
}
