// What helps a reader along: definitions of words and meanings of symbols beside the pointer or the focus, and a
// switch that hides code.  Without this script a word is a link to the glossary and a formula's symbols are listed
// below it.
(() => {
  const tip = Object.assign(document.createElement("div"), { className: "reading-tip", hidden: true });
  tip.setAttribute("role", "tooltip");
  document.body.append(tip);
  let owner = null;
  let waiting = 0;

  const close = () => {
    clearTimeout(waiting);
    owner = null;
    tip.hidden = true;
  };
  const show = (node, content) => {
    clearTimeout(waiting);
    owner = node;
    tip.replaceChildren(...content);
    tip.hidden = false;
    const at = node.getClientRects()[0] ?? node.getBoundingClientRect();
    const around = node.closest("mjx-container")?.getBoundingClientRect() ?? at; // a formula stays in sight
    const { width, height } = tip.getBoundingClientRect();
    const below = around.bottom + height + 8 < innerHeight || around.top < height + 8;
    tip.style.left = `${Math.max(8, Math.min(at.left, document.documentElement.clientWidth - width - 8))}px`;
    tip.style.top = `${below ? around.bottom + 4 : around.top - height - 4}px`;
  };
  const soon = (act, delay) => {
    clearTimeout(waiting);
    waiting = setTimeout(act, delay);
  };

  // A word: its definition is on the page already.
  const definition = (word) => document.getElementById(word.getAttribute("aria-describedby"))?.cloneNode(true).childNodes ?? [];
  // A symbol in a formula that MathJax has set: its letter is in the class of its glyph.
  const letterOf = (glyph) => {
    const name = [...(glyph.querySelector("mjx-c")?.classList ?? [])].find((one) => /^mjx-c[0-9A-F]+$/.test(one));
    return name && String.fromCodePoint(parseInt(name.slice(5), 16)).normalize("NFKC");
  };
  const meanings = (glyph) => {
    const letter = letterOf(glyph);
    const lines = glyph.closest("div.math")?.nextElementSibling;
    if (!letter || !lines?.matches("details.symbols")) return [];
    return [...lines.querySelectorAll("dt")]
      .filter((one) => one.dataset.letter === letter)
      .map((one) => {
        const line = document.createElement("p");
        line.append(...one.cloneNode(true).childNodes, ": ", ...one.nextElementSibling.cloneNode(true).childNodes);
        return line;
      });
  };
  // The quantity that a control of the chapter's figure moves has its color in the formula too.
  const color = () => {
    for (const one of document.querySelectorAll("details.symbols dt[data-role]"))
      for (const glyph of one.closest("details").previousElementSibling?.querySelectorAll("mjx-mi") ?? [])
        if (letterOf(glyph) === one.dataset.letter) glyph.dataset.role = one.dataset.role;
  };
  addEventListener("load", () => globalThis.MathJax?.startup?.promise?.then(color));
  const hinted = (target) => {
    const word = target.closest?.('a[aria-describedby^="term-"]');
    if (word) return [word, () => definition(word)];
    const glyph = target.closest?.("div.math mjx-mi");
    return glyph ? [glyph, () => meanings(glyph)] : [null];
  };
  const open = ([node, content]) => {
    const found = [...content()];
    if (found.length) show(node, found);
  };

  document.addEventListener("pointerover", (event) => {
    if (event.pointerType === "touch") return;
    if (event.target.closest?.(".reading-tip")) return clearTimeout(waiting); // the pointer may go onto it
    const hint = hinted(event.target);
    if (hint[0] && hint[0] !== owner) soon(() => open(hint), 150);
    else if (!hint[0] && owner && owner !== document.activeElement) soon(close, 300);
    else if (hint[0]) clearTimeout(waiting);
  });
  document.addEventListener("focusin", (event) => {
    const hint = hinted(event.target);
    if (hint[0]?.matches(":focus-visible")) open(hint);
    else if (owner) close();
  });
  document.addEventListener("focusout", (event) => event.target === owner && close());
  document.addEventListener("keydown", (event) => event.key === "Escape" && close());
  // A finger: the first touch of a word shows it, the second follows the link.
  let touched = false;
  document.addEventListener("pointerdown", (event) => (touched = event.pointerType === "touch"), true);
  document.addEventListener("click", (event) => {
    const hint = hinted(event.target);
    if (!hint[0]) return event.target.closest?.(".reading-tip") || close();
    if (hint[0] === owner && hint[0].matches("a")) return;
    if (touched || !hint[0].matches("a")) {
      open(hint);
      if (hint[0] === owner) event.preventDefault();
    }
  });
  addEventListener("scroll", () => owner && owner !== document.activeElement && close(), { passive: true });

  // A switch for code, on pages that have some; remembered where the browser lets a page remember.
  const root = document.documentElement;
  const place = document.querySelector(".article-header-buttons");
  if (place && document.querySelector(".bd-article .cell_input")) {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "btn btn-sm code-switch" });
    const set = (shown) => {
      root.toggleAttribute("data-code-hidden", !shown);
      button.setAttribute("aria-pressed", String(shown));
      button.textContent = "Code";
      button.title = shown ? "Code is shown: hide it" : "Code is hidden: show it";
    };
    const kept = () => {
      try {
        return localStorage.getItem("genopt-code") !== "hidden";
      } catch {
        return true; // from a file some browsers keep nothing
      }
    };
    button.addEventListener("click", () => {
      const shown = root.hasAttribute("data-code-hidden");
      set(shown);
      try {
        localStorage.setItem("genopt-code", shown ? "shown" : "hidden");
      } catch {
        // it holds for this page
      }
    });
    set(kept());
    place.prepend(button);
  }
})();
