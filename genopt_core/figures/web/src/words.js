// What an item of a mark is called and what it says, for its tooltip and for the table of numbers: names and
// values with the labels of their axes, never bare coordinates.
import { format } from "./scales.js";

export function lengthOf(mark) {
  const first = Object.values(mark.columns)[0];
  return first ? first.length : 0;
}

const banded = (axis) => axis?.type === "band";
const labeled = (axis) => Boolean(axis?.label) && !axis.hidden && !banded(axis);

/** Whether a pointer that finds items of ``mark`` has words for them; mere decoration has none. */
export function speaks({ columns: c, label }, { x, y }) {
  if (c.tip || c.z || c.name || label) return true;
  if (banded(x) || banded(y)) return true;
  if (c.text && !c.x) return true;
  return (labeled(x) && Boolean(c.x ?? c.x1)) || (labeled(y) && Boolean(c.y ?? c.y1));
}

/** Whether dots of the same series, which say more, stand on the points of a line. */
export const dotted = ({ kind, columns: c }, spec) =>
  kind === "line" && spec.marks.some((other) => other.kind === "dot" && other.columns.z && c.z?.every((z) => other.columns.z.includes(z)));

/** What item ``i`` is called: its name, its words, or its category where the axis has no label. */
export function whoOf({ columns: c }, { x, y }, i) {
  const own = c.name?.[i] ?? c.text?.[i];
  if (own != null) return own;
  for (const [axis, values] of [[x, c.x ?? c.x1], [y, c.y ?? c.y1]]) {
    if (banded(axis) && !axis.label && values?.[i] != null) return labelAt(axis, values[i]);
  }
  return "";
}

/** The value of item ``i`` along an axis, above its base if it has one. */
export function valueOf({ columns: c, horizontal }, which, i) {
  const value = c[which][i];
  const based = c.base && which === (horizontal ? "x" : "y");
  return based && typeof value === "number" ? Number((value - c.base[i]).toPrecision(4)) : value;
}

/** The words of a tooltip: the mark's own, or who it is and its values under the names of their axes. */
export function tipOf(mark, spec, i) {
  const c = mark.columns;
  const who = whoOf(mark, spec, i);
  const own = c.tip?.[i];
  if (own) return who && (c.x || c.x1) && !c.text && !own.includes(who) ? `${who}: ${own}` : own;
  const series = c.z?.[i] ?? mark.label;
  const facts = [];
  let told = false; // whether the series stands before its value
  for (const which of ["x", "y"]) {
    const axis = spec[which];
    if (banded(axis) && axis.label && (c[which] ?? c[`${which}1`])) facts.push(`${axis.label}: ${labelAt(axis, (c[which] ?? c[`${which}1`])[i])}`);
    else if (labeled(axis)) {
      if (c[`${which}1`]) facts.push(`${axis.label}: ${range(c[`${which}1`][i], c[`${which}2`][i])}`);
      else if (c[which]) facts.push(`${axis.label}: ${labelAt(axis, valueOf(mark, which, i))}`);
    } else if (c.base && series && which === (mark.horizontal ? "x" : "y")) {
      facts.push(`${series} = ${format(valueOf(mark, which, i))}`);
      told = true;
    }
  }
  if (c.value) facts.push(`${spec.color?.label || "value"}: ${c.value[i] == null ? "none" : format(c.value[i])}`);
  const head = [who, told || series === who ? "" : series].filter(Boolean).join(", ");
  if (told && head && facts.length === 1) return `${head}: ${facts[0]}`;
  return [head, ...facts].filter(Boolean).join("\n");
}

const range = (a, b) => (a === b ? format(a) : `${format(a)} to ${format(b)}`);

/** Where the axis prints a word for this very value, the word. */
export function labelAt(axis, value) {
  const { ticks, tick_labels: labels } = axis;
  const at = labels && Array.isArray(ticks) ? ticks.indexOf(value) : -1;
  return at >= 0 && labels[at] ? labels[at] : value == null ? "none" : format(value);
}
