// Engine "python": the book's own Python package, run by Pyodide in a worker.  All explorers of a page
// share one worker.  It starts only when a reader asks for it: it is several megabytes.

let worker = null;
let booted = null;
let count = 0;
const calls = new Map();
const listeners = new Set();

export const possible = () => /^https?:$/.test(location.protocol) && typeof Worker === "function";

function stop(reason) {
  worker?.terminate();
  worker = booted = null;
  for (const { reject } of calls.values()) reject(new Error(reason));
  calls.clear();
}

function start(base) {
  worker = new Worker(`${base}worker.js`, { type: "module" });
  worker.onmessage = ({ data }) => {
    if (data.progress) return listeners.forEach((tell) => tell(data.progress));
    const call = calls.get(data.id);
    calls.delete(data.id);
    if (data.failed) {
      // Impossible settings come back as results, so this is a crash: the next start begins afresh.
      call?.reject(new Error(data.failed));
      stop("Python in this page has stopped");
    } else call?.resolve(data);
  };
  worker.onerror = (event) => {
    event.preventDefault();
    stop(event.message || "the worker did not start");
  };
}

function send(message) {
  return new Promise((resolve, reject) => {
    calls.set(++count, { resolve, reject });
    worker.postMessage({ ...message, id: count });
  });
}

/** Start Python, or wait for the start that is under way; ``tell`` hears how far it is. */
export async function boot(base, tell) {
  listeners.add(tell);
  try {
    if (!worker) start(base);
    booted ??= send({
      boot: { pyodide: new URL(globalThis.GENOPT_PYODIDE_URL || `${base}pyodide/`, location.href).href, zip: `${base}genopt_core.zip` },
    });
    const { version } = await booted;
    return version;
  } catch (problem) {
    stop("Python did not start");
    throw problem;
  } finally {
    listeners.delete(tell);
  }
}

export class Python {
  kind = "python";
  live = true;

  constructor(name, version) {
    this.name = name;
    this.status = `Python in this page, ${version}`;
  }

  async ask(params) {
    if (!worker) throw new Error("Python in this page has stopped");
    const { result } = await send({ run: { name: this.name, params: JSON.stringify(params) } });
    return JSON.parse(result);
  }
}
