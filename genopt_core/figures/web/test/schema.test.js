// The front end draws what genopt_core.figures.schema declares: all of it, and nothing else.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { test } from "node:test";
import { JSDOM } from "jsdom";
import { drawPanel, maker } from "../src/draw.js";
import { itemsOf, MARKS } from "../src/marks.js";
import { table } from "../src/table.js";

const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));
const SAY = `
import dataclasses, json
from genopt_core.figures import schema
kinds = {name: dataclasses.asdict(kind) for name, kind in schema.KINDS.items()}
print(json.dumps({"kinds": kinds, "choices": schema.CHOICES}))`;
const python = [".venv/bin/python", ".venv/Scripts/python.exe"].map((name) => ROOT + name).find(existsSync) ?? "python3";
const schema = JSON.parse(execFileSync(python, ["-c", SAY], { cwd: ROOT, encoding: "utf8" }));

const { document } = new JSDOM("").window;

const COLUMNS = {
  x: [1, 2, 4], y: [3, 1, 2], x1: [0, 1, 3], x2: [1, 3, 4], y1: [0, 1, 0], y2: [2, 3, 2],
  value: [0, 0.5, 1], text: ["one", "two", "three"], size: [4, 9, 14], width: [1, 4, 9], base: [1, 0, 1], note: ["i", "ii", "iii"], name: ["A", "B", "C"],
  z: ["a", "b", "a"], tip: ["first", "second", "third"],
};
const VALUES = {
  width: [5], label: ["a label"], size: [20], dx: [9], dy: [9], opacity: [0.5],
  horizontal: [true], outline: [true], arrow: [true], bold: [true],
  ...schema.choices,
};
// An arc is for links, of a line it is a smooth curve; and a smooth link is straight.
const ALIKE = { "line curve": 1, "link curve": 1 };

/** All that a reader gets of a mark: the picture, the words of its tooltips, its table. */
function shown(mark) {
  const spec = { x: { label: "across" }, y: { label: "up" }, marks: [mark], height: 200, series: { a: "c1", b: "c2" } };
  const drawn = drawPanel(spec, { document, width: 400, id: "t", figure: { title: "T", readout: "R" } });
  const words = itemsOf(mark, drawn.panel, 0).map((item) => item.tip());
  const numbers = table({ title: "T", panels: [spec] }, maker(document));
  return [drawn.node.outerHTML, ...words, numbers.outerHTML].join("\n");
}

const columnsOf = ({ required }, kind) => Object.fromEntries((kind === "rule" ? ["x"] : required).map((name) => [name, COLUMNS[name]]));

/** ``mark`` that notes in ``read`` which of its properties somebody asks for. */
const spied = (mark, read) =>
  new Proxy(mark, { get: (target, name) => (typeof name === "string" && read.add(name), target[name]) });

test("MARKS has the kinds of the schema", () => {
  assert.deepEqual(Object.keys(MARKS), Object.keys(schema.kinds));
});

for (const [kind, takes] of Object.entries(schema.kinds)) {
  const bare = { kind, columns: columnsOf(takes, kind) };

  test(`${kind}: every column and every option of the schema shows`, () => {
    const plain = shown(bare);
    for (const name of [...takes.optional, "z", "name", "tip"]) {
      if (kind === "rule" && (name === "x" || name === "y")) continue;
      assert.notEqual(shown({ ...bare, columns: { ...bare.columns, [name]: COLUMNS[name] } }), plain, name);
    }
    for (const name of [...takes.options, "opacity"]) {
      const each = VALUES[name].map((value) => shown({ ...bare, [name]: value }));
      assert.ok(each.some((one) => one !== plain), `${name} changes nothing`);
      assert.equal(new Set(each).size, each.length - (ALIKE[`${kind} ${name}`] ?? 0), `two of ${name} look alike`);
    }
  });

  test(`${kind}: nothing is read that the schema does not have`, () => {
    const read = { options: new Set(), columns: new Set() };
    const columns = Object.fromEntries([...takes.required, ...takes.optional, "z"].filter((name) => kind !== "rule" || name !== "y").map((name) => [name, COLUMNS[name]]));
    shown(spied({ kind, columns: spied(columns, read.columns) }, read.options));
    const all = Object.values(schema.kinds);
    const options = new Set(["kind", "columns", "opacity", ...all.flatMap((one) => one.options)]);
    const names = new Set(["z", "name", "tip", ...all.flatMap((one) => [...one.required, ...one.optional])]);
    assert.deepEqual([...read.options].filter((name) => !options.has(name)), []);
    assert.deepEqual([...read.columns].filter((name) => !names.has(name)), []);
  });
}
