// Where panels stand: all of them in the room there is, readable, or on pages.
import assert from "node:assert/strict";
import { test } from "node:test";
import { arrange, around, MIN_WIDTH } from "../src/layout.js";

const axis = (more = {}) => ({ label: "", type: "linear", ...more });
const panelOf = (height = 240, more = {}) => ({
  title: "A panel", x: axis({ label: "x" }), y: axis({ label: "y" }), height,
  marks: [{ kind: "dot", columns: { x: [1, 2], y: [1, 2] } }], ...more,
});
const figureOf = (...panels) => ({ title: "T", readout: "R", panels });
const total = (figure, page, heights) =>
  Math.max(...page.columns.map((column) => column.reduce((sum, i) => sum + around(figure.panels[i], page.each) + heights[i], 12 * (column.length - 1))));

test("without a height panels stand below each other as high as they want to be", () => {
  const { pages, heights } = arrange(figureOf(panelOf(300), panelOf(150)), { width: 660 });
  assert.deepEqual(pages[0].columns, [[0, 1]]);
  assert.deepEqual(heights, [300, 150]);
});

test("a row stands side by side where there is room for two", () => {
  const figure = { ...figureOf(panelOf(), panelOf()), layout: "row" };
  assert.deepEqual(arrange(figure, { width: 660 }).pages[0].columns, [[0], [1]]);
  assert.deepEqual(arrange(figure, { width: 340 }).pages[0].columns, [[0, 1]]);
  assert.deepEqual(arrange(figure, { width: 700, height: 500 }).pages[0].columns, [[0], [1]]);
});

test("every arrangement keeps to the room, and every panel to a page", () => {
  for (const sizes of [[240], [300, 200], [360, 150, 170], [110, 150, 150, 130], [800]]) {
    const figure = figureOf(...sizes.map((high) => panelOf(high)));
    for (const width of [300, 480, 680, 900, 1300]) {
      for (const height of [260, 380, 460, 640, 900]) {
        const { pages, heights, each } = arrange(figure, { width, height });
        assert.deepEqual(pages.flatMap((page) => page.columns.flat()), sizes.map((_, i) => i));
        for (const page of pages) {
          const alone = page.columns.flat().length === 1;
          const room = height - (pages.length > 1 ? 40 : 0);
          assert.ok(alone || total(figure, page, heights) <= room, JSON.stringify({ sizes, width, height, page }));
          assert.ok(page.each >= MIN_WIDTH);
        }
        for (const i of sizes.keys()) assert.ok(heights[i] <= sizes[i] && heights[i] >= Math.min(sizes[i] / 2, 100) - 1 && each[i] >= MIN_WIDTH);
      }
    }
  }
});

test("rows of words keep their height, and a long strip its width", () => {
  const strip = panelOf(200, {
    y: axis({ domain: [-4, 0], hidden: true }), x: axis({ domain: [0, 40], hidden: true }), title: "",
    marks: [{ kind: "rect", columns: { x1: [0, 4], x2: [4, 40], y1: [-1, -2], y2: [0, -1], text: ["abcdef", "…"] } }],
  });
  const { heights, pages } = arrange(figureOf(strip, panelOf(150)), { width: 680, height: 420 });
  assert.ok(heights[0] >= 60);
  assert.deepEqual(pages[0].columns, [[0, 1]], "in half the width no word would fit its box");
});

test("an arrangement stays until another one is clearly better", () => {
  const figure = figureOf(panelOf(240), panelOf(240));
  let before = null;
  let changes = 0;
  for (let height = 640; height >= 380; height -= 4) {
    const next = arrange(figure, { width: 700, height, before });
    if (before && JSON.stringify(next.pages[0].columns) !== JSON.stringify(before.pages[0].columns)) changes++;
    before = next;
  }
  assert.ok(changes <= 1);
});
