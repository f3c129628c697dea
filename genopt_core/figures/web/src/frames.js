// Engine "frames": all pictures over a grid of settings, computed when the book was built and packed
// by genopt_core.figures.frames.pack.  They come as a classic script, which file:// allows.
import { refusal } from "./checks.js";
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
      if (at < 0) {
        const error = refusal(control, params[control.name]);
        return error ? { error } : { needsPython: true, control };
      }
      index = index * values.length + at;
    }
    return unpack(this.packed, index);
  }

  /** Whether there is a frame of these very settings, not only of some near by. */
  has(params) {
    return this.description.controls.every(({ name }) => this.grid[name].includes(params[name]));
  }
}

// Scripts, one for each explorer, bring the engines; explorers wait for them here.
const arrived = new Map();
const waiting = new Map();

export function arrive(engine) {
  const { name } = engine.description;
  arrived.set(name, engine);
  waiting.get(name)?.resolve(engine);
}

export function engineOf(name, base) {
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
