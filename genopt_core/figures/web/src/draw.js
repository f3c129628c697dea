// A figure (see genopt_core/figures/schema.py) -> DOM.  The same code runs in the page, in a notebook and,
// at book build time, in Node; it therefore takes the document as an argument and measures nothing.
import { plot } from "@observablehq/plot";
import { axes, grids } from "./axes.js";
import { arrange } from "./layout.js";
import { paint } from "./marks.js";
import { axisOf, format, shorten, textWidth, thin, ticksOf, withPixels } from "./scales.js";
import { dashOf, seriesStyles, shade, STROKED, symbolOf } from "./theme.js";

const SVG = "http://www.w3.org/2000/svg";
const FONT = 12;

/** Make elements: ``h(document)("p", {class: "a"}, "words", child)``. */
export function maker(document) {
  return (tag, attributes = {}, ...children) => {
    const [name, space] = tag.startsWith("svg:") ? [tag.slice(4), SVG] : [tag, null];
    const element = space ? document.createElementNS(space, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (value === false || value == null) continue;
      element.setAttribute(key, value === true ? "" : value);
    }
    element.append(...children.filter((child) => child != null));
    return element;
  };
}

/** The ticks of the y axis, and how wide their labels make the left margin. */
function sideOf(y, width, height) {
  const ticks = ticksOf(y, height - 30, FONT);
  const widest = Math.min(width * 0.34, Math.max(0, ...ticks.map((t) => textWidth(t.text, FONT))));
  for (const tick of ticks) tick.text = shorten(tick.text, widest + 1, FONT);
  return { ticks, left: y.spec.hidden ? 6 : Math.ceil(widest) + 12 };
}

/** The left margin of each panel: those below each other over the same values begin at one line. */
export function lefts({ panels }, { columns, each, heights }) {
  const out = panels.map(() => 0);
  for (const column of columns) {
    const groups = new Map();
    for (const i of column) {
      const { x } = panels[i];
      if (!x?.domain || x.hidden) continue;
      const key = JSON.stringify([x.type, x.domain]);
      groups.set(key, [...(groups.get(key) ?? []), i]);
    }
    for (const group of groups.values()) {
      if (group.length < 2) continue;
      const most = Math.max(...group.map((i) => sideOf(axisOf(panels[i].y ?? {}, panels[i].marks, "y"), each, heights[i]).left));
      for (const i of group) out[i] = most;
    }
  }
  return out;
}

/** The model of a panel: axes with pixels, styles of its series, room for labels. */
function modelOf(spec, width, height, id, least) {
  const marks = spec.marks;
  const panel = {
    spec, width, height: height ?? spec.height ?? 240, id,
    styles: seriesStyles(spec.series),
    x: axisOf(spec.x ?? {}, marks, "x"),
    y: axisOf(spec.y ?? {}, marks, "y"),
    color: colorScale(spec),
    hatches: new Map(),
  };
  // Room: the y labels decide the left margin, then the x labels what fits below.
  const top = 8;
  const { ticks: yTicks, left: own } = sideOf(panel.y, width, panel.height);
  const left = Math.max(own, least);
  let right = panel.x.spec.hidden ? 6 : 14;
  withPixels(panel.x, left, width - right);
  let fitted = fitX(ticksOf(panel.x, width - left - right, FONT), panel.x);
  const over = fitted.rotate ? 0 : Math.max(0, ...fitted.kept.map((t) => t.px + textWidth(t.text, FONT) / 2 - width + 2));
  if (over) {
    // the last label would be cut: give it room
    right += Math.ceil(over);
    withPixels(panel.x, left, width - right);
    fitted = fitX(ticksOf(panel.x, width - left - right, FONT), panel.x);
  }
  const { kept: xTicks, rotate, bottom } = fitted;
  panel.box = { left, right: width - right, top, bottom: panel.height - bottom };
  // numbers grow upwards; of categories the first is on top, as in a list
  if (panel.y.band) withPixels(panel.y, panel.box.top, panel.box.bottom);
  else withPixels(panel.y, panel.box.bottom, panel.box.top);
  panel.yTicks = thin(yTicks, panel.y, () => FONT + 2);
  panel.xTicks = xTicks;
  panel.xRotate = rotate;
  panel.margins = { marginLeft: left, marginRight: right, marginTop: top, marginBottom: bottom };
  const outside = marks.some((mark) => leaves(mark, panel));
  panel.clip = outside;
  panel.clipClass = (mark) => (outside && mark.kind !== "text" ? "gx-clip" : undefined);
  const hatched = panel.styles.size > 1;
  panel.fill = (style, mode) => {
    const plain = mode === "solid";
    if (!hatched || style.hatch === "none") {
      return plain ? style.color : `color-mix(in srgb, ${style.color} 26%, transparent)`;
    }
    const name = `${id}-${mode}-${style.role}-${style.hatch}`;
    panel.hatches.set(name, { style, mode });
    return `url(#${name})`;
  };
  return panel;
}

function colorScale(spec) {
  const values = spec.marks.flatMap((mark) => (mark.kind === "cell" ? mark.columns.value : [])).filter((v) => v != null);
  if (!values.length) return null;
  const scheme = spec.color?.scheme ?? "sequential";
  let domain = spec.color?.domain;
  if (!domain) {
    domain = [Math.min(...values), Math.max(...values)];
    if (scheme === "diverging") {
      const reach = Math.max(Math.abs(domain[0]), Math.abs(domain[1]));
      domain = [-reach, reach];
    }
  }
  return { label: spec.color?.label ?? "", scheme, domain };
}

// Labels under the x axis: level if they fit, slanted if they are words, else every second, third …
function fitX(ticks, axis) {
  if (axis.spec.hidden) return { kept: [], rotate: 0, bottom: 6 };
  const wide = (t) => textWidth(t.text, FONT) + 8;
  const kept = thin(ticks, axis, wide);
  const named = axis.band || axis.spec.tick_labels;
  const long = ticks.some((t) => textWidth(t.text, FONT) > 30);
  if (kept.length === ticks.length || !named || !long) return { kept, rotate: 0, bottom: 24 };
  const short = ticks.map((t) => ({ ...t, text: shorten(t.text, 96, FONT) }));
  const slanted = thin(short, axis, () => FONT + 5);
  const deep = Math.max(...slanted.map((t) => textWidth(t.text, FONT)));
  return { kept: slanted, rotate: -40, bottom: Math.ceil(16 + deep * 0.68) };
}

// Does a mark reach beyond a domain that was asked for?  Only then do we pay for clipping.
function leaves(mark, panel) {
  for (const axis of [panel.x, panel.y]) {
    if (!axis.spec.domain || axis.band) continue;
    const [low, high] = axis.domain;
    for (const name of [axis.which, `${axis.which}1`, `${axis.which}2`]) {
      if (mark.columns[name]?.some((v) => typeof v === "number" && (v < low || v > high))) return true;
    }
    if (mark.kind === "bar" && !mark.columns.base && low > 0) return true;
  }
  return false;
}

/** One panel: titles, legend and SVG.  The result keeps the model for the tooltips. */
export function drawPanel(spec, { document, width, height, id, figure, left = 0 }) {
  const h = maker(document);
  const panel = modelOf(spec, width, height, id, left);
  const svg = drawSvg(panel, document, h);
  const described = [spec.title, figure.title].filter(Boolean).join(": ");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", described);
  svg.setAttribute("aria-describedby", `${id}-desc`);
  svg.prepend(h("svg:desc", { id: `${id}-desc` }, [figure.alt, figure.readout].filter(Boolean).join(" ")));
  const frame = h("div", { class: "gx-frame" }, svg);
  const node = h(
    "div",
    { class: "gx-panel" },
    spec.title ? h("p", { class: "gx-panel-title" }, spec.title) : null,
    legends(panel, h),
    label(h, "gx-ylabel", panel.y, "↑", "↓"),
    h("div", { class: "gx-plot" }, frame, label(h, "gx-xlabel", panel.x, "→", "←")),
  );
  return { node, frame, svg, panel };
}

function label(h, name, axis, onward, backward) {
  const words = axis.spec.label;
  if (!words) return null;
  const arrow = axis.band || axis.spec.hidden ? "" : axis.spec.reverse ? backward : onward;
  const sign = () => h("span", { "aria-hidden": "true", class: "gx-arrow" }, arrow);
  return h("p", { class: name }, ...(!arrow ? [words] : name === "gx-ylabel" ? [sign(), " ", words] : [words, " ", sign()]));
}

function drawSvg(panel, document, h) {
  const { spec, x, y } = panel;
  const marks = [grids(panel, h), ...spec.marks.flatMap((mark) => paint(mark, panel)), axes(panel, h)];
  const scale = (axis) => ({ type: axis.type, domain: axis.domain, range: axis.range, axis: null, nice: false });
  const svg = plot({
    document, marks,
    className: "gx-svg",
    width: panel.width, height: panel.height, ...panel.margins,
    inset: 0,
    x: scale(x), y: scale(y),
  });
  svg.querySelector("style")?.remove(); // its rules are in explore.css
  for (const group of svg.querySelectorAll(":scope > g[aria-label]")) group.removeAttribute("aria-label");
  const defs = h("svg:defs");
  for (const [name, { style, mode }] of panel.hatches) defs.append(hatch(h, name, style, mode));
  if (panel.clip) {
    const { left, right, top, bottom } = panel.box;
    const name = `${panel.id}-clip`;
    defs.append(h("svg:clipPath", { id: name }, h("svg:rect", { x: left, y: top - 1, width: right - left, height: bottom - top + 2 })));
    for (const group of svg.querySelectorAll(".gx-clip")) group.setAttribute("clip-path", `url(#${name})`);
  }
  if (defs.childNodes.length) svg.prepend(defs);
  return svg;
}

const HATCH_PATHS = {
  slash: ["M-1,1l2,-2M0,6l6,-6M5,7l2,-2"],
  back: ["M-1,5l2,2M0,0l6,6M5,-1l2,2"],
  dots: ["M1,1h1.6v1.6h-1.6zM4,4h1.6v1.6h-1.6z", "fill"],
  cross: ["M0,6l6,-6M0,0l6,6"],
  level: ["M0,3h6"],
  upright: ["M3,0v6"],
  wide: ["M0,1.5h6M0,4.5h6M3,0v6"],
};

function hatch(h, id, style, mode) {
  const [d, filled] = HATCH_PATHS[style.hatch];
  const solid = mode === "solid";
  const ink = solid ? "var(--gx-bg)" : style.color;
  return h(
    "svg:pattern",
    { id, width: 6, height: 6, patternUnits: "userSpaceOnUse" },
    h("svg:rect", { width: 6, height: 6, fill: style.color, "fill-opacity": solid ? 1 : 0.2 }),
    h("svg:path", { d, ...(filled ? { fill: ink } : { fill: "none", stroke: ink }), "stroke-width": solid ? 1.2 : 0.9, opacity: solid ? 0.75 : 0.5 }),
  );
}

// ---------------------------------------------------------------- legends

function legends(panel, h) {
  const out = [];
  if (panel.spec.legend === false) return null;
  if (panel.styles.size > 1) {
    const items = [...panel.styles.values()].map((style) =>
      h("li", {}, swatch(style, panel, h), h("span", {}, style.name)),
    );
    out.push(h("ul", { class: "gx-legend", role: "list" }, ...items));
  }
  if (panel.color) out.push(ramp(panel.color, h));
  return out.length ? h("div", { class: "gx-keys" }, ...out) : null;
}

/** A sample of how the marks of a series look here: their dash, symbol or hatch. */
function swatch(style, panel, h) {
  const kinds = new Map();
  for (const mark of panel.spec.marks) {
    if (mark.columns.z?.includes(style.name)) kinds.set(mark.kind, mark);
  }
  const svg = h("svg:svg", { class: "gx-swatch", width: 28, height: 14, viewBox: "0 0 28 14", "aria-hidden": "true" });
  const boxed = kinds.get("bar") ?? kinds.get("rect") ?? kinds.get("area");
  if (boxed) {
    const outline = boxed.kind === "rect" && boxed.outline;
    svg.append(
      h("svg:rect", {
        x: 5, y: 1.5, width: 18, height: 11, rx: 1.5,
        fill: outline ? "none" : panel.fill(style, boxed.kind === "bar" ? "solid" : "tint"),
        stroke: boxed.kind === "area" ? "none" : style.color,
        "stroke-width": 1.25,
        "stroke-dasharray": outline && style.dash ? style.dash : null,
      }),
    );
  }
  const traced = kinds.get("line") ?? kinds.get("link") ?? kinds.get("rule") ?? (boxed || kinds.has("dot") || kinds.has("text") ? null : {});
  if (traced) {
    svg.append(
      h("svg:path", {
        d: "M1,7h26", stroke: style.color, "stroke-width": 2 * style.weight, fill: "none",
        "stroke-dasharray": dashOf(traced, style.dash) || null,
      }),
    );
  }
  if (kinds.has("dot")) {
    svg.append(symbolPath(symbolOf(kinds.get("dot"), style), style.color, h));
  }
  if (kinds.has("text") && !boxed && !traced && !kinds.has("dot")) {
    svg.append(h("svg:text", { x: 14, y: 11.5, "text-anchor": "middle", "font-size": 12, "font-weight": 600, fill: style.color }, "A"));
  }
  return svg;
}

const SYMBOL_PATHS = {
  circle: "M4.5,0a4.5,4.5 0 1 1 -9,0a4.5,4.5 0 1 1 9,0Z",
  square: "M-4,-4h8v8h-8Z",
  triangle: "M0,-5.2l5,8.8h-10Z",
  diamond: "M0,-5.6l3.6,5.6l-3.6,5.6l-3.6,-5.6Z",
  star: "M0,-5.5l1.3,3.8h4l-3.2,2.4l1.2,3.9l-3.3,-2.4l-3.3,2.4l1.2,-3.9l-3.2,-2.4h4Z",
  wye: "M-1.4,5v-4.2l-3.7,-2.1l1.4,-2.4l3.7,2.1l3.7,-2.1l1.4,2.4l-3.7,2.1v4.2Z",
  hexagon: "M0,-5l4.3,2.5v5l-4.3,2.5l-4.3,-2.5v-5Z",
  plus: "M0,-5v10M-5,0h10",
  times: "M-3.8,-3.8l7.6,7.6M-3.8,3.8l7.6,-7.6",
  asterisk: "M0,-5v10M-4.3,-2.5l8.6,5M-4.3,2.5l8.6,-5",
};

function symbolPath(symbol, fill, h) {
  const stroked = STROKED.has(symbol);
  return h("svg:path", {
    d: SYMBOL_PATHS[symbol] ?? SYMBOL_PATHS.circle,
    transform: "translate(14,7)",
    fill: stroked ? "none" : fill,
    stroke: stroked ? fill : "var(--gx-bg)",
    "stroke-width": stroked ? 2 : 1,
  });
}

function ramp(scale, h) {
  const { domain: [low, high], label: words } = scale;
  const short = (v) => format(Number(v.toPrecision(3)));
  const stops = Array.from({ length: 11 }, (_, i) => shade(low + ((high - low) * i) / 10, scale).fill);
  return h(
    "p",
    { class: "gx-ramp" },
    words ? h("span", { class: "gx-ramp-label" }, words) : null,
    h("span", {}, short(low)),
    h("span", { class: "gx-ramp-bar", style: `background:linear-gradient(to right,${stops.join(",")})`, "aria-hidden": "true" }),
    h("span", { class: "gx-sr" }, "to"),
    h("span", {}, short(high)),
  );
}

/** All panels in one container, for a page without JavaScript (see render.js). */
export function drawFigure(figure, { document, width = 660, id = "gx" }) {
  const h = maker(document);
  const { pages: [{ columns, each }], heights } = arrange(figure, { width });
  const left = lefts(figure, { columns, each, heights });
  return h(
    "div",
    { class: `gx-panels${columns.length > 1 ? " gx-row" : ""}` },
    ...figure.panels.map((spec, i) => drawPanel(spec, { document, width: each, id: `${id}-${i}`, figure, left: left[i] }).node),
  );
}
