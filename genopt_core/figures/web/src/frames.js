// Engine "frames": all pictures over a grid of settings, computed when the book was built and packed
// by genopt_core.figures.frames.pack.  They come as a classic script, which file:// allows.
import { gridIndex } from "./state.js";

/** Item ``index`` of what pack() stored. */
export function unpack(packed, index) {
  if ("same" in packed) return packed.same;
  if ("object" in packed) {
    const out = {};
    for (const key in packed.object) out[key] = unpack(packed.object[key], index);
    return out;
  }
  if ("list" in packed) return packed.list.map((item) => unpack(item, index));
  return packed.pick[packed.at[index]];
}

export class Frames {
  kind = "frames";
  live = false;
  status = "precomputed";

  constructor({ explorer, grid, packed }) {
    this.description = explorer;
    this.grid = grid;
    this.packed = packed;
  }

  ask(params) {
    let index = 0; // the last control varies fastest
    for (const control of this.description.controls) {
      const values = this.grid[control.name];
      const at = gridIndex(control, params[control.name], values);
      if (at < 0) return { needsPython: true, control };
      index = index * values.length + at;
    }
    return unpack(this.packed, index);
  }
}

// Scripts call frames() when they arrive; explorers wait for them here.
const arrived = new Map();
const waiting = new Map();

export function receive(data) {
  const engine = new Frames(data);
  arrived.set(engine.description.name, engine);
  waiting.get(engine.description.name)?.resolve(engine);
}

export function framesOf(name, base) {
  if (arrived.has(name)) return Promise.resolve(arrived.get(name));
  if (!waiting.has(name)) {
    const slot = {};
    slot.promise = new Promise((resolve, reject) => Object.assign(slot, { resolve, reject }));
    waiting.set(name, slot);
    const script = document.createElement("script");
    script.src = `${base}frames/${encodeURIComponent(name)}.js`;
    script.onerror = () => {
      waiting.delete(name); // so that a later look may try again
      slot.reject(new Error("the precomputed figures did not load"));
    };
    document.head.append(script);
  }
  return waiting.get(name).promise;
}
