// One mark of a figure -> marks of Observable Plot, one for each series, plus what a tooltip needs.
// A kind of mark is one entry of MARKS: where its items lie, how they are painted, what a pointer finds.
import { areaY, dot, line, rect, ruleX, ruleY, text } from "@observablehq/plot";
import { headOf, liftOf, linkAt, middleOf, pathOf } from "./links.js";
import { spacing, textWidth } from "./scales.js";
import { color, dashOf, plainStyle, shade, STROKED, symbolOf } from "./theme.js";
import { dotted, lengthOf, speaks, tipOf } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const CURVES = { straight: "linear", step: "step-after", smooth: "monotone-x", arc: "monotone-x" };

/** Marks of Plot for one mark of the figure. */
export function paint(mark, panel) {
  const kind = MARKS[mark.kind];
  const s = kind.place(mark, panel);
  const common = { opacity: mark.opacity, className: panel.clipClass(mark) };
  return bySeries(mark, panel).flatMap(({ style, rows }) => kind.paint({ mark, panel, s, style, rows, common }));
}

/** The items of a mark that a pointer or the arrow keys can reach; computed when first needed. */
export function itemsOf(mark, panel, number) {
  if (!speaks(mark, panel.spec) || dotted(mark, panel.spec)) return [];
  const kind = MARKS[mark.kind];
  const s = kind.place(mark, panel);
  const out = [];
  for (let i = 0; i < lengthOf(mark); i++) {
    const item = kind.find({ mark, panel, s, i });
    if (!Number.isFinite(item?.x) || !Number.isFinite(item.y)) continue;
    const track = `${number} ${item.row ?? mark.columns.z?.[i] ?? ""}`;
    out.push({ ...item, kind: mark.kind, order: i, track, tip: () => tipOf(mark, panel.spec, i) });
  }
  return out;
}

/** The items of a mark by series: [{style, rows}], in the order of the legend. */
function bySeries(mark, panel) {
  const z = mark.columns.z;
  const count = lengthOf(mark);
  const plain = () => plainStyle(MARKS[mark.kind].role ?? (panel.styles.size ? "muted" : "c1"));
  if (!z) return [{ style: plain(), rows: [...Array(count).keys()] }];
  const groups = new Map();
  for (const name of panel.styles.keys()) groups.set(name, []);
  for (let i = 0; i < count; i++) {
    if (!groups.has(z[i])) groups.set(z[i], []);
    groups.get(z[i]).push(i);
  }
  return [...groups]
    .filter(([, rows]) => rows.length)
    .map(([name, rows]) => ({ style: panel.styles.get(name) ?? plain(), rows }));
}

const pick = (column, rows, fallback) => (column ? rows.map((i) => column[i]) : fallback);

// ---------------------------------------------------------------- places, in units of the axes

const placed = (mark, axis, name) => mark.columns[name]?.map(axis.place);
const points = (mark, { x, y }) => ({ x: placed(mark, x, "x"), y: placed(mark, y, "y") });

function bars(mark, panel) {
  const { x, y } = panel;
  const [along, across, value, at] = mark.horizontal ? [x, y, "x", "y"] : [y, x, "y", "x"];
  const top = placed(mark, along, value);
  const middle = placed(mark, across, at);
  const floor = along.type === "log" ? along.domain[0] : 0;
  const base = mark.columns.base ? placed(mark, along, "base") : top.map(() => floor);
  const width = spacing(middle, across) * 0.8;
  const { lanes, lane } = dodge(mark, middle, panel);
  const edge = (side) => middle.map((v, i) => across.unshape(across.shape(v) - width / 2 + (width * (lane(i) + side)) / lanes));
  const [from, to] = [edge(0), edge(1)];
  return mark.horizontal ? { x1: base, x2: top, y1: from, y2: to } : { x1: from, x2: to, y1: base, y2: top };
}

// Bars of several series at one place stand side by side, unless a base says where they stack.
function dodge(mark, at, panel) {
  const z = mark.columns.z;
  if (!z || mark.columns.base || new Set(at).size === at.length) return { lanes: 1, lane: () => 0 };
  const present = [...panel.styles.keys()].filter((name) => z.includes(name));
  return { lanes: present.length, lane: (i) => present.indexOf(z[i]) };
}

function cells(mark, { x, y }) {
  const edges = (axis, name) => {
    const at = placed(mark, axis, name);
    const half = spacing(at, axis) / 2;
    return [-half, half].map((by) => at.map((v) => axis.unshape(axis.shape(v) + by)));
  };
  const [[x1, x2], [y1, y2]] = [edges(x, "x"), edges(y, "y")];
  return { x1, x2, y1, y2 };
}

function rectangles(mark, { x, y }) {
  // on a band axis a rectangle fills its categories from the first to the last
  const edges = (axis, one, two) => {
    const [a, b] = [placed(mark, axis, one), placed(mark, axis, two)];
    if (!axis.band) return [a, b];
    return [a.map((v, i) => Math.min(v, b[i]) - 0.42), a.map((v, i) => Math.max(v, b[i]) + 0.42)];
  };
  const [[x1, x2], [y1, y2]] = [edges(x, "x1", "x2"), edges(y, "y1", "y2")];
  return { x1, x2, y1, y2 };
}

const box = (panel, s, i) => {
  const [a, b] = [panel.x.px(s.x1[i]), panel.x.px(s.x2[i])];
  const [c, d] = [panel.y.px(s.y1[i]), panel.y.px(s.y2[i])];
  return [Math.min(a, b), Math.min(c, d), Math.max(a, b), Math.max(c, d)];
};
const smallSide = ([a, b, c, d]) => Math.min(c - a, d - b);

// ---------------------------------------------------------------- what a pointer finds, in pixels

const pointAt = ({ panel, s, i }) => ({ x: panel.x.px(s.x[i]), y: panel.y.px(s.y[i]) });

function boxAt({ panel, s, i }) {
  const [a, b, c, d] = box(panel, s, i);
  return { box: [a, b, c, d], x: (a + c) / 2, y: (b + d) / 2 };
}

// ---------------------------------------------------------------- painting

/** One entry a kind, those of KINDS in genopt_core/figures/schema.py. */
export const MARKS = {
  line: {
    place: points,
    paint({ mark, s, style, rows, common }) {
      const x = pick(s.x, rows);
      const y = pick(s.y, rows);
      let curve = CURVES[mark.curve] ?? "linear";
      if (curve === "monotone-x" && x.some((v, i) => i && v <= x[i - 1])) curve = "catmull-rom";
      return [
        line({ length: rows.length }, {
          x, y, curve,
          stroke: style.color,
          strokeWidth: (mark.width ?? 2) * style.weight,
          strokeDasharray: dashOf(mark, style.dash) || undefined,
          strokeLinejoin: "round",
          ...common,
        }),
      ];
    },
    find: pointAt,
  },

  area: {
    place: (mark, { x, y }) => ({ x: placed(mark, x, "x"), y1: placed(mark, y, "y1"), y2: placed(mark, y, "y2") }),
    paint({ mark, panel, s, style, rows, common }) {
      return [
        areaY({ length: rows.length }, {
          x: pick(s.x, rows), y1: pick(s.y1, rows), y2: pick(s.y2, rows),
          ...common,
          fill: panel.fill(style, "tint"),
          opacity: mark.opacity,
        }),
      ];
    },
    find: ({ panel, s, i }) => ({ x: panel.x.px(s.x[i]), y: panel.y.px((s.y1[i] + s.y2[i]) / 2) }),
  },

  dot: {
    role: "c1",
    place: points,
    paint({ mark, s, style, rows, common }) {
      const symbol = symbolOf(mark, style);
      const size = mark.columns.size ? pick(mark.columns.size, rows).map((v) => (v ?? 0) / 2) : (mark.size ?? 7) / 2;
      const stroked = STROKED.has(symbol);
      return [
        dot({ length: rows.length }, {
          x: pick(s.x, rows), y: pick(s.y, rows), symbol,
          r: Array.isArray(size) ? { value: size, scale: null } : size,
          fill: stroked ? "none" : style.color,
          stroke: stroked ? style.color : "var(--gx-bg)",
          strokeWidth: stroked ? 2 : 1,
          ...common,
        }),
      ];
    },
    find: pointAt,
  },

  bar: {
    place: bars,
    paint(given) {
      return boxes(given, { fill: given.panel.fill(given.style, "solid"), inset: 0 });
    },
    find(given) {
      const found = boxAt(given);
      return { ...found, y: found.box[1] };
    },
  },

  cell: {
    place: cells,
    paint(given) {
      const { mark, panel, rows, s, common } = given;
      const filled = rows.filter((i) => mark.columns.value[i] != null);
      const scale = panel.color;
      const shades = filled.map((i) => shade(mark.columns.value[i], scale));
      const out = boxes({ ...given, rows: filled }, {
        fill: { value: shades.map((v) => v.fill), scale: null },
        stroke: "var(--gx-bg)",
        strokeWidth: 0.5,
      });
      const empty = rows.filter((i) => mark.columns.value[i] == null);
      if (empty.length) {
        out.push(...boxes({ ...given, rows: empty }, { fill: "none", stroke: color("muted"), strokeOpacity: 0.35, strokeWidth: 0.5, inset: 0.5 }));
      }
      if (mark.columns.text) {
        for (const ink of new Set(shades.map((v) => v.ink))) {
          const some = filled.filter((_, k) => shades[k].ink === ink);
          out.push(...inside({ mark, panel, s, rows: some, common }, ink));
        }
      }
      return out;
    },
    find(given) {
      const found = boxAt(given);
      return { ...found, row: `row ${Math.round(found.y)}` };
    },
  },

  rect: {
    place: rectangles,
    paint(given) {
      const { mark, panel, style, rows, s, common } = given;
      const thick = rows.length && Math.min(...rows.slice(0, 50).map((i) => smallSide(box(panel, s, i)))) > 8;
      const out = boxes(given, {
        fill: mark.outline ? "none" : panel.fill(style, "tint"),
        stroke: style.color,
        strokeWidth: (mark.outline ? 2 : thick ? 1.25 : 0.6) * style.weight,
        strokeDasharray: (mark.outline && style.dash) || undefined,
        inset: thick ? 0.75 : 0.25,
        rx: thick ? 2 : 0,
      });
      if (mark.columns.text || mark.columns.note) out.push(...inside({ mark, panel, s, rows, common }, "var(--gx-ink)"));
      return out;
    },
    find: boxAt,
  },

  rule: {
    role: "muted",
    place: points,
    paint({ mark, panel, s, style, rows, common }) {
      const upright = Boolean(mark.columns.x);
      const at = pick(upright ? s.x : s.y, rows);
      const out = [
        (upright ? ruleX : ruleY)({ length: rows.length }, {
          [upright ? "x" : "y"]: at,
          stroke: style.color,
          strokeWidth: (mark.width ?? 1.5) * style.weight,
          strokeDasharray: dashOf(mark, mark.columns.z ? style.dash : "5 3") || undefined,
          ...common,
        }),
      ];
      if (mark.label && !mark.columns.z && at.length) {
        const where = upright
          ? { px: panel.x.px(at[0]) + 4, py: panel.box.top + 9, anchor: "start" }
          : { px: panel.box.right - 3, py: panel.y.px(at[0]) - 7, anchor: "end" };
        if (upright && where.px + textWidth(mark.label, 11) > panel.box.right) Object.assign(where, { px: where.px - 8, anchor: "end" });
        out.push(words([{ ...where, text: mark.label }], { fill: "var(--gx-ink-soft)", fontSize: 11, textAnchor: where.anchor }));
      }
      return out;
    },
    find({ mark, panel, s, i }) {
      const { left, right, top, bottom } = panel.box;
      const upright = Boolean(mark.columns.x);
      if (upright) return { upright, x: panel.x.px(s.x[i]), y: (top + bottom) / 2 };
      return { upright, x: (left + right) / 2, y: panel.y.px(s.y[i]) };
    },
  },

  link: {
    role: "muted",
    place(mark, panel) {
      const { x, y } = panel;
      const ends = { x1: placed(mark, x, "x1"), y1: placed(mark, y, "y1"), x2: placed(mark, x, "x2"), y2: placed(mark, y, "y2") };
      return { ...ends, lift: liftOf(mark, panel, ends) };
    },
    paint({ mark, panel, s, style, rows, common }) {
      return [
        (index, scales, values, dimensions, { document }) => {
          const group = document.createElementNS(SVG, "g");
          group.setAttribute("aria-label", "link");
          if (common.className) group.setAttribute("class", common.className);
          if (mark.opacity != null) group.setAttribute("opacity", mark.opacity);
          group.setAttribute("fill", "none");
          group.setAttribute("stroke", style.color);
          const dash = dashOf(mark, mark.columns.z ? style.dash : "");
          if (dash) group.setAttribute("stroke-dasharray", dash);
          group.setAttribute("stroke-linecap", dash ? "butt" : "round");
          for (const i of rows) {
            const link = linkAt(mark, panel, s, i);
            if (!link.ends.every(Number.isFinite)) continue;
            const width = (mark.columns.width?.[i] ?? mark.width ?? 1.75) * style.weight;
            const path = document.createElementNS(SVG, "path");
            path.setAttribute("d", pathOf(link, mark.curve));
            path.setAttribute("stroke-width", width);
            group.append(path);
            if (mark.arrow) group.append(headOf(link, document, width, style.color));
          }
          return group;
        },
      ];
    },
    find({ mark, panel, s, i }) {
      const link = linkAt(mark, panel, s, i);
      return { ...middleOf(link), segment: link.pull ? null : link.ends };
    },
  },

  text: {
    place: points,
    paint({ mark, panel, s, style, rows, common }) {
      const size = Math.max(11, mark.size ?? 12);
      const anchor = mark.anchor ?? "middle";
      const [left, right] = [2, panel.width - 2];
      const items = rows
        .map((i) => {
          const content = mark.columns.text[i] ?? "";
          let px = panel.x.px(s.x[i]) + (mark.dx ?? 0);
          const py = panel.y.px(s.y[i]) + (mark.dy ?? 0);
          // words at the rim move inwards rather than being cut
          const wide = textWidth(content, size) * (mark.bold ? 1.08 : 1);
          const start = px - (anchor === "end" ? wide : anchor === "middle" ? wide / 2 : 0);
          px += Math.max(0, left - start) - Math.max(0, start + wide - right);
          return { px, py, text: content };
        })
        .filter((item) => Number.isFinite(item.px) && Number.isFinite(item.py));
      return [
        words(items, {
          fill: mark.columns.z ? style.color : "var(--gx-ink)",
          fontSize: size,
          textAnchor: anchor,
          fontWeight: mark.bold ? "bold" : undefined,
          opacity: common.opacity,
        }),
      ];
    },
    // words say what they say: a tooltip only if they have one
    find: (given) => (given.mark.columns.tip || given.mark.columns.name ? pointAt(given) : null),
  },
};

function boxes({ s, rows, common }, options) {
  return [
    rect({ length: rows.length }, {
      x1: pick(s.x1, rows), x2: pick(s.x2, rows), y1: pick(s.y1, rows), y2: pick(s.y2, rows),
      ...common,
      ...options,
    }),
  ];
}

/** Words already placed in pixels, with a halo of the page's color so that lines do not cross them. */
function words(items, options) {
  return text({ length: items.length }, {
    x: { value: items.map((t) => t.px), scale: null },
    y: { value: items.map((t) => t.py), scale: null },
    text: items.map((t) => t.text),
    lineAnchor: "middle",
    stroke: "var(--gx-bg)",
    strokeWidth: 3,
    ...options,
  });
}

/** Centered words in rectangles, with a note after or below; what does not fit is left to the tooltip. */
function inside({ mark, panel, s, rows, common }, ink) {
  const items = [];
  for (const i of rows) {
    const { text: texts, note: notes } = mark.columns;
    const [content, note] = texts?.[i] ? [texts[i], notes?.[i]] : [notes?.[i], null];
    if (!content) continue;
    const [a, b, c, d] = box(panel, s, i);
    const [px, py] = [(a + c) / 2, (b + d) / 2 + 0.5];
    const holds = (words, lines, size) => Math.max(...words.map((w) => textWidth(w, size))) <= c - a - 3 && d - b >= lines * (size + 1);
    const fit = (lines) => items.push({ px, py, lines, fits: (size) => holds(lines, lines.length, size) });
    if (note && holds([`${content} ${note}`], 1, 11)) fit([`${content} ${note}`]);
    else if (note && holds([content, note], 2, 11)) fit([content, note]);
    else if (holds([content], 1, 11)) fit([content]);
  }
  const size = [13, 12].find((larger) => items.every((item) => item.fits(larger))) ?? 11;
  const placed = items.flatMap(({ px, py, lines }) => lines.map((text, k) => ({ px, py: py + (k - (lines.length - 1) / 2) * (size + 1), text })));
  return placed.length ? [words(placed, { fill: ink, fontSize: size, stroke: undefined, opacity: common.opacity })] : [];
}
