// Bundles src/ into dist/.  Five files, no code splitting: pages must also work from file://, where a
// browser loads classic scripts only.
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
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
const [page, widget] = await Promise.all([
  build({ ...common, metafile: true, entryPoints: ["src/page.js"], format: "iife", banner, outfile: "dist/explore.js" }),
  build({ ...common, metafile: true, entryPoints: ["src/widget.js"], format: "esm", banner, outfile: "dist/explore.mjs" }),
  build({ ...common, stdin: { contents: colored(readFileSync("src/explore.css", "utf8")) + readFileSync("src/tables.css", "utf8"), loader: "css" }, outfile: "dist/explore.css" }),
  // not minified: an error in a worker or in the build should name a readable line
  build({ ...common, minify: false, entryPoints: ["src/render.js"], format: "esm", platform: "node", external: ["jsdom"], outfile: "dist/render.mjs" }),
]);
copyFileSync("src/worker.js", "dist/worker.js");
// The packages in the bundles with their licenses, in the form of JupyterLab's own reports.
const inputs = [page, widget].flatMap(({ metafile }) => Object.keys(metafile.inputs));
const names = new Set(inputs.map((path) => path.match(/.*node_modules\/((?:@[^/]+\/)?[^/]+)\//)?.[1]).filter(Boolean));
const told = (name) => JSON.parse(readFileSync(`node_modules/${name}/package.json`, "utf8"));
for (const name of names) for (const inner of Object.keys(told(name).dependencies ?? {})) names.add(inner); // D3's builds have theirs inside
const packages = [...names].sort().map((name) => {
  const { version, license } = told(name);
  const file = readdirSync(`node_modules/${name}`).find((one) => /^licen[cs]e/i.test(one));
  const extractedText = readFileSync(`node_modules/${name}/${file}`, "utf8");
  return { name, versionInfo: version, licenseId: license, extractedText };
});
writeFileSync("dist/third-party-licenses.json", `${JSON.stringify({ packages }, null, 1)}\n`);
for (const name of ["explore.js", "explore.mjs", "explore.css", "worker.js", "render.mjs"]) {
  const bytes = readFileSync(`dist/${name}`);
  console.log(`${name.padEnd(12)} ${(bytes.length / 1000).toFixed(1).padStart(7)} kB ${(gzipSync(bytes, { level: 9 }).length / 1000).toFixed(1).padStart(7)} kB gzip`);
}
