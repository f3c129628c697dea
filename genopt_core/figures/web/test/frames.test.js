import assert from "node:assert/strict";
import { test } from "node:test";
import { Frames, unpack } from "../src/frames.js";

const packed = {
  object: {
    figure: {
      object: {
        title: { same: "T" },
        panels: { list: [{ object: { y: { pick: [[1, 2, 3, 4], [1, 2, 3, 5]], at: [0, 1, 0, 1] } } }] },
        readout: { pick: ["a", "b", "c", "d"], at: [0, 1, 2, 3] },
      },
    },
  },
};

test("unpack rebuilds one item from all four kinds of packing", () => {
  assert.deepEqual(unpack(packed, 1), { figure: { title: "T", panels: [{ y: [1, 2, 3, 5] }], readout: "b" } });
  assert.deepEqual(unpack(packed, 2).figure.panels[0].y, [1, 2, 3, 4]);
  assert.equal(unpack({ same: null }, 7), null);
});

const explorer = {
  name: "e",
  controls: [
    { kind: "slider", name: "k", values: [1, 10], default: 1, scale: "log", low: 1, high: 10, step: 1 },
    { kind: "text", name: "word", values: ["ab", "cd"], default: "ab", max_length: 5 },
  ],
  presets: [],
};

test("the last control varies fastest, and numbers go to the nearest frame", () => {
  const frames = new Frames({ explorer, grid: { k: [1, 10], word: ["ab", "cd"] }, packed });
  assert.equal(frames.ask({ k: 1, word: "cd" }).figure.readout, "b");
  assert.equal(frames.ask({ k: 10, word: "ab" }).figure.readout, "c");
  assert.equal(frames.ask({ k: 4, word: "ab" }).figure.readout, "c", "4 is nearer to 10 by ratio");
});

test("a text without frames asks for Python instead of showing another picture", () => {
  const frames = new Frames({ explorer, grid: { k: [1, 10], word: ["ab", "cd"] }, packed });
  const { needsPython, control, figure } = frames.ask({ k: 1, word: "zz" });
  assert.equal(needsPython, true);
  assert.equal(control.name, "word");
  assert.equal(figure, undefined);
});
