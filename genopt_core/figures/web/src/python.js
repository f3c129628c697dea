// Engine "python": the book's own Python package, run by Pyodide in a worker.  A page has one, which all
// its explorers share.  It starts when a reader asks for it, since it is megabytes; on the pages that
// follow in the same visit it then starts by itself, from the browser's cache.

const ASKED = "genopt-python"; // in sessionStorage: the reader asked for Python in this visit

function remembered(value) {
  try {
    if (value === undefined) return sessionStorage.getItem(ASKED) === "1";
    if (value) sessionStorage.setItem(ASKED, "1");
    else sessionStorage.removeItem(ASKED);
  } catch {
    // a browser that keeps nothing asks on every page
  }
  return false;
}

const MB = (bytes) => Math.round(bytes / 1e6);

/** The Python of a page: ``phase`` is "off", "starting", "on" or "failed"; ``words`` say more. */
export class PagePython {
  phase = "off";
  words = "";
  part = 0; // of what there is to load
  version = "";
  #worker = null;
  #started = null;
  #count = 0;
  #calls = new Map();
  #listeners = new Set();

  /** ``bytes`` is how much there is to load; 0 where this copy of the book carries no Python. */
  constructor(base, bytes) {
    this.base = base;
    this.bytes = bytes;
    this.served = /^https?:$/.test(location.protocol);
    this.possible = this.served && bytes > 0 && typeof Worker === "function";
  }

  /** Call ``tell`` whenever the phase or the progress changes. */
  listen(tell) {
    this.#listeners.add(tell);
    return () => this.#listeners.delete(tell);
  }

  #is(phase, words = "", part = 0) {
    Object.assign(this, { phase, words, part });
    for (const tell of [...this.#listeners]) tell();
  }

  /** Whether the reader asked for Python on another page of this visit. */
  get wanted() {
    return this.possible && remembered();
  }

  /** Start, or wait for the start that is under way. */
  start() {
    if (!this.#started) {
      this.#is("starting", "starting Python");
      this.#started = this.#boot().catch((problem) => {
        remembered(false);
        this.#stop(problem.message);
        throw problem;
      });
    }
    return this.#started;
  }

  async #boot() {
    this.#open();
    const pyodide = new URL(globalThis.GENOPT_PYODIDE_URL || `${this.base}pyodide/`, location.href).href;
    const { version } = await this.#send({ boot: { pyodide, zip: `${this.base}genopt_core.zip` } });
    this.version = version;
    remembered(true);
    this.#is("on");
  }

  #open() {
    this.#worker = new Worker(`${this.base}worker.js`, { type: "module" });
    this.#worker.onmessage = ({ data }) => {
      if (data.progress) return this.#progress(data.progress);
      const call = this.#calls.get(data.id);
      this.#calls.delete(data.id);
      if (data.failed) {
        // Impossible settings come back as results, so this is a crash: the next start begins afresh.
        call?.reject(new Error(data.failed));
        this.#stop(data.failed);
      } else call?.resolve(data);
    };
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#stop(event.message || "the worker did not start");
    };
  }

  #progress({ step, bytes }) {
    const part = Math.min(1, bytes / this.bytes);
    this.#is("starting", `${step}: ${MB(Math.min(bytes, this.bytes))} of ${MB(this.bytes)} MB`, part);
  }

  #stop(reason) {
    this.#worker?.terminate();
    this.#worker = this.#started = null;
    for (const { reject } of this.#calls.values()) reject(new Error(reason));
    this.#calls.clear();
    this.#is("failed", reason);
  }

  #send(message) {
    return new Promise((resolve, reject) => {
      this.#calls.set(++this.#count, { resolve, reject });
      this.#worker.postMessage({ ...message, id: this.#count });
    });
  }

  /** The answer of explorer ``name`` at ``params``; Python is started first where it is not on. */
  async run(name, params) {
    await this.start();
    const { result } = await this.#send({ run: { name, params: JSON.stringify(params) } });
    return JSON.parse(result);
  }
}

/** Python for one explorer; what was computed in advance is shown from there, which is faster. */
export class Python {
  kind = "python";
  live = true;

  constructor(name, page, frames) {
    Object.assign(this, { name, page, frames });
    this.status = `Python in this page, ${page.version}`;
  }

  ask(params) {
    return this.frames?.has(params) ? this.frames.ask(params) : this.page.run(this.name, params);
  }
}
