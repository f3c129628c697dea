// Engine "kernel": a notebook's Python, through the traits ``params`` (ours to set) and ``result``.
import { sameParams } from "./state.js";

const PATIENCE = 20_000;

export class Kernel {
  kind = "kernel";
  live = true;
  status = "kernel";

  constructor(model) {
    this.model = model;
    this.answer = null;
    this.onResult = () => this.settle();
    model.on("change:result", this.onResult);
  }

  settle() {
    const answer = this.answer;
    this.answer = null;
    answer?.(this.model.get("result"));
    if (!answer) this.pushed?.(this.model.get("result")); // Python, or another view, changed it
  }

  ask(params) {
    const { model } = this;
    if (sameParams(model.get("params"), params)) return model.get("result");
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => {
        this.answer = null;
        reject(new Error("the kernel does not answer: is it running?"));
      }, PATIENCE);
      this.answer = (result) => {
        clearTimeout(late);
        resolve(result);
      };
      model.set("params", params);
      // Two settings may give equal results: the kernel is then done without a change of ``result``.
      const status = (message) => {
        if (message?.content?.execution_state === "idle") setTimeout(() => this.answer && this.settle(), 60);
      };
      model.save_changes({ iopub: { status } });
    });
  }

  close() {
    this.model.off("change:result", this.onResult);
    this.answer = null;
  }
}
