// Entry point of the notebook widget (anywidget): the kernel is the engine.
import { Kernel } from "./kernel.js";
import { View } from "./mount.js";
import { sameParams } from "./state.js";

function render({ model, el }) {
  const root = document.createElement("div");
  el.append(root);
  const engine = new Kernel(model);
  const view = new View(root, model.get("description"), { engine, params: { ...model.get("params") } });
  view.show(model.get("result"));
  engine.pushed = (result) => view.show(result);
  const followed = () => {
    // Python set other parameters, or another view of the same widget did
    if (!sameParams(model.get("params"), view.params) && !view.busy) view.adopt({ ...model.get("params") });
  };
  model.on("change:params", followed);
  return () => {
    model.off("change:params", followed);
    engine.close();
    view.close();
  };
}

export default { render };
