// Node side of the drawing, used while the book is built: JSON [{key, figure}] on stdin, and on stdout
// {key: "<div …><svg …>"}, the pictures that stand on a page before or without JavaScript.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { JSDOM } from "jsdom";
import { drawFigure } from "./draw.js";

const { document } = new JSDOM("").window;
const out = {};
for (const { key, figure } of JSON.parse(readFileSync(0, "utf8"))) {
  // ids must differ between pictures of a page and stay the same from build to build
  const id = "gx" + createHash("sha256").update(key).digest("hex").slice(0, 10);
  out[key] = drawFigure(figure, { document, id }).outerHTML;
}
process.stdout.write(JSON.stringify(out));
