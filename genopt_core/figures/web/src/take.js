// The menu "Download" of an explorer: its picture as SVG or PNG, its numbers as CSV.  All is made in the page, so
// that it works from file:// too.
import { QUIET } from "./controls.js";
import { sheet } from "./sheet.js";
import { csv } from "./table.js";

const SHARP = 2; // pixels of a PNG for each of the picture

const MAKE = {
  svg: (figure) => new Blob([sheet(figure, { document }).text], { type: "image/svg+xml" }),
  png: (figure) => raster(sheet(figure, { document })),
  csv: (figure) => new Blob([csv(figure)], { type: "text/csv" }),
};
const LABELS = { svg: "Picture, SVG", png: "Picture, PNG", csv: "Numbers, CSV" };

async function raster({ text, width, height }) {
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width: SHARP * width, height: SHARP * height });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export class Take {
  /** ``figure()`` is what is shown, ``name(kind)`` what its file is called, ``say(words)`` tells the reader. */
  constructor({ h, id, figure, name, say }) {
    Object.assign(this, { figure, name, say });
    this.items = Object.entries(LABELS).map(([kind, words]) => {
      const item = h("button", { type: "button", role: "menuitem", tabindex: -1, "data-kind": kind, ...QUIET }, words);
      item.addEventListener("click", () => this.take(kind));
      return item;
    });
    this.menu = h("div", { class: "gx-menu", id: `${id}-take`, role: "menu", "aria-label": "Download", hidden: true }, ...this.items);
    this.button = h("button", { type: "button", class: "gx-take", "aria-haspopup": "menu", "aria-expanded": "false", "aria-controls": `${id}-take`, ...QUIET }, "Download");
    this.node = h("span", { class: "gx-take-place" }, this.button, this.menu);
    this.button.addEventListener("click", () => (this.menu.hidden ? this.open(0) : this.close()));
    this.node.addEventListener("keydown", (event) => this.key(event));
    this.node.addEventListener("focusout", ({ relatedTarget }) => this.node.contains(relatedTarget) || this.close());
  }

  open(at) {
    this.menu.hidden = false;
    // near the right edge, as on a phone, it opens to the left
    const room = document.documentElement.clientWidth - this.button.getBoundingClientRect().left;
    this.menu.classList.toggle("gx-leftward", room > 0 && room < this.menu.offsetWidth + 8);
    this.button.setAttribute("aria-expanded", "true");
    this.items.at(at).focus({ preventScroll: true });
  }

  close() {
    this.menu.hidden = true;
    this.button.setAttribute("aria-expanded", "false");
  }

  key(event) {
    const shown = !this.menu.hidden;
    const here = this.items.indexOf(document.activeElement);
    const to = { ArrowDown: here + 1, ArrowUp: here < 0 ? -1 : here - 1, Home: 0, End: -1 }[event.key];
    if (event.key === "Escape" && shown) {
      this.close();
      this.button.focus({ preventScroll: true });
    } else if (to !== undefined && (shown || event.key.startsWith("Arrow"))) {
      this.open(to % this.items.length);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  async take(kind) {
    const figure = this.figure();
    this.button.focus({ preventScroll: true });
    this.close();
    if (!figure) return;
    const name = this.name(kind);
    try {
      save(await MAKE[kind](figure), name);
      this.say(`${name} saved`);
    } catch (problem) {
      this.say(`${name} could not be made: ${problem.message}`);
    }
  }
}
