// Ticks, their labels and grid lines.  Plot could draw them; but we place ticks ourselves (scales.js),
// and then drawing them takes a few lines and a third of the time.
const SIZE = 12;

/** A mark for Plot that draws the grids, below everything else. */
export function grids(panel, h) {
  const { x, y, box } = panel;
  const lines = [];
  if (x.spec.grid) for (const { px } of panel.xTicks) lines.push(`M${r(px)},${box.top}V${box.bottom}`);
  if (y.spec.grid) for (const { px } of panel.yTicks) lines.push(`M${box.left},${r(px)}H${box.right}`);
  if (!lines.length) return null;
  return () => h("svg:path", { class: "gx-grid", d: lines.join(""), stroke: "var(--gx-grid)", fill: "none" });
}

/** A mark for Plot that draws the ticks and labels of both axes, above everything else. */
export function axes(panel, h) {
  const { x, y, box, xRotate } = panel;
  return () => {
    const group = h("svg:g", { class: "gx-axes", fill: "var(--gx-ink-soft)", "font-size": SIZE });
    const strokes = [];
    // categories have no tick: their label names a whole band
    const [downTick, leftTick] = [x.band ? 0 : 5, y.band ? 0 : 5];
    for (const { px, text } of panel.xTicks) {
      if (downTick) strokes.push(`M${r(px)},${box.bottom}v${downTick}`);
      const [tx, ty] = [r(px), box.bottom + 8];
      group.append(
        xRotate
          ? h("svg:text", { transform: `translate(${tx},${ty}) rotate(${xRotate})`, "text-anchor": "end", dy: "0.5em" }, text)
          : h("svg:text", { x: tx, y: ty, "text-anchor": "middle", dy: "0.71em" }, text),
      );
    }
    for (const { px, text } of panel.yTicks) {
      if (leftTick) strokes.push(`M${box.left},${r(px)}h-${leftTick}`);
      group.append(h("svg:text", { x: box.left - 8, y: r(px), "text-anchor": "end", dy: "0.32em" }, text));
    }
    if (strokes.length) group.prepend(h("svg:path", { d: strokes.join(""), stroke: "var(--gx-ink-soft)", fill: "none" }));
    return group;
  };
}

const r = (v) => Math.round(v * 10) / 10;
