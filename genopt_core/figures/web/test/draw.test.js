import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { test } from "node:test";
import { JSDOM } from "jsdom";
import { drawFigure, drawPanel, lefts } from "../src/draw.js";
import { itemsOf } from "../src/marks.js";
import { format, textWidth } from "../src/scales.js";
import { csv, sectionsOf, table } from "../src/table.js";
import { nearestItem, walk } from "../src/tips.js";
import { maker } from "../src/draw.js";

const { document } = new JSDOM("").window;
const axis = (more = {}) => ({ label: "", type: "linear", ...more });
const figureOf = (...panels) => ({ title: "Title", readout: "It says 3.", alt: "A picture.", panels });
const panelOf = (marks, more = {}) => ({ x: axis(), y: axis(), marks, height: 200, ...more });
const draw = (panel, width = 400) => drawPanel(panel, { document, width, id: "t", figure: figureOf(panel) });
const count = (drawn, selector) => drawn.svg.querySelectorAll(selector).length;
const texts = (drawn) => [...drawn.svg.querySelectorAll("text")].map((t) => t.textContent);

const KINDS = {
  line: [{ x: [0, 1, 2], y: [1, null, 2], z: ["a", "a", "a"] }, { width: 3, dash: "dashed", curve: "step" }, "path"],
  area: [{ x: [0, 1, 2], y1: [0, 0, 0], y2: [1, 2, 3] }, {}, "path"],
  dot: [{ x: [0, 1, 2], y: [1, 2, 3], size: [4, 6, 8], z: ["a", "b", "a"] }, {}, "circle, path"],
  bar: [{ x: [0, 1, 2], y: [1, 2, 3], z: ["a", "b", "a"] }, {}, "g > rect"],
  cell: [{ x: [0, 1], y: [0, 0], value: [0, 1], text: ["lo", "hi"] }, {}, "g > rect"],
  rect: [{ x1: [0, 1], x2: [1, 3], y1: [0, 0], y2: [1, 1], text: ["ab", "cd"] }, { outline: true }, "g > rect"],
  rule: [{ x: [1, 2] }, { label: "here" }, "line"],
  link: [{ x1: [0, 1], y1: [0, 0], x2: [2, 2], y2: [0, 0], width: [1, 3] }, { curve: "arc", arrow: true }, "path"],
  text: [{ x: [1, 2], y: [1, 2], text: ["word", "more"] }, { bold: true, anchor: "start", dx: 3 }, "text"],
};

for (const [kind, [columns, options, selector]] of Object.entries(KINDS)) {
  test(`${kind}: draws, and every item has words for its tooltip and table`, () => {
    const mark = { kind, columns: { ...columns }, ...options };
    const panel = panelOf([mark], { series: { a: "c1", b: "c2" }, x: axis({ hidden: true }), y: axis({ hidden: true }) });
    const drawn = draw(panel);
    assert.ok(count(drawn, selector) > 0, drawn.svg.outerHTML);
    assert.doesNotMatch(drawn.svg.outerHTML, /NaN|undefined|Infinity/);
    const items = itemsOf({ ...mark, columns: { ...columns, tip: Object.values(columns)[0].map((_, i) => `tip ${i}`) } }, drawn.panel, 0);
    assert.ok(items.length >= 2);
    for (const item of items) assert.match(item.tip(), /^tip \d$/);
    const labeled = figureOf({ ...panel, x: axis({ label: "across" }), y: axis({ label: "up" }) });
    const shown = table(labeled, maker(document));
    assert.equal(shown.querySelectorAll("table").length, 1);
    const own = { text: 0, rule: 0, link: 0, line: 2, dot: 3, bar: 3 }[kind] ?? Object.values(columns)[0].length; // words and rules have no rows, a gap neither
    assert.equal(sectionsOf(labeled)[0]?.rows.length ?? 0, own);
  });
}

test("panels over the same values share the rows of one table, others are sections of it", () => {
  const line = (x, y, z) => ({ kind: "line", columns: { x, y, ...(z ? { z: x.map(() => z) } : {}) } });
  const step = axis({ label: "step", domain: [0, 2] });
  const figure = figureOf(
    panelOf([line([0, 1], [5, 6], "a"), line([0, 1], [7, null], "b")], { x: { ...step, label: "" }, y: axis({ label: "bits" }), title: "Bits" }),
    panelOf([line([0, 1], [-1, 2])], { x: step, y: axis({ label: "tokens" }), title: "Tokens" }),
    panelOf([{ kind: "bar", columns: { x: ["p", "q"], y: [1, 2], z: ["a", "b"] } }], { x: axis({ type: "band", domain: ["p", "q"] }), y: axis({ label: "seconds, \"s\"" }), title: "Times" }),
  );
  assert.deepEqual(sectionsOf(figure), [
    { title: "Bits · Tokens", columns: ["step", "a, bits", "b, bits", "tokens"], rows: [[0, 5, 7, -1], [1, 6, null, 2]] },
    { title: "Times", columns: ["name", 'seconds, "s"'], rows: [["p", 1], ["q", 2]] },
  ]);
  const shown = table(figure, maker(document));
  assert.deepEqual([...shown.querySelectorAll("tbody")[0].querySelectorAll("td")].map((cell) => cell.textContent), ["0", "5", "7", "−1", "1", "6", "–", "2"]);
  assert.equal(csv(figure), 'panel,step,"a, bits","b, bits",tokens,name,"seconds, ""s"""\r\nBits · Tokens,0,5,7,-1,,\r\nBits · Tokens,1,6,,2,,\r\nTimes,,,,,p,1\r\nTimes,,,,,q,2\r\n');
});

test("a panel's own table is shown as it is, and an empty one not at all", () => {
  const mark = { kind: "dot", columns: { x: [1], y: [1], z: ["a"] } };
  const figure = figureOf(panelOf([mark], { table: { piece: ["p", "q"], bits: [1.5, 2] } }), panelOf([mark], { table: {} }));
  assert.deepEqual(sectionsOf(figure), [{ title: "", columns: ["piece", "bits"], rows: [["p", 1.5], ["q", 2]] }]);
});

test("tooltips say names and the labels of axes, never bare coordinates", () => {
  const tips = (mark, more) => itemsOf(mark, draw(panelOf([mark], { series: { p: "c1", q: "c2" }, ...more })).panel, 0).map((item) => item.tip());
  const hidden = { x: axis({ hidden: true }), y: axis({ ticks: [0], tick_labels: ["row"] }) };
  assert.deepEqual(tips({ kind: "bar", columns: { x: [0], y: [2.39], base: [2], name: ["skip-gram"], z: ["p"] } }, hidden), ["skip-gram: p = 0.39"]);
  assert.deepEqual(tips({ kind: "dot", columns: { x: [0], y: [1] } }, hidden), [], "decoration has no words");
  const band = { x: axis({ label: "bits" }), y: axis({ type: "band", domain: ["BPE"] }) };
  assert.deepEqual(tips({ kind: "dot", columns: { x: [3], y: ["BPE"] } }, band), ["BPE\nbits: 3"]);
  assert.deepEqual(tips({ kind: "dot", columns: { x: [3], y: ["BPE"], tip: ["3 wins"] } }, band), ["BPE: 3 wins"]);
  assert.deepEqual(tips({ kind: "rect", columns: { x1: [0], x2: [1], y1: [0], y2: [1], text: ["tr"], z: ["p"] } }, hidden), ["tr, p"]);
});

test("numbers grow upwards and to the right, the first category is on top, reverse turns round", () => {
  const at = (y, values) => {
    const drawn = draw(panelOf([{ kind: "dot", columns: { x: [0, 1], y: values } }], { y }));
    return values.map((v) => drawn.panel.y.px(drawn.panel.y.place(v)));
  };
  let [low, high] = at(axis(), [0, 1]);
  assert.ok(low > high);
  [low, high] = at(axis({ reverse: true }), [0, 1]);
  assert.ok(low < high);
  const [first, second] = at(axis({ type: "band", domain: ["p", "q"] }), ["p", "q"]);
  assert.ok(first < second);
});

test("axes: log powers, symlog through zero, given ticks with their words, hidden", () => {
  const dots = (x, y) => [{ kind: "dot", columns: { x, y } }];
  const log = draw(panelOf(dots([1, 1e5], [1e-6, 1]), { x: axis({ type: "log" }), y: axis({ type: "log" }) }));
  assert.ok(texts(log).includes("10⁻⁶") && texts(log).includes("1,000"), texts(log).join(" "));
  const sym = draw(panelOf(dots([-100, 100], [0, 1]), { x: axis({ type: "symlog" }) }));
  assert.ok(texts(sym).includes("0") && texts(sym).includes("−100"));
  const own = draw(panelOf(dots([0, 10], [0, 1]), { x: axis({ ticks: [0, 10], tick_labels: ["start", "end"] }), y: axis({ hidden: true }) }));
  assert.deepEqual(texts(own), ["start", "end"]);
});

test("panels below each other over the same values begin and end at one line", () => {
  const dots = (y) => [{ kind: "dot", columns: { x: [0, 5], y } }];
  const over = (y, more = {}) => panelOf(dots(y), { x: axis({ domain: [0, 5], ...more }) });
  const figure = figureOf(over([1, 2]), over([10000, 90000]), over([1, 2], { domain: [0, 6] }));
  const boxes = lefts(figure, { columns: [[0, 1, 2]], each: 400, heights: [100, 100, 100] }).map((left, i) => drawPanel(figure.panels[i], { document, width: 400, id: "t", figure, left }).panel.box);
  assert.equal(boxes[0].left, boxes[1].left);
  assert.equal(boxes[0].right, boxes[1].right);
  assert.ok(boxes[2].left < boxes[0].left, "another axis keeps its own margin");
  assert.deepEqual(lefts(figure, { columns: [[0], [1], [2]], each: 400, heights: [100, 100, 100] }), [0, 0, 0]);
});

test("labels never touch, at any width", () => {
  const words = Array.from({ length: 14 }, (_, i) => `category ${i}`);
  for (const width of [280, 360, 700]) {
    const drawn = draw(panelOf([{ kind: "bar", columns: { x: words, y: words.map((_, i) => i) } }], { x: axis({ type: "band", domain: words }) }), width);
    const { xTicks, xRotate } = drawn.panel;
    for (let i = 1; i < xTicks.length; i++) {
      const room = xRotate ? 16 : (textWidth(xTicks[i].text) + textWidth(xTicks[i - 1].text)) / 2;
      assert.ok(xTicks[i].px - xTicks[i - 1].px >= room, `${width}: ${xTicks[i].text}`);
    }
  }
});

test("series differ by more than color, and the legend shows how", () => {
  const columns = (z) => ({ x: [0, 1], y: [0, 1], z: [z, z] });
  const drawn = draw(panelOf([{ kind: "line", columns: columns("a") }, { kind: "line", columns: columns("b") }], { series: { a: "c1", b: "c1" } }));
  const dashes = [...drawn.svg.querySelectorAll("[stroke-dasharray]")].map((g) => g.getAttribute("stroke-dasharray"));
  assert.equal(dashes.length, 1, "one solid, one dashed, though both have the role c1");
  assert.equal(drawn.node.querySelectorAll(".gx-legend li").length, 2);
  const silent = draw(panelOf([{ kind: "line", columns: columns("a") }], { series: { a: "c1", b: "c2" }, legend: false }));
  assert.equal(silent.node.querySelectorAll(".gx-legend").length, 0);
});

test("what leaves a given domain is clipped", () => {
  const drawn = draw(panelOf([{ kind: "line", columns: { x: [0, 1, 2], y: [0, 50, 1] } }], { y: axis({ domain: [0, 2] }) }));
  const name = drawn.svg.querySelector("clipPath").id;
  assert.equal(drawn.svg.querySelector(".gx-clip").getAttribute("clip-path"), `url(#${name})`);
});

test("the picture has a name and a description", () => {
  const { svg } = draw(panelOf([{ kind: "dot", columns: { x: [1], y: [1] } }]));
  assert.equal(svg.getAttribute("role"), "img");
  assert.equal(svg.getAttribute("aria-label"), "Title");
  const described = svg.getAttribute("aria-describedby");
  assert.equal(svg.querySelector("desc").id, described);
  assert.equal(svg.querySelector("desc").textContent, "A picture. It says 3.");
});

test("empty columns and single points draw", () => {
  for (const columns of [{ x: [], y: [] }, { x: [3], y: [3] }, { x: [null], y: [null] }]) {
    assert.doesNotMatch(draw(panelOf([{ kind: "line", columns }, { kind: "dot", columns }])).svg.outerHTML, /NaN|Infinity/);
  }
});

test("arrow keys walk along a series and across", () => {
  const panel = panelOf([{ kind: "dot", columns: { x: [2, 0, 1, 0, 2], y: [0, 0, 0, 1, 1], z: ["a", "a", "a", "b", "b"] } }], { series: { a: "c1", b: "c2" } });
  const drawn = draw(panel);
  const items = itemsOf(panel.marks[0], drawn.panel, 0);
  const first = walk(items, null, "ArrowRight");
  assert.equal(first.order, 1);
  const second = walk(items, first, "ArrowRight");
  assert.equal(second.order, 2);
  assert.equal(walk(items, first, "End").order, 0);
  assert.equal(walk(items, first, "ArrowDown").order, 3);
  assert.equal(walk(items, first, "Tab"), null);
  assert.equal(nearestItem(items, second.x + 3, second.y, drawn.panel.box), second);
  assert.equal(nearestItem(items, second.x, second.y - 60, drawn.panel.box), null);
});

test("numbers read well", () => {
  assert.deepEqual([0, 0.5, -2, 1234, 12345.67, 1e6, 2.5e-5, 1e-4].map(format), ["0", "0.5", "−2", "1,234", "12,346", "10⁶", "2.5×10⁻⁵", "10⁻⁴"]);
});

test("render.mjs draws the same on stdin and stdout", { skip: !existsSync(new URL("../dist/render.mjs", import.meta.url)) }, () => {
  const figure = figureOf(panelOf([{ kind: "bar", columns: { x: [1, 2], y: [1, 2], z: ["a", "b"] } }], { series: { a: "c1", b: "c2" } }));
  const script = fileURLToPath(new URL("../dist/render.mjs", import.meta.url));
  const run = () => execFileSync(process.execPath, [script], { input: JSON.stringify([{ key: "k 1", figure }, { key: "k 2", figure }]), encoding: "utf8" });
  const out = JSON.parse(run());
  assert.deepEqual(Object.keys(out), ["k 1", "k 2"]);
  assert.match(out["k 1"], /<svg/);
  const ids = (html) => [...html.matchAll(/ id="([^"]+)"/g)].map((m) => m[1]);
  assert.equal(new Set([...ids(out["k 1"]), ...ids(out["k 2"])]).size, ids(out["k 1"]).length + ids(out["k 2"]).length);
  assert.equal(run(), JSON.stringify(out), "the same bytes every time");
  assert.equal(drawFigure(figure, { document, id: "x" }).querySelectorAll("svg.gx-svg").length, 1);
});
