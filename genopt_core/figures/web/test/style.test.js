// One file says how series look; the style sheet and the drawing take it from there.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { colored } from "../colors.mjs";
import { seriesStyles } from "../src/theme.js";

const read = (path) => readFileSync(new URL(path, import.meta.url), "utf8");
const style = JSON.parse(read("../../style.json"));
const sheet = read("../src/explore.css");
const colors = { ...style.page, ...style.roles, ...style.cells };
const declared = (css) => new Map([...css.matchAll(/--gx-([\w-]+): ([^;]+);/g)].map(([, name, value]) => [name, value]));

test("the style sheet has each theme once and no color of its own", () => {
  assert.deepEqual([...sheet.matchAll(/@colors (\w+);/g)].map(([, theme]) => theme), ["light", "dark", "system", "print"]);
  assert.deepEqual(sheet.match(/#[0-9a-f]{3,8}\b/gi), null);
  assert.doesNotMatch(colored(sheet), /@colors \w|undefined/);
});

test("light, dark and system are the colors of style.json", () => {
  const [light, dark, system] = ["light", "dark", "system"].map((theme) => declared(colored(`@colors ${theme};`)));
  for (const [name, color] of Object.entries(colors)) {
    const own = (value) => (color.host ? `var(${color.host[0]}, var(${color.host[1]}, ${value}))` : value);
    assert.equal(light.get(name), own(color.light));
    assert.equal(dark.get(name), own(color.dark));
    assert.equal(system.get(name), color.dark);
  }
});

test("every variable that is used is declared", () => {
  const known = new Set([...Object.keys(colors), "small", "rem", "top", "fill"]); // lengths; --gx-fill is set by a slider
  const sources = readdirSync(new URL("../src/", import.meta.url)).map((name) => read(`../src/${name}`));
  for (const [, name] of sources.join("\n").matchAll(/var\(--gx-([\w-]+)/g)) {
    assert.ok(known.has(name) || name === "ramp-" || name === "on-", name);
  }
});

test("a role alone has its own dash, symbol and hatch", () => {
  for (const [role, { dash, symbol, hatch, weight = 1 }] of Object.entries(style.roles)) {
    const look = seriesStyles({ only: role }).get("only");
    assert.deepEqual(look, { name: "only", role, color: `var(--gx-${role})`, dash, symbol, hatch, weight });
  }
});
