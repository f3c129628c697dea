// Number boxes say what they made of a typed number.
import assert from "node:assert/strict";
import { test } from "node:test";
import { JSDOM } from "jsdom";
import { maker } from "../src/draw.js";

const { window } = new JSDOM("");
globalThis.document = window.document;
const { makeControl } = await import("../src/controls.js");

function boxOf(spec) {
  const told = [];
  const control = makeControl(spec, maker(document), "t", (name, value) => (told.push(value), control.set(value)));
  document.body.append(control.node);
  control.set(spec.default);
  const [box, said] = ["input[type=number]", ".gx-corrected"].map((name) => control.node.querySelector(name));
  const type = (value) => {
    box.value = value;
    box.dispatchEvent(new window.Event("change"));
    return [box.value, said.textContent];
  };
  return { control, told, type, said };
}
const whole = { kind: "slider", name: "k", label: "k", low: 1, high: 8, step: 1, whole: true, scale: "linear", default: 4, values: [1, 2, 3, 4, 5, 6, 7, 8] };

test("a number is taken as it is, or it is said what it became", () => {
  const { type, told } = boxOf(whole);
  assert.deepEqual(type("5"), ["5", ""]);
  assert.deepEqual(type("99"), ["8", "1 to 8, whole numbers: 99 became 8"]);
  assert.deepEqual(type("-2"), ["1", "1 to 8, whole numbers: −2 became 1"]);
  assert.deepEqual(type("3.7"), ["4", "1 to 8, whole numbers: 3.7 became 4"]);
  assert.deepEqual(type(""), ["4", "1 to 8, whole numbers"]);
  assert.deepEqual(type("3"), ["3", ""]);
  assert.deepEqual(told, [5, 8, 1, 4, 3], "an empty box changes nothing");
});

test("what is said goes with the next move, from wherever it comes", () => {
  const { type, said, control } = boxOf(whole);
  type("99");
  control.set(8);
  assert.notEqual(said.textContent, "", "the answer to what was typed");
  control.set(2);
  assert.equal(said.textContent, "");
  type("99");
  const range = control.node.querySelector("input[type=range]");
  range.value = 0;
  range.dispatchEvent(new window.Event("input"));
  assert.equal(said.textContent, "");
});

test("where some values are stored only, the nearest is taken and named; a live engine takes all", () => {
  const { type, control } = boxOf({ ...whole, whole: false, low: 1.5, high: 6, step: 0.05, default: 2, values: [1.5, 2, 4, 6] });
  assert.deepEqual(type("2.4"), ["2", "1.5 to 6, some of them computed in advance: 2.4 became 2"]);
  control.mode(true);
  assert.deepEqual(type("2.4"), ["2.4", ""]);
});

test("seeds too", () => {
  const { type, control } = boxOf({ kind: "seed", name: "seed", label: "Seed", default: 0, values: [0, 1, 2] });
  assert.deepEqual(type("7"), ["2", "0 to 2: 7 became 2"]);
  control.mode(true);
  assert.deepEqual(type("7"), ["7", ""]);
  assert.deepEqual(type("-1"), ["0", "0, 1, 2, …: −1 became 0"]);
});
