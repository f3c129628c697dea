// Where the panels of a figure stand and how high they are, so that all of it fits the window: beside each
// other, below each other or, where neither leaves them readable, on pages.  Nothing is measured: the room
// around a picture is estimated as its labels are, so that a figure stands still while it is moved.
import { textWidth } from "./scales.js";

export const MIN_WIDTH = 280; // of a panel
const GAP = 24; // between columns
const BELOW = 12; // between panels of a column
const TABS = 40; // the row that turns pages
const LEAST = 100; // pixels of a picture, if it is not lower by itself
const SHRINK = 0.5; // of its own height that a picture keeps
const SHRINK_ROWS = 0.7; // if it has words between rows of boxes
const WANTED = 420; // pixels across, from which on a picture has all it needs
const STAY = 1.2; // how much better another arrangement must be to take over

/**
 * The arrangement of ``figure`` in ``width`` × ``height`` pixels: its pages, each with the columns of
 * panels, their width, and the heights of their pictures.  ``before`` is the arrangement that stands;
 * ``grow`` says how much higher than they want to be pictures may become where there is room.
 */
export function arrange(figure, { width, height = Infinity, before = null, grow = 1 }) {
  const all = figure.panels.map((_, i) => i);
  if (!Number.isFinite(height)) {
    const beside = sideBySide(figure, width);
    const columns = beside ? all.map((i) => [i]) : [all];
    const each = Math.floor((Math.max(MIN_WIDTH, width) - GAP * (columns.length - 1)) / columns.length);
    return { pages: [{ columns, each }], heights: figure.panels.map((spec) => spec.height ?? 240), each: all.map(() => each) };
  }
  figure = { ...figure, grow };
  const whole = best(figure, all, width, height, before?.pages[0]);
  const pages = whole ? [whole] : folded(figure, all, width, height - TABS, before);
  const heights = all.map(() => 0);
  const each = all.map(() => 0);
  for (const page of pages) {
    for (const i of page.columns.flat()) {
      heights[i] = page.heights.get(i);
      each[i] = page.each;
    }
  }
  return { pages, heights, each };
}

export const sideBySide = (figure, width) => figure.layout === "row" && figure.panels.length > 1 && width >= 2 * MIN_WIDTH + GAP;

/** Pages of as many panels as are readable together. */
function folded(figure, all, width, height, before) {
  const pages = [];
  for (let start = 0; start < all.length; ) {
    let page = null;
    let end = all.length;
    for (; !page && end > start; end--) page = best(figure, all.slice(start, end), width, height, before?.pages[pages.length]);
    if (!page) page = stacked(figure, [[all[start]]], width, 0); // too low a window: scroll
    pages.push(page);
    start += page.columns.flat().length;
  }
  return pages;
}

/** The best arrangement of ``panels`` in columns, or null if none leaves them readable. */
function best(figure, panels, width, height, before) {
  let found = null;
  for (const columns of partitions(panels, Math.floor((width + GAP) / (MIN_WIDTH + GAP)))) {
    const made = stacked(figure, columns, width, height);
    if (!made.readable) continue;
    const rank = made.score * (before && same(before.columns, columns) ? STAY : 1);
    if (!found || rank > found.rank + 1e-9) found = { ...made, rank };
  }
  return found;
}

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/** All ways to cut a list into at most ``most`` columns, those with fewer columns first. */
function partitions(list, most) {
  const out = [];
  const cut = (rest, done) => {
    out.push([...done, rest]);
    if (done.length + 1 >= most) return;
    for (let i = 1; i < rest.length; i++) cut(rest.slice(i), [...done, rest.slice(0, i)]);
  };
  cut(list, []);
  return out.sort((a, b) => a.length - b.length);
}

function stacked(figure, columns, width, height) {
  const each = Math.floor((Math.max(MIN_WIDTH, width) - GAP * (columns.length - 1)) / columns.length);
  const heights = new Map();
  const liked = columns.length > 1 && figure.layout === "row" ? 1.3 : 1;
  let wide = 1;
  // side by side the pictures start at one height, under the highest of what stands above them
  const level = columns.length > 1 && columns.every((column) => column.length === 1);
  const tallest = level ? Math.max(...columns.flat().map((i) => above(figure.panels[i], each))) : 0;
  let readable = true;
  let share = 1;
  for (const column of columns) {
    const specs = column.map((i) => figure.panels[i]);
    const room = height - specs.reduce((sum, spec) => sum + Math.max(tallest, above(spec, each)) + below(spec, each), 0) - BELOW * (column.length - 1);
    const low = specs.map((spec) => least(spec, each));
    const own = specs.map((spec, i) => Math.max(low[i], spec.height ?? 240));
    const [needed, wanted] = [low, own].map((values) => values.reduce((a, b) => a + b, 0));
    if (room < needed) readable = false;
    const t = wanted > needed ? Math.max(0, Math.min(1, (room - needed) / (wanted - needed))) : 1;
    const more = Math.max(1, Math.min(figure.grow, room / wanted));
    column.forEach((i, k) => heights.set(i, Math.floor(more * (low[k] + t * (own[k] - low[k])))));
    share = Math.min(share, (needed + t * (wanted - needed)) / wanted);
    for (const spec of specs) wide = Math.min(wide, each / wantedWidth(spec));
  }
  return { columns, each, heights, readable, score: liked * wide * share };
}

const lines = (words, size, width, high) => Math.ceil((textWidth(words, size) * 1.04) / width) * high;
const below = (spec, width) => (spec.x?.label ? lines(`${spec.x.label} →`, 12, width, 16) : 0);

/** About how many pixels a panel's title, legend and label take above its picture. */
function above(spec, width) {
  let high = 0;
  if (spec.title) high += lines(spec.title, 14.5, width, 20) + 2;
  if (spec.y?.label) high += lines(`↑ ${spec.y.label}`, 12, width, 16) + 4;
  if (spec.legend === false) return high;
  const names = Object.keys(spec.series ?? {});
  if (names.length > 1) {
    let at = 0;
    let rows = 1;
    for (const name of names) {
      const wide = 28 + 6 + textWidth(name, 12.3);
      if (at && at + wide > width) [at, rows] = [0, rows + 1];
      at += wide + 16;
    }
    high += 18 * rows + 6;
  }
  if (spec.marks.some((mark) => mark.kind === "cell")) high += 24;
  return high;
}

/** About how many pixels stand above and below the picture of a panel. */
export const around = (spec, width) => above(spec, width) + below(spec, width);

const spanOf = (axis, values) => {
  if (axis?.type === "band") return axis.domain?.length ?? 1;
  const [low, high] = axis?.domain ?? [Math.min(...values), Math.max(...values)];
  return high - low || 1;
};

/** The lowest picture of a panel in which its rows of words can be read. */
function least(spec, width) {
  const own = spec.height ?? 240;
  const frame = spec.x?.hidden ? 14 : 34;
  let rows = 0;
  if (spec.y?.type === "band" && !spec.y.hidden) rows = Math.max(rows, 15 * (spec.y.domain?.length ?? 0));
  for (const { kind, columns: c } of spec.marks) {
    if (kind !== "rect" || !c.text?.some(Boolean)) continue;
    const span = spanOf(spec.y, [...c.y1, ...c.y2]);
    const high = Math.min(...c.y1.map((v, i) => (c.text[i] ? Math.abs(c.y2[i] - v) : Infinity)));
    if (high < 0.3 * span) rows = Math.max(rows, (15 * span) / high);
  }
  const between = rows && spec.marks.some((mark) => mark.kind === "text");
  return Math.min(own, Math.max(Math.min(own, LEAST), (between ? SHRINK_ROWS : SHRINK) * own, rows ? rows + frame : 0));
}

/** How wide a panel wants to be: words in its boxes must fit them. */
function wantedWidth(spec) {
  let wanted = WANTED;
  for (const { kind, columns: c } of spec.marks) {
    if (kind !== "rect" || !c.text) continue;
    const span = spanOf(spec.x, [...c.x1, ...c.x2]);
    c.text.forEach((text, i) => {
      const wide = Math.abs(c.x2[i] - c.x1[i]);
      if (text && wide) wanted = Math.max(wanted, 40 + ((textWidth(text, 11) + 4) * span) / wide);
    });
  }
  return Math.min(wanted, 900);
}
