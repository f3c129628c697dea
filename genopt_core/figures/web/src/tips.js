// Tooltips by pointer, touch and keyboard.  Nothing is added to the picture for them: the points are
// found among the data when a reader first asks, and one HTML element per explorer shows the words.
import { itemsOf } from "./marks.js";

const REACH = 28;

export class Tips {
  constructor(box, h, id) {
    this.box = box; // a positioned element round all panels
    this.tip = h("div", { class: "gx-tip", id, role: "tooltip", hidden: true });
    this.ring = h("div", { class: "gx-ring", "aria-hidden": "true", hidden: true });
    this.id = id;
  }

  /** Make the frame of a panel answer; ``drawn`` is what drawPanel returned. */
  attach(drawn) {
    const { frame } = drawn;
    const items = () => (drawn.items ??= drawn.panel.spec.marks.flatMap((mark, k) => itemsOf(mark, drawn.panel, k)));
    frame.tabIndex = 0;
    frame.setAttribute("role", "group");
    frame.setAttribute("aria-label", "Values in the picture: arrow keys walk through them");
    frame.setAttribute("aria-describedby", this.id);
    frame.setAttribute("data-lm-suppress-shortcuts", "true");
    const point = (event) => {
      const area = drawn.svg.getBoundingClientRect();
      const k = drawn.panel.width / area.width;
      return [(event.clientX - area.left) * k, (event.clientY - area.top) * k];
    };
    const hover = (event) => {
      const found = nearestItem(items(), ...point(event), drawn.panel.box);
      if (found) this.show(drawn, found);
      else this.hide();
    };
    frame.addEventListener("pointermove", (event) => event.pointerType === "mouse" && hover(event));
    frame.addEventListener("pointerdown", hover);
    frame.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.hide());
    frame.addEventListener("blur", () => this.hide());
    frame.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !this.tip.hidden) {
        event.stopPropagation();
        this.hide();
        return;
      }
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      const next = walk(items(), this.current?.drawn === drawn ? this.current.item : null, event.key);
      if (!next) return;
      event.preventDefault();
      event.stopPropagation();
      this.show(drawn, next);
    });
  }

  show(drawn, item) {
    if (this.current?.item === item && !this.tip.hidden) return;
    this.current = { drawn, item };
    const { tip, ring, box } = this;
    tip.textContent = item.tip();
    tip.hidden = ring.hidden = false;
    const outer = box.getBoundingClientRect();
    const area = drawn.svg.getBoundingClientRect();
    const k = area.width / drawn.panel.width;
    const [x, y] = [area.left - outer.left + item.x * k, area.top - outer.top + item.y * k];
    const [a, b, c, d] = item.box
      ? [area.left - outer.left + item.box[0] * k, area.top - outer.top + item.box[1] * k, (item.box[2] - item.box[0]) * k, (item.box[3] - item.box[1]) * k]
      : [x - 7, y - 7, 14, 14];
    Object.assign(ring.style, { left: `${a}px`, top: `${b}px`, width: `${c}px`, height: `${d}px`, borderRadius: item.box ? "2px" : "50%" });
    const { offsetWidth: wide, offsetHeight: high } = tip;
    const above = Math.min(y, b) - high - 10;
    const left = Math.max(0, Math.min(outer.width - wide, x - wide / 2));
    const top = above < -high - 20 || area.top + item.y * k - high < 8 ? Math.max(y, b + d) + 10 : above;
    tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  }

  hide() {
    this.tip.hidden = this.ring.hidden = true;
    this.current = null;
  }
}

/** The item under the pointer: a box that holds it (the last drawn is on top), else the nearest one. */
export function nearestItem(items, x, y, box) {
  let best = null;
  let reach = REACH;
  let inside = null;
  for (const item of items) {
    if (item.box) {
      const [a, b, c, d] = item.box;
      if (x >= a && x <= c && y >= b && y <= d) inside = item;
      continue;
    }
    let far;
    if (item.kind === "rule") far = 8 + Math.abs(item.upright ? x - item.x : y - item.y);
    else if (item.kind === "area") far = 12 + Math.abs(x - item.x);
    else if (item.segment) far = Math.min(toSegment(x, y, item.segment), Math.hypot(x - item.x, y - item.y));
    else far = Math.hypot(x - item.x, y - item.y);
    if (far < reach && x >= box.left - 12 && x <= box.right + 12) {
      reach = far;
      best = item;
    }
  }
  // a point drawn on a box wins if the pointer is close to it
  return best && (!inside || reach < 12) ? best : (inside ?? best);
}

function toSegment(x, y, [a, b, c, d]) {
  const length = (c - a) ** 2 + (d - b) ** 2;
  const t = length ? Math.max(0, Math.min(1, ((x - a) * (c - a) + (y - b) * (d - b)) / length)) : 0;
  return Math.hypot(x - a - t * (c - a), y - b - t * (d - b));
}

/** Arrow keys: left and right along a series (or a row of cells), up and down to the next one. */
export function walk(items, current, key) {
  if (!items.length || !["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"].includes(key)) return null;
  const tracks = new Map();
  for (const item of items) {
    if (!tracks.has(item.track)) tracks.set(item.track, []);
    tracks.get(item.track).push(item);
  }
  const order = [...tracks.values()];
  for (const track of order) track.sort((a, b) => a.x - b.x || a.order - b.order);
  if (!current) return order[0][0];
  const t = order.findIndex((track) => track.includes(current));
  if (t < 0) return order[0][0];
  const i = order[t].indexOf(current);
  if (key === "ArrowRight") return order[t][Math.min(i + 1, order[t].length - 1)];
  if (key === "ArrowLeft") return order[t][Math.max(i - 1, 0)];
  if (key === "Home") return order[t][0];
  if (key === "End") return order[t].at(-1);
  const to = order[Math.max(0, Math.min(order.length - 1, t + (key === "ArrowDown" ? 1 : -1)))];
  return to.reduce((best, item) => (Math.abs(item.x - current.x) < Math.abs(best.x - current.x) ? item : best));
}
