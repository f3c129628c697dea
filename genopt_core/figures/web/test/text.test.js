// The box for a reader's own text.
import assert from "node:assert/strict";
import { test } from "node:test";
import { JSDOM } from "jsdom";
import { maker } from "../src/draw.js";

const { window } = new JSDOM("");
globalThis.document = window.document;
const { makeControl } = await import("../src/controls.js");

const spec = { kind: "text", name: "word", label: "Word", values: ["ab", "cd"], default: "ab", max_length: 5 };

function box() {
  const told = [];
  const control = makeControl(spec, maker(document), "t", (name, value) => told.push(value));
  document.body.append(control.node);
  control.set("ab");
  const input = control.node.querySelector("input");
  const say = (name, detail) => input.dispatchEvent(Object.assign(new window.Event(name), detail));
  const type = (value, detail) => {
    input.value = value;
    say("input", detail);
  };
  return { control, input, told, say, type, pressed: () => [...control.node.querySelectorAll("[aria-pressed=true]")].map((b) => b.textContent) };
}

test("what is typed is told at once, but not while a letter is being composed", () => {
  const { told, type, say } = box();
  type("a");
  type("´", { isComposing: true });
  type("á");
  say("compositionend");
  assert.deepEqual(told, ["a", "á", "á"]);
});

test("an empty box is the beginning of another text; left so, the last one comes back", () => {
  const { told, type, say, input } = box();
  type("abc");
  type("");
  type("  ");
  assert.deepEqual(told, ["abc"]);
  say("change");
  assert.equal(input.value, "abc");
});

test("samples set the text and are marked", () => {
  const { control, told, pressed, type } = box();
  assert.deepEqual(pressed(), ["ab"]);
  control.node.querySelectorAll(".gx-sample")[1].dispatchEvent(new window.Event("click"));
  assert.deepEqual(told, ["cd"]);
  assert.deepEqual(pressed(), ["cd"]);
  type("x");
  assert.deepEqual(pressed(), []);
});

test("a phone's keyboard neither capitalizes nor corrects, and nothing is cut without a word", () => {
  const { input } = box();
  for (const [name, value] of Object.entries({ autocapitalize: "off", autocorrect: "off", autocomplete: "off", spellcheck: "false", inputmode: "text", enterkeyhint: "done" })) {
    assert.equal(input.getAttribute(name), value);
  }
  assert.equal(input.hasAttribute("maxlength"), false);
});

test("where own text cannot work the box is closed and a sentence says why", () => {
  const { control, input } = box();
  const note = control.node.querySelector(".gx-own-text");
  control.mode(false, "These samples work here.");
  assert.equal(input.readOnly, true);
  assert.equal(note.textContent, "These samples work here.");
  assert.ok(input.getAttribute("aria-describedby").includes(note.id));
  control.mode(true);
  assert.equal(input.readOnly, false);
  assert.equal(note.hidden, true);
});
