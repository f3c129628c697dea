// A module worker that runs genopt_core in Pyodide.  Messages in: {id, boot: {pyodide, zip}} once, then
// {id, run: {name, params}}.  Out: {progress}, {id, version}, {id, result} or {id, failed}.
let run = null;

async function boot({ pyodide, zip }) {
  postMessage({ progress: "loading Python (about 9 MB)…" });
  const { loadPyodide } = await import(`${pyodide}pyodide.mjs`).catch(() => {
    throw new Error("this copy of the book does not carry Python");
  });
  const python = await loadPyodide({ indexURL: pyodide });
  postMessage({ progress: "loading NumPy…" });
  await python.loadPackage("numpy", { messageCallback() {}, errorCallback() {} });
  postMessage({ progress: "loading the book's own code…" });
  const answer = await fetch(zip);
  if (!answer.ok) throw new Error(`the book's Python code did not load (${answer.status})`);
  python.unpackArchive(await answer.arrayBuffer(), "zip");
  run = python.runPython("from genopt_core.explorers import run_json\nrun_json");
  return python.runPython("import sys, numpy\nf'{sys.version.split()[0]} with NumPy {numpy.__version__}'");
}

onmessage = async ({ data }) => {
  try {
    if (data.boot) postMessage({ id: data.id, version: await boot(data.boot) });
    else postMessage({ id: data.id, result: run(data.run.name, data.run.params) });
  } catch (problem) {
    // the last line of a Python traceback says what happened
    const lines = String(problem?.message ?? problem).trim().split("\n");
    postMessage({ id: data.id, failed: lines.at(-1) });
  }
};
