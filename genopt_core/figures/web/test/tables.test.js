// A table of results sorts by click and by keyboard, and says so.
import assert from "node:assert/strict";
import { test } from "node:test";
import { JSDOM } from "jsdom";
import { inOrder, sortTables } from "../src/tables.js";

const HTML = `<div class="genopt-table"><table>
  <thead><tr><th>method</th><th aria-sort="ascending">regret</th><th data-first="descending">wins <span>(pairs)</span></th></tr></thead>
  <tbody><tr><th>b</th><td><strong>★ −0.2 ± 0.1</strong></td><td>1,010</td></tr>
  <tr><th>a</th><td>0.1</td><td>9</td></tr><tr><th>c</th><td>0.3</td><td>–</td></tr></tbody></table></div>`;

test("numbers are put in order as numbers, words as words, what is missing last", () => {
  assert.deepEqual(inOrder(["10", "9", "–", "−1"], false), [3, 1, 0, 2]);
  assert.deepEqual(inOrder(["10", "9", "–", "−1"], true), [0, 1, 3, 2]);
  assert.deepEqual(inOrder(["+0.5 %", "< 0.001", "2.9e-34"], false), [2, 1, 0]);
  assert.deepEqual(inOrder(["7.78 (0.48–11.69)", "0.24 (0.15–\u20070.41)"], false), [1, 0]);
  assert.deepEqual(inOrder(["SMAC", "10", "CMA-ES"], false), [1, 2, 0]);
});

test("a heading sorts best first, then the other way, and one column at a time is said to be sorted", () => {
  const { document } = new JSDOM(HTML).window;
  globalThis.document = document;
  sortTables(document);
  const heads = [...document.querySelectorAll("th")].slice(0, 3);
  const names = () => [...document.querySelectorAll("tbody th")].map((cell) => cell.textContent).join("");
  const press = (at) => heads[at].querySelector("button").click();
  assert.equal(heads[2].querySelector("button").textContent, "wins (pairs)");
  assert.equal(names(), "bac", "until a heading is pressed the rows stay as they were printed");
  press(2);
  assert.deepEqual([names(), heads[2].getAttribute("aria-sort")], ["bac", "descending"]);
  press(2);
  assert.deepEqual([names(), heads[2].getAttribute("aria-sort")], ["abc", "ascending"]);
  press(1);
  assert.equal(names(), "bac");
  assert.deepEqual(heads.map((head) => head.getAttribute("aria-sort")), [null, "ascending", null]);
  press(1);
  assert.equal(names(), "cab");
});
