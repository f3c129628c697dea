// A figure as one SVG file: title, panels with their keys and labels, readout; in light colors, on white, and
// in need of no style sheet.
import { drawPanel, lefts, maker } from "./draw.js";
import { arrange } from "./layout.js";
import { paintPlain } from "./paint.js";
import { textWidth } from "./scales.js";

const MARGIN = 14;
const GAP = 24;
const FONT = 12;
const LINE = 17;

/** ``text`` broken into lines of at most ``width`` pixels. */
export function broken(text, width, size = FONT) {
  const lines = [];
  for (const word of text.split(/\s+/)) {
    const longer = lines.length ? `${lines.at(-1)} ${word}` : word;
    if (lines.length && textWidth(longer, size) <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

export function sheet(figure, { document, width = 700 }) {
  const h = maker(document);
  const { pages: [{ columns, each }], heights } = arrange(figure, { width });
  const left = lefts(figure, { columns, each, heights });
  const parts = [];
  let y = MARGIN;
  const write = (text, { x = MARGIN, wide = width, size = FONT, ...more } = {}) => {
    for (const line of broken(text, wide, size)) {
      parts.push(h("svg:text", { x, y: y + size, "font-size": size, ...more }, line));
      y += size + 5;
    }
  };
  const soft = { fill: "var(--gx-ink-soft)" };

  write(figure.title, { size: 15, "font-weight": 700 });
  y += 6;
  const start = y;
  const ends = [];
  const pictures = []; // where the first of each column begins: how far down, and which part it is
  columns.forEach((column, c) => {
    const x = MARGIN + c * (each + GAP);
    y = start;
    for (const i of column) {
      const spec = figure.panels[i];
      const { node, svg } = drawPanel(spec, { document, width: each, height: heights[i], id: `f${i}`, figure, left: left[i] });
      const words = (name) => node.querySelector(name)?.textContent;
      if (spec.title) write(spec.title, { x, wide: each, size: 13, "font-weight": 600 });
      keys(node, x);
      if (words(".gx-ylabel")) write(words(".gx-ylabel"), { x, wide: each, ...soft });
      pictures[c] ??= { y, part: parts.length };
      place(svg, x);
      if (words(".gx-xlabel")) write(words(".gx-xlabel"), { x: x + each, wide: each, "text-anchor": "end", ...soft });
      y += 12;
    }
    ends.push({ y, part: parts.length });
  });
  // side by side, pictures begin at one height, whatever stands above them
  const level = Math.max(...pictures.map((one) => one.y));
  if (columns.length > 1) {
    pictures.forEach(({ y: from, part }, c) => {
      for (const moved of parts.slice(part, ends[c].part)) moved.setAttribute("y", Number(moved.getAttribute("y")) + level - from);
      ends[c].y += level - from;
    });
  }
  y = Math.max(...ends.map((one) => one.y));
  write(figure.readout, { size: 13 });

  function place(svg, x) {
    for (const name of ["class", "role", "aria-label", "aria-describedby", "aria-hidden", "style"]) svg.removeAttribute(name);
    for (const part of svg.querySelectorAll("[class]")) part.removeAttribute("class");
    svg.querySelector("desc")?.remove();
    for (const [name, value] of Object.entries({ x, y, overflow: "visible" })) svg.setAttribute(name, value);
    parts.push(svg);
    y += Number(svg.getAttribute("height")) + 2;
  }

  function keys(node, x) {
    let at = x;
    for (const item of node.querySelectorAll(".gx-legend li")) {
      const name = item.querySelector("span").textContent;
      const wide = 34 + textWidth(name, FONT);
      if (at > x && at + wide > x + each) [at, y] = [x, y + LINE];
      const swatch = item.querySelector("svg");
      const before = y;
      place(swatch, at);
      y = before;
      parts.push(h("svg:text", { x: at + 34, y: y + 11, "font-size": FONT }, name));
      at += wide + 14;
    }
    if (at > x) y += LINE + 3;
    const ramp = node.querySelector(".gx-ramp");
    if (!ramp) return;
    const bar = ramp.querySelector(".gx-ramp-bar");
    const colors = bar.getAttribute("style").match(/var\([^)]*\)|color-mix\((?:[^()]|\([^()]*\))*\)/g);
    const said = [...ramp.querySelectorAll("span:not(.gx-sr, .gx-ramp-bar)")].map((part) => part.textContent);
    const before = said.slice(0, -1).join("  ");
    const id = `ramp${parts.length}`;
    const from = x + textWidth(before, FONT) + 8;
    parts.push(
      h("svg:text", { x, y: y + 11, "font-size": FONT }, before),
      h("svg:linearGradient", { id }, ...colors.map((color, i) => h("svg:stop", { offset: i / (colors.length - 1), "stop-color": color }))),
      h("svg:rect", { x: from, y: y + 1, width: 120, height: 12, fill: `url(#${id})` }),
      h("svg:text", { x: from + 128, y: y + 11, "font-size": FONT }, said.at(-1)),
    );
    y += LINE + 3;
  }

  const [across, down] = [width + 2 * MARGIN, Math.ceil(y + MARGIN - 4)];
  const root = h(
    "svg:svg",
    { width: across, height: down, viewBox: `0 0 ${across} ${down}`, role: "img", fill: "var(--gx-ink)", color: "#1f2328", "font-family": "Helvetica, Arial, sans-serif" },
    h("svg:title", {}, figure.title),
    h("svg:desc", {}, [figure.alt, figure.readout].filter(Boolean).join(" ")),
    h("svg:rect", { width: across, height: down, fill: "#fff" }),
    ...parts,
  );
  paintPlain(root);
  const written = new document.defaultView.XMLSerializer().serializeToString(root);
  return { text: `<?xml version="1.0" encoding="UTF-8"?>\n${written}\n`, width: across, height: down };
}
