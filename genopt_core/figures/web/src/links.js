// The geometry of links: straight, with an elbow, or bowed to an arc; their middle and their arrow head.

const SVG = "http://www.w3.org/2000/svg";

const endsOf = (panel, s, i) => [
  panel.x.px(s.x1[i]), panel.y.px(s.y1[i]), panel.x.px(s.x2[i]), panel.y.px(s.y2[i]),
];

/**
 * How high arcs rise for each pixel of span: as far as the panel allows, and by one factor for all of
 * them, so that arcs which nest keep nesting.
 */
export function liftOf(mark, panel, s) {
  if (mark.curve !== "arc") return 0;
  let factor = 0.85;
  for (let i = 0; i < s.x1.length; i++) {
    const [x1, y1, x2, y2] = endsOf(panel, s, i);
    const span = Math.abs(x2 - x1) || 24;
    const room = (y1 + y2) / 2 - panel.box.top - 4;
    if (room > 0 && Number.isFinite(room)) factor = Math.min(factor, room / span);
  }
  return Math.max(0.08, factor);
}

/** Link ``i`` in pixels: its ends and, of an arc, the two points that pull it up. */
export function linkAt(mark, panel, s, i) {
  const ends = endsOf(panel, s, i);
  if (mark.curve !== "arc") return { ends, pull: null };
  const [x1, y1, x2, y2] = ends;
  const bow = (4 / 3) * s.lift * (Math.abs(x2 - x1) || 24);
  if (x1 === x2) return { ends, pull: [x1 - 18, y1 - bow, x2 + 18, y2 - bow] }; // a loop
  const side = (x2 - x1) * 0.12;
  return { ends, pull: [x1 + side, y1 - bow, x2 - side, y2 - bow] };
}

const r1 = (v) => Math.round(v * 10) / 10;

export function pathOf({ ends, pull }, curve) {
  const [x1, y1, x2, y2] = ends.map(r1);
  if (!pull) return curve === "step" ? `M${x1},${y1}H${x2}V${y2}` : `M${x1},${y1}L${x2},${y2}`;
  const [a, b, c, d] = pull.map(r1);
  return `M${x1},${y1}C${a},${b} ${c},${d} ${x2},${y2}`;
}

/** The middle of a link, where its tooltip points. */
export function middleOf({ ends, pull }) {
  const [x1, y1, x2, y2] = ends;
  if (!pull) return { x: (x1 + x2) / 2, y: (y1 + y2) / 2 };
  const [a, b, c, d] = pull;
  return { x: (x1 + 3 * a + 3 * c + x2) / 8, y: (y1 + 3 * b + 3 * d + y2) / 8 };
}

export function headOf({ ends, pull }, document, width, fill) {
  const [x1, y1, x2, y2] = ends;
  const [cx, cy] = pull ? pull.slice(2) : [x1, y1];
  const angle = Math.atan2(y2 - cy, x2 - cx);
  const size = 5 + 1.5 * width;
  const corner = (turn) => `${r1(x2 - size * Math.cos(angle + turn))},${r1(y2 - size * Math.sin(angle + turn))}`;
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", `M${r1(x2)},${r1(y2)}L${corner(0.42)}L${corner(-0.42)}Z`);
  path.setAttribute("fill", fill);
  path.setAttribute("stroke", "none");
  return path;
}
