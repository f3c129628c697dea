// The one Python of a page: started once, heard of by all, remembered for the visit.
import assert from "node:assert/strict";
import { test } from "node:test";
import { JSDOM } from "jsdom";

const { window } = new JSDOM("", { url: "https://book.test/page.html" });
const made = [];
globalThis.location = window.location;
globalThis.sessionStorage = window.sessionStorage;
globalThis.Worker = class {
  constructor(url) {
    made.push(this);
    this.url = url;
    this.sent = [];
  }
  postMessage(message) {
    this.sent.push(message);
  }
  terminate() {
    this.gone = true;
  }
  say(data) {
    this.onmessage({ data });
  }
};
const { PagePython, Python } = await import("../src/python.js");
const tick = () => new Promise((resolve) => setTimeout(resolve));

test("all who ask wait for one start, and hear how far it is", async () => {
  made.length = 0;
  const python = new PagePython("https://book.test/", 16e6);
  const heard = [];
  python.listen(() => heard.push([python.phase, python.words, python.part]));
  const both = [python.start(), python.start()];
  const [worker] = made;
  assert.equal(made.length, 1);
  assert.equal(python.wanted, false);
  worker.say({ progress: { step: "loading NumPy", bytes: 12e6 } });
  worker.say({ id: worker.sent[0].id, version: "3.12" });
  await Promise.all(both);
  assert.deepEqual(heard, [["starting", "starting Python", 0], ["starting", "loading NumPy: 12 of 16 MB", 0.75], ["on", "", 0]]);
  assert.equal(new PagePython("https://book.test/", 16e6).wanted, true, "the next page of the visit starts it again");
});

test("frames answer what they have, Python the rest", async () => {
  made.length = 0;
  const python = new PagePython("https://book.test/", 16e6);
  const frames = { has: ({ k }) => k === 1, ask: () => ({ figure: "frame" }) };
  const engine = new Python("demo", python, frames);
  assert.deepEqual(engine.ask({ k: 1 }), { figure: "frame" });
  assert.equal(made.length, 0);
  const answer = engine.ask({ k: 2 });
  const [worker] = made;
  worker.say({ id: worker.sent[0].id, version: "3.12" });
  await tick();
  assert.deepEqual(worker.sent[1].run, { name: "demo", params: '{"k":2}' });
  worker.say({ id: worker.sent[1].id, result: '{"figure":"Python"}' });
  assert.deepEqual(await answer, { figure: "Python" });
});

test("a crash is told to all, forgotten for the visit, and the next start begins afresh", async () => {
  made.length = 0;
  const python = new PagePython("https://book.test/", 16e6);
  const first = python.start();
  made[0].say({ id: made[0].sent[0].id, failed: "no wheel" });
  await assert.rejects(first, /no wheel/);
  assert.deepEqual([python.phase, python.words], ["failed", "no wheel"]);
  assert.equal(made[0].gone, true);
  assert.equal(python.wanted, false);
  python.start().catch(() => {});
  assert.equal(made.length, 2);
});

test("a book without Python, or opened as a file, offers none", () => {
  assert.equal(new PagePython("https://book.test/", 0).possible, false);
  globalThis.location = { protocol: "file:" };
  const python = new PagePython("file:///book/", 16e6);
  globalThis.location = window.location;
  assert.equal(python.possible, false);
  assert.equal(python.served, false);
});
