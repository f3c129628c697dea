// Bundles src/ into dist/.  Five files, no code splitting: pages must also work from file://, where a
// browser loads classic scripts only.
import { copyFileSync, mkdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { colored } from "./colors.mjs";

process.chdir(fileURLToPath(new URL(".", import.meta.url)));
mkdirSync("dist", { recursive: true });
// What the bundles contain asks to be named, with its license, in every copy.
const plot = readFileSync("node_modules/@observablehq/plot/LICENSE", "utf8").trim();
const banner = { js: `/* The drawing contains Observable Plot and D3 (Copyright 2010-2023 Mike Bostock), under:\n${plot.replaceAll("*/", "* /")}\n*/` };
const common = { bundle: true, minify: true, legalComments: "none", charset: "utf8", target: "es2022", logLevel: "warning" };
await Promise.all([
  build({ ...common, entryPoints: ["src/page.js"], format: "iife", banner, outfile: "dist/explore.js" }),
  build({ ...common, entryPoints: ["src/widget.js"], format: "esm", banner, outfile: "dist/explore.mjs" }),
  build({ ...common, stdin: { contents: colored(readFileSync("src/explore.css", "utf8")) + readFileSync("src/tables.css", "utf8"), loader: "css" }, outfile: "dist/explore.css" }),
  // not minified: an error in a worker or in the build should name a readable line
  build({ ...common, minify: false, entryPoints: ["src/render.js"], format: "esm", platform: "node", external: ["jsdom"], outfile: "dist/render.mjs" }),
]);
copyFileSync("src/worker.js", "dist/worker.js");
for (const name of ["explore.js", "explore.mjs", "explore.css", "worker.js", "render.mjs"]) {
  const bytes = readFileSync(`dist/${name}`);
  console.log(`${name.padEnd(12)} ${(bytes.length / 1000).toFixed(1).padStart(7)} kB ${(gzipSync(bytes, { level: 9 }).length / 1000).toFixed(1).padStart(7)} kB gzip`);
}
