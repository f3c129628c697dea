import assert from "node:assert/strict";
import { test } from "node:test";
import { refusal, repr } from "../src/checks.js";

test("values are written as Python writes them", () => {
  const shown = { "None": null, "True": true, "2.5": 2.5, "[1, 'a']": [1, "a"], "'a\\n\\x0b\\u3000'": "a\n\x0b\u3000", '"it\'s"': "it's", "'\\'\"'": "'\"", "'\\U000e0001 ï😀'": "\u{e0001} ï😀", "'\\ud83d'": "\ud83d" };
  for (const [python, value] of Object.entries(shown)) assert.equal(repr(value), python);
});

test("a control refuses in Python's words, and takes what fits", () => {
  const text = { kind: "text", name: "word", max_length: 3 };
  assert.equal(refusal(text, "abcd"), "word must have at most 3 characters, got 4");
  assert.equal(refusal(text, "😀😀😀"), undefined);
  assert.equal(refusal(text, " "), "word must have at least one character, got ' '");
  const slider = { kind: "slider", name: "k", low: 1, high: 8, whole: true };
  assert.equal(refusal(slider, 9), "k must be between 1 and 8, got 9");
  assert.equal(refusal(slider, 8), undefined);
});
