// What a reader takes along: one SVG file in plain colors, named after its setting.
import assert from "node:assert/strict";
import { test } from "node:test";
import { JSDOM } from "jsdom";
import { plain } from "../src/paint.js";
import { broken, sheet } from "../src/sheet.js";
import { fileName } from "../src/state.js";

const { window } = new JSDOM("");
const axis = (more = {}) => ({ label: "", type: "linear", ...more });
const figure = {
  title: "A & B", readout: "It says < 3.", alt: "A picture.", panels: [
    { title: "Lines", x: axis({ label: "step" }), y: axis({ label: "bits" }), height: 200, series: { a: "c1", b: "c2" }, marks: [{ kind: "bar", columns: { x: [0, 1], y: [1, 2], z: ["a", "b"] } }] },
    { title: "Cells", x: axis({ type: "band", domain: ["p", "q"] }), y: axis({ type: "band", domain: ["r"] }), height: 100, color: { label: "share", domain: [0, 1] }, marks: [{ kind: "cell", columns: { x: ["p", "q"], y: ["r", "r"], value: [0.2, 1] } }] },
  ],
};

test("an SVG file has all there is to read and needs nothing from outside", () => {
  const { text, width, height } = sheet(figure, { document: window.document });
  const file = new window.DOMParser().parseFromString(text, "image/svg+xml");
  assert.equal(file.querySelector("parsererror"), null);
  const words = [...file.querySelectorAll("text")].map((node) => node.textContent);
  for (const said of ["A & B", "Lines", "Cells", "a", "b", "step →", "↑ bits", "p", "share  0", "It says < 3."]) assert.ok(words.includes(said), said);
  assert.doesNotMatch(text, /var\(|color-mix|class=|NaN|undefined|href/);
  assert.deepEqual([file.documentElement.getAttribute("width"), file.documentElement.getAttribute("height")], [String(width), String(height)]);
  const ids = [...file.querySelectorAll("[id]")].map((node) => node.id);
  assert.equal(new Set(ids).size, ids.length);
  for (const [, id] of text.matchAll(/url\(#([^)]+)\)/g)) assert.ok(ids.includes(id), id);
});

test("side by side, pictures begin at one height", () => {
  const [lines, cells] = figure.panels;
  const row = { ...figure, layout: "row", panels: [lines, { ...lines, y: axis(), series: {}, title: "" }, cells].slice(0, 2) };
  const file = new window.DOMParser().parseFromString(sheet(row, { document: window.document }).text, "image/svg+xml");
  const tops = [...file.documentElement.children].filter((node) => node.tagName === "svg" && Number(node.getAttribute("width")) > 100).map((node) => node.getAttribute("y"));
  assert.equal(tops.length, 2);
  assert.equal(tops[0], tops[1]);
});

test("colors are those of light pages, mixed as browsers mix them", () => {
  assert.deepEqual(plain("var(--gx-c1)"), { color: "#0072b2", opacity: 1 });
  assert.deepEqual(plain("color-mix(in srgb, var(--gx-c1) 26%, transparent)"), { color: "#0072b2", opacity: 0.26 });
  assert.deepEqual(plain("#fff"), { color: "#fff", opacity: 1 });
  // as Chromium computes color-mix(in oklab, #10294f 50%, #4c9fae)
  assert.equal(plain("color-mix(in oklab, var(--gx-ramp-high) 50%, var(--gx-ramp-mid))").color, "#2b627e");
  assert.equal(plain("color-mix(in oklab, var(--gx-ramp-neg) 70%, var(--gx-ramp-zero))").color, "#567fad");
});

test("long sentences are broken, and no word is lost", () => {
  const words = "one two three four five six seven eight nine ten";
  assert.ok(broken(words, 100).length > 2);
  assert.equal(broken(words, 100).join(" "), words);
});

test("a file is named after the explorer and what differs from its start", () => {
  const description = { name: "subword-lattice", controls: [{ name: "word", default: "republic" }, { name: "k", default: 4 }] };
  assert.equal(fileName(description, { word: "republic", k: 4 }, "svg"), "subword-lattice.svg");
  assert.equal(fileName(description, { word: "naïve / café?", k: 2 }, "csv"), "subword-lattice-word-naïve-café-k-2.csv");
  assert.ok(fileName(description, { word: "x".repeat(300), k: 4 }, "png").length <= 104);
});
