// Entry point of the script on a page of the book: fills the islands that the build left there.
//   <div class="genopt-explorer" data-explorer="NAME" data-params='{"k": 3}'>
//     <script type="application/json" class="gx-description">…</script>   (optional: no wait for frames)
//     <div class="gx-static">picture and sentence</div>  <div class="gx-print">presets</div>
//   </div>
import { arrive, engineOf, Frames } from "./frames.js";
import { EXPLORER as LATTICE, Lattice } from "./lattice.js";
import { View } from "./mount.js";
import { PagePython, Python } from "./python.js";
import { defaults, fromHash, hashTarget, snapped } from "./state.js";
import { sortTables } from "./tables.js";

const BASE = new URL(".", document.currentScript?.src || location.href).href;
const views = new Map(); // root element -> View
const begun = new Map(); // root element -> promise of its View

const python = new PagePython(BASE, globalThis.GENOPT_PYTHON_BYTES ?? 0);

globalThis.GenoptExplore = {
  frames: (data) => arrive(new Frames(data)),
  lattice: (data) => arrive(new Lattice(data)),
  python,
};

/** Stands in for an engine that is still to come: the controls are there, it answers as soon as it can. */
class Coming {
  kind = "frames";
  status = "loading…";

  constructor(name) {
    this.live = name === LATTICE;
    this.load = () => engineOf(name, BASE);
  }

  async ask(params) {
    return (await this.load()).ask(params);
  }
}

function viewOf(root, description, engine) {
  if (views.has(root)) return views.get(root);
  let given = {};
  try {
    given = JSON.parse(root.dataset.params || "{}");
  } catch {
    // a broken island still shows the defaults
  }
  const options = {
    engine,
    fallback: engine,
    params: snapped(description, { ...defaults(description), ...given }),
    which: namesakes(description.name).indexOf(root) + 1,
    link: true,
    python: !engine.live && description.free.length ? python : null,
  };
  const view = new View(root, description, options);
  views.set(root, view);
  return view;
}

/** Build the controls at once where the island carries its description: nothing moves later. */
function prepare(root) {
  const embedded = root.querySelector(":scope > script.gx-description");
  if (embedded) viewOf(root, JSON.parse(embedded.textContent), new Coming(root.dataset.explorer));
}

async function begin(root) {
  try {
    const engine = await engineOf(root.dataset.explorer, BASE);
    const view = viewOf(root, engine.description, engine);
    view.options.fallback = engine;
    if (view.engine instanceof Coming) view.use(engine, { ask: false });
    followPython(view);
    if (!view.draws) view.ask(null);
    return view;
  } catch (problem) {
    begun.delete(root);
    const words = `This figure does not move: ${problem.message}.`;
    const view = views.get(root);
    const notice = view?.notice ?? root.appendChild(document.createElement("p"));
    notice.className = "gx-notice";
    notice.textContent = words;
    throw problem;
  }
}

/** Python answers where it adds something, in all explorers of the page as soon as it runs. */
function followPython(view) {
  const { engine, options, description } = view;
  if (!options.python) return;
  if (python.phase === "on" && engine instanceof Frames) view.use(new Python(description.name, python, engine));
  else if (python.phase !== "on" && engine instanceof Python) view.use(engine.frames);
  else view.follow();
}

const mount = (root) => {
  if (!begun.has(root)) begun.set(root, begin(root));
  return begun.get(root);
};

const islands = () => [...document.querySelectorAll("div.genopt-explorer[data-explorer]")];
const namesakes = (name) => islands().filter((root) => root.dataset.explorer === name);

/** Show what the address of the page asks for, if it names an explorer of this page. */
async function followHash() {
  const target = hashTarget(location.hash);
  const root = target && namesakes(target.name)[target.which - 1];
  if (!root) return;
  const view = await mount(root);
  const { params, ignored } = fromHash(view.description, target.query);
  view.move(view.adapted(params));
  if (ignored.length) view.notice.textContent = `Not understood in the link, and left out: ${ignored.join(", ")}.`;
  root.scrollIntoView({ block: "start" });
}

/** Figures reach into the margin: while one is in sight the contents that stand there are folded. */
function foldContents() {
  const contents = document.querySelector(".bd-sidebar-secondary");
  if (!contents) return;
  const inSight = new Set();
  const watch = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) inSight[isIntersecting ? "add" : "delete"](target);
    contents.classList.toggle("gx-under", inSight.size > 0);
  });
  for (const root of islands()) watch.observe(root);
}

function start() {
  sortTables();
  const near = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        near.unobserve(target);
        mount(target).catch(() => {});
      }
    },
    { rootMargin: "400px" },
  );
  for (const root of islands()) {
    prepare(root);
    near.observe(root);
  }
  foldContents();
  python.listen(() => views.forEach(followPython));
  const follow = () => followHash().catch(() => {});
  addEventListener("hashchange", follow);
  follow();
  // in this visit the reader asked for Python: it starts again once the page has done its own work
  const adds = [...views.values()].some((view) => view.options.python);
  if (!adds || !python.wanted) return;
  const again = () => setTimeout(() => python.start().catch(() => {}), 500);
  if (document.readyState === "complete") again();
  else addEventListener("load", again);
}

if (document.readyState === "loading") addEventListener("DOMContentLoaded", start);
else start();
