// A module worker that runs genopt_core in Pyodide.  Messages in: {id, boot: {pyodide, zip}} once, then
// {id, run: {name, params}}.  Out: {progress: {step, bytes}}, {id, version}, {id, result} or {id, failed}.
let run = null;
let bytes = 0; // read so far, of all that is fetched
let step = "";
let told = 0;

function tell(now) {
  if (now) step = now;
  else if (bytes - told < 200_000) return;
  told = bytes;
  postMessage({ progress: { step, bytes } });
}

/** As ``fetch``, and what is read is counted: Pyodide fetches megabytes and says nothing. */
const fetched = self.fetch.bind(self);
self.fetch = async (...given) => {
  const answer = await fetched(...given);
  if (!answer.body) return answer;
  const counted = new TransformStream({
    transform(chunk, out) {
      bytes += chunk.byteLength;
      tell();
      out.enqueue(chunk);
    },
  });
  const { status, statusText, headers } = answer;
  return new Response(answer.body.pipeThrough(counted), { status, statusText, headers });
};

async function boot({ pyodide, zip }) {
  tell("loading Python");
  const { loadPyodide } = await import(`${pyodide}pyodide.mjs`).catch(() => {
    throw new Error("this copy of the book does not carry Python");
  });
  const python = await loadPyodide({ indexURL: pyodide });
  tell("loading NumPy");
  await python.loadPackage("numpy", { messageCallback() {}, errorCallback() {} });
  tell("loading the book's own code");
  const answer = await fetch(zip);
  if (!answer.ok) throw new Error(`the book's Python code did not load (${answer.status})`);
  python.unpackArchive(await answer.arrayBuffer(), "zip");
  tell("starting Python");
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
