import assert from "node:assert/strict";
import { test } from "node:test";
import { asCode, defaults, fromHash, hashTarget, nearest, parseValue, python, snapped, toHash } from "../src/state.js";

const description = {
  name: "demo",
  controls: [
    { kind: "slider", name: "k", low: 1, high: 9, step: 1, whole: true, default: 3, values: [1, 3, 5, 7, 9] },
    { kind: "slider", name: "lr", low: 0.01, high: 1, step: 2, whole: false, scale: "log", default: 0.1, values: [0.01, 0.1, 1] },
    { kind: "choice", name: "law", default: "zipf", values: ["zipf", "none", 2], labels: ["Zipf", "none", "two"] },
    { kind: "toggle", name: "show", default: false, values: [false, true] },
    { kind: "text", name: "word", default: "lower▁", values: ["lower▁", "wide"], max_length: 12 },
    { kind: "seed", name: "seed", default: 0, values: [0, 1, 2] },
    { kind: "step", name: "step", low: 0, high: 6, default: 0, values: [0, 1, 2, 3, 4, 5, 6] },
  ],
  presets: [],
};

test("a link holds what differs from the defaults and gives it back", () => {
  const params = { ...defaults(description), k: 7, lr: 0.25, law: 2, show: true, word: "a&b=ä ▁#", seed: 1, step: 4 };
  const target = hashTarget(toHash(description, params));
  assert.equal(target.name, "demo");
  assert.equal(target.which, 1);
  assert.deepEqual(fromHash(description, target.query), { params, ignored: [] });
  assert.equal(toHash(description, defaults(description)), "#explorer=demo");
});

test("a choice of yes and no is as good in a link as a switch", () => {
  const either = { name: "either", controls: [{ kind: "choice", name: "sink", default: true, values: [true, false] }] };
  const hash = toHash(either, { sink: false });
  assert.equal(hash, "#explorer=either&sink=false");
  assert.deepEqual(fromHash(either, hashTarget(hash).query), { params: { sink: false }, ignored: [] });
});

test("the second explorer of a name has its own link", () => {
  const { name, which } = hashTarget(toHash(description, defaults(description), 2));
  assert.deepEqual([name, which], ["demo", 2]);
  assert.equal(hashTarget("#some-heading"), null);
  assert.equal(hashTarget(""), null);
});

test("what a link says wrongly is left out and named", () => {
  const { query } = hashTarget("#explorer=demo&k=70&lr=x&law=other&show=maybe&zzz=1&word=&step=2.5&seed=2");
  const { params, ignored } = fromHash(description, query);
  assert.deepEqual(params, { ...defaults(description), seed: 2 });
  assert.deepEqual(ignored, ["k=70", "lr=x", "law=other", "show=maybe", "zzz", "word=", "step=2.5"]);
});

test("values parse by the kind of their control", () => {
  const [k, lr, law, show, word] = description.controls;
  assert.equal(parseValue(k, "2"), 2);
  assert.equal(parseValue(k, "2.5"), undefined);
  assert.equal(parseValue(k, ""), undefined);
  assert.equal(parseValue(lr, "0.37"), 0.37);
  assert.equal(parseValue(law, "2"), 2);
  assert.equal(parseValue(show, "False"), false);
  assert.equal(parseValue(word, "x".repeat(13)), undefined);
});

test("frames snap numbers, not texts", () => {
  assert.deepEqual(snapped(description, { ...defaults(description), k: 6.2, lr: 0.5, word: "other" }), {
    ...defaults(description), k: 7, lr: 1, word: "other",
  });
  assert.equal(nearest([1, 10, 100], 40, true), 2);
  assert.equal(nearest([1, 10, 100], 40), 1);
});

test("code is Python", () => {
  assert.equal(asCode(description, defaults(description)), 'from genopt_core import explore\nexplore("demo")');
  assert.equal(
    asCode(description, { ...defaults(description), k: 5, show: true, word: 'a"\\\n▁' }),
    'from genopt_core import explore\nexplore("demo", k=5, show=True, word="a\\"\\\\\\n▁")',
  );
  assert.ok(asCode({ ...description, code: "f({word}, {k})" }, defaults(description)).endsWith(`\n\n# what it computes\nf(${python(defaults(description).word)}, 3)`));
  assert.equal(python(null), "None");
  assert.equal(python(1e-7), "1e-7");
});
