import assert from "node:assert/strict";
import { test } from "node:test";
import { JSDOM } from "jsdom";
import { Questions } from "../src/questions.js";

const { window } = new JSDOM("", { url: "https://book.test/page.html" });
Object.assign(globalThis, { document: window.document, location: window.location });
globalThis.ResizeObserver = class {
  observe() {}
  disconnect() {}
};
globalThis.requestIdleCallback = () => {};
const { View } = await import("../src/mount.js");

const tick = () => new Promise((resolve) => setTimeout(resolve));

test("one question is open at a time, and of those that wait only the newest is asked", async () => {
  const answers = [];
  const shown = [];
  let params = 0;
  const questions = new Questions({
    put: () => {
      const asked = params;
      return new Promise((resolve) => answers.push(() => resolve(asked)));
    },
    show: (result, since) => shown.push([result, since]),
    fail: assert.fail,
  });
  for (params = 1; params < 5; params++) questions.ask(`since ${params}`);
  assert.equal(answers.length, 1);
  answers[0]();
  await tick();
  assert.equal(answers.length, 2, "two and three were never asked");
  answers[1]();
  await tick();
  assert.equal(answers.length, 2);
  assert.deepEqual(shown, [[1, "since 1"], [5, "since 4"]]);
});

test("a question that fails is told, and the next one is asked", async () => {
  const failed = [];
  const questions = new Questions({ put: () => Promise.reject(new Error("gone")), show: assert.fail, fail: (problem) => failed.push(problem.message) });
  questions.ask(1);
  questions.ask(2);
  await tick();
  await tick();
  assert.deepEqual(failed, ["gone", "gone"]);
  assert.equal(questions.open, false);
});

const description = {
  name: "demo",
  title: "Demo",
  controls: [
    { kind: "slider", name: "k", label: "k", low: 0, high: 9, step: 1, whole: true, scale: "linear", default: 3, values: [0, 3, 6, 9] },
    { kind: "step", name: "step", label: "step", low: 0, high: 6, default: 0, values: [0, 1, 2, 3, 4, 5, 6], interval_ms: 700 },
  ],
  presets: [{ label: "far", params: { k: 9 }, note: "It breaks.", fails: true }],
};
const axis = { label: "", type: "linear" };
const figureOf = ({ k, step }) => ({
  title: `k = ${k}`, readout: `k is ${k}, step ${step}.`, limits: { step: [0, k] },
  panels: [{ x: axis, y: axis, height: 100, marks: [{ kind: "dot", columns: { x: [0, k], y: [0, 1] } }] }],
});

function viewWith(ask, options = {}) {
  const root = document.createElement("div");
  document.body.append(root);
  const engine = { kind: "frames", live: false, status: "precomputed", ask };
  const view = new View(root, description, { engine, ...options });
  const text = (selector) => root.querySelector(selector).textContent;
  return { view, root, engine, text };
}

test("a preset sets, shows its note and is marked; Reset goes back to where the author set it", () => {
  const { view, root, text } = viewWith((params) => ({ figure: figureOf(params) }), { params: { k: 6, step: 1 } });
  view.ask(null);
  assert.equal(text(".gx-readout"), "k is 6, step 1.");
  root.querySelector(".gx-preset").dispatchEvent(new window.Event("click"));
  assert.deepEqual(view.params, { k: 9, step: 0 });
  assert.equal(text(".gx-note"), "It breaks.");
  assert.equal(root.querySelector(".gx-preset").getAttribute("aria-pressed"), "true");
  root.querySelector(".gx-reset").dispatchEvent(new window.Event("click"));
  assert.deepEqual(view.params, { k: 6, step: 1 });
  assert.equal(root.querySelector(".gx-note").hidden, true);
  assert.equal(root.dataset.draws, "3");
});

test("a limit of the figure moves a control inside, once", () => {
  const { view, text } = viewWith((params) => ({ figure: figureOf(params) }));
  view.move({ k: 3, step: 5 });
  assert.deepEqual(view.params, { k: 3, step: 3 });
  assert.equal(text(".gx-readout"), "k is 3, step 3.");
});

test("an error takes the picture's place, and the next figure the error's", () => {
  const { view, root, text } = viewWith(({ k }) => (k === 9 ? { error: "k is too large" } : { figure: figureOf({ k, step: 0 }) }));
  view.move({ k: 9, step: 0 });
  assert.equal(text(".gx-problem"), "k is too large");
  assert.equal(root.querySelectorAll("svg.gx-svg").length, 0);
  assert.equal(text(".gx-readout"), "");
  view.move({ k: 3, step: 0 });
  assert.equal(text(".gx-problem"), "");
  assert.equal(root.querySelectorAll("svg.gx-svg").length, 1);
  assert.equal(root.classList.contains("gx-has-problem"), false);
});

const idle = { phase: "off", words: "", part: 0, bytes: 16e6, possible: true, served: true };

test("when Python fails the frames take over and answer", async () => {
  const fallback = { kind: "frames", live: false, status: "precomputed", ask: (params) => ({ figure: figureOf(params) }) };
  const python = { kind: "python", live: true, status: "Python", ask: () => Promise.reject(new Error("stopped")) };
  const { view, root, text } = viewWith(fallback.ask, { fallback, python: { ...idle, phase: "on" } });
  view.move({ k: 3, step: 0 });
  view.use(python);
  await tick();
  await tick();
  assert.equal(root.dataset.engine, "frames");
  assert.equal(text(".gx-status"), "precomputed (stopped)");
  assert.equal(text(".gx-readout"), "k is 3, step 0.");
  assert.equal(view.busy, false);
});

test("a text without a frame is met with an offer, and the start of Python shows how far it is", () => {
  let started = 0;
  const python = { ...idle, start: async () => started++ };
  const { view, root, text } = viewWith(() => ({ needsPython: true }), { python });
  view.move({ k: 3, step: 0 });
  assert.match(text(".gx-problem p"), /for a text of your own this page starts Python \(about 16 MB, once a visit\)/);
  assert.ok(root.querySelector(".gx-problem").classList.contains("gx-offers"));
  const buttons = [...root.querySelectorAll("button")].filter((button) => button.textContent === "Run Python here");
  assert.equal(buttons.length, 2, "one in the offer, one in the foot");
  buttons[0].dispatchEvent(new window.Event("click"));
  assert.equal(started, 1);
  Object.assign(python, { phase: "starting", words: "loading NumPy: 12 of 16 MB", part: 0.75 });
  view.follow();
  assert.equal(text(".gx-status"), "loading NumPy: 12 of 16 MB");
  assert.ok(buttons.every((button) => button.hidden));
  assert.deepEqual([...root.querySelectorAll("progress")].map((bar) => [bar.hidden, bar.value]), [[false, 0.75], [false, 0.75]]);
  Object.assign(python, { phase: "failed", words: "offline" });
  view.follow();
  assert.match(text(".gx-status"), /Python stopped \(offline\)/);
  assert.ok(buttons.every((button) => !button.hidden));
});

test("no button where Python adds nothing, or cannot run", () => {
  for (const python of [null, { ...idle, possible: false }]) {
    const { root } = viewWith((params) => ({ figure: figureOf(params) }), { python });
    assert.equal(root.querySelector(".gx-run"), null);
  }
});
