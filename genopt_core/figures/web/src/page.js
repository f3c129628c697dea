// Entry point of the script on a page of the book: fills the islands that the build left there.
//   <div class="genopt-explorer" data-explorer="NAME" data-params='{"k": 3}'>
//     <script type="application/json" class="gx-description">…</script>   (optional: no wait for frames)
//     <div class="gx-static">picture and sentence</div>  <div class="gx-print">presets</div>
//   </div>
import { framesOf, receive } from "./frames.js";
import { View } from "./mount.js";
import { boot, possible, Python } from "./python.js";
import { defaults, fromHash, hashTarget, snapped } from "./state.js";

const BASE = new URL(".", document.currentScript?.src || location.href).href;
const views = new Map(); // root element -> View
const begun = new Map(); // root element -> promise of its View

globalThis.GenoptExplore = { frames: receive };

/** Stands in for frames that are still to come: the controls are there and answer as soon as it can. */
class Coming {
  kind = "frames";
  live = false;
  status = "loading…";

  constructor(load) {
    this.load = load;
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
    startPython: possible() ? async (tell) => new Python(description.name, await boot(BASE, tell)) : null,
  };
  const view = new View(root, description, options);
  views.set(root, view);
  return view;
}

/** Build the controls at once where the island carries its description: nothing moves later. */
function prepare(root) {
  const embedded = root.querySelector(":scope > script.gx-description");
  if (embedded) viewOf(root, JSON.parse(embedded.textContent), new Coming(() => framesOf(root.dataset.explorer, BASE)));
}

async function begin(root) {
  try {
    const frames = await framesOf(root.dataset.explorer, BASE);
    const view = viewOf(root, frames.description, frames);
    view.options.fallback = frames;
    if (view.engine instanceof Coming) view.use(frames, { ask: false });
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

function start() {
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
  const follow = () => followHash().catch(() => {});
  addEventListener("hashchange", follow);
  follow();
}

if (document.readyState === "loading") addEventListener("DOMContentLoaded", start);
else start();
