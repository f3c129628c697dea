// The questions a view asks its engine.  At most one is open; of those that wait only the newest counts.

export class Questions {
  /** ``put()`` asks: a result or the promise of one; ``show(result, since)`` and ``fail(problem)`` get it. */
  constructor({ put, show, fail }) {
    Object.assign(this, { put, show, fail, open: false, waiting: null });
  }

  /** Ask now, or when the answer to the last question is here; ``since`` is when the reader moved. */
  ask(since) {
    if (this.open) {
      this.waiting = since;
      return;
    }
    const answer = this.put();
    if (typeof answer?.then !== "function") return this.show(answer, since);
    this.open = true;
    answer
      .then((result) => this.show(result, since))
      .catch((problem) => this.fail(problem))
      .finally(() => {
        this.open = false;
        const next = this.waiting;
        this.waiting = null;
        if (next != null) this.ask(next);
      });
  }
}
